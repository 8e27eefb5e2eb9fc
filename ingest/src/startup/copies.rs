//! Copies of a data directory: two processes with the same claim would end each other in turn.

use chronik_format::catalog::Latest;
use chronik_format::ids::LaneId;

use crate::data_dir::{DataDir, DirectoryIdentity};
use crate::ownership::claim::ClaimError;
use crate::ownership::heartbeat;
use crate::ownership::takeover::{self, TakeoverError};
use crate::ownership::{BucketOwnership, OwnershipTimes};

/// What `latest` says, once no process with a copy of the data directory lives: one that does is not taken the place
/// of, or the two would end each other in turn.
pub(super) async fn watch_for_copy(
    lane: LaneId,
    ownership: &BucketOwnership,
    rhythm: OwnershipTimes,
) -> Result<Option<Latest>, ClaimError> {
    let (store, own) = (ownership.store(), ownership.incarnation());
    let latest = heartbeat::read(store, lane).await?;
    if latest.as_ref().is_some_and(|latest| !ownership.follows(latest)) {
        tracing::warn!(
            "the last process that wrote to the bucket under this claim is not in the data directory's file `writers`: it runs \
             on a copy of the directory, or that file was lost; this start waits to see whether it lives"
        );
        match takeover::wait(store, lane, own, rhythm).await {
            Err(TakeoverError::InUse { .. }) => return Err(ClaimError::Copied { own }),
            Err(TakeoverError::Claim(error)) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(latest)
}

/// Has a data directory that is not the bucket's newest never serve again without asking the bucket first.
pub(super) fn refuse(data_dir: &DataDir, ownership: &BucketOwnership) {
    let identity = DirectoryIdentity::held(ownership.cluster(), ownership.incarnation());
    if let Err(error) = data_dir.set_identity(&identity.given_up()) {
        tracing::warn!("the data directory was not marked as released: {error}");
    }
}

/// To be called before anything is written to `latest`. Without the note the next start can't distinguish this process
/// from one with a copy of the data directory, and waits until it is silent.
pub(super) fn note_writer(data_dir: &DataDir, seen: Vec<String>, ownership: &BucketOwnership) {
    if let Err(error) = data_dir.writers().note(seen, ownership.writer()) {
        tracing::warn!("{error}: unless this broker stops in good order, its next start waits");
    }
}
