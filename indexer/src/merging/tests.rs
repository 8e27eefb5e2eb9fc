#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use chronik_format::archive::inspect;
use chronik_format::batch::{BatchBuilder, CONTROL, Codec, stamp};
use chronik_format::catalog::page::PageBuilder;
use chronik_format::catalog::{ArchiveRun, SegmentEntry, TopicRuns};
use chronik_format::ids::{Incarnation, LaneId, Offset, Timestamp, TopicId};
use chronik_format::job::{CoveredRun, IndexSettings, Job, JobInput, JobKind, JobPage, JobRun, VERSION};
use chronik_format::origin::Origin;
use chronik_format::span::{ByteSpan, OffsetSpan};
use chronik_service::telemetry::Metrics;
use chronik_store::memory;
use uuid::Uuid;

use super::*;
use crate::job_runner::JobRunner;

const TOPIC: TopicId = TopicId(Uuid::from_u128(7));
const WHOLE: MergeLimits = MergeLimits { bytes: 1 << 30, records: 1 << 30, table_bytes: 1 << 30 };
const POSITIONS: IndexSettings =
    IndexSettings { positions: true, value_format: chronik_format::job::ValueFormat::Auto };

/// A topic whose archives have ten records each.
struct World {
    runner: JobRunner,
    archives: Vec<ArchiveEntry>,
    next: Offset,
}

impl World {
    fn new() -> Self {
        Self { runner: JobRunner::new(memory(), 1 << 28, &Metrics::new()), archives: Vec::new(), next: 0 }
    }

    fn batch(&mut self, time: Timestamp, attributes: i16) -> Bytes {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.set_attributes(attributes);
        for n in 0..10 {
            let (key, value) = (format!("key{n}"), format!("all number{n} time{time}"));
            builder.push(time + n, Some(key.as_bytes()), Some(value.as_bytes()), &[]);
        }
        let mut bytes = builder.finish().to_vec();
        stamp(&mut bytes, self.next, 1);
        self.next += 10;
        bytes.into()
    }

    /// An archive over a run of records from a time on; its name.
    async fn archive(&mut self, time: Timestamp, settings: IndexSettings) -> String {
        let batch = self.batch(time, 0);
        self.archive_over(batch, settings).await
    }

    async fn archive_over(&mut self, batch: Bytes, settings: IndexSettings) -> String {
        let (first, last) = (self.next - 10, self.next - 1);
        let key = format!("segment-{first}");
        let bytes = ByteSpan { position: 0, length: batch.len() as u64 };
        let runs = vec![JobRun { partition: 0, offsets: OffsetSpan { first, last }, bytes }];
        self.runner.store.create(&key, vec![batch]).await.unwrap();
        let job = Job {
            v: VERSION,
            kind: JobKind::Index,
            cluster: "c".into(),
            incarnation: Incarnation(1),
            lane: LaneId(0),
            id: "job".into(),
            topic: "t".into(),
            topic_id: TOPIC,
            index_epoch: 0,
            inputs: vec![JobInput { key, size: bytes.length, crc: 0, runs }],
            settings,
        };
        let made = self.runner.index(job, None).await.unwrap().archives.remove(0);
        let run = |run: &CoveredRun| ArchiveRun {
            partition: run.partition,
            first: run.first,
            last: run.last,
            min_timestamp: run.min_timestamp,
            max_timestamp: run.max_timestamp,
        };
        let runs = made.runs.iter().map(run).collect();
        let (key, size, crc, records) = (made.key.clone(), made.size, made.crc, made.records);
        self.archives.push(ArchiveEntry { key, size, crc, records, merged: 0, runs });
        made.key
    }

    async fn merge(&mut self, limits: MergeLimits, enough: Option<Instant>) -> MergeResult {
        let segments = vec![SegmentEntry { key: "compacted".into(), level: 1, ..SegmentEntry::default() }];
        let leaf = TopicRuns { segments, archives: self.archives.clone(), ..TopicRuns::default() };
        let origin = Origin { cluster: Uuid::nil(), incarnation: Incarnation(1), lane: LaneId(0) };
        let builder = PageBuilder { origin, topic: TOPIC, written_at: 0 };
        let page = builder.leaf(format!("page-{}", Ulid::new()), &leaf, 1).unwrap();
        self.runner.store.create(&page.entry.object, vec![page.bytes]).await.unwrap();
        let job = MergeJob {
            v: VERSION,
            kind: JobKind::Merge,
            cluster: "c".into(),
            incarnation: Incarnation(2),
            lane: LaneId(0),
            id: "merge".into(),
            topic: "renamed".into(),
            topic_id: TOPIC,
            page: JobPage { key: page.entry.object, size: page.entry.size, crc: page.entry.crc },
            partition: 0,
            first: 0,
        };
        self.runner.merger.limits = limits;
        let result = self.runner.merger.merge(&job, enough).await.unwrap();
        assert_eq!((result.kind, &result.job, &result.page), (JobKind::Merge, &job.id, &job.page.key));
        assert_eq!((result.partition, result.first), (job.partition, job.first));
        result
    }
}

fn of(result: &MergeResult) -> Vec<Vec<&str>> {
    result.archives.iter().map(|made| made.of.iter().map(String::as_str).collect()).collect()
}

#[tokio::test]
async fn a_merged_archive_is_over_all_that_the_others_were() {
    let mut world = World::new();
    let late = world.archive(2000, IndexSettings::default()).await;
    let early = world.archive(1000, IndexSettings::default()).await;
    let result = world.merge(WHOLE, None).await;
    assert_eq!((of(&result), &result.alone, &result.failure), (vec![vec![&*early, &*late]], &vec![], &None));
    let made = &result.archives[0];
    let name: ArchiveName = made.key.parse().unwrap();
    assert_eq!((name.topic, name.incarnation, made.records), (TOPIC, Incarnation(2), 20));
    let inspection = inspect(world.runner.store.as_ref(), &made.key).await.unwrap();
    assert_eq!((inspection.size, inspection.crc, inspection.description.records), (made.size, made.crc, 20));
    assert_eq!((inspection.description.topic.as_str(), inspection.description.incarnation.0), ("renamed", 2));
    let runs: Vec<_> = inspection.runs.iter().map(|run| (run.segment.as_str(), run.first, run.min_timestamp)).collect();
    assert_eq!(runs, [("segment-10", 10, Some(1000)), ("segment-0", 0, Some(2000))]);

    let again = world.merge(WHOLE, None).await;
    let bytes = |key: String| {
        let store = world.runner.store.clone();
        async move { store.read(&key, None).await.unwrap() }
    };
    assert_ne!(again.archives[0].key, made.key);
    assert!(bytes(again.archives[0].key.clone()).await == bytes(made.key.clone()).await, "the same gives the same");
}

#[tokio::test]
async fn neighbours_in_time_go_together_as_far_as_there_is_room() {
    let mut world = World::new();
    let mut names = Vec::new();
    for time in [5000, 1000, 4000, 2000, 3000] {
        names.push((time, world.archive(time, IndexSettings::default()).await));
    }
    names.sort();
    let name = |at: usize| names[at].1.as_str();
    let bytes = world.archives.iter().map(|archive| archive.size).max().unwrap();
    let tables = 2 * ArchivePart::read(&world.runner.store, &world.archives[0]).await.unwrap().table.weight();
    for (why, limits) in [
        ("records", MergeLimits { records: 20, ..WHOLE }),
        ("bytes", MergeLimits { bytes: 2 * bytes, ..WHOLE }),
        ("tables", MergeLimits { table_bytes: tables + 20, ..WHOLE }),
    ] {
        let result = world.merge(limits, None).await;
        assert_eq!(of(&result), [[name(0), name(1)], [name(2), name(3)]], "{why}");
        assert_eq!(result.alone, [name(4)], "{why}");
    }
    let result = world.merge(MergeLimits { records: 19, ..WHOLE }, None).await;
    assert_eq!((result.archives.len(), result.alone.len()), (0, 5));
}

#[tokio::test]
async fn only_what_was_indexed_alike_is_merged_and_what_has_records() {
    let mut world = World::new();
    let plain = [world.archive(1, IndexSettings::default()).await, world.archive(2, IndexSettings::default()).await];
    let phrases = [world.archive(3, POSITIONS).await, world.archive(4, POSITIONS).await];
    let control = world.batch(5, CONTROL);
    let empty = world.archive_over(control, POSITIONS).await;
    let result = world.merge(WHOLE, None).await;
    assert_eq!(of(&result), [plain.each_ref().map(String::as_str), phrases.each_ref().map(String::as_str)]);
    assert_eq!(result.alone, [empty]);
}

#[tokio::test]
async fn time_that_is_up_leaves_the_rest_for_later() {
    let mut world = World::new();
    for time in 0..6 {
        world.archive(time * 1000, IndexSettings::default()).await;
    }
    let result = world.merge(MergeLimits { records: 20, ..WHOLE }, Some(Instant::now())).await;
    assert_eq!((result.archives.len(), result.alone.len()), (1, 0));
}

#[tokio::test]
async fn an_input_that_is_damaged_or_gone_is_named() {
    let mut world = World::new();
    world.archive(1, IndexSettings::default()).await;
    let other = world.archive(2, IndexSettings::default()).await;
    let store = world.runner.store.clone();
    let mut bytes = store.read(&other, None).await.unwrap().to_vec();
    store.delete(&other).await.unwrap();
    let gone = world.merge(WHOLE, None).await;
    bytes[2000] ^= 1;
    store.create(&other, vec![bytes.into()]).await.unwrap();
    let damaged = world.merge(WHOLE, None).await;
    for result in [gone, damaged] {
        assert!(result.archives.is_empty() && result.alone.is_empty());
        assert!(result.failure.unwrap().contains(&other));
    }
}
