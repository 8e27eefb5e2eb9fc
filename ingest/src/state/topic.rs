//! Topics.

use std::collections::BTreeMap;

use chronik_core::ids::{LogIndex, TopicId};
use serde::{Deserialize, Serialize};

use super::partition::Partition;
use super::segments::Archive;
use crate::topic_config::TopicConfig;

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its identity; never used again.
    pub id: TopicId,
    /// Its name, unique among the living.
    pub name: String,
    /// Its settings.
    pub config: TopicConfig,
    /// Changes when the way it is indexed changes.
    pub index_epoch: u32,
    /// By number.
    pub partitions: Vec<Partition>,
    /// Live archives, by object name.
    pub archives: BTreeMap<String, Archive>,
    /// The index of the last command that changed what readers of the catalog see of it.
    pub changed: LogIndex,
}
