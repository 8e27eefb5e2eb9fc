#![allow(clippy::unwrap_used, clippy::expect_used)]

mod remote;
mod sequential;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use ulid::Ulid;
use uuid::Uuid;

use super::*;
use chronik_format::batch::{BatchBuilder, BatchHeader, Codec, stamp};
use chronik_format::catalog::page::PageBuilder;
use chronik_format::catalog::{
    CatalogReader, CatalogRoot, PartitionHead, PartitionRuns, RunEntry, SegmentEntry, TopicHead, TopicRuns,
    build_export,
};
use chronik_format::ids::{Incarnation, LaneId};
use chronik_format::job::IndexSettings;
use chronik_format::names::{self, ExportName, SegmentName};
use chronik_format::origin::Origin;
use chronik_format::segment::{self, LogEntry, PartitionBatches, SegmentHeader};
use chronik_service::telemetry::Metrics;
use chronik_store::faulty::{FaultyStore, StoreFault, StoreOperation};
use chronik_store::{SharedStore, Store, StoreError, memory};

const LANE: LaneId = LaneId(0);
const INCARNATION: Incarnation = Incarnation(1);
const AHEAD_BYTES: usize = 64 << 20;
const TOPIC: TopicId = TopicId(Uuid::from_u128(5));

/// One topic with one partition whose history grows, segment by segment.
struct History {
    store: Arc<FaultyStore>,
    head: TopicHead,
    segments: u64,
    batches: Vec<Bytes>,
    exports: u64,
}

impl History {
    fn new() -> Self {
        let partition =
            PartitionHead { partition: 0, log_start: 0, shipped_to: 0, last_stable: 0, epochs: vec![(1, 0)] };
        let head = TopicHead {
            id: TOPIC,
            name: "events".into(),
            search_enabled: true,
            index: IndexSettings::default(),
            partitions: vec![partition],
            pages: vec![],
            open: Default::default(),
        };
        Self { store: Arc::new(FaultyStore::new(memory())), head, segments: 0, batches: vec![], exports: 0 }
    }

    fn shared(&self) -> SharedStore {
        self.store.clone()
    }

    fn end(&self) -> Offset {
        self.head.partitions[0].shipped_to
    }

    /// Ships one segment with a batch for each list of timestamps, padded by `size` bytes a record.
    async fn ship(&mut self, timestamps: &[Vec<Timestamp>], size: usize) {
        let mut batches = Vec::new();
        for batch in timestamps {
            batches.push(batch_at(self.end(), batch, size));
            self.head.partitions[0].shipped_to += batch.len() as i64;
        }
        self.segments += 1;
        let index = self.segments;
        let origin = Origin { cluster: Uuid::nil(), incarnation: INCARNATION, lane: LANE };
        let header = SegmentHeader { origin, first: index, last: index };
        let partition = PartitionBatches { topic: TOPIC, partition: 0, batches: batches.clone() };
        let log = LogEntry { index, epoch: 1, commands: Bytes::new() };
        let built = segment::build(header, vec![partition], &[log]).unwrap();
        let (first, last, ulid) = (index, index, Ulid(index.into()));
        let key = SegmentName { lane: LANE, incarnation: INCARNATION, first, last, ulid }.to_string();
        self.store.create(&key, built.parts).await.unwrap();
        let row = built.directory.rows[0];
        let (size, crc, directory_position) = (built.size, built.directory_crc, built.directory_position);
        let open = Arc::make_mut(&mut self.head.open);
        open.segments.push(SegmentEntry { key, size, crc, directory_position, level: 0 });
        if open.partitions.is_empty() {
            open.partitions.push(PartitionRuns { partition: 0, runs: vec![] });
        }
        open.partitions[0].runs.push(RunEntry {
            offsets: row.offsets,
            segment: open.segments.len() as u32 - 1,
            bytes: row.bytes,
            times: row.times,
            unreadable: None,
        });
        self.batches.extend(batches);
    }

    /// Closes what is open.
    async fn close(&mut self) {
        let origin = Origin { cluster: Uuid::nil(), incarnation: INCARNATION, lane: LANE };
        let runs = TopicRuns::clone(&self.head.open);
        self.head.open = Default::default();
        let builder = PageBuilder { origin, topic: TOPIC, written_at: 0 };
        let page = builder.leaf(format!("page-{}", self.segments), &runs, self.segments).unwrap();
        self.store.create(&page.entry.object, vec![page.bytes]).await.unwrap();
        self.head.pages.push(page.entry.into());
    }

    /// Puts the newest page below another, and the one before it if it is as high.
    async fn fold(&mut self) {
        let origin = Origin { cluster: Uuid::nil(), incarnation: INCARNATION, lane: LANE };
        let builder = PageBuilder { origin, topic: TOPIC, written_at: 0 };
        let height = self.head.pages.last().unwrap().height;
        let alike = self.head.pages.iter().rev().take(2).take_while(|page| page.height == height).count();
        let below = self.head.pages.split_off(self.head.pages.len() - alike);
        let page = builder.inner(format!("{}-{height}", below[0].object), &below).unwrap();
        self.store.create(&page.entry.object, vec![page.bytes]).await.unwrap();
        self.head.pages.push(page.entry.into());
    }

    async fn export(&mut self) {
        self.exports += 1;
        let index = self.exports;
        let name = ExportName { lane: LANE, incarnation: INCARNATION, index, ulid: Ulid(index.into()) }.to_string();
        let root = CatalogRoot { incarnation: INCARNATION, lane: LANE, index, shipped_index: index, heads: vec![] };
        let export = build_export(Uuid::nil(), &name, root, std::slice::from_ref(&self.head)).unwrap();
        self.store.create(&name, export.parts).await.unwrap();
        self.store.overwrite(&names::latest(LANE), export.latest.encode().into()).await.unwrap();
    }

    fn reader(&self, cache_bytes: u64) -> BucketReader {
        reader_of(self.shared(), cache_bytes).reading_ahead(AHEAD_BYTES, &Metrics::new())
    }
}

fn reader_of(store: SharedStore, cache_bytes: u64) -> BucketReader {
    let catalog = Arc::new(CatalogReader::new(store.clone(), LANE, cache_bytes));
    BucketReader::new(store, catalog, cache_bytes)
}

fn batch_at(offset: Offset, timestamps: &[Timestamp], size: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::Lz4);
    for (number, timestamp) in timestamps.iter().enumerate() {
        // Does not compress, so that segments get several chunks.
        let mut word = (offset as u32).wrapping_add(number as u32);
        let value: Vec<u8> = std::iter::repeat_with(|| {
            word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (word >> 24) as u8
        })
        .take(size)
        .collect();
        builder.push(*timestamp, None, Some(&value), &[]);
    }
    let mut batch = BytesMut::from(&builder.finish()[..]);
    stamp(&mut batch, offset, 1);
    batch.freeze()
}

fn last_of(batch: &Bytes) -> Offset {
    BatchHeader::parse(batch).unwrap().last_offset()
}

/// Three segments: 0..=5, 6..=7, 8..=19.
async fn three_segments() -> History {
    let mut history = History::new();
    history.ship(&[vec![10, 20], vec![30, 25], vec![40, 50]], 10).await;
    history.ship(&[vec![15, 60]], 100).await;
    history.ship(&[vec![70; 4], vec![80; 4], vec![65; 4]], 30_000).await;
    history.export().await;
    history
}

#[tokio::test]
async fn a_reader_of_the_bucket_passes() {
    let mut history = three_segments().await;
    for cache_bytes in [0, 1 << 20] {
        let reader = history.reader(cache_bytes);
        suite::cold_suite(&reader, TOPIC, 0, &history.batches).await;
    }
    history.head.partitions[0].log_start = 3;
    history.export().await;
    let reader = history.reader(1 << 20);
    suite::cold_suite(&reader, TOPIC, 3, &history.batches).await;
}

#[tokio::test]
async fn a_reader_of_closed_history_passes() {
    for closed in [[true, false, false, false], [true, false, true, false], [false, true, true, true]] {
        let mut history = three_segments().await;
        history.head = History::new().head;
        history.batches.clear();
        for (close, turn) in closed.into_iter().zip(0..) {
            history.ship(&[vec![10 * turn, 10 * turn + 5], vec![10 * turn + 7]], 100).await;
            if close {
                history.close().await;
            }
        }
        for _ in 0..3 {
            history.export().await;
            for cache_bytes in [0, 1 << 20] {
                suite::cold_suite(&history.reader(cache_bytes), TOPIC, 0, &history.batches).await;
            }
            history.fold().await;
        }
    }
}

#[tokio::test]
async fn offsets_that_were_used_up_between_segments_lead_to_what_follows() {
    for (closed, size) in [([false, false], 10), ([true, false], 10), ([true, true], 10), ([true, true], 600_000)] {
        let mut history = History::new();
        let mut used_up = Vec::new();
        for close in closed {
            history.ship(&[vec![10, 15], vec![17]], size).await;
            if close {
                history.close().await;
            }
            used_up.push(history.end()..history.end() + 3);
            history.head.partitions[0].shipped_to += 3;
        }
        history.ship(&[vec![20, 25]], size).await;
        history.export().await;
        let reader = history.reader(1 << 20);
        for (offsets, next) in used_up.into_iter().zip([2, 4]) {
            for offset in offsets {
                let fetched = reader.fetch(TOPIC, 0, offset, 1).await.unwrap();
                assert_eq!(fetched, history.batches[next..=next], "{offset}");
            }
        }
        assert_eq!(reader.offset_for_time(TOPIC, 0, 4, 20).await.unwrap(), Some((12, 20)));
        assert_eq!(sequential::read_on(&reader, 0, history.end(), 1).await.0, history.batches);
        assert!(reader.fetch(TOPIC, 0, history.end(), 1).await.is_err());
    }
}

#[tokio::test]
async fn a_replaced_page_is_found_by_one_refresh() {
    let mut history = three_segments().await;
    let runs = history.head.open.clone();
    history.close().await;
    history.export().await;
    let reader = history.reader(1 << 20);
    history.store.delete(&history.head.pages[0].object).await.unwrap();
    assert!(matches!(reader.fetch(TOPIC, 0, 0, 1).await, Err(ColdError::Store(StoreError::NotFound { .. }))));
    (history.head.open, history.head.pages) = (runs, vec![]);
    history.export().await;
    assert_eq!(reader.fetch(TOPIC, 0, 0, 1).await.unwrap(), history.batches[..1]);
}

#[tokio::test]
async fn what_was_shipped_since_is_found_by_one_refresh() {
    let mut history = three_segments().await;
    let reader = history.reader(1 << 20);
    reader.fetch(TOPIC, 0, 0, 1).await.unwrap();
    history.ship(&[vec![90]], 10).await;
    history.export().await;
    assert_eq!(reader.fetch(TOPIC, 0, 20, 1).await.unwrap(), history.batches[7..]);
    assert_eq!(reader.offset_for_time(TOPIC, 0, 20, 90).await.unwrap(), Some((20, 90)));
}

#[tokio::test]
async fn a_replaced_segment_is_found_by_one_refresh() {
    let mut history = three_segments().await;
    let reader = history.reader(1 << 20);
    reader.fetch(TOPIC, 0, 0, 1).await.unwrap();
    let old = history.head.open.segments[1].key.clone();
    let copy = old.replace("0000000000000002-", "0000000000000003-");
    let bytes = history.store.read(&old, None).await.unwrap();
    history.store.create(&copy, vec![bytes]).await.unwrap();
    history.store.delete(&old).await.unwrap();
    let error = reader.fetch(TOPIC, 0, 6, 1).await.unwrap_err();
    assert!(matches!(error, ColdError::Store(StoreError::NotFound { .. })), "{error}");
    Arc::make_mut(&mut history.head.open).segments[1].key = copy;
    history.export().await;
    assert_eq!(reader.fetch(TOPIC, 0, 6, 1).await.unwrap(), history.batches[3..4]);
    assert_eq!(reader.offset_for_time(TOPIC, 0, 6, 60).await.unwrap(), Some((7, 60)));
}

#[tokio::test]
async fn a_store_that_fails_is_not_the_end_of_the_records() {
    let history = three_segments().await;
    let reader = history.reader(1 << 20);
    for key in ["latest", ".catalog", ".seg"] {
        history.store.fail(StoreOperation::Read, key, StoreFault::Before, 1);
        let error = reader.fetch(TOPIC, 0, 0, 1 << 20).await.unwrap_err();
        assert!(!matches!(error, ColdError::NotInCatalog { .. }), "{key}: {error}");
    }
    assert_eq!(sequential::read_on(&reader, 0, history.end(), 1 << 20).await.0, history.batches);
}

/// Flips a bit of a segment's batches, at a byte behind its header.
async fn damage(history: &History, key: &str, at: usize) {
    replace(history, key, |bytes| bytes[segment::HEADER_LENGTH as usize + at] ^= 1).await;
}

async fn replace(history: &History, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = history.store.read(key, None).await.unwrap().to_vec();
    change(&mut bytes);
    history.store.delete(key).await.unwrap();
    history.store.create(key, vec![bytes.into()]).await.unwrap();
}

/// What a client gets that asks for these batches one after the other, and the error that ends it.
async fn served(reader: &BucketReader, wanted: &[Bytes], max_bytes: usize) -> (usize, Option<ColdError>) {
    let mut at = 0;
    while let Some(next) = wanted.get(at) {
        let from = BatchHeader::parse(next).unwrap().base_offset;
        match reader.fetch(TOPIC, 0, from, max_bytes).await {
            Ok(batches) => {
                let count = batches.len().min(wanted.len() - at);
                assert_eq!(batches[..count], wanted[at..at + count]);
                at += count;
            }
            Err(error) => return (at, Some(error)),
        }
    }
    (at, None)
}

/// In one chunk, wherever in the middle batch.
#[tokio::test]
async fn what_lies_before_a_damaged_batch_is_served_and_the_error_is_for_what_begins_there() {
    let lengths = three_segments().await.batches[..3].iter().map(Bytes::len).collect::<Vec<_>>();
    for at in lengths[0]..lengths[0] + lengths[1] {
        let history = three_segments().await;
        damage(&history, &history.head.open.segments[0].key, at).await;
        let (count, error) = served(&history.reader(1 << 20), &history.batches, 1 << 20).await;
        assert!(count == 1 && matches!(error, Some(ColdError::Damaged { .. })), "byte {at}: {error:?}");
    }
}

/// The directory of an object is at its end: it is known from before, or it is not.
#[tokio::test]
async fn what_is_left_of_a_segment_that_was_cut_short_is_served() {
    for (segment, first, max_bytes) in [(0, 0, 1), (0, 0, 1 << 20), (2, 4, 1), (2, 4, 1 << 20)] {
        for is_open in [true, false] {
            let history = three_segments().await;
            let reader = history.reader(1 << 20);
            let own = &history.batches[first..][..3];
            if is_open {
                assert_eq!(served(&reader, own, max_bytes).await.0, 3);
            }
            let mut ends = vec![segment::HEADER_LENGTH as usize];
            own.iter().for_each(|batch| ends.push(ends.last().unwrap() + batch.len()));
            for (left, end) in ends.iter().enumerate().rev() {
                replace(&history, &history.head.open.segments[segment].key, |bytes| bytes.truncate(end + 100)).await;
                let (count, error) = served(&reader, own, max_bytes).await;
                assert_eq!((count, error.is_some()), (left, left < 3), "{error:?}");
            }
        }
    }
}

#[tokio::test]
async fn damaged_batches_are_an_error() {
    let history = three_segments().await;
    let SegmentEntry { key, .. } = &history.head.open.segments[1];
    damage(&history, key, 13).await;
    let reader = history.reader(1 << 20);
    let error = reader.fetch(TOPIC, 0, 6, 1).await.unwrap_err();
    assert!(matches!(&error, ColdError::Damaged { object, .. } if object == key), "{error}");
}

#[tokio::test]
async fn what_lies_before_a_gap_is_served() {
    let history = three_segments().await;
    let reader = history.reader(0);
    damage(&history, &history.head.open.segments[1].key, 13).await;
    assert_eq!(reader.fetch(TOPIC, 0, 0, 1 << 20).await.unwrap(), history.batches[..3]);
    assert_eq!(reader.fetch(TOPIC, 0, 8, 1 << 20).await.unwrap(), history.batches[4..]);
    history.store.delete(&history.head.open.segments[1].key).await.unwrap();
    assert_eq!(reader.fetch(TOPIC, 0, 4, 1 << 20).await.unwrap(), history.batches[2..3]);

    let within = history.batches[4].len() + history.batches[5].len() + 100;
    damage(&history, &history.head.open.segments[2].key, within).await;
    assert_eq!(reader.fetch(TOPIC, 0, 8, 1 << 20).await.unwrap(), history.batches[4..6]);
    assert_eq!(reader.fetch(TOPIC, 0, 12, 1 << 20).await.unwrap(), history.batches[5..6]);
    let error = reader.fetch(TOPIC, 0, 16, 1 << 20).await.unwrap_err();
    assert!(matches!(error, ColdError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_run_that_the_segment_does_not_hold_is_damage() {
    let mut history = three_segments().await;
    Arc::make_mut(&mut history.head.open).partitions[0].runs[1].segment = 0;
    history.export().await;
    let error = history.reader(1 << 20).fetch(TOPIC, 0, 6, 1).await.unwrap_err();
    assert!(matches!(error, ColdError::Damaged { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_history_is_read_through(
        segments in prop::collection::vec(
            (prop::collection::vec(prop::collection::vec(0..1000i64, 1..5), 1..8), 0..20_000usize), 1..6),
        max_bytes in 0..300_000usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut history = History::new();
            for (timestamps, size) in &segments {
                history.ship(timestamps, *size).await;
            }
            history.export().await;
            for reader in [history.reader(1 << 20), reader_of(history.shared(), 1 << 20)] {
                let (mut offset, mut read) = (0, Vec::new());
                while offset < history.end() {
                    read.extend(reader.fetch(TOPIC, 0, offset, max_bytes).await.unwrap());
                    offset = last_of(read.last().unwrap()) + 1;
                }
                assert_eq!(read, history.batches);
            }
        });
    }
}
