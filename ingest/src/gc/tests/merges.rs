//! Archives in the place of others: whatever becomes of a result, one archive is over each run, and none that is needed
//! goes.

use chronik_format::archive::{self, ArchiveDescription, IndexFile, RunBatch, RunTable};
use chronik_format::catalog::{CatalogReader, PageEntry, TopicRuns};
use chronik_format::ids::TopicId;
use chronik_format::job::{JobKind, MergeJob, MergeResult, MergedArchive, VERSION};
use chronik_format::names::ArchiveName;
use chronik_store::faulty::{StoreFault, StoreOperation};
use chronik_store::queue::{Queue, QueueDepth};
use tokio::time::{Duration, Instant};

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::world::{HistoryLimits, World};
use crate::compaction::CompactionScope;
use crate::indexing::ResultError;
use crate::publish::pages::PageLimits;

const EVERYTHING: CompactionScope = CompactionScope::Everything(None);

impl World {
    /// The leaves of a topic, wherever they lie.
    pub async fn leaves(&self, topic: TopicId) -> Vec<(Arc<PageEntry>, Arc<TopicRuns>)> {
        let reader = CatalogReader::new(self.faulty.clone(), super::world::LANE, 0);
        let mut leaves = reader.walk(topic, self.state().await.topics[&topic].pages.iter().cloned(), |_| true);
        let mut found = Vec::new();
        while let Some(leaf) = leaves.next_leaf().await.unwrap() {
            found.push(leaf);
        }
        found
    }

    /// What an indexer makes of a topic's oldest leaf whose archives are to be merged: one of all but so many.
    pub async fn merge(&mut self, topic: TopicId, alone: usize) -> Option<MergeResult> {
        let leaves = self.leaves(topic).await;
        let (entry, leaf) = leaves.into_iter().find(|(entry, _)| entry.bounds.mergeable > 0)?;
        let mergeable = leaf.mergeable();
        let (of, alone) = mergeable.split_at(mergeable.len() - alone.min(mergeable.len() - 2));
        let mut table = RunTable::default();
        for run in of.iter().flat_map(|archive| &archive.runs) {
            let batch = RunBatch {
                base_offset: run.first,
                position: 0,
                length: 1,
                min_timestamp: 0,
                max_timestamp: 0,
                documents: 1,
                offset_deltas: None,
            };
            table.push("segment", run.partition, run.first, run.last, vec![batch], vec![]).unwrap();
        }
        let incarnation = self.state().await.incarnation;
        let description = ArchiveDescription {
            v: archive::VERSION,
            incarnation,
            lane: super::world::LANE,
            topic: "t".into(),
            topic_id: topic,
            analysis: "words".into(),
            settings: Default::default(),
            records: u64::from(table.documents()),
        };
        let built = archive::build(description, Vec::<IndexFile>::new(), &table).unwrap();
        let key = ArchiveName { topic, incarnation, ulid: self.ulid() }.to_string();
        let store: chronik_store::SharedStore = self.faulty.clone();
        store.create(&key, built.parts).await.unwrap();
        let names = |archives: &[&chronik_format::catalog::ArchiveEntry]| {
            archives.iter().map(|archive| archive.key.clone()).collect::<Vec<_>>()
        };
        let (records, of, alone) = (of.iter().map(|archive| archive.records).sum(), names(of), names(alone));
        let begins = entry.bounds.partitions[0];
        Some(MergeResult {
            v: VERSION,
            kind: JobKind::Merge,
            cluster: String::new(),
            incarnation,
            lane: super::world::LANE,
            job: "job".into(),
            topic_id: topic,
            page: entry.object.clone(),
            partition: begins.partition,
            first: begins.offsets.first,
            archives: vec![MergedArchive { key, size: built.size, crc: built.toc_crc, records, of }],
            alone,
            failure: None,
        })
    }

    /// Takes a result in; whether it is done with.
    pub async fn take_in_merge(&mut self, result: &MergeResult) -> bool {
        let now = self.now();
        match self.broker.merging.take_in(result, now).await.unwrap() {
            Ok(()) => true,
            Err(ResultError::Unavailable(_)) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// The archives of a topic's leaves, and over which offsets each is; every record is under one of them.
    async fn archives(&self, topic: TopicId) -> Vec<(String, Vec<i64>)> {
        let mut archives = Vec::new();
        for (_, leaf) in self.leaves(topic).await {
            assert_eq!(leaf.waiting(&leaf.archived()).count(), 0);
            archives.extend(leaf.archives.iter().map(|archive| {
                let offsets = archive.runs.iter().flat_map(|run| run.first..=run.last).collect();
                (archive.key.clone(), offsets)
            }));
        }
        archives
    }

    async fn send(&mut self, scope: CompactionScope) -> Vec<String> {
        let now = self.now();
        let sent = self.broker.merging.send(scope, 9, &HashSet::new(), now).await.unwrap();
        let mut pages = Vec::new();
        for _ in 0..sent {
            let received = self.broker.queue.receive(1, Duration::from_secs(9), Duration::ZERO).await.unwrap();
            let job: MergeJob = serde_json::from_str(&received[0].body).unwrap();
            self.broker.queue.acknowledge(&received[0].receipt).await.unwrap();
            pages.push(job.page.key);
        }
        pages
    }
}

/// A topic of so many runs under archives of their own; three of them at a time were compacted, and the leaves lie
/// below one another as far as that goes.
async fn compacted(runs: usize) -> (World, TopicId) {
    let limits = PageLimits { page_runs: 1, open_runs: 0, waiting_pages: 1, fan_out: 4, ..PageLimits::default() };
    let mut world = World::with(HistoryLimits { pages: limits, ..Default::default() }).await;
    let topic = world.create_topic().await;
    for run in 0..runs {
        world.append(topic).await;
        world.ship(true).await;
        world.archive(0).await.unwrap();
        world.export().await;
        if run % 3 == 2 {
            world.compact(topic, true).await;
        }
    }
    (world, topic)
}

async fn mergeable(world: &World, topic: TopicId) -> u32 {
    world.state().await.topics[&topic].pages.iter().map(|page| page.bounds.mergeable).sum()
}

#[tokio::test]
async fn one_archive_comes_in_the_place_of_others_and_these_go() {
    let (mut world, topic) = compacted(20).await;
    let mut old: BTreeSet<String> = world.archives(topic).await.into_iter().map(|(key, _)| key).collect();
    let mut left = mergeable(&world, topic).await;
    while let Some(result) = world.merge(topic, 0).await {
        assert!(world.take_in_merge(&result).await);
        let of = &result.archives[0].of;
        left -= of.len() as u32;
        let state = world.state().await;
        assert!(of.iter().all(|key| state.tombstones.contains_key(key)), "no page names them any more");
        assert_eq!(mergeable(&world, topic).await, left);
        world.check().await;
    }
    assert_eq!(left, 0);
    let archives = world.archives(topic).await;
    let offsets: Vec<i64> = archives.iter().flat_map(|(_, offsets)| offsets.clone()).collect();
    assert_eq!(offsets, (0..offsets.len() as i64).collect::<Vec<_>>());
    world.ship(true).await;
    world.lose_machine().await;
    assert_eq!(world.archives(topic).await, archives);
    world.finish().await;
    old.retain(|key| !archives.iter().any(|(live, _)| live == key));
    let here = world.objects().await;
    assert!(old.len() > 3 && old.iter().all(|key| !here.contains(key)));
}

#[tokio::test]
async fn a_result_that_comes_twice_or_too_late_changes_nothing() {
    let (mut world, topic) = compacted(6).await;
    let (result, overtaken) = (world.merge(topic, 1).await.unwrap(), world.merge(topic, 0).await.unwrap());
    assert!(world.take_in_merge(&result).await);
    let archives = world.archives(topic).await;
    assert!(archives.iter().any(|(key, offsets)| *key == result.archives[0].key && offsets.len() == 2));
    for again in [&result, &overtaken, &result] {
        assert!(world.take_in_merge(again).await);
        assert_eq!(world.archives(topic).await, archives);
        world.check().await;
    }
    let metrics = &world.broker.merging_metrics;
    assert_eq!((metrics.merges.get(), metrics.failures.get()), (1, 0));
    let compacted_again = world.merge(topic, 0).await;
    world.compact(topic, true).await;
    if let Some(result) = compacted_again {
        assert!(world.take_in_merge(&result).await);
    }
    world.finish().await;
    assert!(!world.objects().await.contains(&overtaken.archives[0].key), "it is an orphan");
}

#[tokio::test]
async fn what_was_deleted_meanwhile_stays_deleted() {
    let (mut world, topic) = compacted(9).await;
    let result = world.merge(topic, 0).await.unwrap();
    world.delete_records(topic, Some(3)).await;
    world.retain().await;
    assert!(world.take_in_merge(&result).await);
    world.check().await;
    let result = world.merge(topic, 0).await.unwrap();
    world.delete_topic(topic).await;
    assert!(world.take_in_merge(&result).await);
    assert_eq!(world.broker.merging_metrics.failures.get(), 0);
    world.finish().await;
    assert!(!world.objects().await.iter().any(|key| key.ends_with(".ckx")));
}

#[tokio::test]
async fn a_result_that_is_not_what_it_should_be_fails_its_page_alone() {
    let (mut world, topic) = compacted(12).await;
    let good = world.merge(topic, 0).await.unwrap();
    let gone = {
        let mut result = world.merge(topic, 0).await.unwrap();
        result.archives[0].key = ArchiveName { topic, incarnation: result.incarnation, ulid: world.ulid() }.to_string();
        result
    };
    let with = |change: fn(&mut MergeResult)| {
        let mut result = good.clone();
        change(&mut result);
        result
    };
    let archives = world.archives(topic).await;
    for (n, bad) in [
        gone,
        with(|result| result.failure = Some("it is damaged".into())),
        with(|result| result.archives[0].records += 1),
        with(|result| result.archives[0].size -= 1),
        with(|result| result.archives[0].of[0].push('x')),
        with(|result| drop(result.archives[0].of.pop())),
        with(|result| result.archives.clear()),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(world.take_in_merge(&bad).await);
        assert_eq!(world.archives(topic).await, archives, "{n}");
        assert_eq!(world.broker.merging_metrics.failures.get(), n as u64 + 1);
    }
    let sent = world.send(EVERYTHING).await;
    assert!(!sent.is_empty() && !sent.contains(&good.page), "others are merged");
    world.wait_minutes(7 * 60);
    assert!(world.take_in_merge(&good).await);
    assert_eq!(world.archives(topic).await, archives, "it may be taken for an orphan already");
    assert_eq!(world.broker.merging_metrics.failures.get(), 7, "it is made again");
    world.finish().await;
}

#[tokio::test]
async fn a_result_is_taken_in_once_the_bucket_can_be_reached() {
    let (mut world, topic) = compacted(6).await;
    let (before, result) = (mergeable(&world, topic).await, world.merge(topic, 0).await.unwrap());
    for (operation, name) in
        [(StoreOperation::Read, "archives/"), (StoreOperation::Create, "pages/"), (StoreOperation::Read, "topics/")]
    {
        world.faulty.fail(operation, name, StoreFault::Before, 100);
        let _ = world.take_in_merge(&result).await;
        world.faulty.heal();
        world.check().await;
    }
    assert!(world.take_in_merge(&result).await);
    let merged = result.archives[0].of.len() as u32;
    assert_eq!((mergeable(&world, topic).await, merged > 1), (before - merged, true));
    assert_eq!(world.broker.merging_metrics.failures.get(), 0);
    world.finish().await;
}

#[tokio::test]
async fn leaves_are_found_wherever_they_lie_and_sent_once() {
    let (mut world, topic) = compacted(40).await;
    let wanted: Vec<String> = {
        let leaves = world.leaves(topic).await;
        leaves.iter().filter(|(entry, _)| entry.bounds.mergeable > 0).map(|(entry, _)| entry.object.clone()).collect()
    };
    let tops: Vec<u8> = world.state().await.topics[&topic].pages.iter().map(|page| page.height).collect();
    assert!(tops[0] > 0 && wanted.len() > 6, "{tops:?}");
    assert!(world.send(CompactionScope::Due).await.is_empty(), "their day is not over");
    world.wait_minutes(25 * 60);
    let mut sent = Vec::new();
    for _ in 0..=wanted.len() {
        sent.extend(world.send(CompactionScope::Due).await);
    }
    assert_eq!(sent.iter().collect::<BTreeSet<_>>(), wanted.iter().collect::<BTreeSet<_>>());
    assert_eq!((sent.len(), world.broker.merging.pending()), (wanted.len(), wanted.len()));
    for loss in 1..=4 {
        let now = Instant::now();
        for seconds in [0, 61] {
            world.broker.merging.compare(Some(QueueDepth::default()), now + Duration::from_secs(seconds));
        }
        let mut again = world.send(EVERYTHING).await;
        again.sort();
        assert_eq!(again.len(), if loss < 3 { wanted.len() } else { 0 }, "{loss}");
    }
    world.finish().await;
}
