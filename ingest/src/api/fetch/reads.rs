use std::collections::HashMap;
use std::sync::Arc;

use super::read::PartitionRead;
use super::session::DuePartition;
use crate::lane::tail::TopicTable;
use crate::lane::watcher::TailWatcher;

/// The partitions that a request looks at: of a session with many, only those that may have something to tell.
#[derive(Default)]
pub struct PartitionReads {
    reads: Vec<PartitionRead>,
    /// Index in `reads` by the number that the request knows a partition by, of those that were there at the last look.
    indexes: HashMap<u64, usize>,
    bytes_ahead: usize,
    is_urgent: bool,
}

impl PartitionReads {
    /// Looks at partitions, be it once more or for the first time; those are watched before if there is a watcher.
    pub fn look(&mut self, topics: &TopicTable, due: Vec<DuePartition>, watcher: Option<&Arc<TailWatcher>>) {
        let unindexed = self.reads.iter().enumerate().skip(self.indexes.len());
        self.indexes.extend(unindexed.map(|(index, read)| (read.number, index)));
        for partition in due {
            let index = match self.indexes.get(&partition.number) {
                Some(index) => *index,
                None => self.begin(topics, partition, watcher),
            };
            self.look_at(index);
        }
    }

    /// Has all partitions watched, and looks at them once more.
    pub fn watch(&mut self, watcher: &Arc<TailWatcher>) {
        for index in 0..self.reads.len() {
            self.reads[index].watch(watcher);
            self.look_at(index);
        }
    }

    fn begin(&mut self, topics: &TopicTable, due: DuePartition, watcher: Option<&Arc<TailWatcher>>) -> usize {
        let index = self.reads.len();
        let mut read = PartitionRead::begin(topics, due);
        if let Some(watcher) = watcher {
            read.watch(watcher);
        }
        self.reads.push(read);
        index
    }

    fn look_at(&mut self, index: usize) {
        let read = &mut self.reads[index];
        let before = read.bytes_ahead();
        read.look();
        self.bytes_ahead = self.bytes_ahead - before + read.bytes_ahead();
        self.is_urgent |= read.is_urgent();
    }

    /// Whether waiting for more is of no use: there are `enough` bytes, or what a client needs to know at once.
    pub fn are_worth_answering(&self, enough: usize) -> bool {
        self.is_urgent || self.bytes_ahead >= enough
    }

    /// All of them, in the order in which they get their share of the answer.
    pub fn in_order(mut self) -> Vec<PartitionRead> {
        self.reads.sort_by_key(|read| read.order);
        self.reads
    }
}
