//! From a data directory and a bucket to a lane that can run: a first start, a restart, or a recovery.

pub mod continuity;
pub mod recover;

use std::sync::Arc;
use std::time::Duration;

use chronik_format::catalog::Latest;
use chronik_format::ids::{Incarnation, LaneId};
use chronik_format::names::CheckpointName;
use chronik_service::setting::ByteSize;
use chronik_store::{PatientStore, SharedStore, StoreError};
use tokio::sync::mpsc;
use ulid::Ulid;

use self::continuity::{ContinuityError, LogEnd};
use self::recover::RecoverError;
use crate::data_dir::{DataDir, DataDirError, Identity, Stored};
use crate::disk::LocalDisk;
use crate::lane::owner::LaneLog;
use crate::lane::replay::{Replay, Replayed};
use crate::ownership::claim::{self, ClaimError};
use crate::ownership::heartbeat::{self, Heartbeat, Hold};
use crate::ownership::takeover::{self, TakeoverError};
use crate::ownership::{Ownership, Rhythm};
use crate::settings::IngestSettings;
use crate::state::LaneState;
use crate::state::checkpoint::{self, CheckpointError};
use crate::wal::{self, Floor, WalError, WalOptions};

/// Bytes that wait for the write-ahead log's thread. More than clients may have in flight, so that they wait for their
/// connection's turn instead of being refused.
const WAL_QUEUE_BYTES_MAX: u64 = 128 << 20;
/// How often a bucket that can't be reached is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(5);

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
    Vacancy(#[from] TakeoverError),
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
        source: CheckpointError,
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

/// Who owns what, and where the lane stands.
pub struct Started {
    /// The right to the bucket.
    pub ownership: Ownership,
    /// The sign of life in the bucket.
    pub beat: Heartbeat,
    /// Where the log ends.
    pub log_end: LogEnd,
    /// Whether the bucket has confirmed the claim, and that this is where its own log ends. If not, it could not be
    /// reached: [`confirm`] asks it, and nothing may be written to it before.
    pub confirmed: bool,
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
    lane: LaneId,
) -> Result<Started, StartError> {
    let Held { ownership, beat, former, confirmed } = match data_dir.identity()? {
        Some(identity) => resume(settings, data_dir, store, lane, identity).await?,
        None => begin(settings, data_dir, store, lane).await?,
    };
    let identity = Identity::held(ownership.cluster(), ownership.incarnation());
    let taken_up = take_up(settings, data_dir, store, lane, &identity, confirmed).await;
    if taken_up.is_err()
        && let Some(former) = former
        && let Err(error) = beat.withdraw(former).await
    {
        tracing::warn!("the bucket still says that this broker has it: {error}");
    }
    if let Err(StartError::Continuity(_)) = &taken_up {
        refuse(data_dir, &ownership);
    }
    let (replayed, log, log_end, confirmed) = taken_up?;
    data_dir.set_identity(&identity)?;
    Ok(Started { ownership, beat, log_end, confirmed, replayed, log })
}

/// Opens the local log upon the local checkpoint, and compares its end with the bucket's where that answers.
async fn take_up(
    settings: &IngestSettings,
    data_dir: &Arc<DataDir>,
    store: &SharedStore,
    lane: LaneId,
    identity: &Identity,
    confirmed: bool,
) -> Result<(Replayed, LaneLog, LogEnd, bool), StartError> {
    let state = local_state(data_dir, identity, lane)?;
    let options = wal_options(settings, data_dir, lane, identity.incarnation)?;
    let (replayed, log) = tokio::task::spawn_blocking(move || open_log(options, state))
        .await
        .map_err(std::io::Error::other)
        .map_err(|source| DataDirError::Io { operation: "open", path: data_dir.path().to_owned(), source })??;
    let log_end = LogEnd {
        directory: data_dir.path().to_owned(),
        cluster: identity.cluster,
        incarnation: identity.incarnation,
        lane,
        shipped: replayed.state.shipped_index(),
        end: replayed.state.applied,
        log: log.reader.clone(),
    };
    let confirmed = confirmed && is_continuous(&log_end, store).await?;
    Ok((replayed, log, log_end, confirmed))
}

/// Asks a bucket that could not be reached at the start until it answers: whose it is, and whether its log ends where the
/// local one did.
pub async fn confirm(
    data_dir: &DataDir,
    ownership: &Ownership,
    log_end: &LogEnd,
    rhythm: Rhythm,
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

/// Has a data directory that is not the bucket's newest never serve again without asking the bucket first.
fn refuse(data_dir: &DataDir, ownership: &Ownership) {
    let identity = Identity::held(ownership.cluster(), ownership.incarnation());
    if let Err(error) = data_dir.set_identity(&identity.given_up()) {
        tracing::warn!("the data directory was not marked as given up: {error}");
    }
}

/// Whether the bucket's log ends where the local one does, and no process with a copy of the data directory lives; `false`
/// if the bucket did not answer.
async fn agrees(log_end: &LogEnd, ownership: &Ownership, rhythm: Rhythm) -> Result<bool, StartError> {
    if !is_continuous(log_end, ownership.store()).await? {
        return Ok(false);
    }
    match watch_for_copy(log_end.lane, ownership, rhythm).await {
        Ok(_) => Ok(true),
        Err(ClaimError::Store(error)) => {
            tracing::debug!("whether a copy of the data directory is served from can't be told yet: {error}");
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// `false` if the bucket did not answer.
async fn is_continuous(log_end: &LogEnd, store: &SharedStore) -> Result<bool, ContinuityError> {
    match log_end.compare(store).await {
        Ok(()) => Ok(true),
        Err(error) if error.is_passing() => {
            tracing::warn!("nothing is shipped before the local log was compared with the bucket's: {error}");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The bucket, taken up again or claimed.
struct Held {
    ownership: Ownership,
    beat: Heartbeat,
    /// What `latest` said of our claim before this process wrote to it.
    former: Option<Latest>,
    confirmed: bool,
}

/// Takes up again what the data directory's owner had. A bucket that can't be reached is asked later, unless it was given
/// up: then somebody else may own it by now.
async fn resume(
    settings: &IngestSettings,
    data_dir: &DataDir,
    store: &SharedStore,
    lane: LaneId,
    identity: Identity,
) -> Result<Held, StartError> {
    let rhythm = settings.rhythm;
    let known = data_dir.writers().known();
    let ownership = Ownership::new(store.clone(), identity.cluster, identity.incarnation)
        .in_rhythm(rhythm, settings.strict_lease)
        .after(known.clone());
    loop {
        let error = match hold(data_dir, store, lane, &ownership, rhythm).await {
            Ok(Hold { latest, former }) => {
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
            "the bucket can't be reached, and the last stop gave it up: another broker may own it by now, so this one \
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
    ownership: &Ownership,
    rhythm: Rhythm,
) -> Result<Hold, ClaimError> {
    ownership.check().await?;
    let latest = watch_for_copy(lane, ownership, rhythm).await?;
    note_writer(data_dir, latest.into_iter().map(|latest| latest.writer).collect(), ownership);
    let hold = heartbeat::hold(store, lane, ownership).await?;
    ownership.check().await?;
    Ok(hold)
}

/// What `latest` says, once no process with a copy of the data directory lives: one that does is not taken the place of, or
/// the two would end each other in turn.
async fn watch_for_copy(lane: LaneId, ownership: &Ownership, rhythm: Rhythm) -> Result<Option<Latest>, ClaimError> {
    let (store, own) = (ownership.store(), ownership.incarnation());
    let latest = heartbeat::read(store, lane).await?;
    if latest.as_ref().is_some_and(|latest| !ownership.follows(latest)) {
        tracing::warn!("a process that did not run on this data directory has written to the bucket under its claim");
        match takeover::wait(store, lane, own, rhythm).await {
            Err(TakeoverError::InUse { .. }) => return Err(ClaimError::Copied { own }),
            Err(TakeoverError::Claim(error)) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(latest)
}

/// To be called before anything is written to `latest`. Without the note the next start can't tell this process from one
/// with a copy of the data directory, and waits until it is silent.
fn note_writer(data_dir: &DataDir, seen: Vec<String>, ownership: &Ownership) {
    if let Err(error) = data_dir.writers().note(seen, ownership.writer()) {
        tracing::warn!("{error}: unless this broker stops in good order, its next start waits");
    }
}

/// Claims the bucket and lays down the state that the bucket holds: nothing is acknowledged before a checkpoint of the
/// new incarnation is in the bucket and in the data directory, and nobody has claimed the bucket meanwhile. The bucket is
/// waited for all along; from its claim on the new owner shows that it lives.
async fn begin(
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
        Ownership::new(store.clone(), cluster, incarnation).in_rhythm(settings.rhythm, settings.strict_lease);
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
    data_dir.set_identity(&Identity::begun(cluster, incarnation))?;
    let bytes = checkpoint::encode(&state, cluster, lane);
    data_dir.checkpoints(lane).put(incarnation, state.applied, &bytes)?;
    let options = WalOptions::new(data_dir.wal(lane), data_dir.wal_mark(lane), lane, incarnation);
    wal::create(&LocalDisk, &options, state.applied)?;
    Ok(Held { ownership, beat, former: None, confirmed: true })
}

/// A broker whose log can't hold anything would own the bucket and refuse every record. One that has a log starts even on a
/// full disk: shipping makes room.
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
    ownership: &Ownership,
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
    let Rhythm { notice, .. } = settings.rhythm;
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

fn local_state(data_dir: &DataDir, identity: &Identity, lane: LaneId) -> Result<LaneState, StartError> {
    let checkpoints = data_dir.checkpoints(lane);
    for stray in checkpoints.strays()? {
        tracing::warn!("{} is neither of the two local checkpoints: it is ignored", stray.display());
    }
    let (stored, lost) = checkpoints.of(identity.incarnation)?;
    let Some(Stored { path, bytes, .. }) = stored.into_iter().next() else {
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
        None => (data_dir.log_bytes_max(lane)? / 5 * 4).max(settings.wal_bytes_min()),
    };
    let defaults = WalOptions::new(data_dir.wal(lane), data_dir.wal_mark(lane), lane, incarnation);
    Ok(WalOptions { file_bytes: settings.wal_rotation_size.0, max_bytes, queue_bytes: WAL_QUEUE_BYTES_MAX, ..defaults })
}

fn open_log(options: WalOptions, state: LaneState) -> Result<(Replayed, LaneLog), WalError> {
    let floor = Floor { checkpoint: state.applied, shipped: state.shipped_index() };
    let mut replay = Replay::new(state);
    let wal = wal::open(Arc::new(LocalDisk), options, floor, &mut |frame, place| {
        let index = frame.index;
        replay.take(frame, place).map_err(|error| WalError::Replay { index, source: error.into() })
    })?;
    if let Some(torn) = &wal.torn {
        tracing::warn!("{torn}");
    }
    let (sender, written) = mpsc::unbounded_channel();
    let handle = wal.writer.start(move |outcome| {
        let _ = sender.send(outcome);
    })?;
    Ok((replay.finish(), LaneLog { wal: handle, reader: wal.reader, written }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use chronik_format::catalog::VERSION;
    use chronik_format::names;
    use chronik_store::clocked::ClockedStore;
    use chronik_store::faulty::{Fault, FaultyStore, Operation};
    use chronik_store::memory;
    use clap::Parser;

    use super::*;

    const LANE: LaneId = LaneId(0);

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: IngestSettings,
    }

    fn settings() -> IngestSettings {
        Line::parse_from(["chronik"]).settings
    }

    /// A data directory of the bucket's owner, and the bucket, which fails the next three times.
    async fn owned() -> (tempfile::TempDir, DataDir, SharedStore, Identity) {
        let faulty = Arc::new(FaultyStore::new(memory()));
        let store: SharedStore = faulty.clone();
        let cluster = claim::found_cluster(&store).await.unwrap();
        let incarnation = claim::claim_after(&store, None).await.unwrap();
        faulty.fail(Operation::Read, "cluster.json", Fault::Before, 3);
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(folder.path()).unwrap();
        (folder, data_dir, store, Identity::held(cluster, incarnation))
    }

    #[tokio::test]
    async fn a_first_start_on_a_volume_too_small_for_its_log_claims_nothing() {
        let store = memory();
        let folder = tempfile::tempdir().unwrap();
        let data_dir = Arc::new(DataDir::open(folder.path()).unwrap());
        let mut settings = settings();
        settings.wal_rotation_size = ByteSize(1 << 60);
        let error = begin(&settings, &data_dir, &store, LANE).await.err().unwrap();
        let StartError::NoSpace { free, needed, .. } = &error else { panic!("{error}") };
        assert!(*needed == ByteSize(4 << 60) && free < needed, "{error}");
        for part in [folder.path().to_str().unwrap(), &free.to_string(), "--wal-rotation-size", "--wal-max-bytes"] {
            assert!(error.to_string().contains(part), "{part} is not in: {error}");
        }
        assert_eq!(claim::cluster_of(&store).await.unwrap(), None);
        assert_eq!(data_dir.identity().unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_that_can_not_be_reached_is_asked_later() {
        let (_folder, data_dir, store, identity) = owned().await;
        let held = resume(&settings(), &data_dir, &store, LANE, identity).await.unwrap();
        assert!(!held.confirmed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_that_was_given_up_is_waited_for() {
        let (_folder, data_dir, store, identity) = owned().await;
        let began = tokio::time::Instant::now();
        let held = resume(&settings(), &data_dir, &store, LANE, identity.given_up()).await.unwrap();
        assert!(held.confirmed && began.elapsed() >= 3 * ASK_AGAIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_that_was_given_up_and_claimed_is_lost() {
        let (_folder, data_dir, store, identity) = owned().await;
        claim::claim_after(&store, Some(identity.incarnation)).await.unwrap();
        let lost = resume(&settings(), &data_dir, &store, LANE, identity.given_up()).await;
        assert!(matches!(lost, Err(StartError::NotOurs { source: ClaimError::Fenced { .. }, .. })));
    }

    /// What an owner that exported nothing says in `latest`.
    fn latest(incarnation: Incarnation, writer: &str, beat: u64, released: bool) -> Latest {
        Latest {
            v: VERSION.into(),
            incarnation,
            lane: LANE,
            index: 0,
            export: String::new(),
            root_position: 0,
            root_length: 0,
            root_crc: 0,
            writer: writer.into(),
            beat,
            released,
        }
    }

    async fn say(store: &SharedStore, latest: Latest) {
        store.overwrite(&names::latest(LANE), latest.encode().into()).await.unwrap();
    }

    /// Starts again on a data directory whose last process was "ours", the last writer being another one. How it went, and
    /// the seconds that it took.
    async fn resumed_after(writer: &'static str, released: bool, beats: bool) -> (Result<Held, StartError>, u64) {
        let store: SharedStore = Arc::new(ClockedStore::new(memory()));
        let cluster = claim::found_cluster(&store).await.unwrap();
        let own = claim::claim_after(&store, None).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(folder.path()).unwrap();
        data_dir.writers().note(vec!["before".into()], "ours").unwrap();
        say(&store, latest(own, writer, 7, released)).await;
        let living = store.clone();
        let life = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(25)).await;
            if beats {
                say(&living, latest(own, writer, 8, false)).await;
            }
        });
        let began = tokio::time::Instant::now();
        let held = resume(&settings(), &data_dir, &store, LANE, Identity::held(cluster, own)).await;
        let seconds = began.elapsed().as_secs();
        life.abort();
        let copied = matches!(held, Err(StartError::NotOurs { source: ClaimError::Copied { .. }, .. }));
        let given_up = data_dir.identity().unwrap().is_some_and(|identity| identity.released);
        assert_eq!(given_up, copied, "it never serves unasked again");
        (held, seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_goes_on_at_once_where_its_predecessor_wrote_last_or_the_bucket_was_given_up() {
        for (writer, released) in [("ours", false), ("before", false), ("", false), ("a copy's", true)] {
            let (held, seconds) = resumed_after(writer, released, false).await;
            assert!(held.unwrap().confirmed && seconds == 0, "{writer}: {seconds} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_takes_nothing_from_a_living_process_with_a_copy_of_its_directory() {
        let (refused, seconds) = resumed_after("a copy's", false, true).await;
        let Err(error @ StartError::NotOurs { source: ClaimError::Copied { .. }, .. }) = refused else {
            panic!("it must be refused");
        };
        assert!(seconds <= 30 && error.to_string().contains("copy of this data directory"), "{seconds} s: {error}");
        let (held, seconds) = resumed_after("a copy's", false, false).await;
        assert!(held.is_ok() && seconds == 90, "it goes on once the copy's process must be gone: {seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_fails_gives_the_bucket_back_to_the_last_writer() {
        let store = memory();
        let cluster = claim::found_cluster(&store).await.unwrap();
        let own = claim::claim_after(&store, None).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let data_dir = Arc::new(DataDir::open(folder.path()).unwrap());
        data_dir.set_identity(&Identity::held(cluster, own)).unwrap();
        data_dir.writers().note(Vec::new(), "ours").unwrap();
        for released in [false, true] {
            say(&store, latest(own, "ours", 7, released)).await;
            let refused = start(&settings(), &data_dir, &store, LANE).await.err();
            assert!(matches!(refused, Some(StartError::NoCheckpoint { .. })), "{refused:?}");
            let said = heartbeat::read(&store, LANE).await.unwrap().unwrap();
            assert_eq!(said, latest(own, "ours", 9, released));
        }
    }

    /// Begins on a bucket whose owner, incarnation 1, has given it up, and which does not answer to the claim at first;
    /// whether the owner is back by then. Says what was claimed, and how long everything took.
    async fn begun_after(comes_back: bool) -> (Incarnation, Duration) {
        let faulty = Arc::new(FaultyStore::new(memory()));
        let store: SharedStore = faulty.clone();
        claim::found_cluster(&store).await.unwrap();
        let incarnation = claim::claim_after(&store, None).await.unwrap();
        say(&store, latest(incarnation, "", 5, true)).await;
        faulty.fail(Operation::Create, "claims/", Fault::Before, 1);
        let owner = store.clone();
        let life = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if comes_back {
                say(&owner, latest(incarnation, "", 6, false)).await;
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let data_dir = Arc::new(DataDir::open(folder.path()).unwrap());
        let began = tokio::time::Instant::now();
        let held = begin(&settings(), &data_dir, &store, LANE).await.unwrap();
        life.await.unwrap();
        (held.ownership.incarnation(), began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_that_comes_back_between_the_look_and_the_claim_gets_time_to_notice() {
        let notice = Rhythm::default().notice;
        let (incarnation, took) = begun_after(false).await;
        assert!(incarnation == Incarnation(2) && took < notice, "{took:?}");
        let (incarnation, took) = begun_after(true).await;
        assert!(incarnation == Incarnation(2) && took >= notice, "{took:?}");
    }
}
