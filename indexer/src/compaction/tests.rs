#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;
use chronik_format::batch::{BatchBuilder, Codec, stamp};
use chronik_format::catalog::page::PageBuilder;
use chronik_format::catalog::{PartitionRuns, RunEntry, TopicRuns};
use chronik_format::ids::{Incarnation, LaneId, PartitionId, TopicId};
use chronik_format::job::{JobKind, JobPage, RecordPlace, VERSION};
use chronik_format::segment::{self, LogEntry, PartitionBatches, SegmentHeader};
use chronik_service::telemetry::Metrics;
use chronik_store::faulty::{FaultyStore, StoreFault, StoreOperation};
use chronik_store::{Store, memory};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::metrics::IndexerMetrics;

const TOPIC: TopicId = TopicId(Uuid::from_u128(7));
const ORIGIN: Origin = Origin { cluster: Uuid::from_u128(9), incarnation: Incarnation(2), lane: LaneId(0) };
const EPOCH: i32 = 2;
const SMALL: CompactLimits = CompactLimits { held: 10_000, piece: 3_000, whole: 20_000, segment: 30_000 };
const LARGE: CompactLimits = CompactLimits { held: 1 << 20, piece: 1 << 20, whole: 1 << 20, segment: 1 << 20 };

/// Of each partition in a segment its batches: offsets that are left out before, bytes of a record.
type SegmentPlan = Vec<(PartitionId, Vec<(Offset, usize)>)>;

/// What a topic's partitions hold, in segments of level 0, and pages over those.
struct World {
    store: Arc<FaultyStore>,
    batches: BTreeMap<PartitionId, Vec<Bytes>>,
    pages: Vec<JobPage>,
    segments: u64,
}

impl World {
    fn new() -> Self {
        Self { store: Arc::new(FaultyStore::new(memory())), batches: BTreeMap::new(), pages: vec![], segments: 0 }
    }

    /// A batch of some records behind what the partition holds, and `gap` offsets further.
    fn batch(&mut self, partition: PartitionId, gap: Offset, size: usize, epoch: i32) -> Bytes {
        let held = self.batches.entry(partition).or_default();
        let next = held.last().map_or(0, |batch| BatchHeader::parse(batch).unwrap().last_offset() + 1);
        let mut builder = BatchBuilder::new(if size.is_multiple_of(2) { Codec::None } else { Codec::Zstd });
        for at in 0..3 {
            builder.push(1000 + next + at, Some(b"key"), Some(&vec![next as u8; size]), &[]);
        }
        let mut batch = BytesMut::from(&builder.finish()[..]);
        stamp(&mut batch, next + gap, epoch);
        held.push(batch.clone().freeze());
        batch.freeze()
    }

    /// A segment with a batch of each size for each partition; another topic's lie beside them.
    async fn segment(
        &mut self,
        runs: &[(PartitionId, Vec<(Offset, usize)>)],
        epoch: i32,
    ) -> (SegmentEntry, Vec<RunOf>) {
        self.segments += 1;
        let index = self.segments;
        let mut partitions: Vec<_> = runs
            .iter()
            .map(|(partition, sizes)| {
                let batches = sizes.iter().map(|(gap, size)| self.batch(*partition, *gap, *size, epoch)).collect();
                PartitionBatches { topic: TOPIC, partition: *partition, batches }
            })
            .collect();
        let other = TopicId(Uuid::from_u128(6));
        partitions.push(PartitionBatches { topic: other, ..partitions[0].clone() });
        let header = SegmentHeader { origin: ORIGIN, first: index, last: index };
        let log = [LogEntry { index, epoch: 1, commands: Bytes::new() }];
        let built = segment::build(header, partitions, &log).unwrap();
        let key = format!("lanes/00000000/segments/{index}.seg");
        self.store.create(&key, built.parts).await.unwrap();
        let (size, crc, directory_position) = (built.size, built.directory_crc, built.directory_position);
        let runs = built.directory.rows_of(TOPIC).iter().map(|row| (row.partition, row.offsets, row.bytes, row.times));
        (SegmentEntry { key, size, crc, directory_position, ..SegmentEntry::default() }, runs.collect())
    }

    /// A page over some segments.
    async fn page(&mut self, segments: &[SegmentPlan], epoch: i32) {
        let mut runs = TopicRuns::default();
        let mut partitions: BTreeMap<PartitionId, Vec<RunEntry>> = BTreeMap::new();
        for (number, segment) in (0..).zip(segments) {
            let (entry, rows) = self.segment(segment, epoch).await;
            runs.segments.push(entry);
            for (partition, offsets, bytes, times) in rows {
                let run = RunEntry { offsets, segment: number, bytes, times, unreadable: None };
                partitions.entry(partition).or_default().push(run);
            }
        }
        runs.partitions = partitions.into_iter().map(|(partition, runs)| PartitionRuns { partition, runs }).collect();
        let builder = PageBuilder { origin: ORIGIN, topic: TOPIC, written_at: 0 };
        let page = builder.leaf(format!("page-{}", self.pages.len()), &runs, self.segments).unwrap();
        self.store.create(&page.entry.object, vec![page.bytes]).await.unwrap();
        self.pages.push(JobPage { key: page.entry.object, size: page.entry.size, crc: page.entry.crc });
    }

    fn job(&self, epoch: Option<i32>) -> CompactJob {
        CompactJob {
            v: VERSION,
            kind: JobKind::Compact,
            cluster: ORIGIN.cluster.to_string(),
            incarnation: Incarnation(3),
            lane: LaneId(0),
            id: "job".into(),
            topic: "t".into(),
            topic_id: TOPIC,
            pages: self.pages.clone(),
            place: RecordPlace::default(),
            log_starts: Vec::new(),
            epoch,
        }
    }

    fn compactor(&self, limits: CompactLimits) -> Compactor {
        let metrics = IndexerMetrics::new(&Metrics::new());
        let (reads, bytes) = (metrics.compact_reads, metrics.compacted_bytes);
        Compactor { store: self.store.clone(), thread: WorkThread::default(), limits, reads, bytes }
    }

    async fn compact(&self, epoch: Option<i32>, limits: CompactLimits) -> CompactResult {
        self.compactor(limits).compact(&self.job(epoch)).await.unwrap()
    }

    /// What segments of level 1 hold, each of them checked to its last byte.
    async fn read(&self, made: &[SegmentMade]) -> BTreeMap<PartitionId, Vec<Bytes>> {
        let mut batches: BTreeMap<PartitionId, Vec<Bytes>> = BTreeMap::new();
        for SegmentMade { key, size, crc, directory_position } in made {
            let reader = SegmentReader::open_known(self.store.clone(), key, *size, *directory_position, *crc);
            let reader = reader.await.unwrap();
            assert_eq!(reader.header(), &SegmentHeader::of_topic(Origin { incarnation: Incarnation(3), ..ORIGIN }));
            let description = segment::inspect(self.store.clone(), key).await.unwrap();
            assert!(description.damage.is_empty() && description.size == *size, "{description:?}");
            for row in &reader.directory().rows {
                let held = batches.entry(row.partition).or_default();
                let mut from = row.offsets.first;
                while from <= row.offsets.last {
                    held.extend(reader.batches(TOPIC, row.partition, from, usize::MAX).await.unwrap());
                    from = BatchHeader::parse(held.last().unwrap()).unwrap().last_offset() + 1;
                }
            }
        }
        batches
    }

    /// Deletes the first batches of a partition.
    fn delete(&mut self, partition: PartitionId, batches: usize) {
        self.batches.get_mut(&partition).unwrap().drain(..batches);
    }

    async fn check(&self, result: &CompactResult) {
        assert_eq!(result.failure, None);
        assert_eq!(result.pages, self.pages.iter().map(|page| page.key.clone()).collect::<Vec<_>>());
        assert_eq!(self.read(&result.segments).await, self.batches);
    }
}

type RunOf = (PartitionId, OffsetSpan, chronik_format::span::ByteSpan, chronik_format::batch::TimeSpan);

/// A run of each partition, of two batches.
fn runs(partitions: PartitionId, size: usize) -> SegmentPlan {
    (0..partitions).map(|partition| (partition, vec![(0, size), (0, size + 1)])).collect()
}

async fn two_pages(size: usize) -> World {
    let mut world = World::new();
    world.page(&[runs(5, size), runs(5, size)], EPOCH).await;
    world.page(&[runs(3, size), runs(5, size)], EPOCH).await;
    world
}

#[tokio::test]
async fn small_runs_become_one_segment_by_few_reads() {
    let world = two_pages(100).await;
    let compactor = world.compactor(LARGE);
    let result = compactor.compact(&world.job(Some(EPOCH))).await.unwrap();
    world.check(&result).await;
    assert_eq!((result.segments.len(), compactor.reads.get()), (1, 4));
    let bytes: usize = world.batches.values().flatten().map(Bytes::len).sum();
    assert_eq!(compactor.bytes.get(), bytes as u64);
}

#[tokio::test]
async fn what_does_not_fit_into_memory_or_a_segment_is_cut_at_runs() {
    let world = two_pages(1_500).await;
    let result = world.compact(Some(EPOCH), SMALL).await;
    world.check(&result).await;
    assert!(result.segments.len() > 1 && result.segments.iter().all(|made| made.size < 2 * SMALL.segment));
}

#[tokio::test]
async fn runs_that_are_not_certain_by_themselves_are_checked_by_their_directory() {
    let mut world = two_pages(100).await;
    world.page(&[vec![(0, vec![(0, 10), (4, 20), (0, 30)]), (1, vec![(0, 10)])]], EPOCH).await;
    world.check(&world.compact(Some(EPOCH), LARGE).await).await;
    world.page(&[runs(5, 100)], EPOCH + 1).await;
    world.check(&world.compact(Some(EPOCH), LARGE).await).await;
    world.check(&world.compact(None, LARGE).await).await;
    world.check(&world.compact(None, SMALL).await).await;
}

#[tokio::test]
async fn a_segment_of_level_1_is_compacted_again() {
    let mut world = two_pages(1_500).await;
    let made = world.compact(Some(EPOCH), LARGE).await.segments;
    let SegmentMade { key, size, crc, directory_position } = made[0].clone();
    let reader = SegmentReader::open(world.store.clone(), &key).await.unwrap();
    let mut page = TopicRuns::default();
    page.segments.push(SegmentEntry { key, size, crc, directory_position, ..SegmentEntry::default() });
    for row in &reader.directory().rows {
        // Runs may be finer than what the directory lists: two here.
        let held = &world.batches[&row.partition];
        let (first, middle) = (row.offsets.first, BatchHeader::parse(&held[1]).unwrap().last_offset());
        let length = (held[0].len() + held[1].len()) as u64;
        let part = |first, last, position, length| RunEntry {
            offsets: OffsetSpan { first, last },
            segment: 0,
            bytes: chronik_format::span::ByteSpan { position, length },
            times: row.times,
            unreadable: None,
        };
        let mut runs = vec![part(first, middle, row.bytes.position, length)];
        if row.bytes.length > length {
            let (position, rest) = (row.bytes.position + length, row.bytes.length - length);
            runs.push(part(middle + 1, row.offsets.last, position, rest));
        }
        page.partitions.push(PartitionRuns { partition: row.partition, runs });
    }
    let page = PageBuilder { origin: ORIGIN, topic: TOPIC, written_at: 0 }.leaf("again".into(), &page, 9);
    let page = page.unwrap();
    world.store.create("again", vec![page.bytes]).await.unwrap();
    world.pages = vec![JobPage { key: "again".into(), size: page.entry.size, crc: page.entry.crc }];
    for (epoch, limits) in [(Some(EPOCH), LARGE), (Some(EPOCH), SMALL), (None, SMALL)] {
        world.check(&world.compact(epoch, limits).await).await;
    }
}

#[tokio::test]
async fn runs_that_are_deleted_are_neither_read_nor_written() {
    let mut world = two_pages(100).await;
    // Runs of two batches with three records each.
    let log_starts = vec![RecordPlace { partition: 1, offset: 11 }, RecordPlace { partition: 3, offset: 100 }];
    world.delete(1, 2);
    world.delete(3, 6);
    world.batches.retain(|_, batches| !batches.is_empty());
    for (epoch, limits) in [(Some(EPOCH), LARGE), (None, SMALL)] {
        let compactor = world.compactor(limits);
        let job = CompactJob { log_starts: log_starts.clone(), ..world.job(epoch) };
        world.check(&compactor.compact(&job).await.unwrap()).await;
        let bytes: usize = world.batches.values().flatten().map(Bytes::len).sum();
        assert_eq!(compactor.bytes.get(), bytes as u64);
    }
}

#[tokio::test]
async fn damage_in_any_byte_of_a_run_fails_the_job() {
    let world = two_pages(40).await;
    let key = "lanes/00000000/segments/2.seg";
    let whole = world.store.read(key, None).await.unwrap();
    let reader = SegmentReader::open(world.store.clone(), key).await.unwrap();
    let rows = reader.directory().rows_of(TOPIC).to_vec();
    let (start, end) = (rows[0].bytes.position as usize, rows.last().unwrap().bytes.end() as usize);
    for at in (start..end).step_by(7) {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x10;
        world.store.overwrite(key, bytes.into()).await.unwrap();
        for (epoch, limits) in [(Some(EPOCH), LARGE), (None, SMALL)] {
            let result = world.compact(epoch, limits).await;
            assert!(result.segments.is_empty() && result.failure.is_some(), "byte {at}");
        }
    }
    world.store.overwrite(key, whole).await.unwrap();
    world.check(&world.compact(Some(EPOCH), LARGE).await).await;
}

#[tokio::test]
async fn what_is_gone_or_another_fails_the_job() {
    let world = two_pages(40).await;
    for key in ["lanes/00000000/segments/2.seg", "page-1"] {
        let bytes = world.store.read(key, None).await.unwrap();
        world.store.delete(key).await.unwrap();
        let failure = world.compact(Some(EPOCH), LARGE).await.failure.unwrap();
        assert!(failure.contains(key), "{failure}");
        world.store.create(key, vec![bytes]).await.unwrap();
    }
    let compactor = world.compactor(LARGE);
    let mut job = world.job(Some(EPOCH));
    job.pages[1].crc += 1;
    assert!(compactor.compact(&job).await.unwrap().failure.unwrap().contains("another page"));
    let job = CompactJob { topic_id: TopicId::default(), ..world.job(Some(EPOCH)) };
    assert!(compactor.compact(&job).await.unwrap().failure.unwrap().contains("another page"));
    let job = CompactJob { pages: vec![], ..world.job(Some(EPOCH)) };
    assert!(compactor.compact(&job).await.unwrap().failure.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_waited_for_and_an_upload_begins_anew() {
    let world = two_pages(1_500).await;
    for (operation, key) in
        [(StoreOperation::Read, "segments/"), (StoreOperation::Upload, ""), (StoreOperation::Create, "topics/")]
    {
        for fault in [StoreFault::Before, StoreFault::After] {
            world.store.fail(operation, key, fault, 2);
            world.check(&world.compact(Some(EPOCH), SMALL).await).await;
            world.store.heal();
        }
    }
    world.store.fail(StoreOperation::Upload, "", StoreFault::Before, usize::MAX);
    world.compactor(SMALL).compact(&world.job(Some(EPOCH))).await.unwrap_err();
}

prop_compose! {
    fn any_segment()(runs in prop::collection::btree_map(
        0..6i32, prop::collection::vec((prop_oneof![9 => Just(0i64), 1 => 1..4i64], 0..900usize), 1..4), 1..5,
    )) -> SegmentPlan {
        runs.into_iter().collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_history_is_rewritten_byte_for_byte(
        pages in prop::collection::vec((prop::collection::vec(any_segment(), 1..5), 1..3i32), 1..4),
        held in 1..20_000u64, piece in 1..5_000u64, whole in 0..30_000u64, segment in 1..60_000u64,
    ) {
        let mut pages = pages;
        pages.sort_by_key(|(_, epoch)| *epoch);
        let limits = CompactLimits { held, piece, whole, segment };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for (segments, epoch) in &pages {
                world.page(segments, *epoch).await;
            }
            for epoch in [Some(1), None] {
                world.check(&world.compact(epoch, limits).await).await;
            }
        });
    }
}
