//! The local log opened upon the local checkpoint.

use std::sync::Arc;

use chronik_format::ids::{Incarnation, LaneId};
use chronik_format::origin::Origin;
use chronik_store::SharedStore;

use super::StartError;
use super::confirm::is_continuous;
use super::continuity::LogEnd;
use crate::data_dir::{DataDir, DataDirError, DirectoryIdentity, StoredCheckpoint};
use crate::disk::LocalDisk;
use crate::lane::replay::{LaneReplay, ReplayedLane};
use crate::log::Log;
use crate::settings::IngestSettings;
use crate::state::LaneState;
use crate::state::checkpoint;
use crate::wal::{self, DurableFloor, WalError, WalLog, WalOptions};

/// Bytes that wait for the write-ahead log's thread. More than clients may have in flight, so that they wait for their
/// connection's turn instead of being refused.
const WAL_QUEUE_BYTES_MAX: u64 = 128 << 20;

/// Opens the local log upon the local checkpoint, and compares its end with the bucket's where that answers.
pub(super) async fn open_lane(
    settings: &IngestSettings,
    data_dir: &Arc<DataDir>,
    store: &SharedStore,
    lane: LaneId,
    identity: &DirectoryIdentity,
    confirmed: bool,
) -> Result<(ReplayedLane, WalLog, LogEnd, bool), StartError> {
    let state = local_state(data_dir, identity, lane)?;
    let options = wal_options(settings, data_dir, lane, identity.incarnation)?;
    let (replayed, log) = tokio::task::spawn_blocking(move || open_log(options, state))
        .await
        .map_err(std::io::Error::other)
        .map_err(|source| DataDirError::Io { operation: "open", path: data_dir.path().to_owned(), source })??;
    let log_end = LogEnd {
        directory: data_dir.path().to_owned(),
        origin: Origin { cluster: identity.cluster, incarnation: identity.incarnation, lane },
        shipped: replayed.state.shipped_index(),
        end: replayed.state.applied,
        log: log.reader(),
    };
    let confirmed = confirmed && is_continuous(&log_end, store).await?;
    Ok((replayed, log, log_end, confirmed))
}

fn local_state(data_dir: &DataDir, identity: &DirectoryIdentity, lane: LaneId) -> Result<LaneState, StartError> {
    let checkpoints = data_dir.checkpoints(lane);
    for stray in checkpoints.strays()? {
        tracing::warn!("{} is neither of the two local checkpoints: it is ignored", stray.display());
    }
    let (stored, lost) = checkpoints.of(identity.incarnation)?;
    let Some(StoredCheckpoint { path, bytes, .. }) = stored.into_iter().next() else {
        let places: Vec<String> = lost.iter().map(|path| path.display().to_string()).collect();
        return Err(StartError::NoCheckpoint { incarnation: identity.incarnation, places: places.join(" nor ") });
    };
    for lost in lost {
        tracing::warn!(
            "the local checkpoint {} is missing or damaged: {} is used instead, and it is written again with the next one",
            lost.display(),
            path.display()
        );
    }
    let file = path.display().to_string();
    checkpoint::decode(&file, bytes, identity.cluster, lane).map_err(|source| StartError::Checkpoint { file, source })
}

fn wal_options(
    settings: &IngestSettings,
    data_dir: &DataDir,
    lane: LaneId,
    incarnation: Incarnation,
) -> Result<WalOptions, StartError> {
    let max_bytes = match settings.wal_max_bytes {
        Some(bytes) => bytes.0,
        None => (data_dir.log_bytes_max(lane)?.saturating_sub(settings.disk_bytes_kept) / 5 * 4)
            .max(settings.wal_bytes_min()),
    };
    let defaults = WalOptions::new(data_dir.wal(lane), data_dir.wal_mark(lane), lane, incarnation);
    Ok(WalOptions { file_bytes: settings.wal_rotation_size.0, max_bytes, queue_bytes: WAL_QUEUE_BYTES_MAX, ..defaults })
}

fn open_log(options: WalOptions, state: LaneState) -> Result<(ReplayedLane, WalLog), WalError> {
    let floor = DurableFloor { checkpoint: state.applied, shipped: state.shipped_index() };
    let mut replay = LaneReplay::new(state);
    let wal = wal::open(Arc::new(LocalDisk), options, floor, &mut |frame, place| {
        let index = frame.index;
        replay.take(frame, place).map_err(|error| WalError::Replay { index, source: error.into() })
    })?;
    if let Some(torn) = &wal.torn {
        tracing::warn!("{torn}");
    }
    let log = wal.start()?;
    Ok((replay.finish(), log))
}
