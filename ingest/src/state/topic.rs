//! Topics.

use std::sync::Arc;

use chronik_format::ids::{LogIndex, PartitionId, TopicId};
use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};

use super::partition::Partition;
use super::segments::Archive;
use super::topic_config::TopicConfig;

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its identity; never used again.
    pub id: TopicId,
    /// Its name, unique among the living.
    pub name: Arc<str>,
    /// Its settings.
    pub config: TopicConfig,
    /// Changes when the way it is indexed changes.
    pub index_epoch: u32,
    /// By number.
    #[serde(deserialize_with = "super::decode::vector")]
    pub partitions: Vector<Arc<Partition>>,
    /// Live archives, by object name.
    #[serde(deserialize_with = "super::decode::map")]
    pub archives: OrdMap<Arc<str>, Arc<Archive>>,
    /// The index of the last command that changed what readers of the catalog see of it.
    pub changed: LogIndex,
}

impl Topic {
    /// The partition of a number.
    pub fn partition(&self, number: PartitionId) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(number).ok()?)
    }

    /// The partition of a number, to be changed.
    pub fn partition_mut(&mut self, number: PartitionId) -> Option<&mut Partition> {
        self.partitions.get_mut(usize::try_from(number).ok()?).map(Arc::make_mut)
    }
}
