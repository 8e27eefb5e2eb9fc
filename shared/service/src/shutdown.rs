//! The signals that stop a process.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a shell reports for a process that a signal ended.
const INTERRUPTED: i32 = 130;

/// The first SIGTERM or SIGINT stops in good order, the second one at once: what was acknowledged is safe either way.
pub fn stop_on_signal() -> io::Result<CancellationToken> {
    let cancel = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut stop_signal = async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::spawn({
        let cancel = cancel.clone();
        async move {
            stop_signal().await;
            tracing::info!("stopping: what is under way is brought to an end first; a second signal stops at once");
            cancel.cancel();
            stop_signal().await;
            std::process::exit(INTERRUPTED);
        }
    });
    Ok(cancel)
}
