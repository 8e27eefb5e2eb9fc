//! From a data directory and a bucket to a lane that can run: a first start, a restart, or a recovery.

use std::sync::Arc;

use chronik_core::ids::{Incarnation, Lane};
use chronik_core::names::CheckpointName;
use chronik_core::store::{SharedStore, StoreError};
use tokio::sync::mpsc;
use ulid::Ulid;
use uuid::Uuid;

use crate::claim::{self, ClaimError, Ownership};
use crate::data_dir::{DataDir, DataDirError, Identity};
use crate::disk::LocalDisk;
use crate::lane::owner::LaneLog;
use crate::lane::replay::{Replay, Replayed};
use crate::recover::{self, RecoverError};
use crate::settings::IngestSettings;
use crate::state::LaneState;
use crate::state::checkpoint::{self, CheckpointError};
use crate::wal::{self, Floor, WalError, WalOptions};

/// Bytes that wait for the write-ahead log's thread. More than clients may have in flight, so that they wait for their
/// connection's turn instead of being refused.
const WAL_QUEUE_BYTES_MAX: u64 = 128 << 20;

/// Why the broker could not start from what it found.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The bucket can't be used.
    #[error(transparent)]
    Claim(#[from] ClaimError),
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
    #[error("local checkpoint {file}: {source}; start with an empty data directory to recover from the bucket")]
    Checkpoint {
        /// The file.
        file: String,
        /// Why.
        source: CheckpointError,
    },
    /// The local checkpoint is gone.
    #[error(
        "the data directory {directory} has no checkpoint: put it back, or start with an empty data directory to recover \
         from the bucket"
    )]
    NoCheckpoint {
        /// The directory.
        directory: String,
    },
    /// Data directory and bucket don't belong together.
    #[error(
        "the data directory {directory} belongs to cluster {local}, but the bucket to {bucket}: choose the right \
         bucket, or another data directory with --data-dir (CHRONIK_DATA_DIR)"
    )]
    Foreign {
        /// The directory.
        directory: String,
        /// Its cluster.
        local: Uuid,
        /// The bucket's cluster, in words.
        bucket: String,
    },
}

/// Who owns what, and where the lane stands.
pub struct Started {
    /// The cluster.
    pub cluster: Uuid,
    /// The claim.
    pub incarnation: Incarnation,
    /// The lane's state and tail.
    pub replayed: Replayed,
    /// The lane's log, running.
    pub log: LaneLog,
}

/// Opens the lane: restarts from local files, or recovers from the bucket, or begins anew.
pub async fn start(
    settings: &IngestSettings,
    data_dir: &Arc<DataDir>,
    store: &SharedStore,
    lane: Lane,
) -> Result<Started, StartError> {
    let identity = match data_dir.identity()? {
        Some(identity) => {
            check_belongs(data_dir, &identity, claim::cluster_of(store).await?)?;
            Ownership::new(store.clone(), identity.incarnation).check().await?;
            identity
        }
        None => begin(settings, data_dir, store, lane).await?,
    };
    data_dir.set_identity(&Identity::held(identity.cluster, identity.incarnation))?;
    let state = local_state(data_dir, &identity, lane)?;
    let options = wal_options(settings, data_dir, lane, identity.incarnation)?;
    let (replayed, log) = tokio::task::spawn_blocking(move || open_log(options, state))
        .await
        .map_err(std::io::Error::other)
        .map_err(|source| DataDirError::Io {
            operation: "open",
            path: data_dir.path().to_owned(),
            source,
        })??;
    Ok(Started {
        cluster: identity.cluster,
        incarnation: identity.incarnation,
        replayed,
        log,
    })
}

fn check_belongs(data_dir: &DataDir, identity: &Identity, bucket: Option<Uuid>) -> Result<(), StartError> {
    if bucket == Some(identity.cluster) {
        return Ok(());
    }
    Err(StartError::Foreign {
        directory: data_dir.path().display().to_string(),
        local: identity.cluster,
        bucket: bucket.map_or("no cluster (it is empty)".into(), |cluster| {
            format!("cluster {cluster}")
        }),
    })
}

/// Claims the bucket and lays down the state that the bucket holds: nothing is acknowledged before a checkpoint of the
/// new incarnation is in the bucket and in the data directory.
async fn begin(
    settings: &IngestSettings,
    data_dir: &Arc<DataDir>,
    store: &SharedStore,
    lane: Lane,
) -> Result<Identity, StartError> {
    data_dir.clear()?;
    let cluster = match claim::cluster_of(store).await? {
        Some(cluster) => cluster,
        None => claim::found_cluster(store).await?,
    };
    let highest = claim::highest(store).await?;
    let incarnation = claim::claim_after(store, highest).await?;
    let state = match highest {
        None => LaneState::new(incarnation),
        Some(_) => {
            let (mut state, report) = recover::from_bucket(store, cluster, lane, settings.accept_loss).await?;
            state.begin_incarnation(incarnation);
            let name = CheckpointName {
                lane,
                incarnation,
                index: state.applied,
                ulid: Ulid::new(),
            };
            store
                .create(&name.to_string(), vec![checkpoint::encode(&state, cluster, lane)])
                .await?;
            tracing::warn!("{report}");
            state
        }
    };
    let bytes = checkpoint::encode(&state, cluster, lane);
    data_dir.put_checkpoint(lane, incarnation, state.applied, &bytes)?;
    Ok(Identity::held(cluster, incarnation))
}

fn local_state(data_dir: &DataDir, identity: &Identity, lane: Lane) -> Result<LaneState, StartError> {
    let newest = data_dir.newest_checkpoint(lane, identity.incarnation)?;
    let Some((path, bytes)) = newest else {
        return Err(StartError::NoCheckpoint {
            directory: data_dir.path().display().to_string(),
        });
    };
    let file = path.display().to_string();
    checkpoint::decode(&file, bytes, identity.cluster, lane).map_err(|source| StartError::Checkpoint { file, source })
}

fn wal_options(
    settings: &IngestSettings,
    data_dir: &DataDir,
    lane: Lane,
    incarnation: Incarnation,
) -> Result<WalOptions, StartError> {
    let max_bytes = match settings.wal_max_bytes {
        Some(bytes) => bytes.0,
        None => (data_dir.free_bytes()? / 5 * 4).max(settings.wal_bytes_min()),
    };
    let defaults = WalOptions::new(data_dir.wal(lane), lane, incarnation);
    Ok(WalOptions {
        file_bytes: settings.wal_rotation_size.0,
        max_bytes,
        queue_bytes: WAL_QUEUE_BYTES_MAX,
        ..defaults
    })
}

fn open_log(options: WalOptions, state: LaneState) -> Result<(Replayed, LaneLog), WalError> {
    let floor = Floor {
        checkpoint: state.applied,
        shipped: state.shipped_index(),
    };
    let mut replay = Replay::new(state);
    let wal = wal::open(Arc::new(LocalDisk), options, floor, &mut |frame, place| {
        let index = frame.index;
        replay.take(frame, place).map_err(|error| WalError::Replay {
            index,
            source: error.into(),
        })
    })?;
    if let Some(torn) = &wal.torn {
        tracing::warn!("{torn}");
    }
    let (sender, written) = mpsc::unbounded_channel();
    let handle = wal.writer.start(move |outcome| {
        let _ = sender.send(outcome);
    })?;
    Ok((
        replay.finish(),
        LaneLog {
            wal: handle,
            reader: wal.reader,
            written,
        },
    ))
}
