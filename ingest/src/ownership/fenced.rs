//! What an owner that lost the bucket leaves behind: records that it acknowledged and the next owner does not have.
//!
//! The next owner starts every partition's new leader epoch at its cut, and its first checkpoint says so. What lies
//! above is on this machine's disk alone.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use chronik_format::ids::{Incarnation, LaneId, Offset, PartitionId, TopicId};
use chronik_format::names::CheckpointName;
use chronik_store::{SharedStore, StoreError};
use uuid::Uuid;

use super::BucketOwnership;
use crate::lane::tail::TopicTable;
use crate::state::checkpoint::StateCheckpointError;
use crate::state::{LaneState, checkpoint, leader_epoch};

/// Why it is not known where the next owner begins.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// The bucket could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The next owner's first checkpoint can't be read.
    #[error("checkpoint {key}: {source}")]
    Checkpoint {
        /// The object's name.
        key: String,
        /// What does not fit.
        source: StateCheckpointError,
    },
}

/// A partition's end as acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionEnd {
    /// The topic's name.
    pub topic: String,
    /// First offset that can be read.
    pub log_start: Offset,
    /// One past the last acknowledged record.
    pub end: Offset,
}

/// The ends of all partitions.
pub type PartitionEnds = BTreeMap<(TopicId, PartitionId), PartitionEnd>;

/// Where every living partition ends.
pub fn ends(topics: &TopicTable) -> PartitionEnds {
    let partitions = topics.iter().flat_map(|topic| {
        topic.partitions.iter().enumerate().map(|(number, partition)| {
            let bounds = partition.bounds();
            let end = PartitionEnd { topic: topic.name.to_string(), log_start: bounds.log_start, end: bounds.end };
            ((topic.id, number as PartitionId), end)
        })
    });
    partitions.collect()
}

/// Records of one partition above the cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordsAbove {
    /// The topic's name.
    pub topic: String,
    pub partition: PartitionId,
    /// The first of them: the next owner's cut.
    pub from: Offset,
    /// One past the last.
    pub to: Offset,
}

/// Compares with the first state that a later owner has put into the bucket; `None` if there is none yet.
pub async fn above_cut(
    store: &SharedStore,
    ownership: &BucketOwnership,
    lane: LaneId,
    ends: &PartitionEnds,
) -> Result<Option<Vec<RecordsAbove>>, CutError> {
    let own = ownership.incarnation();
    let Some(state) = first_state_after(store, ownership.cluster(), lane, own).await? else {
        return Ok(None);
    };
    let above = ends.iter().filter_map(|((topic, partition), end)| {
        let from = cut_of(&state, *topic, *partition, own).max(end.log_start);
        (from < end.end).then(|| RecordsAbove { topic: end.topic.clone(), partition: *partition, from, to: end.end })
    });
    Ok(Some(above.collect()))
}

async fn first_state_after(
    store: &SharedStore,
    cluster: Uuid,
    lane: LaneId,
    own: Incarnation,
) -> Result<Option<LaneState>, CutError> {
    let objects = store.list(&CheckpointName::prefix(lane)).await?;
    let first = objects
        .iter()
        .filter_map(|object| object.key.parse::<CheckpointName>().ok())
        .filter(|name| name.incarnation > own)
        .min_by_key(|name| (name.incarnation, name.index, name.ulid));
    let Some(first) = first else { return Ok(None) };
    let key = first.to_string();
    let bytes = store.read(&key, None).await?;
    let state = checkpoint::decode(&key, bytes, cluster, lane);
    state.map(Some).map_err(|source| CutError::Checkpoint { key, source })
}

/// Where the partition's first epoch after ours starts; a topic that the later owner does not know is ours from its
/// start.
fn cut_of(state: &LaneState, topic: TopicId, partition: PartitionId, own: Incarnation) -> Offset {
    let known = state.topics.get(&topic);
    let known = known.and_then(|topic| topic.partitions.get(usize::try_from(partition).ok()?));
    known.map_or(0, |partition| {
        let later = partition.epochs.iter().find(|(epoch, _)| *epoch > leader_epoch(own));
        later.map_or(partition.next_offset, |(_, start)| *start)
    })
}

/// The last words of an owner that lost the bucket.
#[derive(Debug)]
pub struct FencingReport {
    /// Its claim.
    pub own: Incarnation,
    /// The claim above it.
    pub by: Incarnation,
    /// Where its files are.
    pub data_dir: PathBuf,
    /// Where its partitions ended.
    pub ends: PartitionEnds,
    /// What the next owner does not have, if that is known.
    pub above: Option<Vec<RecordsAbove>>,
}

impl fmt::Display for FencingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (own, by, data_dir) = (self.own, self.by, self.data_dir.display());
        write!(
            f,
            "the bucket was claimed by another broker (incarnation {by}) after this one (incarnation {own}), which has \
             stopped and acknowledges nothing any more. "
        )?;
        match &self.above {
            Some(above) if above.is_empty() => {
                write!(f, "0 acknowledged records lie above the new owner's cut: it has all of them")?
            }
            Some(above) => {
                let records: i64 = above.iter().map(|above| above.to - above.from).sum();
                write!(f, "{records} acknowledged records lie above the new owner's cut")?;
                for RecordsAbove { topic, partition, from, to } in above {
                    write!(f, "; topic {topic}, partition {partition}: offsets {from} to {}", to - 1)?;
                }
            }
            None => {
                write!(
                    f,
                    "How many acknowledged records lie above the new owner's cut is not known: it has no checkpoint in the \
                     bucket yet. This broker's ends"
                )?;
                for ((_, partition), end) in &self.ends {
                    write!(f, "; topic {}, partition {partition}: {}", end.topic, end.end)?;
                }
            }
        }
        write!(f, ". The data directory {data_dir} is kept as it is, and has what the new owner has not")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use chronik_store::memory;
    use ulid::Ulid;

    use super::*;
    use crate::state::command::{Append, Command, CreateTopic};
    use crate::state::topic_config::TopicConfig;

    const LANE: LaneId = LaneId(0);

    fn topic(number: u128) -> TopicId {
        TopicId(Uuid::from_u128(number))
    }

    fn create(number: u128, partitions: i32) -> Command {
        Command::CreateTopic(CreateTopic {
            id: topic(number),
            name: format!("topic-{number}"),
            partitions,
            config: TopicConfig::default(),
        })
    }

    fn append(number: u128, partition: i32, base_offset: Offset, last_offset: Offset) -> Command {
        Command::Append(Append {
            topic: topic(number),
            partition,
            base_offset,
            last_offset,
            position: 0,
            length: 0,
            producer: None,
        })
    }

    async fn store_state(store: &SharedStore, state: &LaneState) {
        let name =
            CheckpointName { lane: LANE, incarnation: state.incarnation, index: state.applied, ulid: Ulid::new() };
        let bytes = checkpoint::encode(state, Uuid::nil(), LANE);
        store.create(&name.to_string(), vec![bytes]).await.unwrap();
    }

    #[tokio::test]
    async fn what_lies_above_the_next_owners_cut_is_counted() {
        let store = memory();
        let ownership = BucketOwnership::new(store.clone(), Uuid::nil(), Incarnation(1));
        let mut state = LaneState::new(Incarnation(1));
        state.apply_frame(1, &[create(1, 2), append(1, 0, 0, 9), append(1, 1, 0, 4)]);
        store_state(&store, &state).await;
        let mut ours = state.clone();
        ours.apply_frame(2, &[append(1, 0, 10, 12), create(2, 1), append(2, 0, 0, 99)]);
        let ends = ends(&TopicTable::of(&ours));

        assert_eq!(above_cut(&store, &ownership, LANE, &ends).await.unwrap(), None);

        // The first checkpoint of the next owner is gone already, and that one has gone on writing.
        state.begin_incarnation(Incarnation(2));
        state.apply_frame(2, &[append(1, 0, 10, 500)]);
        store_state(&store, &state).await;
        state.begin_incarnation(Incarnation(3));
        store_state(&store, &state).await;
        let above = above_cut(&store, &ownership, LANE, &ends).await.unwrap();
        let expected = [("topic-1", 0, 10, 13), ("topic-2", 0, 0, 100)]
            .map(|(topic, partition, from, to)| RecordsAbove { topic: topic.into(), partition, from, to });
        assert_eq!(above.as_deref(), Some(&expected[..]));

        let mut remains =
            FencingReport { own: Incarnation(1), by: Incarnation(2), data_dir: "/data".into(), ends, above };
        let told = remains.to_string();
        assert!(told.contains("103 acknowledged records") && told.contains("offsets 10 to 12"), "{told}");
        remains.above = None;
        let told = remains.to_string();
        assert!(told.contains("not known") && told.contains("topic topic-1, partition 1: 5"), "{told}");
    }
}
