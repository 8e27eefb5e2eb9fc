//! A lane's way back from the bucket alone.
//!
//! The newest checkpoint is the state at the end of some segment; the command logs of the segments above it, of the same
//! incarnation only, bring it forward. What they registered is known by then; the segments behind the last registered one
//! are adopted. Nothing here writes to the bucket.

use std::collections::BTreeMap;
use std::fmt;

use chronik_core::catalog::CatalogError;
use chronik_core::catalog::reader::CatalogReader;
use chronik_core::ids::{Incarnation, Lane, LogIndex, Timestamp};
use chronik_core::names::{CheckpointName, SegmentName};
use chronik_core::segment::{SegmentError, SegmentReader};
use chronik_core::store::{SharedStore, StoreError};
use uuid::Uuid;

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
    /// A segment does not continue the state it should.
    #[error("segment {key} does not continue the recovered state: {refusal}")]
    Refused {
        /// The object's name.
        key: String,
        /// Why.
        refusal: Refusal,
    },
}

/// What was recovered, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The checkpoint's object name, if there was one.
    pub checkpoint: Option<String>,
    /// Segments whose command logs were replayed.
    pub replayed: usize,
    /// Segments that nothing had registered yet.
    pub adopted: usize,
    /// The last index.
    pub end: LogIndex,
    /// Topics, their partitions, and records in them.
    pub topics: Vec<(String, usize, i64)>,
    /// What is missing, if loss was accepted.
    pub loss: Option<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.checkpoint.as_deref().unwrap_or("the beginning");
        write!(
            f,
            "recovered from the bucket up to index {}: from {from}, {} segments replayed, {} adopted",
            self.end, self.replayed, self.adopted
        )?;
        for (name, partitions, records) in &self.topics {
            write!(f, "; topic {name}: {partitions} partitions, {records} records")?;
        }
        match &self.loss {
            Some(loss) => write!(f, "; LOST: {loss}"),
            None => Ok(()),
        }
    }
}

/// The state that the bucket holds.
pub async fn from_bucket(
    store: &SharedStore,
    cluster: Uuid,
    lane: Lane,
    accept_loss: bool,
) -> Result<(LaneState, Report), RecoverError> {
    let (checkpoint, mut state) = newest_checkpoint(store, cluster, lane).await?;
    let segments = segments_of(store, lane, state.incarnation, checkpoint.is_none()).await?;
    let replayed = replay(store, &segments, &mut state).await?;
    let adopted = adopt(store, &segments, &mut state).await?;
    let loss = evidence_of_loss(store, lane, &segments, &state).await?;
    if let (Some(evidence), false) = (&loss, accept_loss) {
        return Err(RecoverError::Loss {
            end: state.applied,
            evidence: evidence.clone(),
            lane,
        });
    }
    let records =
        |topic: &crate::state::topic::Topic| topic.partitions.iter().map(|p| p.next_offset - p.log_start).sum();
    let report = Report {
        checkpoint,
        replayed,
        adopted,
        end: state.applied,
        topics: state
            .topics
            .values()
            .map(|t| (t.name.clone(), t.partitions.len(), records(t)))
            .collect(),
        loss,
    };
    Ok((state, report))
}

/// The checkpoint of the highest incarnation and index; without any, the state before the first command.
async fn newest_checkpoint(
    store: &SharedStore,
    cluster: Uuid,
    lane: Lane,
) -> Result<(Option<String>, LaneState), RecoverError> {
    let objects = store.list(&CheckpointName::prefix(lane)).await?;
    let newest = objects
        .iter()
        .filter_map(|object| object.key.parse::<CheckpointName>().ok())
        .max_by_key(|name| (name.incarnation, name.index, name.ulid));
    let Some(newest) = newest else {
        return Ok((None, LaneState::new(Incarnation(1))));
    };
    let key = newest.to_string();
    let bytes = store.read(&key, None).await?;
    let state = checkpoint::decode(&key, bytes, cluster, lane).map_err(|source| RecoverError::Checkpoint {
        key: key.clone(),
        source,
    })?;
    Ok((Some(key), state))
}

/// The segments of one incarnation: a late upload of an earlier owner must not fork history.
async fn segments_of(
    store: &SharedStore,
    lane: Lane,
    incarnation: Incarnation,
    from_the_beginning: bool,
) -> Result<Vec<SegmentName>, RecoverError> {
    let objects = store.list(&SegmentName::prefix(lane)).await?;
    let names: Vec<_> = objects
        .iter()
        .filter_map(|object| object.key.parse::<SegmentName>().ok())
        .collect();
    match names.iter().find(|name| name.incarnation > incarnation) {
        Some(later) if from_the_beginning => Err(RecoverError::NoCheckpoint {
            incarnation: later.incarnation,
            lane,
        }),
        _ => Ok(names
            .into_iter()
            .filter(|name| name.incarnation == incarnation)
            .collect()),
    }
}

/// Brings the state forward by the command logs of the segments above it.
async fn replay(store: &SharedStore, segments: &[SegmentName], state: &mut LaneState) -> Result<usize, RecoverError> {
    let chain = longest_chain(segments, state.applied + 1);
    for name in &chain {
        let key = name.to_string();
        let reader = SegmentReader::open(store.clone(), &key).await?;
        for entry in reader.log().await? {
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
async fn adopt(store: &SharedStore, segments: &[SegmentName], state: &mut LaneState) -> Result<usize, RecoverError> {
    let within: Vec<SegmentName> = segments
        .iter()
        .filter(|name| name.last <= state.applied)
        .copied()
        .collect();
    let chain = longest_chain(&within, state.shipped_index() + 1);
    for name in &chain {
        let key = name.to_string();
        let info = store.info(&key).await?;
        let reader = SegmentReader::open(store.clone(), &key).await?;
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

/// What shows that the bucket once had more than could be recovered.
async fn evidence_of_loss(
    store: &SharedStore,
    lane: Lane,
    segments: &[SegmentName],
    state: &LaneState,
) -> Result<Option<String>, RecoverError> {
    let end = state.applied;
    if state.shipped_index() < end {
        let missing = state.shipped_index() + 1;
        return Ok(Some(format!(
            "the segment that holds the records from index {missing} on is missing"
        )));
    }
    if let Some(beyond) = segments.iter().find(|name| name.first > end + 1) {
        return Ok(Some(format!("segment {beyond} lies beyond a hole")));
    }
    let catalog = CatalogReader::new(store.clone(), lane, 0);
    let shipped = catalog.refresh().await?.shipped_index();
    Ok((shipped > end).then(|| format!("the catalog names segments up to index {shipped}")))
}

/// The contiguous segments from `from` on that reach furthest. Borders may overlap: a restart draws them anew.
fn longest_chain(segments: &[SegmentName], from: LogIndex) -> Vec<SegmentName> {
    let mut by_first: BTreeMap<LogIndex, Vec<&SegmentName>> = BTreeMap::new();
    for name in segments.iter().filter(|name| name.first <= name.last) {
        by_first.entry(name.first).or_default().push(name);
    }
    // By first index: how far one gets from there, and through which segment.
    let mut reach: BTreeMap<LogIndex, (LogIndex, &SegmentName)> = BTreeMap::new();
    for (first, candidates) in by_first.iter().rev() {
        let best = candidates
            .iter()
            .map(|name| (reach.get(&(name.last + 1)).map_or(name.last, |(end, _)| *end), *name))
            .max_by_key(|(end, name)| (*end, name.last, name.ulid));
        if let Some(best) = best {
            reach.insert(*first, best);
        }
    }
    let next = |first: LogIndex| reach.get(&first).map(|(_, name)| **name);
    std::iter::successors(next(from), |name| next(name.last + 1)).collect()
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;

    fn names(ranges: &[(LogIndex, LogIndex)]) -> Vec<SegmentName> {
        let name = |(at, &(first, last)): (usize, &(LogIndex, LogIndex))| SegmentName {
            lane: Lane(0),
            incarnation: Incarnation(1),
            first,
            last,
            ulid: Ulid(at as u128),
        };
        ranges.iter().enumerate().map(name).collect()
    }

    #[test]
    fn the_chain_that_reaches_furthest_is_followed() {
        type Ranges = &'static [(LogIndex, LogIndex)];
        let cases: [(&str, Ranges, Ranges); 6] = [
            ("nothing", &[], &[]),
            ("a hole", &[(1, 4), (6, 9)], &[(1, 4)]),
            ("nothing at the start", &[(2, 4)], &[]),
            (
                "borders drawn anew",
                &[(1, 4), (1, 6), (5, 9), (7, 8)],
                &[(1, 4), (5, 9)],
            ),
            (
                "the longest first step is a dead end",
                &[(1, 8), (1, 3), (4, 10)],
                &[(1, 3), (4, 10)],
            ),
            ("the same range twice", &[(1, 4), (1, 4), (5, 5)], &[(1, 4), (5, 5)]),
        ];
        for (why, segments, expected) in cases {
            let chain = longest_chain(&names(segments), 1);
            let ranges: Vec<_> = chain.iter().map(|name| (name.first, name.last)).collect();
            assert_eq!(ranges, expected, "{why}");
        }
    }
}
