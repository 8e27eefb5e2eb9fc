use chronik_format::archive::ArchiveError;
use chronik_store::StoreError;
use chronik_store::queue::QueueError;
use tantivy::TantivyError;

/// Why a job could not be done this time; it comes again.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The store could not be reached, or failed, for longer than the worker waits.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue could not be reached, or failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// Tantivy failed.
    #[error("the index could not be built: {0}")]
    Tantivy(#[from] TantivyError),
    /// The index does not fit into an archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The result can't be written as JSON.
    #[error("the result could not be written: {0}")]
    Result(#[from] serde_json::Error),
    /// A file of the index could not be read back.
    #[error("a file of the index could not be read: {0}")]
    File(#[from] std::io::Error),
    /// The caller stopped waiting for the work.
    #[error("the work was left before its end")]
    Abandoned,
    /// The work panicked.
    #[error("the work was given up: {reason}")]
    GivenUp {
        /// What the runtime says.
        reason: String,
    },
}
