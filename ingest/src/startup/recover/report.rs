//! What was recovered, in words.

use std::fmt;

use chronik_format::ids::LogIndex;

use crate::state::LaneState;
use crate::state::topic::TopicState;

/// What was recovered, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryReport {
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
    pub losses: Vec<String>,
}

impl RecoveryReport {
    pub(super) fn of(checkpoint: Option<String>, replayed: usize, adopted: usize, state: &LaneState) -> Self {
        let records = |topic: &TopicState| topic.partitions.iter().map(|p| p.next_offset - p.log_start).sum();
        Self {
            checkpoint,
            replayed,
            adopted,
            end: state.applied,
            topics: state
                .topics
                .values()
                .map(|topic| (topic.name.to_string(), topic.partitions.len(), records(topic)))
                .collect(),
            losses: Vec::new(),
        }
    }
}

impl fmt::Display for RecoveryReport {
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
        self.losses.iter().try_for_each(|loss| write!(f, "; LOST: {loss}"))
    }
}
