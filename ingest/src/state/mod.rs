//! A lane's state: a pure function of the commands applied so far. No clock, no I/O, no randomness.
//!
//! [`LaneState::apply_frame`] is the only way to change it; [`checkpoint`] turns it into bytes and back. Its
//! collections share structure: a clone costs the same however large the state is, and is a snapshot that the next
//! commands leave alone.

pub mod apply;
pub mod checkpoint;
pub mod command;
mod decode;
pub mod group;
pub mod partition;
mod pending;
pub mod producer;
pub mod refusal;
pub mod segments;
#[cfg(test)]
mod tests;
pub mod topic;
pub mod topic_config;

use std::sync::Arc;

use chronik_format::catalog::{OldestSegment, WaitingRuns};
use chronik_format::ids::{Incarnation, LogIndex, TopicId};
use imbl::OrdMap;

use self::group::GroupState;
use self::pending::PendingRuns;
pub use self::pending::RunKey;
use self::segments::{RegisteredSegments, Tombstone};
use self::topic::TopicState;

/// Everything a lane knows as of one log index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneState {
    /// The owner's claim; also the leader epoch of all partitions.
    pub incarnation: Incarnation,
    /// The last index applied; 0 before the first.
    pub applied: LogIndex,
    /// The living topics, by identity.
    pub topics: OrdMap<TopicId, Arc<TopicState>>,
    /// The living topics' names.
    pub names: OrdMap<Arc<str>, TopicId>,
    /// The registered segments.
    pub segments: RegisteredSegments,
    /// Results taken in, by object name, with the index of the command: once that is shipped the object may go.
    pub results: OrdMap<String, LogIndex>,
    /// Objects that nothing refers to any more, by name.
    pub tombstones: OrdMap<String, Tombstone>,
    /// Ids that were given out to producers in this incarnation.
    pub producer_ids: i64,
    /// The largest id of a producer that may have written to a topic that was deleted, or what was lost with a disk.
    pub forgotten_producers: i64,
    /// Consumer groups, by id.
    pub groups: OrdMap<Arc<str>, Arc<GroupState>>,
    /// The runs that have no archive yet and are to have one; follows from the topics.
    pub pending: PendingRuns,
}

impl LaneState {
    /// The state of a lane that nothing was written to.
    pub fn new(incarnation: Incarnation) -> Self {
        Self { incarnation, ..Self::default() }
    }

    /// The topic of a name.
    pub fn topic_named(&self, name: &str) -> Option<&Arc<TopicState>> {
        self.topics.get(self.names.get(name)?)
    }

    /// The last index that lies in a registered segment.
    pub fn shipped_index(&self) -> LogIndex {
        self.segments.shipped_index()
    }

    /// The oldest segment that an open run points into, or that a page names.
    pub fn oldest_needed(&self) -> Option<OldestSegment> {
        let pages = self.topics.values().flat_map(|topic| &topic.pages);
        pages.filter_map(|page| page.bounds.oldest_segment).chain(self.segments.oldest_open()).min()
    }

    /// The log index below which no segment is needed.
    pub fn needed_from(&self) -> LogIndex {
        self.oldest_needed().map_or(self.shipped_index() + 1, |oldest| oldest.first)
    }

    /// What of a topic waits for an archive, open or in pages; nothing of one that is not searched.
    pub fn waiting(&self, topic: &TopicState) -> WaitingRuns {
        if !topic.config.search_enabled() {
            return WaitingRuns::default();
        }
        let open = self.pending.of_topic(topic.id).filter_map(|(_, partition, first)| {
            let run = topic.partition(*partition)?.run_at(*first)?;
            Some(run.bytes.length)
        });
        topic.pages.iter().map(|page| page.bounds.waiting).fold(open.collect(), WaitingRuns::and)
    }

    /// Turns the recovered state into the first one of a new incarnation: every partition gets a new leader epoch,
    /// from its end on.
    pub fn begin_incarnation(&mut self, incarnation: Incarnation) {
        self.incarnation = incarnation;
        self.producer_ids = 0;
        self.forget_known_producers();
        let forgotten = self.forgotten_producers;
        let topics = std::mem::take(&mut self.topics).into_iter().map(|(id, mut topic)| {
            let changed = Arc::make_mut(&mut topic);
            changed.changed = self.applied;
            for partition in changed.partitions.iter_mut() {
                let partition = Arc::make_mut(partition);
                partition.begin_epoch(leader_epoch(incarnation));
                partition.producers.forget_up_to(forgotten);
            }
            (id, topic)
        });
        self.topics = topics.collect();
        self.recover_groups();
    }
}

/// A standalone lane's leader epoch is its incarnation.
pub fn leader_epoch(incarnation: Incarnation) -> i32 {
    i32::try_from(incarnation.0).unwrap_or(i32::MAX)
}
