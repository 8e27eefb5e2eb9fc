//! What others see of the lane without asking its owner: the living topics, and of every partition its bounds and
//! the batches that are still in the write-ahead log: the newest of them in memory, of the others where to look.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use chronik_format::ids::{LogIndex, Offset, PartitionId, TopicId};
use imbl::{HashMap, Vector};

use super::stretch::{FrameSpan, LogStretch, PartitionStretches};
use super::watcher::WatchMark;
use crate::state::LaneState;
use crate::state::command::Append;
use crate::state::partition::PartitionState;
use crate::state::topic::TopicState;
use crate::state::topic_config::TopicConfig;

/// Stretches of the log that one read looks into at most.
const STRETCHES_READ: usize = 64;

/// The living topics as of one moment. A clone costs the same however many they are.
#[derive(Clone, Debug, Default)]
pub struct TopicTable {
    by_name: HashMap<Arc<str>, Arc<TopicView>>,
    by_id: HashMap<TopicId, Arc<TopicView>>,
}

/// A living topic.
#[derive(Debug)]
pub struct TopicView {
    /// Its identity.
    pub id: TopicId,
    pub name: Arc<str>,
    /// Its settings.
    pub config: TopicConfig,
    /// Bytes that no batch of it exceeds.
    pub batch_bytes_max: usize,
    /// By number.
    pub partitions: Vec<Arc<PartitionTail>>,
}

/// A partition's bounds and its batches in the write-ahead log.
#[derive(Debug)]
pub struct PartitionTail {
    window: RwLock<Window>,
}

#[derive(Debug)]
struct Window {
    bounds: OffsetBounds,
    epochs: Vector<(i32, Offset)>,
    /// Those whose bytes are not in memory; they end where `batches` begin.
    forgotten: PartitionStretches,
    /// Those whose bytes are in memory.
    batches: VecDeque<TailBatch>,
    /// The topic was deleted: nothing will ever come here.
    is_gone: bool,
    watches: Watches,
}

/// Those who watch the partition. The fetches that wait and the sessions that there are bound them.
#[derive(Debug, Default)]
struct Watches {
    marks: BTreeMap<u64, Arc<WatchMark>>,
    next: u64,
}

/// A partition's offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetBounds {
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

/// A batch in the write-ahead log whose bytes are in memory.
#[derive(Clone, Debug)]
pub struct TailBatch {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// The frame that holds it.
    pub frame: FrameSpan,
    pub bytes: BatchBytes,
}

impl TailBatch {
    /// An append and its bytes, in a frame.
    pub fn new(append: &Append, frame: FrameSpan, bytes: BatchBytes) -> Self {
        Self { base_offset: append.base_offset, last_offset: append.last_offset, frame, bytes }
    }
}

/// Batches of the tail.
#[derive(Debug)]
pub enum TailRead {
    /// Their bytes.
    Held(Vec<BatchBytes>),
    /// Where in the log they are to be found.
    Logged(Vec<LogStretch>),
}

/// The offset lies below what the tail holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BelowTail {
    /// First offset that the tail holds.
    pub start: Offset,
}

impl TopicTable {
    /// The living topics of a state.
    pub fn of(state: &LaneState) -> Self {
        let mut table = TopicTable::default();
        state.topics.values().for_each(|topic| table.put(topic));
        table
    }

    /// A topic was created or altered; partitions that are known already keep their tails.
    pub(super) fn put(&mut self, topic: &TopicState) {
        let tails = self.by_id.get(&topic.id).map(|known| known.partitions.clone()).unwrap_or_default();
        let view = Arc::new(TopicView::new(topic, tails));
        self.by_name.insert(view.name.clone(), view.clone());
        self.by_id.insert(view.id, view);
    }

    /// A topic was deleted. Its view is to be retired once the table is published.
    pub(super) fn remove(&mut self, id: TopicId) -> Option<Arc<TopicView>> {
        let gone = self.by_id.remove(&id)?;
        if self.by_name.get(&gone.name).is_some_and(|named| named.id == id) {
            self.by_name.remove(&gone.name);
        }
        Some(gone)
    }

    /// The topic of a name.
    pub fn named(&self, name: &str) -> Option<&Arc<TopicView>> {
        self.by_name.get(name)
    }

    /// The topic of an id.
    pub fn get(&self, id: TopicId) -> Option<&Arc<TopicView>> {
        self.by_id.get(&id)
    }

    /// All topics, by no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TopicView>> {
        self.by_id.values()
    }

    /// All partitions, by no particular order.
    pub fn partitions(&self) -> impl Iterator<Item = &Arc<PartitionTail>> {
        self.iter().flat_map(|topic| &topic.partitions)
    }

    /// A partition's tail.
    pub fn partition(&self, topic: TopicId, partition: PartitionId) -> Option<&Arc<PartitionTail>> {
        self.get(topic)?.partition(partition)
    }
}

impl TopicView {
    /// A topic of whose partitions the first ones have these tails.
    fn new(topic: &TopicState, mut partitions: Vec<Arc<PartitionTail>>) -> Self {
        let others = topic.partitions.iter().skip(partitions.len());
        partitions.extend(others.map(|partition| Arc::new(PartitionTail::new(partition))));
        Self {
            id: topic.id,
            name: topic.name.clone(),
            config: topic.config.clone(),
            batch_bytes_max: topic.batch_bytes_max,
            partitions,
        }
    }

    /// The topic is deleted: tells all who look at it.
    pub(super) fn retire(&self) {
        self.partitions.iter().for_each(|partition| partition.retire());
    }

    /// A partition's tail.
    pub fn partition(&self, partition: PartitionId) -> Option<&Arc<PartitionTail>> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }
}

impl PartitionTail {
    /// The tail of a partition of whose records none is in the write-ahead log.
    pub fn new(partition: &PartitionState) -> Self {
        let bounds = OffsetBounds {
            log_start: partition.log_start,
            tail_start: partition.next_offset,
            end: partition.next_offset,
            leader_epoch: partition.leader_epoch(),
        };
        let window = Window {
            bounds,
            epochs: partition.epochs.clone(),
            forgotten: PartitionStretches::default(),
            batches: VecDeque::new(),
            is_gone: false,
            watches: Watches::default(),
        };
        Self { window: RwLock::new(window) }
    }

    fn read_window(&self) -> RwLockReadGuard<'_, Window> {
        self.window.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_window(&self) -> RwLockWriteGuard<'_, Window> {
        self.window.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partition's offsets now.
    pub fn bounds(&self) -> OffsetBounds {
        self.read_window().bounds
    }

    /// (leader epoch, its first offset), ascending.
    pub fn epochs(&self) -> Vec<(i32, Offset)> {
        self.read_window().epochs.iter().copied().collect()
    }

    /// The batches from the one on that contains `from`: those in memory at most about `max_bytes` but at least one,
    /// none at the end; or where they lie in the log.
    pub fn read(&self, from: Offset, max_bytes: usize) -> Result<TailRead, BelowTail> {
        let window = self.read_window();
        if from < window.bounds.tail_start {
            return Err(BelowTail { start: window.bounds.tail_start });
        }
        if from < window.held_from() {
            return Ok(TailRead::Logged(window.forgotten.from(from, STRETCHES_READ)));
        }
        let first = window.batches.partition_point(|batch| batch.last_offset < from);
        let mut bytes = 0;
        let within = window.batches.range(first..).take_while(|batch| {
            let length = batch.bytes.length();
            let fits = bytes == 0 || bytes + length <= max_bytes;
            bytes += length;
            fits
        });
        Ok(TailRead::Held(within.map(|batch| batch.bytes.clone()).collect()))
    }

    /// Bytes of the batches in memory from the one on that contains `from` (or follows it), until they are `enough` but
    /// at least one, and the offset after them; 0 at the end. `None` if those at `from` are not in memory: their
    /// size is unknown until they are read.
    pub fn ahead(&self, from: Offset, enough: usize) -> Option<(usize, Offset)> {
        let window = self.read_window();
        if from < window.held_from() {
            return None;
        }
        let first = window.batches.partition_point(|batch| batch.last_offset < from);
        let (mut bytes, mut end) = (0, from);
        for batch in window.batches.range(first..) {
            bytes += batch.bytes.length();
            end = batch.last_offset + 1;
            if bytes >= enough {
                break;
            }
        }
        Some((bytes, end))
    }

    /// Whether the topic was deleted; one of the same name has tails of its own.
    pub fn is_gone(&self) -> bool {
        self.read_window().is_gone
    }

    /// Has a mark set whenever the partition changes; returns by what it is removed.
    pub(super) fn add_mark(&self, mark: Arc<WatchMark>) -> u64 {
        let watches = &mut self.write_window().watches;
        watches.next += 1;
        watches.marks.insert(watches.next, mark);
        watches.next
    }

    pub(super) fn remove_mark(&self, id: u64) {
        self.write_window().watches.marks.remove(&id);
    }

    /// Adds a batch that was applied; wake waiting readers by [`PartitionTail::wake`] afterwards.
    pub(super) fn push(&self, batch: TailBatch) {
        let mut window = self.write_window();
        window.bounds.end = window.bounds.end.max(batch.last_offset + 1);
        window.batches.push_back(batch);
        window.settle();
        window.watches.mark();
    }

    /// The log starts at a later offset: tells all who wait for what lies below it.
    pub(super) fn begin_at(&self, partition: &PartitionState) {
        let mut window = self.write_window();
        window.bounds.log_start = partition.log_start;
        window.epochs = partition.epochs.clone();
        window.watches.mark();
        drop(window);
        self.wake();
    }

    /// Recalls what the log is known to hold, before anything is pushed.
    pub(super) fn recall(&self, forgotten: PartitionStretches) {
        let mut window = self.write_window();
        window.forgotten = forgotten;
        window.settle();
    }

    /// Wakes all who watch.
    pub(super) fn wake(&self) {
        self.read_window().watches.marks.values().for_each(|mark| mark.wake());
    }

    /// Nothing comes any more: wakes all who wait for it.
    fn retire(&self) {
        let mut window = self.write_window();
        window.is_gone = true;
        window.watches.mark();
        drop(window);
        self.wake();
    }

    /// Releases what lies at or below a log index, which is below `released_to`: it is served from the bucket now.
    /// Returns the memory of the stretches that stay, bytes.
    pub(super) fn release(&self, up_to: LogIndex, released_to: Offset) -> usize {
        let mut window = self.write_window();
        let kept = window.batches.partition_point(|batch| batch.frame.index <= up_to);
        window.batches.drain(..kept);
        window.forgotten.release(up_to, released_to);
        window.settle();
        window.forgotten.memory()
    }

    /// Forgets the oldest bytes, if they are those of this batch; they are read from the write-ahead log from now on,
    /// found by stretches of it of `stretch_bytes`. Returns the memory that these took and take, bytes.
    pub(super) fn forget(&self, base_offset: Offset, stretch_bytes: u64) -> (usize, usize) {
        let mut window = self.write_window();
        let before = window.forgotten.memory();
        let oldest = window.batches.pop_front_if(|batch| batch.base_offset == base_offset);
        if let Some(batch) = oldest.filter(|_| !window.is_gone) {
            window.forgotten.add(batch.base_offset, &batch.frame, stretch_bytes);
        }
        window.settle();
        (before, window.forgotten.memory())
    }

    /// How many batches are in memory.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.read_window().batches.len()
    }

    /// Makes one of neighbouring stretches up to `stretch_bytes`. Returns the memory of those that stay, bytes.
    pub(super) fn thin(&self, stretch_bytes: u64) -> usize {
        let mut window = self.write_window();
        window.forgotten.thin(stretch_bytes);
        window.forgotten.memory()
    }
}

impl Watches {
    /// The partition has changed.
    fn mark(&self) {
        self.marks.values().for_each(WatchMark::set);
    }
}

impl Window {
    /// First offset whose bytes are in memory; the end if there is none.
    fn held_from(&self) -> Offset {
        self.batches.front().map_or(self.bounds.end, |batch| batch.base_offset)
    }

    /// What the tail holds has changed.
    fn settle(&mut self) {
        self.bounds.tail_start = self.forgotten.start().unwrap_or_else(|| self.held_from());
        if self.batches.len() < self.batches.capacity() / 4 {
            self.batches.shrink_to(self.batches.len() * 2);
        }
    }
}
