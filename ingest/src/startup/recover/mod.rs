//! A lane's way back from the bucket alone.
//!
//! The newest checkpoint is the state at the end of some segment; the command logs of the segments above it bring it
//! forward. What they registered is known by then; the segments behind the last registered one are adopted, though
//! their owner is gone, and however old they are. Nothing here writes to the bucket.
//!
//! Every owner's first checkpoint lies at its cut, with everything below registered. So what is neither replayed nor
//! registered was written by the checkpoint's own incarnation, and segments of any other are left alone: a former owner
//! may have uploaded them late, for indices that mean something else since.
//!
//! A checkpoint or segment that is damaged is passed over, and named: an older checkpoint and the command logs above it
//! lead to the same state. What could not be reached that way counts as loss, and is never passed over silently. Nor is
//! a registered segment that is gone or cut ([`mod@unreachable`]), as far as the state holds it one by one.

mod chain;
mod fork;
mod lists;
mod loss;
mod pages;
mod report;
mod segments;
mod unreachable;

pub use loss::LossEvidence;
pub use pages::UnreachablePages;
pub use report::RecoveryReport;
pub use unreachable::UnreachableSegments;

use chronik_format::catalog::{self, CatalogError};
use chronik_format::ids::{Incarnation, LaneId, LogIndex, Timestamp};
use chronik_format::names::{CheckpointName, SegmentName};
use chronik_format::origin::Origin;
use chronik_format::segment::{LogEntry, SegmentError, SegmentHeader, SegmentReader};
use chronik_store::{SharedStore, StoreError};
use uuid::Uuid;

use self::segments::SegmentChain;
use crate::clock::{millis, now_ms};
use crate::state::LaneState;
use crate::state::checkpoint::{self, StateCheckpointError};
use crate::state::command::{Command, CommandError, RegisterSegment, SegmentRun};
use crate::state::refusal::CommandRefusal;

/// Why a bucket could not be recovered from.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The bucket could not be reached, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalog can't be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A segment can't be read.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// A checkpoint can't be read.
    #[error("checkpoint {key}: {source}")]
    Checkpoint {
        /// The object's name.
        key: String,
        /// Why.
        source: StateCheckpointError,
    },
    /// A segment's command log can't be read.
    #[error("segment {key}, frame {index}: {source}")]
    Command {
        /// The object's name.
        key: String,
        /// The frame.
        index: LogIndex,
        /// Why.
        source: CommandError,
    },
    /// There are segments that only a checkpoint can lead to, but none.
    #[error(
        "the bucket has segments of incarnation {incarnation} but no checkpoint that leads to them: restore the objects \
         below lanes/{lane}/checkpoints/"
    )]
    NoCheckpoint {
        /// The segments' incarnation.
        incarnation: Incarnation,
        lane: LaneId,
    },
    /// Records that the bucket once had are missing.
    #[error(
        "the bucket's log can be followed up to index {end} only, but {evidence}: restore the missing objects below \
         lanes/{lane}/{}, or accept that what follows is lost with --accept-loss (CHRONIK_ACCEPT_LOSS)",
        evidence.folder
    )]
    Loss {
        /// The last index that was recovered.
        end: LogIndex,
        evidence: LossEvidence,
        lane: LaneId,
    },
    /// Registered segments are gone, or are not what was uploaded.
    #[error(
        "{unreachable}. Restore the missing objects below lanes/{lane}/segments/, or go on without their records with \
         --accept-loss (CHRONIK_ACCEPT_LOSS): their offsets stay, reading them is an error, and searches name them as not \
         searched"
    )]
    Unreachable {
        /// What is not there.
        unreachable: UnreachableSegments,
        lane: LaneId,
    },
    /// Pages of history are gone, or are not what was written.
    #[error(
        "{unreachable}. Restore the missing objects below topics/, or go on without these records with --accept-loss \
         (CHRONIK_ACCEPT_LOSS): their offsets stay, reading them is an error, and searches name them as not searched"
    )]
    UnreachablePages {
        /// What is not there.
        unreachable: UnreachablePages,
    },
    /// Two segments of one owner hold different records for the same indices.
    #[error(
        "segments {one} and {other} are of the same broker and hold different records for the same indices: its data \
         directory was an older copy at some time, and both were acknowledged. {verdict}"
    )]
    Forked {
        /// One object's name.
        one: String,
        /// The other's.
        other: String,
        /// What decides between them, and what to do.
        verdict: String,
    },
    /// Loss was accepted, and still there is no state to go on from.
    #[error(
        "{evidence}, and no older checkpoint in the bucket leads to a state whose records are all there: restore the \
         missing objects below lanes/{lane}/segments/ or lanes/{lane}/checkpoints/"
    )]
    Hopeless {
        /// What shows that something is missing.
        evidence: String,
        lane: LaneId,
    },
    /// A segment is not what its name says.
    #[error("segment {key} is not what its name says, but of {range}: remove it")]
    Misnamed {
        /// The object's name.
        key: String,
        /// Incarnation, lane and indices.
        range: String,
    },
    /// A segment is another cluster's.
    #[error(
        "segment {key} is of cluster {theirs}, but by cluster.json the bucket belongs to cluster {own}. If other segments are \
         of {theirs} too, cluster.json is what is wrong: put back the one that names {theirs}. Otherwise the segment came \
         from another bucket: move it away"
    )]
    Foreign {
        /// The object's name.
        key: String,
        /// Whose it is.
        theirs: Uuid,
        /// Whose the bucket is.
        own: Uuid,
    },
    /// A segment does not continue the state it should.
    #[error("segment {key} does not continue the recovered state: {refusal}")]
    Refused {
        /// The object's name.
        key: String,
        /// Why.
        refusal: CommandRefusal,
    },
}

/// The state that the bucket holds. With `accept_loss` the newest one whose segments are all registered; some of those
/// may be gone.
pub async fn from_bucket(
    store: &SharedStore,
    cluster: Uuid,
    lane: LaneId,
    accept_loss: bool,
) -> Result<(LaneState, RecoveryReport), RecoverError> {
    let (state, mut report) = newest_state(Bucket::list(store, cluster, lane, accept_loss).await?).await?;
    if let Some(unreachable) = UnreachableSegments::of(store, lane, &state).await? {
        if !accept_loss {
            return Err(RecoverError::Unreachable { unreachable, lane });
        }
        report.losses.push(unreachable.to_string());
    }
    if let Some(unreachable) = UnreachablePages::of(store, &state).await? {
        if !accept_loss {
            return Err(RecoverError::UnreachablePages { unreachable });
        }
        report.losses.push(unreachable.to_string());
    }
    if let Some(lists) = lists::differing(store, lane, &state.segments).await? {
        tracing::warn!(
            "lists of segments are not there as they were: {lists}. No record is lost with them; segments that nothing \
             needs any more are not told from others without them"
        );
    }
    Ok((state, report))
}

/// The newest state that checkpoints and command logs lead to.
async fn newest_state(mut bucket: Bucket<'_>) -> Result<(LaneState, RecoveryReport), RecoverError> {
    let (lane, accept_loss) = (bucket.lane, bucket.accept_loss);
    let mut first_evidence = None;
    for from in bucket.checkpoints.clone().into_iter().map(Some).chain([None]) {
        let Rebuilt { state, mut report, evidence } = match bucket.rebuild(from.as_ref()).await {
            Err(error @ RecoverError::Checkpoint { .. }) => {
                tracing::warn!("{error}; an older checkpoint and the segments above it are tried instead");
                bucket.damaged.extend(from);
                continue;
            }
            rebuilt => rebuilt?,
        };
        let Some(evidence) = first_evidence.clone().or(evidence) else {
            return Ok((state, report));
        };
        if !accept_loss {
            let end = state.applied;
            return Err(RecoverError::Loss { end, evidence, lane });
        }
        if is_whole(&state) && (first_evidence.is_none() || state.applied > 0) {
            report.losses.push(evidence.to_string());
            return Ok((state, report));
        }
        first_evidence = Some(evidence);
    }
    let evidence = first_evidence.map_or_else(|| "no checkpoint can be read".into(), |evidence| evidence.to_string());
    Err(RecoverError::Hopeless { evidence, lane })
}

/// Whether all of the state's records lie in registered segments.
fn is_whole(state: &LaneState) -> bool {
    state.shipped_index() == state.applied
}

/// What there is to recover from.
struct Bucket<'a> {
    store: &'a SharedStore,
    cluster: Uuid,
    lane: LaneId,
    accept_loss: bool,
    /// Newest first.
    checkpoints: Vec<CheckpointName>,
    /// Those that can't be read.
    damaged: Vec<CheckpointName>,
}

/// What a checkpoint led to.
struct Rebuilt {
    state: LaneState,
    report: RecoveryReport,
    evidence: Option<LossEvidence>,
}

impl<'a> Bucket<'a> {
    async fn list(
        store: &'a SharedStore,
        cluster: Uuid,
        lane: LaneId,
        accept_loss: bool,
    ) -> Result<Self, RecoverError> {
        let checkpoints = store.list(&CheckpointName::prefix(lane)).await?;
        let mut checkpoints: Vec<CheckpointName> = checkpoints.iter().filter_map(|o| o.key.parse().ok()).collect();
        checkpoints.sort_by_key(|name| std::cmp::Reverse((name.incarnation, name.index, name.ulid)));
        let damaged = Vec::new();
        Ok(Self { store, cluster, lane, accept_loss, checkpoints, damaged })
    }

    /// The state that a checkpoint leads to; without one, the state before the first command does.
    async fn rebuild(&self, from: Option<&CheckpointName>) -> Result<Rebuilt, RecoverError> {
        let key = from.map(CheckpointName::to_string);
        let mut state = match &key {
            Some(key) => self.checkpoint(key).await?,
            None => LaneState::new(Incarnation(1)),
        };
        let (mut replayed, mut adopted) = (0, 0);
        loop {
            let mut segments = self.segments_above(&state).await?;
            let cut = self.damaged_cut_above(&state, &segments);
            if let Some((_, index)) = cut {
                segments.end_at(index);
            }
            replayed += self.replay(&mut state, &mut segments).await?;
            adopted += self.adopt(&mut state, &mut segments).await?;
            match cut {
                Some((incarnation, index)) if state.applied == index && is_whole(&state) => {
                    state.begin_incarnation(incarnation);
                }
                _ => {
                    let report = RecoveryReport::of(key, replayed, adopted, &state);
                    let evidence = self.evidence_of_loss(&state, &segments).await?;
                    let evidence = evidence.or(segments.discarded_for_a_fork().map(LossEvidence::of_segments));
                    return Ok(Rebuilt { state, report, evidence });
                }
            }
        }
    }

    async fn checkpoint(&self, key: &str) -> Result<LaneState, RecoverError> {
        let bytes = self.store.read(key, None).await?;
        checkpoint::decode(key, bytes, self.cluster, self.lane)
            .map_err(|source| RecoverError::Checkpoint { key: key.to_owned(), source })
    }

    /// The segments beyond the last one that the state knows as registered, without forks.
    async fn segments_above(&self, state: &LaneState) -> Result<SegmentChain, RecoverError> {
        let (own, shipped) = (state.incarnation, state.shipped_index());
        let mut segments = SegmentChain::list(self.store, self.lane, own, shipped + 1).await?;
        match segments.later() {
            Some(later) if self.checkpoints.is_empty() => {
                return Err(RecoverError::NoCheckpoint { incarnation: later.incarnation, lane: self.lane });
            }
            _ => {}
        }
        self.resolve_forks(&mut segments).await?;
        Ok(segments)
    }

    /// Where the next owner began whose checkpoints can't be read: at the first of them, below its first segment. With
    /// all of what the state's own owner shipped up to there, it is the state that this checkpoint had.
    fn damaged_cut_above(&self, state: &LaneState, segments: &SegmentChain) -> Option<(Incarnation, LogIndex)> {
        let above = self.damaged.iter().filter(|name| name.incarnation > state.incarnation);
        let first = above.min_by_key(|name| (name.incarnation, name.index))?;
        let below_segments = segments.first_of(first.incarnation).map(|index| index - 1);
        let cut = below_segments.map_or(first.index, |index| index.min(first.index));
        Some((first.incarnation, cut))
    }

    /// Brings the state forward by the command logs of the segments above it.
    async fn replay(&self, state: &mut LaneState, segments: &mut SegmentChain) -> Result<usize, RecoverError> {
        let mut replayed = 0;
        'chain: loop {
            for name in segments.chain_from(state.applied + 1) {
                let key = name.to_string();
                let log = match self.log(&name).await {
                    Err(RecoverError::Segment(error)) if error.is_damage() => {
                        tracing::warn!("{error}");
                        segments.pass_over(&name);
                        continue 'chain;
                    }
                    log => log?,
                };
                let frames = decode(&key, &log)?;
                if segments.registers_discarded(&frames) {
                    tracing::warn!("segment {key} goes on from one that was not chosen");
                    segments.pass_over(&name);
                    continue 'chain;
                }
                for (index, commands) in &frames {
                    state.apply_frame(*index, commands);
                }
                replayed += 1;
                tracing::info!("replayed {key}");
            }
            return Ok(replayed);
        }
    }

    /// Makes the segments behind the last registered one the home of their records.
    async fn adopt(&self, state: &mut LaneState, segments: &mut SegmentChain) -> Result<usize, RecoverError> {
        let mut adopted = 0;
        'chain: loop {
            for name in segments.chain_within(state.shipped_index() + 1, state.applied) {
                let key = name.to_string();
                let reader = match self.open(&name).await {
                    Err(RecoverError::Segment(error)) if error.is_damage() => {
                        tracing::warn!("{error}");
                        segments.pass_over(&name);
                        continue 'chain;
                    }
                    reader => reader?,
                };
                let info = self.store.info(&key).await?;
                let segment = RegisterSegment {
                    incarnation: name.incarnation,
                    first: name.first,
                    last: name.last,
                    key: key.clone(),
                    size: info.size,
                    crc: reader.directory_crc(),
                    directory_position: reader.directory_position(),
                    named_at: Timestamp::try_from(name.ulid.timestamp_ms()).unwrap_or(Timestamp::MAX),
                    at: millis(info.last_modified).min(now_ms()),
                    runs: SegmentRun::all_of(reader.directory()),
                };
                state.adopt_segment(&segment).map_err(|refusal| RecoverError::Refused { key, refusal })?;
                adopted += 1;
            }
            return Ok(adopted);
        }
    }

    async fn log(&self, name: &SegmentName) -> Result<Vec<LogEntry>, RecoverError> {
        Ok(self.open(name).await?.log().await?)
    }

    /// Opens a segment, which must be what its name says.
    async fn open(&self, name: &SegmentName) -> Result<SegmentReader, RecoverError> {
        let reader = SegmentReader::open(self.store.clone(), &name.to_string()).await?;
        let origin = Origin { cluster: self.cluster, incarnation: name.incarnation, lane: name.lane };
        let header = *reader.header();
        if header == (SegmentHeader { origin, first: name.first, last: name.last }) {
            return Ok(reader);
        }
        let SegmentHeader { origin: Origin { cluster, incarnation, lane }, first, last } = header;
        if cluster != self.cluster {
            return Err(RecoverError::Foreign { key: name.to_string(), theirs: cluster, own: self.cluster });
        }
        Err(RecoverError::Misnamed {
            key: name.to_string(),
            range: format!("incarnation {incarnation}, lane {lane}, indices {first} to {last}"),
        })
    }

    async fn evidence_of_loss(
        &self,
        state: &LaneState,
        segments: &SegmentChain,
    ) -> Result<Option<LossEvidence>, RecoverError> {
        let (own, end) = (state.incarnation, state.applied);
        let segments_lack = |shown| Ok(Some(LossEvidence::of_segments(shown)));
        let checkpoints_lack = |shown| Ok(Some(LossEvidence::of_checkpoints(shown)));
        if !is_whole(state) {
            let missing = state.shipped_index() + 1;
            return segments_lack(format!("the segment that holds the records from index {missing} on is missing"));
        }
        if let Some(beyond) = segments.beyond(end) {
            return segments_lack(format!("segment {beyond} lies beyond a hole"));
        }
        if let Some(damaged) = segments.passed_over(end) {
            return segments_lack(format!("segment {damaged} can't be used"));
        }
        if let Some(later) = segments.later() {
            return checkpoints_lack(format!("the checkpoint that leads to segment {later} is missing"));
        }
        let above = |name: &&CheckpointName| (name.incarnation, name.index) > (own, end);
        if let Some(above) = self.damaged.iter().find(above) {
            let shown = format!("checkpoint {above}, which is damaged, lies above it");
            return Ok(Some(LossEvidence::of_both(shown)));
        }
        let Some((_, root)) = catalog::newest_export(&**self.store, self.lane).await? else {
            return Ok(None);
        };
        let (by, shipped) = (root.incarnation, root.shipped_index);
        if (by, shipped) <= (own, end) {
            return Ok(None);
        }
        let shown = format!("the catalog names segments of incarnation {by} up to index {shipped}");
        match (by > own, shipped > end) {
            // Only a checkpoint of its own leads to what an incarnation wrote.
            (true, false) => checkpoints_lack(format!("{shown}, and no checkpoint leads to that incarnation")),
            (true, true) => Ok(Some(LossEvidence::of_both(shown))),
            (false, _) => segments_lack(shown),
        }
    }
}

fn decode(key: &str, log: &[LogEntry]) -> Result<Vec<(LogIndex, Vec<Command>)>, RecoverError> {
    let decode = |entry: &LogEntry| match Command::decode_all(&entry.commands) {
        Ok(commands) => Ok((entry.index, commands)),
        Err(source) => Err(RecoverError::Command { key: key.to_owned(), index: entry.index, source }),
    };
    log.iter().map(decode).collect()
}
