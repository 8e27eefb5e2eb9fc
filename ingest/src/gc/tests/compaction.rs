//! Compaction of pages at the top and below others: whatever happens beside it, every record is kept, and what is
//! needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chronik_format::batch::BatchHeader;
use chronik_format::catalog::TopicRuns;
use chronik_format::catalog::page::{Page, decode_page};
use chronik_format::ids::{Offset, TopicId};
use chronik_format::job::{CompactJob, CompactResult, JobKind, SegmentMade, VERSION};
use chronik_format::names::TopicSegmentName;
use chronik_format::segment::{TopicSegmentWriter, certain};
use chronik_store::Store;
use chronik_store::faulty::{StoreFault, StoreOperation};
use chronik_store::queue::{Queue, QueueDepth};
use tokio::time::Instant;
use ulid::Ulid;

use super::folded;
use super::world::{HistoryLimits, World};
use crate::compaction::CompactionScope;
use crate::indexing::ResultError;
use crate::publish::pages::PageLimits;

/// What makes names of segments unique, also beside others.
static SEGMENTS: AtomicU64 = AtomicU64::new(1 << 32);

impl World {
    /// Has jobs sent for all that there is to be compacted.
    pub async fn send_compactions(&mut self) -> usize {
        let now = self.now();
        self.broker.compaction.send(CompactionScope::Everything(None), now).await.unwrap().jobs
    }

    /// Has an indexer do the oldest job.
    pub async fn do_compaction(&mut self) -> Option<CompactResult> {
        let delivery = self.broker.jobs.receive(1, Duration::from_secs(9), Duration::ZERO).await.unwrap().pop()?;
        self.broker.jobs.acknowledge(&delivery.receipt).await.unwrap();
        let job: CompactJob = serde_json::from_str(&delivery.body).unwrap();
        let made = self.rewritten(&job).await;
        Some(CompactResult {
            v: VERSION,
            kind: JobKind::Compact,
            cluster: job.cluster,
            incarnation: job.incarnation,
            lane: job.lane,
            job: job.id,
            topic_id: job.topic_id,
            pages: job.pages.into_iter().map(|page| page.key).collect(),
            place: job.place,
            failure: made.clone().err(),
            segments: made.into_iter().collect(),
        })
    }

    /// The segment that a job asks for.
    async fn rewritten(&self, job: &CompactJob) -> Result<SegmentMade, String> {
        let store = self.broker.filing.store.clone();
        let origin = self.broker.filing.origin;
        let (mut writer, start) = TopicSegmentWriter::begin(origin, job.topic_id);
        let mut parts = vec![start];
        for page in &job.pages {
            let bytes = store.read(&page.key, None).await.map_err(|error| error.to_string())?;
            let Page::Runs(runs) = decode_page(&page.key, &bytes).unwrap().page else {
                panic!("{} is no leaf", page.key)
            };
            for (offsets, batches) in runs_of(&runs, &*store).await? {
                let is_left_out = job.log_starts.iter().any(|start| offsets.last < start.offset);
                for batch in batches.into_iter().filter(|_| !is_left_out) {
                    writer.add(0, &batch).unwrap();
                    parts.push(batch);
                }
            }
        }
        let end = writer.finish().map_err(|error| error.to_string())?;
        parts.push(end.bytes);
        let ulid = Ulid::from_parts(self.now() as u64, SEGMENTS.fetch_add(1, Ordering::Relaxed).into());
        let key = TopicSegmentName { topic: job.topic_id, incarnation: job.incarnation, ulid }.to_string();
        store.create(&key, parts).await.unwrap();
        let (size, crc, directory_position) = (end.size, end.directory_crc, end.directory_position);
        Ok(SegmentMade { key, size, crc, directory_position })
    }

    /// The results of all jobs that are sent now.
    async fn compactions(&mut self) -> Vec<CompactResult> {
        self.send_compactions().await;
        let mut results = Vec::new();
        while let Some(result) = self.do_compaction().await {
            results.push(result);
        }
        results
    }

    pub async fn take_in_compaction(&mut self, result: &CompactResult) -> Result<(), ResultError> {
        let now = self.now();
        self.broker.compaction.take_in(result, now).await.unwrap()
    }

    async fn take_in_compactions(&mut self, results: &[CompactResult]) {
        for result in results {
            self.take_in_compaction(result).await.unwrap();
            self.check().await;
        }
    }

    /// All of that, until nothing is left to do.
    async fn compact_everything(&mut self) {
        loop {
            let results = self.compactions().await;
            if results.is_empty() {
                break;
            }
            self.take_in_compactions(&results).await;
        }
    }

    /// The batches that a topic's pages hold, by their first offsets.
    async fn closed_batches(&self, topic: TopicId) -> Vec<(Offset, Bytes)> {
        let pages = self.state().await.topics[&topic].pages.clone();
        let mut leaves = self.broker.catalog.walk(topic, pages, |_| true);
        let mut batches = Vec::new();
        while let Some((_, runs)) = leaves.next_leaf().await.unwrap() {
            let held = runs_of(&runs, &*self.broker.filing.store).await.unwrap().into_iter().flat_map(|(_, run)| run);
            batches.extend(held.map(|batch| (BatchHeader::parse(&batch).unwrap().base_offset, batch)));
        }
        batches
    }

    /// Pages of a topic that were never compacted, and its pages at the top by height.
    async fn shape(&self, topic: TopicId) -> (u64, Vec<u8>) {
        let pages = self.state().await.topics[&topic].pages.clone();
        let uncompacted = pages.iter().map(|page| page.bounds.uncompacted.pages).sum();
        (uncompacted, pages.iter().map(|page| page.height).collect())
    }
}

/// The batches of each run.
async fn runs_of(
    runs: &TopicRuns,
    store: &dyn Store,
) -> Result<Vec<(chronik_format::span::OffsetSpan, Vec<Bytes>)>, String> {
    let mut found = Vec::new();
    for run in runs.of(0) {
        let segment = &runs.segment_of(run).unwrap().key;
        let bytes = store.read(segment, Some(run.bytes.range())).await.map_err(|error| error.to_string())?;
        let batches: Vec<_> = certain(bytes, run.offsets.first, |_, _| true).map(|(_, batch)| batch).collect();
        if batches.iter().map(Bytes::len).sum::<usize>() as u64 != run.bytes.length {
            return Err(format!("{segment} is damaged"));
        }
        found.push((run.offsets, batches));
    }
    Ok(found)
}

/// A topic of 24 records in runs of their own, three to a leaf, most of which lie below others, with their archives.
async fn of_three() -> (World, TopicId) {
    let pages = PageLimits { page_runs: 3, open_runs: 0, fan_out: 2, ..PageLimits::default() };
    let mut world = World::with(HistoryLimits { pages, ..Default::default() }).await;
    let topic = world.create_topic().await;
    for _ in 0..24 {
        world.append(topic).await;
        world.ship(true).await;
        let newest = world.runs().await.len() - 1;
        world.archive(newest).await.unwrap();
    }
    world.export().await;
    world.export().await;
    let heights: Vec<u8> = world.shape(topic).await.1;
    assert_eq!(heights, [1, 1, 1, 0, 0]);
    (world, topic)
}

#[tokio::test]
async fn what_lies_below_others_is_compacted_there() {
    let (mut world, topic) = folded().await;
    let (before, shape) = (world.closed_batches(topic).await, world.shape(topic).await);
    assert_eq!(shape, (11, vec![2, 1, 1, 0, 0, 0]));
    world.compact_everything().await;
    assert_eq!(world.shape(topic).await, (0, vec![2, 1, 1, 0]));
    assert_eq!(world.closed_batches(topic).await, before);
    assert_eq!(world.send_compactions().await, 0);
    world.ship(true).await;
    world.lose_machine().await;
    assert_eq!(world.shape(topic).await.0, 0);
    assert_eq!(world.closed_batches(topic).await, before);
    world.finish().await;
}

#[tokio::test]
async fn what_is_due_is_compacted_a_part_at_a_time() {
    let (mut world, topic) = folded().await;
    let mut sent = Vec::new();
    while world.shape(topic).await.0 > 0 {
        let now = world.now();
        let jobs = world.broker.compaction.send(CompactionScope::Due, now).await.unwrap().jobs;
        sent.push(jobs);
        assert_eq!(world.broker.compaction.send(CompactionScope::Due, now).await.unwrap().jobs, 0, "no more are out");
        while let Some(result) = world.do_compaction().await {
            world.take_in_compaction(&result).await.unwrap();
        }
        world.broker.compaction.compare(Some(QueueDepth::default()), Instant::now());
    }
    assert_eq!(sent, [1, 2, 2]);
    world.finish().await;
}

#[tokio::test]
async fn a_result_that_comes_twice_or_from_two_indexers_changes_nothing() {
    let (mut world, topic) = folded().await;
    let before = world.closed_batches(topic).await;
    let results = world.compactions().await;
    // Another process knows nothing of the jobs, and sends them again.
    world.ship(true).await;
    world.lose_machine().await;
    let others = world.compactions().await;
    assert_eq!(results.len(), others.len());
    world.take_in_compactions(&results).await;
    let pages = world.state().await.topics[&topic].pages.clone();
    world.take_in_compactions(&others).await;
    world.take_in_compactions(&results).await;
    assert_eq!(world.state().await.topics[&topic].pages, pages);
    assert_eq!(world.closed_batches(topic).await, before);
    world.finish().await;
}

#[tokio::test]
async fn what_was_folded_meanwhile_is_replaced_where_it_is() {
    let (mut world, topic) = folded().await;
    let results = world.compactions().await;
    let oldest = world.state().await.topics[&topic].pages[3].object.clone();
    assert!(results.iter().any(|result| result.pages.len() == 3 && result.pages[0] == oldest));
    for _ in 0..4 {
        world.append(topic).await;
        world.ship(true).await;
        world.archive(0).await.unwrap();
        world.export().await;
    }
    let before = world.closed_batches(topic).await;
    let pages = world.state().await.topics[&topic].pages.clone();
    assert!(pages.iter().all(|page| page.object != oldest), "it lies below another");
    world.take_in_compactions(&results).await;
    // Two of the three were folded, so these three follow one another no more.
    assert_eq!(world.shape(topic).await.0, 3 + 4);
    world.compact_everything().await;
    assert_eq!(world.shape(topic).await.0, 0);
    assert_eq!(world.closed_batches(topic).await, before);
    world.finish().await;
}

#[tokio::test]
async fn a_result_over_what_was_deleted_and_trimmed_meanwhile_brings_nothing_back() {
    let (mut world, topic) = folded().await;
    let results = world.compactions().await;
    world.delete_records(topic, Some(3)).await;
    world.retain().await;
    let kept = world.closed_batches(topic).await;
    assert_eq!(kept[0].0, 3);
    world.take_in_compactions(&results).await;
    assert_eq!(world.closed_batches(topic).await, kept);
    world.compact_everything().await;
    assert_eq!((world.closed_batches(topic).await, world.shape(topic).await.0), (kept, 0));
    world.finish().await;
}

#[tokio::test]
async fn what_lies_below_the_logs_start_is_left_out_and_its_archives_go() {
    let (mut world, topic) = of_three().await;
    let archives = |parents: Vec<(String, String)>| {
        let archives = parents.into_iter().map(|(below, _)| below).filter(|below| below.ends_with(".ckx"));
        archives.collect::<Vec<_>>()
    };
    let before = archives(world.parents(topic).await);
    // A job that was planned before has all of the first leaves in it.
    let late = world.compactions().await;
    world.delete_records(topic, Some(5)).await;
    world.retain().await;
    world.check().await;
    let planned = world.compactions().await;
    assert_eq!(planned.len(), 0, "they are out");
    world.ship(true).await;
    world.lose_machine().await;
    let results = world.compactions().await;
    world.take_in_compactions(&results).await;
    world.take_in_compactions(&late).await;
    let kept = world.closed_batches(topic).await;
    assert_eq!((kept[0].0, world.shape(topic).await.0), (5, 0));
    let after = archives(world.parents(topic).await);
    assert_eq!(after, before[5..], "an archive for each record");
    world.finish().await;
    assert!(world.objects().await.contains(&after[0]) && !world.objects().await.contains(&before[4]));
}

#[tokio::test]
async fn a_job_that_was_planned_before_a_deletion_is_taken_as_it_is() {
    let (mut world, topic) = of_three().await;
    let before = world.closed_batches(topic).await;
    let results = world.compactions().await;
    world.delete_records(topic, Some(2)).await;
    world.take_in_compactions(&results).await;
    assert_eq!((world.closed_batches(topic).await, world.shape(topic).await.0), (before, 0));
    assert_eq!(world.state().await.topics[&topic].partitions[0].log_start, 2);
    world.delete_records(topic, None).await;
    world.finish().await;
}

#[tokio::test]
async fn a_result_over_what_got_an_archive_meanwhile_is_overtaken() {
    let limits = PageLimits { page_runs: 1, open_runs: 0, waiting_pages: 1, fan_out: 2, ..PageLimits::default() };
    let mut world = World::with(HistoryLimits { pages: limits, ..Default::default() }).await;
    let topic = world.create_topic().await;
    for _ in 0..12 {
        world.append(topic).await;
        world.ship(true).await;
        world.export().await;
    }
    let before = world.closed_batches(topic).await;
    assert_eq!(world.send_compactions().await, 0, "all of it waits for archives");
    world.set(topic, "search.enabled", "false").await;
    let results = world.compactions().await;
    world.set(topic, "search.enabled", "true").await;
    let archive = world.archive(2).await.unwrap();
    world.take_in_compactions(&results).await;
    let state = world.state().await;
    assert!(!state.tombstones.contains_key(&archive));
    let (uncompacted, _) = world.shape(topic).await;
    assert_eq!(uncompacted, 2, "the leaf of the archive, and the one that was to go with it");
    assert_eq!(world.closed_batches(topic).await, before);
    for pick in 0..12 {
        world.archive(pick).await;
    }
    while world.state().await.waiting(&world.state().await.topics[&topic]).runs > 0 {
        world.archive(0).await.unwrap();
    }
    world.compact_everything().await;
    assert_eq!((world.closed_batches(topic).await, world.shape(topic).await.0), (before, 0));
    world.finish().await;
}

#[tokio::test]
async fn a_result_of_a_topic_that_was_deleted_leaves_nothing() {
    let (mut world, topic) = folded().await;
    let results = world.compactions().await;
    world.take_in_compaction(&results[0]).await.unwrap();
    world.delete_topic(topic).await;
    world.take_in_compactions(&results).await;
    world.finish().await;
    assert!(world.objects().await.iter().all(|object| !object.contains(&topic.to_string())));
}

#[tokio::test]
async fn a_result_whose_segments_were_named_long_ago_is_sent_again() {
    let (mut world, topic) = folded().await;
    let before = world.closed_batches(topic).await;
    let results = world.compactions().await;
    world.wait_minutes(7 * 60);
    world.take_in_compactions(&results).await;
    assert_eq!((world.shape(topic).await.0, world.broker.compaction.failed_pages()), (11, 0));
    world.compact_everything().await;
    assert_eq!((world.closed_batches(topic).await, world.shape(topic).await.0), (before, 0));
    world.finish().await;
}

#[tokio::test]
async fn a_page_that_can_not_be_compacted_is_told_and_the_others_are() {
    let (mut world, topic) = folded().await;
    let before = world.closed_batches(topic).await;
    let mut results = world.compactions().await;
    for result in &mut results {
        (result.segments, result.failure) = (Vec::new(), Some("damaged".into()));
    }
    world.take_in_compactions(&results).await;
    assert_eq!(world.broker.compaction.failed_pages(), 0);
    let mut alone = world.compactions().await;
    assert!(alone.len() == 11 && alone.iter().all(|result| result.pages.len() == 1));
    (alone[1].segments, alone[1].failure) = (Vec::new(), Some("damaged".into()));
    world.take_in_compactions(&alone).await;
    world.compact_everything().await;
    assert_eq!((world.broker.compaction.failed_pages(), world.shape(topic).await.0), (1, 1));
    for _ in 0..3 {
        assert_eq!(world.send_compactions().await, 0);
        let now = world.now();
        world.broker.compaction.send(CompactionScope::Due, now).await.unwrap();
        assert_eq!(world.broker.compaction.failed_pages(), 1, "it is there still");
    }
    world.ship(true).await;
    world.lose_machine().await;
    world.compact_everything().await;
    assert_eq!((world.broker.compaction.failed_pages(), world.shape(topic).await.0), (0, 0));
    assert_eq!(world.closed_batches(topic).await, before);
    world.finish().await;
}

#[tokio::test]
async fn what_is_below_a_page_that_can_not_be_read_waits() {
    let (mut world, topic) = folded().await;
    let state = world.state().await;
    let page = &state.topics[&topic].pages[1];
    world.faulty.fail(StoreOperation::Read, &page.object, StoreFault::Before, usize::MAX);
    for result in world.compactions().await {
        world.take_in_compaction(&result).await.unwrap();
    }
    assert_eq!((world.shape(topic).await.0, world.broker.compaction.failed_pages()), (2, 0));
    world.faulty.heal();
    let bytes = world.broker.filing.store.read(&page.object, None).await.unwrap();
    world.broker.filing.store.delete(&page.object).await.unwrap();
    for _ in 0..2 {
        let now = world.now();
        world.broker.compaction.send(CompactionScope::Due, now).await.unwrap();
        assert_eq!(world.broker.compaction.failed_pages(), 1);
    }
    world.broker.filing.store.create(&page.object, vec![bytes]).await.unwrap();
    world.ship(true).await;
    world.lose_machine().await;
    world.compact_everything().await;
    assert_eq!(world.shape(topic).await.0, 0);
    world.finish().await;
}

/// Other pages are replaced between the look at a snapshot and the command.
#[tokio::test]
async fn results_that_are_taken_in_beside_other_changes_are_put_where_they_belong() {
    let (mut world, topic) = of_three().await;
    let results = Arc::new(world.compactions().await);
    for (number, result) in results.iter().enumerate() {
        world.delete_records(topic, Some(number as Offset)).await;
        world.retain().await;
        world.take_in_compaction(result).await.unwrap();
        world.replace_oldest(topic).await;
        world.check().await;
    }
    world.compact_everything().await;
    assert_eq!(world.shape(topic).await.0, 0);
    world.finish().await;
}
