//! An empty data directory: the bucket is claimed, and what it holds becomes the lane's state.

use std::sync::Arc;
use std::time::Duration;

use chronik_format::ids::{Incarnation, LaneId};
use chronik_format::names::CheckpointName;
use chronik_service::setting::ByteSize;
use chronik_store::{PatientStore, SharedStore};
use ulid::Ulid;

use super::copies::note_writer;
use super::{Held, StartError, recover};
use crate::data_dir::{DataDir, DirectoryIdentity};
use crate::disk::LocalDisk;
use crate::ownership::heartbeat::Heartbeat;
use crate::ownership::{BucketOwnership, OwnershipTimes, claim, takeover};
use crate::settings::IngestSettings;
use crate::state::{LaneState, checkpoint};
use crate::wal::{self, WalOptions};

/// Claims the bucket and lays down the state that the bucket holds: nothing is acknowledged before a checkpoint of the
/// new incarnation is in the bucket and in the data directory, and no other broker has claimed the bucket meanwhile.
/// It waits for the bucket all along; from its claim on the new owner shows that it lives.
pub(super) async fn begin(
    settings: &IngestSettings,
    data_dir: &Arc<DataDir>,
    store: &SharedStore,
    lane: LaneId,
) -> Result<Held, StartError> {
    check_space(settings, data_dir, lane)?;
    let patient: SharedStore = Arc::new(PatientStore::new(store.clone()));
    let cluster = match claim::cluster_of(&patient).await? {
        Some(cluster) => cluster,
        None => claim::found_cluster(&patient).await?,
    };
    let highest = claim::highest_of_used(&patient).await?;
    let (incarnation, notice) = match highest {
        Some(owner) if !store.is_locked() => succeed(settings, &patient, lane, owner).await?,
        _ => (claim::claim_after(&patient, highest).await?, Duration::ZERO),
    };
    let ownership =
        BucketOwnership::new(store.clone(), cluster, incarnation).in_rhythm(settings.rhythm, settings.strict_lease);
    note_writer(data_dir, Vec::new(), &ownership);
    let beat = Heartbeat::start(store.clone(), lane, ownership.clone(), settings.rhythm, None);
    tokio::time::sleep(notice).await;
    let state = match highest {
        None => LaneState::new(incarnation),
        Some(_) => tokio::select! {
            biased;
            lost = ownership.lost() => return Err(lost.into()),
            state = recovered(settings, &patient, lane, &ownership) => state?,
        },
    };
    ownership.through(patient).check().await?;
    data_dir.set_identity(&DirectoryIdentity::begun(cluster, incarnation))?;
    let bytes = checkpoint::encode(&state, cluster, lane);
    data_dir.checkpoints(lane).put(incarnation, state.applied, &bytes)?;
    let options = WalOptions::new(data_dir.wal(lane), data_dir.wal_mark(lane), lane, incarnation);
    wal::create(&LocalDisk, &options, state.applied)?;
    Ok(Held { ownership, beat, former: None, confirmed: true })
}

/// A broker whose log can't hold anything would own the bucket and refuse every record. One that has a log starts even
/// on a full disk: shipping frees space.
fn check_space(settings: &IngestSettings, data_dir: &DataDir, lane: LaneId) -> Result<(), StartError> {
    let (free, needed) = (data_dir.log_bytes_max(lane)?, settings.wal_bytes_min());
    if free >= needed {
        return Ok(());
    }
    Err(StartError::NoSpace {
        directory: data_dir.path().display().to_string(),
        free: ByteSize(free),
        needed: ByteSize(needed),
    })
}

/// The state that the bucket holds, once its checkpoint of the new incarnation is in the bucket.
async fn recovered(
    settings: &IngestSettings,
    store: &SharedStore,
    lane: LaneId,
    ownership: &BucketOwnership,
) -> Result<LaneState, StartError> {
    let (cluster, incarnation) = (ownership.cluster(), ownership.incarnation());
    let (mut state, report) = recover::from_bucket(store, cluster, lane, settings.accept_loss).await?;
    state.begin_incarnation(incarnation);
    let name = CheckpointName { lane, incarnation, index: state.applied, ulid: Ulid::new() };
    let bytes = checkpoint::encode(&state, cluster, lane);
    store.create(&name.to_string(), vec![bytes]).await?;
    tracing::warn!("{report}");
    Ok(state)
}

/// Claims a bucket that `owner` had: once that one is gone, or at once if the operator says so. Says how long that one
/// gets to notice, so that what it still ships is not cut off.
async fn succeed(
    settings: &IngestSettings,
    store: &SharedStore,
    lane: LaneId,
    owner: Incarnation,
) -> Result<(Incarnation, Duration), StartError> {
    let OwnershipTimes { notice, .. } = settings.rhythm;
    if !settings.take_over {
        let seen = takeover::wait(store, lane, owner, settings.rhythm).await?;
        let incarnation = claim::claim_after(store, Some(owner)).await?;
        if !takeover::came_back(store, lane, owner, &seen).await? {
            return Ok((incarnation, Duration::ZERO));
        }
        tracing::warn!(
            "the broker of incarnation {owner} came back as the bucket was claimed: it has {} s to see the claim",
            notice.as_secs()
        );
        return Ok((incarnation, notice));
    }
    let incarnation = claim::claim_after(store, Some(owner)).await?;
    tracing::warn!(
        "the bucket is taken over from incarnation {owner}, whether its broker lives or not: that broker has {} s to see the claim",
        notice.as_secs()
    );
    Ok((incarnation, notice))
}
