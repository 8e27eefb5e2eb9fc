//! What others see of the lane without asking its owner: the living topics, and of every partition its bounds and
//! the batches that are still in the write-ahead log, the newest of them in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use chronik_core::ids::{LogIndex, Offset, PartitionId, TopicId};
use tokio::sync::Notify;

use crate::command::Append;
use crate::state::partition::Partition;
use crate::state::topic::Topic;
use crate::topic_config::TopicConfig;
use crate::wal::FramePlace;

/// The living topics as of one moment.
#[derive(Debug, Default)]
pub struct TopicTable {
    by_name: HashMap<String, Arc<TopicView>>,
    by_id: HashMap<TopicId, Arc<TopicView>>,
}

/// A living topic.
#[derive(Debug)]
pub struct TopicView {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Its settings.
    pub config: TopicConfig,
    /// By number.
    pub partitions: Vec<Arc<PartitionTail>>,
}

/// A partition's bounds and its batches in the write-ahead log.
#[derive(Debug)]
pub struct PartitionTail {
    window: RwLock<Window>,
    grown: Notify,
}

#[derive(Debug)]
struct Window {
    bounds: Bounds,
    epochs: Vec<(i32, Offset)>,
    batches: VecDeque<TailBatch>,
    /// The topic was deleted: nothing will ever come here.
    is_gone: bool,
}

/// A partition's offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// First offset that can be read.
    pub log_start: Offset,
    /// First offset that the tail holds; `end` if it holds none.
    pub tail_start: Offset,
    /// One past the last applied record: the high watermark.
    pub end: Offset,
    /// The current leader epoch.
    pub leader_epoch: i32,
}

/// A stamped batch in two parts, so that the request's bytes need neither be changed nor copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchBytes {
    /// The 61-byte header, base offset and leader epoch in place.
    pub head: Bytes,
    /// The records as they came.
    pub body: Bytes,
}

impl BatchBytes {
    /// Bytes of the batch.
    pub fn length(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

/// A batch in the write-ahead log.
#[derive(Clone, Debug)]
pub struct TailBatch {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// The frame that holds it.
    pub index: LogIndex,
    /// The write-ahead log's file.
    pub file: u64,
    /// Where the batch starts in that file, bytes.
    pub position: u64,
    /// Bytes of the batch.
    pub length: u32,
    /// Its bytes, as long as memory allows.
    pub bytes: Option<BatchBytes>,
}

impl TailBatch {
    /// An append whose frame was written at `place`.
    pub fn new(append: &Append, place: &FramePlace, bytes: Option<BatchBytes>) -> Self {
        Self {
            base_offset: append.base_offset,
            last_offset: append.last_offset,
            index: place.index,
            file: place.file,
            position: place.batches_position + u64::from(append.position),
            length: append.length,
            bytes,
        }
    }
}

/// The offset lies below what the tail holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BelowTail {
    /// First offset that the tail holds.
    pub start: Offset,
}

impl TopicTable {
    /// The living topics of a state; partitions that `self` knows keep their tails.
    pub fn with_topics<'a>(&self, topics: impl Iterator<Item = &'a Topic>) -> Self {
        let mut table = TopicTable::default();
        for topic in topics {
            let view = self
                .by_id
                .get(&topic.id)
                .cloned()
                .unwrap_or_else(|| Arc::new(TopicView::new(topic)));
            table.by_name.insert(view.name.clone(), view.clone());
            table.by_id.insert(view.id, view);
        }
        table
    }

    /// The topic of a name.
    pub fn named(&self, name: &str) -> Option<&Arc<TopicView>> {
        self.by_name.get(name)
    }

    /// The topic of an id.
    pub fn get(&self, id: TopicId) -> Option<&Arc<TopicView>> {
        self.by_id.get(&id)
    }

    /// Tells all who look at topics that are not in `newer` that these are gone.
    pub(super) fn retire_missing_from(&self, newer: &TopicTable) {
        let gone = self.iter().filter(|topic| newer.get(topic.id).is_none());
        gone.flat_map(|topic| &topic.partitions)
            .for_each(|partition| partition.retire());
    }

    /// All topics, by no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TopicView>> {
        self.by_id.values()
    }

    /// A partition's tail.
    pub fn partition(&self, topic: TopicId, partition: PartitionId) -> Option<&Arc<PartitionTail>> {
        self.get(topic)?.partition(partition)
    }
}

impl TopicView {
    fn new(topic: &Topic) -> Self {
        Self {
            id: topic.id,
            name: topic.name.clone(),
            config: topic.config.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| Arc::new(PartitionTail::new(partition)))
                .collect(),
        }
    }

    /// A partition's tail.
    pub fn partition(&self, partition: PartitionId) -> Option<&Arc<PartitionTail>> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }
}

impl PartitionTail {
    /// The tail of a partition of whose records none is in the write-ahead log.
    pub fn new(partition: &Partition) -> Self {
        let bounds = Bounds {
            log_start: partition.log_start,
            tail_start: partition.next_offset,
            end: partition.next_offset,
            leader_epoch: partition.leader_epoch(),
        };
        let window = Window {
            bounds,
            epochs: partition.epochs.clone(),
            batches: VecDeque::new(),
            is_gone: false,
        };
        Self {
            window: RwLock::new(window),
            grown: Notify::new(),
        }
    }

    fn read_window(&self) -> RwLockReadGuard<'_, Window> {
        self.window.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_window(&self) -> RwLockWriteGuard<'_, Window> {
        self.window.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partition's offsets now.
    pub fn bounds(&self) -> Bounds {
        self.read_window().bounds
    }

    /// (leader epoch, its first offset), ascending.
    pub fn epochs(&self) -> Vec<(i32, Offset)> {
        self.read_window().epochs.clone()
    }

    /// Batches in offset order, the first one containing `from` (or following it, if nothing has that offset), at
    /// most about `max_bytes` but at least one; empty at the end.
    pub fn batches(&self, from: Offset, max_bytes: usize) -> Result<Vec<TailBatch>, BelowTail> {
        let window = self.read_window();
        if from < window.bounds.tail_start {
            return Err(BelowTail {
                start: window.bounds.tail_start,
            });
        }
        let first = window.batches.partition_point(|batch| batch.last_offset < from);
        let mut bytes = 0;
        let within = window.batches.range(first..).take_while(|batch| {
            let fits = bytes == 0 || bytes + batch.length as usize <= max_bytes;
            bytes += batch.length as usize;
            fits
        });
        Ok(within.cloned().collect())
    }

    /// Bytes of the batches from the one on that contains `from` (or follows it), until they are `enough` but at least
    /// one, and the offset after them; 0 at the end.
    pub fn ahead(&self, from: Offset, enough: usize) -> Result<(usize, Offset), BelowTail> {
        let window = self.read_window();
        if from < window.bounds.tail_start {
            return Err(BelowTail {
                start: window.bounds.tail_start,
            });
        }
        let first = window.batches.partition_point(|batch| batch.last_offset < from);
        let (mut bytes, mut end) = (0, from);
        for batch in window.batches.range(first..) {
            bytes += batch.length as usize;
            end = batch.last_offset + 1;
            if bytes >= enough {
                break;
            }
        }
        Ok((bytes, end))
    }

    /// Whether the topic was deleted; one of the same name has tails of its own.
    pub fn is_gone(&self) -> bool {
        self.read_window().is_gone
    }

    /// Ends once the partition has grown, or is gone, after this call: make it before looking at the bounds.
    pub fn grown(&self) -> tokio::sync::futures::Notified<'_> {
        self.grown.notified()
    }

    /// Adds a batch that was applied; wake waiting readers by [`PartitionTail::wake`] afterwards.
    pub(super) fn push(&self, batch: TailBatch) {
        let mut window = self.write_window();
        if window.batches.is_empty() {
            window.bounds.tail_start = batch.base_offset;
        }
        window.bounds.end = window.bounds.end.max(batch.last_offset + 1);
        window.batches.push_back(batch);
    }

    /// Wakes all who wait for records.
    pub(super) fn wake(&self) {
        self.grown.notify_waiters();
    }

    /// Nothing comes any more: wakes all who wait for it.
    fn retire(&self) {
        self.write_window().is_gone = true;
        self.grown.notify_waiters();
    }

    /// Lets go of what lies at or below a log index: it is served from the bucket now.
    pub(super) fn release(&self, up_to: LogIndex) {
        let mut window = self.write_window();
        let kept = window.batches.partition_point(|batch| batch.index <= up_to);
        window.batches.drain(..kept);
        window.bounds.tail_start = window
            .batches
            .front()
            .map_or(window.bounds.end, |batch| batch.base_offset);
    }

    /// Lets go of a batch's bytes; they are read from the write-ahead log from now on.
    pub(super) fn forget_bytes(&self, base_offset: Offset) {
        let mut window = self.write_window();
        if let Ok(at) = window
            .batches
            .binary_search_by_key(&base_offset, |batch| batch.base_offset)
        {
            window.batches[at].bytes = None;
        }
    }
}
