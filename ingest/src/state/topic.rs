//! Topics.

use std::sync::Arc;

use chronik_format::catalog::{PageBounds, PageEntry, PartitionBounds};
use chronik_format::ids::{LogIndex, PartitionId, TopicId};
use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};

use super::partition::PartitionState;
use super::segments::LiveArchive;
use super::topic_config::TopicConfig;

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicState {
    /// Its identity; never used again.
    pub id: TopicId,
    /// Its name, unique among the living.
    pub name: Arc<str>,
    /// Its settings.
    pub config: TopicConfig,
    /// Bytes that no batch of it exceeds: the largest `max.message.bytes` that it ever had.
    pub batch_bytes_max: usize,
    /// Changes when the way it is indexed changes: what was ordered before and comes later is not taken. Archives that
    /// are there stay, as each says how it was built.
    pub index_epoch: u32,
    /// By number.
    #[serde(deserialize_with = "super::decode::vector")]
    pub partitions: Vector<Arc<PartitionState>>,
    /// The pages at the top of the closed history, from the oldest to the newest; what is open follows the last one.
    #[serde(deserialize_with = "super::decode::vector")]
    pub pages: Vector<Arc<PageEntry>>,
    /// Live archives over open runs, by object name.
    #[serde(deserialize_with = "super::decode::map")]
    pub archives: OrdMap<Arc<str>, Arc<LiveArchive>>,
    /// The index of the last command that changed what readers of the catalog see of it.
    pub changed: LogIndex,
}

impl TopicState {
    /// The partition of a number.
    pub fn partition(&self, number: PartitionId) -> Option<&Arc<PartitionState>> {
        self.partitions.get(usize::try_from(number).ok()?)
    }

    /// The last log index whose runs lie in pages; 0 if there are none.
    pub fn closed_index(&self) -> LogIndex {
        self.pages.last().map_or(0, |page| page.bounds.last)
    }

    /// How many runs are open.
    pub fn open_runs(&self) -> usize {
        self.partitions.iter().map(|partition| partition.runs.len()).sum()
    }

    /// Whether all records that a page holds, or those below it do, lie below the logs' starts.
    pub fn is_all_deleted(&self, page: &PageBounds) -> bool {
        let is_deleted = |bounds: &PartitionBounds| {
            self.partition(bounds.partition).is_none_or(|partition| partition.is_deleted(bounds.offsets.last))
        };
        page.partitions.iter().all(is_deleted)
    }

    /// The partition of a number, to be changed.
    pub fn partition_mut(&mut self, number: PartitionId) -> Option<&mut PartitionState> {
        self.partitions.get_mut(usize::try_from(number).ok()?).map(Arc::make_mut)
    }
}
