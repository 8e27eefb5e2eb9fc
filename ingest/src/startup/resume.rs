//! A data directory with an owner's identity: the bucket is taken up again.

use chronik_format::ids::LaneId;
use chronik_store::SharedStore;

use super::copies::{note_writer, refuse, watch_for_copy};
use super::{ASK_AGAIN, Held, StartError};
use crate::data_dir::{DataDir, DirectoryIdentity};
use crate::ownership::claim::ClaimError;
use crate::ownership::heartbeat::{self, Heartbeat, HeldLatest};
use crate::ownership::{BucketOwnership, OwnershipTimes};
use crate::settings::IngestSettings;

/// Takes up again what the data directory's owner had. A bucket that can't be reached is asked later, unless it was
/// released: then another broker may own it by now.
pub(super) async fn resume(
    settings: &IngestSettings,
    data_dir: &DataDir,
    store: &SharedStore,
    lane: LaneId,
    identity: DirectoryIdentity,
) -> Result<Held, StartError> {
    let rhythm = settings.rhythm;
    let known = data_dir.writers().known();
    let ownership = BucketOwnership::new(store.clone(), identity.cluster, identity.incarnation)
        .in_rhythm(rhythm, settings.strict_lease)
        .after(known.clone());
    loop {
        let error = match hold(data_dir, store, lane, &ownership, rhythm).await {
            Ok(HeldLatest { latest, former }) => {
                return Ok(Held {
                    beat: Heartbeat::start(store.clone(), lane, ownership.clone(), rhythm, latest),
                    former,
                    ownership,
                    confirmed: true,
                });
            }
            Err(ClaimError::Store(error)) => error,
            Err(source) => {
                if let ClaimError::Copied { .. } = source {
                    refuse(data_dir, &ownership);
                }
                let directory = data_dir.path().display().to_string();
                return Err(StartError::NotOurs { directory, source });
            }
        };
        if !identity.released {
            tracing::warn!(
                "the bucket can't be reached, so this broker serves from its data directory and asks later whether the \
                 bucket is still its own: {error}"
            );
            note_writer(data_dir, known, &ownership);
            return Ok(Held {
                beat: Heartbeat::start(store.clone(), lane, ownership.clone(), rhythm, None),
                former: None,
                ownership,
                confirmed: false,
            });
        }
        if !error.is_passing() {
            return Err(error.into());
        }
        tracing::warn!(
            "the bucket can't be reached, and the last stop released it: another broker may own it by now, so this one \
             waits until it can ask: {error}"
        );
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// `latest` is marked as held before the claims are looked at: who comes after that look sees the mark.
async fn hold(
    data_dir: &DataDir,
    store: &SharedStore,
    lane: LaneId,
    ownership: &BucketOwnership,
    rhythm: OwnershipTimes,
) -> Result<HeldLatest, ClaimError> {
    ownership.check().await?;
    let latest = watch_for_copy(lane, ownership, rhythm).await?;
    note_writer(data_dir, latest.into_iter().map(|latest| latest.writer).collect(), ownership);
    let hold = heartbeat::hold(store, lane, ownership).await?;
    ownership.check().await?;
    Ok(hold)
}
