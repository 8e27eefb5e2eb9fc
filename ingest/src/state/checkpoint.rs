//! A lane's state as bytes: the sections of a checkpoint, each bincode 2 (standard configuration).
//!
//! | kind | section |
//! |---|---|
//! | 1 | incarnation |
//! | 2 | topics |
//! | 3 | segments |
//! | 4 | results taken in |
//! | 5 | tombstones |
//! | 6 | consumer groups |
//! | 7 | producer ids given out, and up to which producers may be forgotten |

use std::collections::BTreeMap;
use std::sync::Arc;

use bincode::error::DecodeError;
use bincode::serde::decode_from_slice;
use bytes::Bytes;
use chronik_format::checkpoint::{self, Checkpoint, CheckpointHeader, StateSection};
use chronik_format::ids::{Incarnation, LaneId, LogIndex};
use chronik_format::origin::Origin;
use imbl::OrdMap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::LaneState;
use super::group::GroupState;
use super::pending::PendingRuns;
use super::segments::{RegisteredSegments, SegmentId, Tombstone};
use super::topic::TopicState;

/// A section's kind, and the version of its shape.
type SectionTag = (u16, u16);

const INCARNATION: SectionTag = (1, 0);
const TOPICS: SectionTag = (2, 0);
const SEGMENTS: SectionTag = (3, 0);
const RESULTS: SectionTag = (4, 0);
const TOMBSTONES: SectionTag = (5, 0);
const GROUPS: SectionTag = (6, 0);
const PRODUCER_IDS: SectionTag = (7, 0);
const SECTIONS: [SectionTag; 7] = [INCARNATION, TOPICS, SEGMENTS, RESULTS, TOMBSTONES, GROUPS, PRODUCER_IDS];

/// Why a checkpoint is not a state.
#[derive(Debug, thiserror::Error)]
pub enum StateCheckpointError {
    /// The container is damaged, or another version's.
    #[error(transparent)]
    Container(#[from] checkpoint::CheckpointError),
    /// It is another cluster's or lane's.
    #[error("it belongs to cluster {cluster}, lane {lane}")]
    Foreign { cluster: Uuid, lane: LaneId },
    /// A section is missing, unknown, or can't be decoded.
    #[error("section {kind}: {reason}")]
    Section {
        /// The section's kind.
        kind: u16,
        /// What does not fit.
        reason: String,
    },
}

/// The state at its applied index.
pub fn encode(state: &LaneState, cluster: Uuid, lane: LaneId) -> Bytes {
    let topics: Vec<&Arc<TopicState>> = state.topics.values().collect();
    let sections = vec![
        section(INCARNATION, &state.incarnation),
        section(TOPICS, &topics),
        section(SEGMENTS, &state.segments),
        section(RESULTS, &state.results),
        section(TOMBSTONES, &state.tombstones),
        section(GROUPS, &state.groups),
        section(PRODUCER_IDS, &(state.producer_ids, state.forgotten_producers)),
    ];
    let origin = Origin { cluster, incarnation: state.incarnation, lane };
    let header = CheckpointHeader { origin, index: state.applied };
    checkpoint::encode(&Checkpoint { header, sections })
}

/// The state that `bytes` hold; `file` names them in errors.
pub fn decode(file: &str, bytes: Bytes, cluster: Uuid, lane: LaneId) -> Result<LaneState, StateCheckpointError> {
    let Checkpoint { header, sections } = checkpoint::decode(file, bytes)?;
    let origin = header.origin;
    if (origin.cluster, origin.lane) != (cluster, lane) {
        return Err(StateCheckpointError::Foreign { cluster: origin.cluster, lane: origin.lane });
    }
    if let Some(unknown) = sections.iter().find(|section| !SECTIONS.contains(&(section.kind, section.version))) {
        let reason = format!("version {} is not known to this version of Chronik", unknown.version);
        return Err(StateCheckpointError::Section { kind: unknown.kind, reason });
    }
    let topics: Vec<Arc<TopicState>> = fields(&sections, TOPICS)?;
    let mut segments: RegisteredSegments = fields(&sections, SEGMENTS)?;
    segments.count_open_runs(topics.iter().map(Arc::as_ref)).map_err(|SegmentId(last)| {
        let reason = format!("a run points into a segment up to index {last}, which is not there");
        StateCheckpointError::Section { kind: SEGMENTS.0, reason }
    })?;
    let (producer_ids, forgotten_producers) = fields(&sections, PRODUCER_IDS)?;
    Ok(LaneState {
        incarnation: fields(&sections, INCARNATION)?,
        applied: header.index,
        names: topics.iter().map(|topic| (topic.name.clone(), topic.id)).collect(),
        pending: PendingRuns::of(topics.iter().map(Arc::as_ref)),
        topics: topics.into_iter().map(|topic| (topic.id, topic)).collect(),
        segments,
        results: map_of(&sections, RESULTS)?,
        tombstones: map_of(&sections, TOMBSTONES)?,
        groups: map_of(&sections, GROUPS)?,
        producer_ids,
        forgotten_producers,
    })
}

fn section((kind, version): SectionTag, fields: &impl Serialize) -> StateSection {
    let encoded = bincode::serde::encode_to_vec(fields, bincode::config::standard());
    debug_assert!(encoded.is_ok(), "plain data always serialises");
    StateSection { kind, version, bytes: Bytes::from(encoded.unwrap_or_default()) }
}

fn fields<T: DeserializeOwned>(sections: &[StateSection], (kind, _): SectionTag) -> Result<T, StateCheckpointError> {
    let section = sections
        .iter()
        .find(|section| section.kind == kind)
        .ok_or(StateCheckpointError::Section { kind, reason: "is missing".into() })?;
    decoded(&section.bytes).map_err(|error| StateCheckpointError::Section { kind, reason: error.to_string() })
}

/// Every announced length is charged before anything is allocated for it, against a limit that can only be a constant.
/// A number is charged with up to 16 times the bytes that it takes, so that is what a section of any size needs.
fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    const SMALL: usize = 1 << 20;
    const LARGE: usize = 64 << 20;
    const LARGEST: usize = 2 << 30;
    let config = bincode::config::standard();
    let (fields, _) = match bytes.len() {
        length if length <= SMALL => decode_from_slice(bytes, config.with_limit::<{ 16 * SMALL }>()),
        length if length <= LARGE => decode_from_slice(bytes, config.with_limit::<{ 16 * LARGE }>()),
        _ => decode_from_slice(bytes, config.with_limit::<{ 16 * LARGEST }>()),
    }?;
    Ok(fields)
}

/// What is kept by name.
fn map_of<K, T>(sections: &[StateSection], tag: SectionTag) -> Result<OrdMap<K, T>, StateCheckpointError>
where
    K: DeserializeOwned + Ord + Clone,
    T: DeserializeOwned + Clone,
{
    fields::<BTreeMap<K, T>>(sections, tag).map(|map| map.into_iter().collect())
}

/// Reads any bytes as every section of a state, for fuzzing; whatever comes out, nothing panics.
pub fn fuzz_state(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let sections = SECTIONS.map(|(kind, version)| StateSection { kind, version, bytes: bytes.clone() });
    let origin = Origin { cluster: Uuid::nil(), incarnation: Incarnation(1), lane: LaneId(0) };
    let header = CheckpointHeader { origin, index: LogIndex::MAX };
    let whole = checkpoint::encode(&Checkpoint { header, sections: sections.to_vec() });
    let _ = decode("fuzz", whole, Uuid::nil(), LaneId(0));
    let _ = fields::<RegisteredSegments>(&sections, SEGMENTS).map(|segments| segments.shipped_index());
    let _ = map_of::<String, LogIndex>(&sections, RESULTS);
    let _ = map_of::<String, Tombstone>(&sections, TOMBSTONES);
    let _ = map_of::<Arc<str>, Arc<GroupState>>(&sections, GROUPS);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn encoded(fields: &impl Serialize) -> Vec<u8> {
        bincode::serde::encode_to_vec(fields, bincode::config::standard()).unwrap()
    }

    #[test]
    fn an_announced_length_reserves_no_gigabytes_in_a_small_section() {
        for announced in [1u64 << 30, 1 << 40] {
            let refused = decoded::<String>(&encoded(&announced));
            assert!(matches!(refused, Err(DecodeError::LimitExceeded)), "{refused:?}");
        }
    }

    #[test]
    fn numbers_that_take_a_byte_each_are_read() {
        let numbers = vec![1u128; 1_000_000];
        assert_eq!(decoded::<Vec<u128>>(&encoded(&numbers)).unwrap(), numbers);
    }
}
