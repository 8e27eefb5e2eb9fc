//! Asks a store again that may answer a moment later.

use std::fmt::Display;
use std::time::Duration;

const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];

/// Asks again a few times, after a pause each.
pub(super) async fn patiently<T, E, F>(mut ask: impl FnMut() -> F, may_pass: impl Fn(&E) -> bool) -> Result<T, E>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    for pause in PAUSES {
        match ask().await {
            Err(error) if may_pass(&error) => {
                tracing::debug!("the store is asked again in {pause:?}: {error}");
                tokio::time::sleep(pause).await;
            }
            answer => return answer,
        }
    }
    ask().await
}
