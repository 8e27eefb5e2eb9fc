//! A lane's state: a pure function of the commands applied so far. No clock, no I/O, no randomness.
//!
//! [`LaneState::apply`] is the only way to change it; [`checkpoint`] turns it into bytes and back.

pub mod apply;
pub mod checkpoint;
pub mod partition;
pub mod segments;
#[cfg(test)]
mod tests;
pub mod topic;

use std::collections::BTreeMap;

use chronik_core::ids::{Incarnation, LogIndex, TopicId};

use self::segments::{Segments, Tombstone};
use self::topic::Topic;

/// Everything a lane knows as of one log index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneState {
    /// The owner's claim; also the leader epoch of all partitions.
    pub incarnation: Incarnation,
    /// The last index applied; 0 before the first.
    pub applied: LogIndex,
    /// The living topics, by identity.
    pub topics: BTreeMap<TopicId, Topic>,
    /// The living topics' names.
    pub names: BTreeMap<String, TopicId>,
    /// The registered segments.
    pub segments: Segments,
    /// Results taken in, by object name, with the index of the command: once that is shipped the object may go.
    pub results: BTreeMap<String, LogIndex>,
    /// Objects that nothing refers to any more, by name.
    pub tombstones: BTreeMap<String, Tombstone>,
}

impl LaneState {
    /// The state of a lane that nothing was written to.
    pub fn new(incarnation: Incarnation) -> Self {
        Self { incarnation, ..Self::default() }
    }

    /// The topic of a name.
    pub fn topic_named(&self, name: &str) -> Option<&Topic> {
        self.topics.get(self.names.get(name)?)
    }

    /// The last index that lies in a registered segment.
    pub fn shipped_index(&self) -> LogIndex {
        self.segments.shipped_index()
    }

    /// Turns the recovered state into the first one of a new incarnation: every partition gets a new leader epoch,
    /// from its end on.
    pub fn begin_incarnation(&mut self, incarnation: Incarnation) {
        self.incarnation = incarnation;
        for topic in self.topics.values_mut() {
            topic.changed = self.applied;
            for partition in &mut topic.partitions {
                partition.begin_epoch(leader_epoch(incarnation));
            }
        }
    }
}

/// A standalone lane's leader epoch is its incarnation.
pub fn leader_epoch(incarnation: Incarnation) -> i32 {
    i32::try_from(incarnation.0).unwrap_or(i32::MAX)
}
