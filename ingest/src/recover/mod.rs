//! A lane's way back from the bucket alone.
//!
//! The newest checkpoint is the state at the end of some segment; the command logs of the segments above it bring it
//! forward. What they registered is known by then; the segments behind the last registered one are adopted, whoever asks
//! for them now and however old they are. Nothing here writes to the bucket.
//!
//! Every owner's first checkpoint lies at its cut, with everything below registered. So what is neither replayed nor
//! registered was written by the checkpoint's own incarnation, and segments of any other are left alone: a former owner
//! may have uploaded them late, for indices that mean something else since.

mod chain;
mod report;

pub use report::Report;

use chronik_core::catalog::{self, CatalogError};
use chronik_core::ids::{Incarnation, Lane, LogIndex, Timestamp};
use chronik_core::names::{CheckpointName, SegmentName};
use chronik_core::segment::{SegmentError, SegmentHeader, SegmentReader};
use chronik_core::store::{SharedStore, StoreError};
use uuid::Uuid;

use self::chain::longest_chain;
use crate::clock::{millis, now_ms};
use crate::command::{Command, CommandError, RegisterSegment};
use crate::ship::runs_of;
use crate::state::LaneState;
use crate::state::apply::Refusal;
use crate::state::checkpoint::{self, CheckpointError};

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
        source: CheckpointError,
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
        /// The lane.
        lane: Lane,
    },
    /// Records that the bucket once had are missing.
    #[error(
        "the bucket's log can be followed up to index {end} only, but {evidence}: restore the missing objects below \
         lanes/{lane}/segments/, or accept that what follows is lost with --accept-loss (CHRONIK_ACCEPT_LOSS)"
    )]
    Loss {
        /// The last index that was recovered.
        end: LogIndex,
        /// What shows that there was more.
        evidence: String,
        /// The lane.
        lane: Lane,
    },
    /// Loss was accepted, and still there is no state to go on from.
    #[error(
        "{evidence}, and no older checkpoint in the bucket leads to a state whose records are all there: restore the \
         missing objects below lanes/{lane}/segments/ or lanes/{lane}/checkpoints/"
    )]
    Hopeless {
        /// What shows that something is missing.
        evidence: String,
        /// The lane.
        lane: Lane,
    },
    /// A segment is not what its name says.
    #[error("segment {key} is not what its name says, but of cluster {cluster}, {range}: remove it")]
    Misnamed {
        /// The object's name.
        key: String,
        /// Whose it is.
        cluster: Uuid,
        /// Incarnation, lane and indices.
        range: String,
    },
    /// A segment does not continue the state it should.
    #[error("segment {key} does not continue the recovered state: {refusal}")]
    Refused {
        /// The object's name.
        key: String,
        /// Why.
        refusal: Refusal,
    },
}

/// The state that the bucket holds. With `accept_loss` the newest one whose records are all there.
pub async fn from_bucket(
    store: &SharedStore,
    cluster: Uuid,
    lane: Lane,
    accept_loss: bool,
) -> Result<(LaneState, Report), RecoverError> {
    let bucket = Bucket::list(store, cluster, lane).await?;
    let (state, report) = bucket.rebuild(bucket.checkpoints.first()).await?;
    let Some(evidence) = bucket.evidence_of_loss(&state).await? else {
        return Ok((state, report));
    };
    if !accept_loss {
        let end = state.applied;
        return Err(RecoverError::Loss { end, evidence, lane });
    }
    let loss = Some(evidence.clone());
    if is_whole(&state) {
        return Ok((state, Report { loss, ..report }));
    }
    for older in bucket.checkpoints.iter().skip(1).map(Some).chain([None]) {
        let (state, report) = bucket.rebuild(older).await?;
        if is_whole(&state) && state.applied > 0 {
            return Ok((state, Report { loss, ..report }));
        }
    }
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
    lane: Lane,
    /// Newest first.
    checkpoints: Vec<CheckpointName>,
    segments: Vec<SegmentName>,
}

impl<'a> Bucket<'a> {
    async fn list(store: &'a SharedStore, cluster: Uuid, lane: Lane) -> Result<Self, RecoverError> {
        let checkpoints = store.list(&CheckpointName::prefix(lane)).await?;
        let mut checkpoints: Vec<CheckpointName> = checkpoints.iter().filter_map(|o| o.key.parse().ok()).collect();
        checkpoints.sort_by_key(|name| std::cmp::Reverse((name.incarnation, name.index, name.ulid)));
        let segments = store.list(&SegmentName::prefix(lane)).await?;
        let segments: Vec<SegmentName> = segments.iter().filter_map(|o| o.key.parse().ok()).collect();
        let later = segments.iter().find(|name| name.incarnation > Incarnation(1));
        match later {
            Some(later) if checkpoints.is_empty() => Err(RecoverError::NoCheckpoint {
                incarnation: later.incarnation,
                lane,
            }),
            _ => Ok(Self {
                store,
                cluster,
                lane,
                checkpoints,
                segments,
            }),
        }
    }

    /// The state that a checkpoint leads to; without one, the state before the first command does.
    async fn rebuild(&self, from: Option<&CheckpointName>) -> Result<(LaneState, Report), RecoverError> {
        let key = from.map(CheckpointName::to_string);
        let mut state = match &key {
            Some(key) => self.checkpoint(key).await?,
            None => LaneState::new(Incarnation(1)),
        };
        let replayed = self.replay(&mut state).await?;
        let adopted = self.adopt(&mut state).await?;
        let report = Report::of(key, replayed, adopted, &state);
        Ok((state, report))
    }

    async fn checkpoint(&self, key: &str) -> Result<LaneState, RecoverError> {
        let bytes = self.store.read(key, None).await?;
        checkpoint::decode(key, bytes, self.cluster, self.lane).map_err(|source| RecoverError::Checkpoint {
            key: key.to_owned(),
            source,
        })
    }

    /// Brings the state forward by the command logs of the segments above it.
    async fn replay(&self, state: &mut LaneState) -> Result<usize, RecoverError> {
        let chain = longest_chain(&self.segments_of(state.incarnation), state.applied + 1);
        for name in &chain {
            let key = name.to_string();
            for entry in self.open(name).await?.log().await? {
                let commands = Command::decode_all(&entry.commands).map_err(|source| RecoverError::Command {
                    key: key.clone(),
                    index: entry.index,
                    source,
                })?;
                state.apply_frame(entry.index, &commands);
            }
            tracing::info!("replayed {key}");
        }
        Ok(chain.len())
    }

    /// Makes the segments behind the last registered one the home of their records.
    async fn adopt(&self, state: &mut LaneState) -> Result<usize, RecoverError> {
        let mut within = self.segments_of(state.incarnation);
        within.retain(|name| name.last <= state.applied);
        let chain = longest_chain(&within, state.shipped_index() + 1);
        for name in &chain {
            let key = name.to_string();
            let info = self.store.info(&key).await?;
            let reader = self.open(name).await?;
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
                runs: runs_of(reader.directory()),
            };
            state
                .adopt_segment(&segment)
                .map_err(|refusal| RecoverError::Refused { key, refusal })?;
        }
        Ok(chain.len())
    }

    fn segments_of(&self, incarnation: Incarnation) -> Vec<SegmentName> {
        let own = self.segments.iter().filter(|name| name.incarnation == incarnation);
        own.copied().collect()
    }

    /// Opens a segment, which must be what its name says.
    async fn open(&self, name: &SegmentName) -> Result<SegmentReader, RecoverError> {
        let reader = SegmentReader::open(self.store.clone(), &name.to_string()).await?;
        let expected = SegmentHeader {
            cluster: self.cluster,
            incarnation: name.incarnation,
            lane: name.lane,
            first: name.first,
            last: name.last,
        };
        let header = *reader.header();
        if header == expected {
            return Ok(reader);
        }
        let SegmentHeader {
            cluster,
            incarnation,
            lane,
            first,
            last,
        } = header;
        Err(RecoverError::Misnamed {
            key: name.to_string(),
            cluster,
            range: format!("incarnation {incarnation}, lane {lane}, indices {first} to {last}"),
        })
    }

    /// What shows that the bucket once had more than could be recovered.
    async fn evidence_of_loss(&self, state: &LaneState) -> Result<Option<String>, RecoverError> {
        let (own, end) = (state.incarnation, state.applied);
        if !is_whole(state) {
            let missing = state.shipped_index() + 1;
            return Ok(Some(format!(
                "the segment that holds the records from index {missing} on is missing"
            )));
        }
        let beyond = |name: &&SegmentName| name.incarnation == own && name.first > end + 1;
        if let Some(beyond) = self.segments.iter().find(beyond) {
            return Ok(Some(format!("segment {beyond} lies beyond a hole")));
        }
        if let Some(later) = self.segments.iter().find(|name| name.incarnation > own) {
            return Ok(Some(format!("the checkpoint that leads to segment {later} is missing")));
        }
        let Some((_, root)) = catalog::newest_export(&**self.store, self.lane).await? else {
            return Ok(None);
        };
        let (by, shipped) = (root.incarnation, root.shipped_index);
        Ok(((by, shipped) > (own, end))
            .then(|| format!("the catalog names segments of incarnation {by} up to index {shipped}")))
    }
}
