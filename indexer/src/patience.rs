//! An outage of the store is waited for while the job is held: a job that is handed out again and again because of
//! it would end as unreadable.

use std::fmt::Display;
use std::time::Duration;

use chronik_service::backoff::Backoff;
use chronik_store::StoreError;

const TRIES: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Does `work` again, at longer and longer intervals, while the store is unavailable.
pub(crate) async fn patiently<T, F>(work: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    patiently_if(work, |error| matches!(error, StoreError::Unavailable { .. })).await
}

/// Does `work` again, at longer and longer intervals, while its error may pass.
pub(crate) async fn patiently_if<T, E, F>(mut work: impl FnMut() -> F, may_pass: impl Fn(&E) -> bool) -> Result<T, E>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let mut retry = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    for _ in 1..TRIES {
        match work().await {
            Err(error) if may_pass(&error) => tracing::warn!("waiting for the store: {error}"),
            done => return done,
        }
        retry.wait().await;
    }
    work().await
}
