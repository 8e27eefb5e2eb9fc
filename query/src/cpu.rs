use std::sync::Arc;

use tokio::sync::Semaphore;

/// Where decompressing and matching happens: off the async runtime, on as many threads at a time as there are cores.
#[derive(Clone, Debug)]
pub(crate) struct CpuPool {
    threads: Arc<Semaphore>,
}

/// The work panicked.
#[derive(Debug, thiserror::Error)]
#[error("a search task failed: {0}")]
pub(crate) struct CpuError(String);

impl CpuPool {
    pub(crate) fn new(threads: usize) -> Self {
        Self { threads: Arc::new(Semaphore::new(threads)) }
    }

    /// Runs `work` to its end, even if its caller stops waiting.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CpuError> {
        let thread = Arc::clone(&self.threads).acquire_owned().await.map_err(|error| CpuError(error.to_string()))?;
        let task = tokio::task::spawn_blocking(move || {
            let _thread = thread;
            work()
        });
        task.await.map_err(|error| CpuError(error.to_string()))
    }
}
