//! The runs that wait for an archive.

use chronik_format::ids::{Offset, PartitionId, TopicId};
use imbl::OrdSet;

use super::partition::IndexStatus;
use super::topic::TopicState;

/// A run, by its topic, partition and first offset.
pub type RunKey = (TopicId, PartitionId, Offset);

/// The pending runs of topics that are searched, so that nothing has to look through all runs for them. Those that are
/// open: of what waits in pages, pages say how much it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingRuns {
    runs: OrdSet<RunKey>,
}

impl PendingRuns {
    /// Those of all topics.
    pub fn of<'a>(topics: impl IntoIterator<Item = &'a TopicState>) -> Self {
        let mut pending = Self::default();
        topics.into_iter().for_each(|topic| pending.add_topic(topic));
        pending
    }

    fn add_topic(&mut self, topic: &TopicState) {
        for (number, partition) in topic.partitions.iter().enumerate() {
            let runs = partition.runs.iter().filter(|run| run.indexed == IndexStatus::Pending);
            runs.for_each(|run| self.add(topic, number as PartitionId, run.offsets.first));
        }
    }

    /// A topic's settings have changed.
    pub fn renew_topic(&mut self, topic: &TopicState) {
        self.remove_topic(topic.id);
        self.add_topic(topic);
    }

    /// All of them, by topic, partition and offset.
    pub fn iter(&self) -> impl Iterator<Item = &RunKey> {
        self.runs.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Those of a topic, by partition and offset.
    pub fn of_topic(&self, topic: TopicId) -> impl Iterator<Item = &RunKey> {
        self.runs.range((topic, PartitionId::MIN, Offset::MIN)..=(topic, PartitionId::MAX, Offset::MAX))
    }

    /// A run was registered.
    pub fn add(&mut self, topic: &TopicState, partition: PartitionId, first: Offset) {
        if topic.config.search_enabled() {
            self.runs.insert((topic.id, partition, first));
        }
    }

    /// A run has an archive, or never will, or is closed.
    pub fn remove(&mut self, run: &RunKey) {
        self.runs.remove(run);
    }

    /// A topic was deleted.
    pub fn remove_topic(&mut self, topic: TopicId) {
        let gone: Vec<RunKey> = self.of_topic(topic).copied().collect();
        gone.iter().for_each(|run| self.remove(run));
    }
}
