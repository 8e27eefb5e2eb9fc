//! CPU work beside the async runtime.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::error::IndexError;

/// Runs one piece of work at a time on a thread of its own. When its caller stops waiting, a piece is
/// cancelled; the next one begins only when it has ended, so that two never share the memory.
#[derive(Clone, Debug)]
pub(crate) struct WorkThread {
    turn: Arc<Semaphore>,
}

impl Default for WorkThread {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)) }
    }
}

impl WorkThread {
    /// Runs `work`; what it is given is cancelled when the caller stops waiting.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&CancellationToken) -> T + Send + 'static,
    ) -> Result<T, IndexError> {
        let given_up = |reason: String| IndexError::GivenUp { reason };
        let turn = self.turn.clone().acquire_owned().await;
        let turn = turn.map_err(|closed| given_up(closed.to_string()))?;
        let abandoned = CancellationToken::new();
        let _cancelled_when_dropped = abandoned.clone().drop_guard();
        let worked = tokio::task::spawn_blocking(move || {
            let done = work(&abandoned);
            drop(turn);
            done
        });
        worked.await.map_err(|error| given_up(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn work_without_a_caller_is_cancelled_and_ends_before_the_next_begins() {
        let thread = WorkThread::default();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let ended = Arc::new(AtomicBool::new(false));
        let at_end = ended.clone();
        let first = thread.run(move |abandoned| {
            begun.send(()).unwrap();
            while !abandoned.is_cancelled() {
                std::thread::yield_now();
            }
            at_end.store(true, Ordering::SeqCst);
        });
        tokio::select! {
            _ = first => panic!("the work can't end by itself"),
            begun = has_begun => begun.unwrap(),
        }
        assert!(thread.run(move |_| ended.load(Ordering::SeqCst)).await.unwrap());
    }
}
