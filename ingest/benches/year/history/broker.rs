//! A broker as far as its state is concerned: ships, closes, folds, lists and exports, on a clock of its own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use chronik_format::batch::TimeSpan;
use chronik_format::catalog::page::PageBuilder;
use chronik_format::catalog::{
    BuiltExport, CatalogReader, CatalogRoot, HeadEntry, Page, PageEntry, TopicHead, TopicRuns, build_export,
};
use chronik_format::ids::{Incarnation, LaneId, LogIndex, Offset, PartitionId, Timestamp, TopicId};
use chronik_format::names::{ExportName, SegmentListName, SegmentName};
use chronik_format::origin::Origin;
use chronik_format::segment_list::SegmentList;
use chronik_format::span::{ByteSpan, OffsetSpan};
use chronik_ingest::publish::catalog::head_of;
use chronik_ingest::publish::closing::{ClosableRuns, closable};
use chronik_ingest::publish::folding::{FoldablePages, foldable};
use chronik_ingest::publish::page_tree::page_name;
use chronik_ingest::publish::segment_lists::listable;
use chronik_ingest::publish::topic_runs::open_runs;
use chronik_ingest::state::LaneState;
use chronik_ingest::state::command::{
    Append, ClosePage, Command, CreateTopic, DropSegments, ForgetResults, ForgetSegments, ForgetTombstones,
    ListSegments, RegisterResult, RegisterSegment, ReplacePages, SegmentRun,
};
use chronik_store::Store;
use futures::executor::block_on;
use rustix::time::{ClockId, clock_gettime};
use ulid::Ulid;
use uuid::Uuid;

use super::folder::Folder;
use super::load::Load;
use super::{HOUR_MS, Limits};

pub const LANE: LaneId = LaneId(0);
pub const INCARNATION: Incarnation = Incarnation(1);
pub const ORIGIN: Origin = Origin { cluster: Uuid::nil(), incarnation: INCARNATION, lane: LANE };

/// A UTC day begins.
pub const BEGIN: Timestamp = 1_704_067_200_000;
/// Between two exports.
const EXPORT_MS: i64 = 5000;
/// Tombstones stay for so long: an hour of grace, and until checkpoints know them.
const DEAD_MS: i64 = 2 * HOUR_MS;
/// Records of a run.
const RECORDS: Offset = 100;
/// Runs of a partition that are appended at once: how its batches come is nothing to its history.
const RUNS_APPENDED: Offset = 64;
/// Batches of a frame.
const BATCHES: usize = 1000;

pub struct Broker {
    pub state: LaneState,
    pub now: Timestamp,
    pub bucket: Arc<Folder>,
    pub catalog: CatalogReader,
    /// Segments and runs that were shipped.
    pub shipped: (u64, u64),
    /// Bytes of the batches that compaction has written.
    pub compacted_bytes: u64,
    /// The turn of the lane that took the longest, and for which command.
    pub longest_turn: (Duration, String),
    load: Load,
    limits: Limits,
    /// What readers of the state have: whoever changes it next copies what both share.
    snapshot: LaneState,
    /// One past the last offset that is shipped, and appended, of each partition.
    ends: Vec<(Offset, Offset)>,
    tombstoned: VecDeque<(Timestamp, Vec<String>)>,
    heads: BTreeMap<TopicId, HeadEntry>,
    exported: (Timestamp, LogIndex),
}

/// A name's unique part.
pub fn named_at(now: Timestamp) -> Ulid {
    Ulid::from_datetime(UNIX_EPOCH + Duration::from_millis(now as u64))
}

fn topic_id(number: usize) -> TopicId {
    TopicId(Uuid::from_u128((0x0190_0000_0000_7000 << 64) + number as u128))
}

/// What the thread has worked: other processes don't count.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

impl Broker {
    /// With its topics, and no records.
    pub fn new(load: Load, limits: Limits) -> Self {
        let bucket = Arc::new(Folder::new());
        let partitions = load.topics as usize * load.partitions as usize;
        let mut broker = Self {
            state: LaneState::new(INCARNATION),
            now: BEGIN,
            catalog: CatalogReader::new(bucket.clone(), LANE, 0),
            bucket,
            shipped: (0, 0),
            compacted_bytes: 0,
            longest_turn: (Duration::ZERO, String::new()),
            load,
            limits,
            snapshot: LaneState::new(INCARNATION),
            ends: vec![(0, 0); partitions],
            tombstoned: VecDeque::new(),
            heads: BTreeMap::new(),
            exported: (BEGIN, 0),
        };
        for number in 0..load.topics as usize {
            let name = format!("topic-{number}");
            let partitions = load.partitions as i32;
            let create = CreateTopic { id: topic_id(number), name, partitions, config: Default::default() };
            broker.apply(vec![Command::CreateTopic(create)]);
        }
        broker.export_bytes();
        broker
    }

    /// A turn of the lane. Nothing that is proposed here is refused.
    fn apply(&mut self, commands: Vec<Command>) {
        let started = worked();
        let outcomes = self.state.apply_frame(self.state.applied + 1, &commands);
        let took = worked() - started;
        outcomes.into_iter().for_each(|outcome| outcome.unwrap());
        if took > self.longest_turn.0 {
            let what = format!("{:?}", commands[0]);
            self.longest_turn = (took, what.split('(').next().unwrap_or_default().to_owned());
        }
    }

    /// The places of a topic and partition of which the next segment has a run, in the order of a segment.
    fn next_partitions(&self) -> impl Iterator<Item = usize> + use<> {
        let one_of = self.load.one_of as usize;
        (self.shipped.0 as usize % one_of..self.ends.len()).step_by(one_of)
    }

    fn place(&self, at: usize) -> (TopicId, PartitionId) {
        let partitions = self.load.partitions as usize;
        (topic_id(at / partitions), (at % partitions) as PartitionId)
    }

    /// Appends, ships and registers a segment with a run of each partition whose turn it is.
    pub fn ship(&mut self) -> RegisterSegment {
        self.append();
        let (first, last) = (self.state.shipped_index() + 1, self.state.applied);
        let name = SegmentName { lane: LANE, incarnation: INCARNATION, first, last, ulid: named_at(self.now) };
        let (mut runs, mut position) = (Vec::new(), 56);
        for at in self.next_partitions() {
            let (topic, partition) = self.place(at);
            let (shipped, _) = &mut self.ends[at];
            let offsets = OffsetSpan { first: *shipped, last: *shipped + RECORDS - 1 };
            *shipped += RECORDS;
            let bytes = ByteSpan { position, length: self.load.run_bytes.into() };
            position = bytes.end();
            let times = TimeSpan { earliest: self.now - self.load.segment_ms, latest: self.now - 1 };
            runs.push(SegmentRun { topic, partition, offsets, bytes, times });
        }
        self.shipped.0 += 1;
        self.shipped.1 += runs.len() as u64;
        let register = RegisterSegment {
            incarnation: INCARNATION,
            first,
            last,
            key: name.to_string(),
            size: position + 100 * runs.len() as u64,
            crc: u32::MAX / 3,
            directory_position: position,
            named_at: self.now,
            at: self.now,
            runs,
        };
        self.apply(vec![Command::RegisterSegment(register.clone())]);
        register
    }

    fn append(&mut self) {
        let mut appends = Vec::new();
        for at in self.next_partitions() {
            let (topic, partition) = self.place(at);
            let (shipped, end) = &mut self.ends[at];
            if shipped == end {
                let base_offset = *end;
                *end += RUNS_APPENDED * RECORDS;
                appends.push(Command::Append(Append {
                    topic,
                    partition,
                    base_offset,
                    last_offset: *end - 1,
                    position: 0,
                    length: self.load.run_bytes,
                    producer: None,
                }));
            }
        }
        // A segment has at least one frame.
        if appends.is_empty() {
            self.state.begin_frame(self.state.applied + 1);
        }
        let mut appends = appends.into_iter().peekable();
        while appends.peek().is_some() {
            let frame = appends.by_ref().take(BATCHES).collect();
            self.apply(frame);
        }
    }

    /// Takes in a result; its object is deleted as soon as that may be.
    pub fn take_in(&mut self, result: RegisterResult) {
        let forget = ForgetResults { results: vec![result.result.clone()] };
        self.apply(vec![Command::RegisterResult(result)]);
        self.apply(vec![Command::ForgetResults(forget)]);
    }

    /// Closes, folds and lists what there is too much of, as before each export.
    pub fn keep_small(&mut self) {
        loop {
            let closable = closable(&self.state, self.state.shipped_index(), self.limits.pages, self.now);
            let foldable = foldable(&self.state, self.limits.pages);
            if closable.is_empty() && foldable.is_empty() {
                break;
            }
            closable.into_iter().for_each(|runs| self.close(runs));
            foldable.into_iter().for_each(|pages| self.fold(pages));
        }
        while let Some(segments) = listable(&self.state.segments, self.limits.lists).unwrap() {
            let name = SegmentListName { lane: LANE, incarnation: INCARNATION, ulid: named_at(self.now) };
            let list = SegmentList { origin: ORIGIN, segments }.build(name.to_string(), self.now).unwrap();
            self.create(&list.entry.object, list.bytes);
            self.apply(vec![Command::ListSegments(ListSegments { list: list.entry })]);
        }
    }

    fn close(&mut self, ClosableRuns { topic, last }: ClosableRuns) {
        let runs = open_runs(&self.state.topics[&topic], &self.state.segments, last);
        let builder = self.builder(topic);
        let page = builder.leaf(page_name(builder), &runs, last).unwrap();
        self.create(&page.entry.object, page.bytes);
        self.apply(vec![Command::ClosePage(ClosePage { topic, page: page.entry })]);
    }

    fn fold(&mut self, FoldablePages { topic, pages }: FoldablePages) {
        let builder = self.builder(topic);
        let page = builder.inner(page_name(builder), &pages).unwrap();
        self.create(&page.entry.object, page.bytes);
        let old = pages.iter().map(|page| page.object.clone()).collect();
        let (new, gone, deleted) = (vec![page.entry], Vec::new(), Vec::new());
        self.replace_pages(ReplacePages { topic, old, new, gone, deleted, at: self.now });
    }

    fn builder(&self, topic: TopicId) -> PageBuilder {
        PageBuilder { origin: ORIGIN, topic, written_at: self.now }
    }

    /// What is gone then leaves the bucket at once: nobody reads it here.
    pub fn replace_pages(&mut self, replace: ReplacePages) {
        let gone = replace.gone.clone();
        self.apply(vec![Command::ReplacePages(replace)]);
        for object in &gone {
            block_on(self.bucket.delete(object)).unwrap();
        }
        if !gone.is_empty() {
            self.tombstoned.push_back((self.now, gone));
        }
    }

    /// Forgets the tombstones of what would be deleted by now.
    pub fn forget_the_dead(&mut self) {
        while let Some((_, objects)) = self.tombstoned.pop_front_if(|(at, _)| *at + DEAD_MS <= self.now) {
            self.apply(vec![Command::ForgetTombstones(ForgetTombstones { objects })]);
        }
    }

    /// Drops the oldest segments, once nothing needs them, and forgets those that would be deleted by now.
    pub fn drop_segments(&mut self) {
        match self.state.segments.dropped().copied() {
            Some(dropped) if dropped.at + DEAD_MS <= self.now => {
                let lists = self.state.segments.lists().iter().take_while(|list| list.last < dropped.below);
                self.tombstoned.push_back((self.now, lists.map(|list| list.object.clone()).collect()));
                let forget = ForgetSegments { below: dropped.below, at: self.now };
                self.apply(vec![Command::ForgetSegments(forget)]);
            }
            None if self.state.segments.are_worth_dropping(self.state.needed_from()) => {
                let drop = DropSegments { below: self.state.needed_from(), at: self.now };
                self.apply(vec![Command::DropSegments(drop)]);
            }
            _ => {}
        }
    }

    /// An export, as far as the state is concerned: a snapshot of it is taken.
    pub fn export(&mut self) {
        if self.exported.0 + EXPORT_MS <= self.now {
            self.snapshot = self.state.clone();
            self.exported = (self.now, self.state.applied);
        }
    }

    /// Bytes of an export that is made now: the heads of topics that have changed since the last one, and the root.
    pub fn export_bytes(&mut self) -> usize {
        let changed = self.state.topics.values().filter(|topic| topic.changed > self.exported.1);
        let changed: Vec<TopicHead> = changed.map(|topic| head_of(topic, &self.state.segments)).collect();
        changed.iter().for_each(|head| drop(self.heads.remove(&head.id)));
        let name =
            ExportName { lane: LANE, incarnation: INCARNATION, index: self.state.applied, ulid: named_at(self.now) };
        let root = CatalogRoot {
            incarnation: INCARNATION,
            lane: LANE,
            index: self.state.applied,
            shipped_index: self.state.shipped_index(),
            heads: self.heads.values().cloned().collect(),
        };
        let BuiltExport { parts, root, .. } = build_export(ORIGIN.cluster, &name.to_string(), root, &changed).unwrap();
        self.heads = root.heads.into_iter().map(|head| (head.id, head)).collect();
        parts.iter().map(Bytes::len).sum()
    }

    pub fn create(&self, object: &str, bytes: Bytes) {
        block_on(self.bucket.create(object, vec![bytes])).unwrap();
    }

    /// The runs of a leaf.
    pub fn leaf(&self, topic: TopicId, entry: &PageEntry) -> Arc<TopicRuns> {
        match block_on(self.catalog.page(topic, entry)).unwrap() {
            Page::Runs(runs) => runs,
            Page::Pages(_) => unreachable!("{} is no leaf", entry.object),
        }
    }
}
