//! Whether the bucket agrees with the local log: asked at the start, or later if it did not answer then.

use chronik_store::SharedStore;

use super::continuity::{ContinuityError, LogEnd};
use super::copies::{refuse, watch_for_copy};
use super::{ASK_AGAIN, StartError};
use crate::data_dir::DataDir;
use crate::ownership::claim::ClaimError;
use crate::ownership::{BucketOwnership, OwnershipTimes};

/// Asks a bucket that could not be reached at the start until it answers: whose it is, and whether its log ends where
/// the local one did.
pub async fn confirm(
    data_dir: &DataDir,
    ownership: &BucketOwnership,
    log_end: &LogEnd,
    rhythm: OwnershipTimes,
) -> Result<(), StartError> {
    loop {
        match ownership.check().await {
            Err(ClaimError::Store(error)) => tracing::debug!("the claims can't be read yet: {error}"),
            Err(error) => return Err(error.into()),
            Ok(()) => match agrees(log_end, ownership, rhythm).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    refuse(data_dir, ownership);
                    return Err(error);
                }
            },
        }
        tokio::time::sleep(ASK_AGAIN.min(rhythm.check)).await;
    }
}

/// Whether the bucket's log ends where the local one does, and no process with a copy of the data directory lives;
/// `false` if the bucket did not answer.
async fn agrees(log_end: &LogEnd, ownership: &BucketOwnership, rhythm: OwnershipTimes) -> Result<bool, StartError> {
    if !is_continuous(log_end, ownership.store()).await? {
        return Ok(false);
    }
    match watch_for_copy(log_end.origin.lane, ownership, rhythm).await {
        Ok(_) => Ok(true),
        Err(ClaimError::Store(error)) => {
            tracing::debug!("whether a copy of the data directory is served from can't be told yet: {error}");
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// `false` if the bucket did not answer.
pub(super) async fn is_continuous(log_end: &LogEnd, store: &SharedStore) -> Result<bool, ContinuityError> {
    match log_end.compare(store).await {
        Ok(()) => Ok(true),
        Err(error) if error.is_passing() => {
            tracing::warn!("nothing is shipped before the local log was compared with the bucket's: {error}");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
