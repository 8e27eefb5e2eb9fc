//! Records that are deleted from the start of their partitions.

use std::collections::BTreeSet;
use std::sync::Arc;

use chronik_format::ids::{Offset, PartitionId};

use crate::state::LaneState;
use crate::state::command::{DeleteRecords, FirstKept};
use crate::state::partition::{IndexStatus, PartitionRun};
use crate::state::refusal::CommandRefusal;
use crate::state::segments::Tombstone;
use crate::state::topic::TopicState;

/// Of each partition that a command names, in its order: the first offset that can be read now, or why nothing was
/// deleted.
pub type LogStarts = Vec<Result<Offset, CommandRefusal>>;

impl LaneState {
    /// The outcome of a deletion of records that would change nothing now; `None` of one that would.
    pub fn unchanged_by(&self, delete: &DeleteRecords) -> Option<LogStarts> {
        let topic = self.topics.get(&delete.topic)?;
        let outcomes = delete.partitions.iter().map(|FirstKept { partition, offset }| {
            let Some(partition) = topic.partition(*partition) else {
                return Some(Err(CommandRefusal::UnknownPartition));
            };
            let outcome = partition.log_start_after(*offset);
            (!matches!(outcome, Ok(log_start) if log_start > partition.log_start)).then_some(outcome)
        });
        outcomes.collect()
    }

    /// Applies a deletion of records, the next command of the frame. A log that starts behind the offset stays as it
    /// is.
    pub fn delete_records(&mut self, delete: &DeleteRecords) -> Result<LogStarts, CommandRefusal> {
        let topic = self.topics.get_mut(&delete.topic).map(Arc::make_mut).ok_or(CommandRefusal::UnknownTopic)?;
        let mut gone = Vec::new();
        let log_starts = delete.partitions.iter().map(|FirstKept { partition: number, offset }| {
            let partition = topic.partition_mut(*number).ok_or(CommandRefusal::UnknownPartition)?;
            let log_start = partition.log_start_after(*offset)?;
            gone.extend(partition.start_at(log_start).into_iter().map(|run| (*number, run)));
            Ok(log_start)
        });
        let log_starts = log_starts.collect();
        topic.changed = self.applied;
        for (partition, run) in gone.iter().filter(|(_, run)| run.indexed == IndexStatus::Pending) {
            self.pending.remove(&(topic.id, *partition, run.offsets.first));
        }
        gone.iter().for_each(|(_, run)| self.segments.remove_open_run(run.segment));
        let tombstone = Tombstone::of_all(self.applied, delete.at);
        for key in archives_of_none(topic, &gone) {
            topic.archives.remove(&key);
            self.tombstones.insert(key.to_string(), tombstone);
        }
        let pages = topic.drop_deleted_pages();
        self.tombstones.extend(pages.iter().map(|page| (page.object.clone(), tombstone)));
        Ok(log_starts)
    }
}

/// The archives of runs that are gone, as far as they cover no others.
fn archives_of_none(topic: &TopicState, gone: &[(PartitionId, PartitionRun)]) -> BTreeSet<Arc<str>> {
    let named = gone.iter().filter_map(|(_, run)| match &run.indexed {
        IndexStatus::Archive(key) => Some(key.clone()),
        IndexStatus::Pending | IndexStatus::Unreadable(_) => None,
    });
    let mut archives: BTreeSet<Arc<str>> = named.collect();
    archives.retain(|key| {
        let runs = topic.archives.get(key).map_or(&[][..], |archive| &archive.runs);
        let is_there = |partition, first| topic.partition(partition).and_then(|known| known.run_at(first)).is_some();
        !runs.iter().any(|run| is_there(run.partition, run.first))
    });
    archives
}
