//! Why a broker does not start.

use chronik_format::ids::Incarnation;
use chronik_service::setting::ByteSize;
use chronik_store::StoreError;

use super::continuity::ContinuityError;
use super::recover::RecoverError;
use crate::data_dir::DataDirError;
use crate::ownership::claim::ClaimError;
use crate::ownership::takeover::TakeoverError;
use crate::state::checkpoint::StateCheckpointError;
use crate::wal::WalError;

/// Why the broker could not start from what it found.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The bucket can't be claimed.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The bucket is not the data directory's any more, or never was.
    #[error("data directory {directory}: {source}")]
    NotOurs {
        directory: String,
        /// Why.
        source: ClaimError,
    },
    /// The data directory is not the bucket's newest.
    #[error(transparent)]
    Continuity(#[from] ContinuityError),
    /// The bucket's last owner may still be at work.
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
    /// The data directory can't be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The write-ahead log can't be used.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The bucket could not be recovered from.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The bucket could not be reached, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The local checkpoint can't be read.
    #[error(
        "local checkpoint {file}: {source}; put it back from a copy, or move the data directory away and start with an \
         empty one to recover from the bucket, which loses what was not shipped"
    )]
    Checkpoint {
        file: String,
        /// Why.
        source: StateCheckpointError,
    },
    /// The volume is too small for a new log.
    #[error(
        "the data directory {directory} has {free} of disk space for a write-ahead log that needs at least {needed}: make \
         room on its volume, or make the log's files smaller with --wal-rotation-size (CHRONIK_WAL_ROTATION_SIZE), of which \
         it needs four; --wal-max-bytes (CHRONIK_WAL_MAX_BYTES) may be as low as that"
    )]
    NoSpace {
        directory: String,
        /// What is free, or is the log's already.
        free: ByteSize,
        /// The least that the log takes.
        needed: ByteSize,
    },
    /// Both local checkpoints are missing or damaged.
    #[error(
        "neither {places} holds a whole checkpoint of incarnation {incarnation}: put one back from a copy, or move the data \
         directory away and start with an empty one to recover from the bucket, which loses what was not shipped"
    )]
    NoCheckpoint {
        /// Whose it should be.
        incarnation: Incarnation,
        /// Where there should be one.
        places: String,
    },
}
