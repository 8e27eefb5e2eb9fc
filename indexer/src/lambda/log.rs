//! Log lines as Lambda's log service takes them in: one JSON object each, on standard output.

use lambda_runtime::tracing::subscriber;
use subscriber::filter::EnvFilter;

/// Starts logging. `CHRONIK_LOG`, or else the level that is set for the function (`AWS_LAMBDA_LOG_LEVEL`), chooses what
/// is shown; what is neither is `info`.
pub(super) fn start() {
    let wanted = std::env::var("CHRONIK_LOG").or_else(|_| std::env::var("AWS_LAMBDA_LOG_LEVEL"));
    let filter = wanted.ok().and_then(|text| EnvFilter::try_new(text).ok());
    // Only a second start fails, and a process has one.
    let _ = subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_env_filter(filter.unwrap_or_else(|| EnvFilter::new("info")))
        .try_init();
}
