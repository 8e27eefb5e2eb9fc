#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use chronik_store::memory;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::batch::{BatchBuilder, BatchHeader, Codec, stamp};
use crate::catalog::PageBounds;
use crate::ids::{Incarnation, LaneId, Offset};
use crate::origin::Origin;
use crate::segment::{SegmentReader, TopicSegmentWriter};

const TOPIC: TopicId = TopicId(Uuid::from_u128(1));
const ORIGIN: Origin = Origin { cluster: Uuid::nil(), incarnation: Incarnation(1), lane: LaneId(0) };

/// How an old run is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Searched {
    ByArchive(usize),
    Scanned,
    Unreadable,
}

/// Runs of one partition in a page: offsets that are left out before, records, how they are searched.
type OldRuns = Vec<(Offset, usize, Searched)>;

fn any_runs() -> impl Strategy<Value = OldRuns> {
    let searched = prop_oneof![
        6 => (0..3usize).prop_map(Searched::ByArchive),
        1 => Just(Searched::Scanned),
        1 => Just(Searched::Unreadable),
    ];
    prop::collection::vec((prop_oneof![4 => Just(0), 1 => 1..4i64], 1..4usize, searched), 1..6)
}

fn any_page() -> impl Strategy<Value = Vec<(PartitionId, OldRuns)>> {
    prop::collection::btree_map(0..4i32, any_runs(), 1..4).prop_map(|page| page.into_iter().collect())
}

/// Pages, and the batches of each partition that they hold.
struct Old {
    pages: Vec<Arc<TopicRuns>>,
    batches: BTreeMap<PartitionId, Vec<Bytes>>,
    searched: BTreeMap<(PartitionId, Offset), Searched>,
}

fn old_pages(pages: &[Vec<(PartitionId, OldRuns)>]) -> Old {
    let mut old = Old { pages: vec![], batches: Default::default(), searched: Default::default() };
    let mut ends = BTreeMap::<PartitionId, Offset>::new();
    for (number, page) in pages.iter().enumerate() {
        let mut runs = TopicRuns::default();
        runs.segments.push(SegmentEntry { key: format!("old-{number}"), ..SegmentEntry::default() });
        let mut archives: Vec<Vec<ArchiveRun>> = vec![vec![]; 3];
        for (partition, list) in page {
            let mut entries = Vec::new();
            for (gap, records, searched) in list {
                let end = ends.entry(*partition).or_default();
                let first = *end + gap;
                let mut builder = BatchBuilder::new(Codec::None);
                (0..*records).for_each(|at| builder.push(1000 + first + at as i64, None, Some(b"value"), &[]));
                let mut batch = BytesMut::from(&builder.finish()[..]);
                stamp(&mut batch, first, 1);
                let last = first + *records as i64 - 1;
                *end = last + 1;
                let (earliest, latest) = (1000 + first, 1000 + last);
                entries.push(RunEntry {
                    offsets: OffsetSpan { first, last },
                    segment: 0,
                    bytes: ByteSpan { position: 1 << 40, length: batch.len() as u64 },
                    times: TimeSpan { earliest, latest },
                    unreadable: (*searched == Searched::Unreadable).then(|| "because".to_owned()),
                });
                if let Searched::ByArchive(archive) = searched {
                    let (min_timestamp, max_timestamp) = (Some(earliest), Some(latest));
                    archives[*archive].push(ArchiveRun {
                        partition: *partition,
                        first,
                        last,
                        min_timestamp,
                        max_timestamp,
                    });
                }
                old.searched.extend((first..=last).map(|offset| ((*partition, offset), *searched)));
                old.batches.entry(*partition).or_default().push(batch.freeze());
            }
            runs.partitions.push(PartitionRuns { partition: *partition, runs: entries });
        }
        runs.archives = (0..)
            .zip(archives)
            .filter(|(_, runs)| !runs.is_empty())
            .map(|(at, runs): (usize, _)| ArchiveEntry {
                key: format!("archive-{number}-{at}"),
                size: 1,
                crc: 2,
                records: 3,
                merged: 0,
                runs,
            })
            .collect();
        old.pages.push(Arc::new(runs));
    }
    old
}

/// Segments with the batches, cut into parts of so many.
async fn segments(batches: &BTreeMap<PartitionId, Vec<Bytes>>, cut: usize) -> Vec<CompactedSegment> {
    let store = memory();
    let all: Vec<_> =
        batches.iter().flat_map(|(partition, batches)| batches.iter().map(move |batch| (*partition, batch))).collect();
    let mut opened = Vec::new();
    for (number, part) in all.chunks(cut).enumerate() {
        let (mut writer, start) = TopicSegmentWriter::begin(ORIGIN, TOPIC);
        let mut parts = vec![start];
        for (partition, batch) in part {
            writer.add(*partition, batch).unwrap();
            parts.push((*batch).clone());
        }
        parts.push(writer.finish().unwrap().bytes);
        let key = format!("new-{number}");
        store.create(&key, parts).await.unwrap();
        let directory = SegmentReader::open(store.clone(), &key).await.unwrap().directory().clone();
        opened.push(CompactedSegment { entry: SegmentEntry { key, level: 1, ..SegmentEntry::default() }, directory });
    }
    opened
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

proptest! {
    #[test]
    fn a_page_over_compacted_segments_says_the_same(pages in prop::collection::vec(any_page(), 1..4), cut in 1..30usize) {
        let old = old_pages(&pages);
        let segments = block_on(segments(&old.batches, cut));
        let new = compacted(TOPIC, &old.pages, segments.clone(), |_, _| false).unwrap();

        let archived = ArchivedOffsets::of(&new.archives);
        for ((partition, offset), searched) in &old.searched {
            let run = new.at(*partition, *offset).unwrap();
            let one = OffsetSpan { first: *offset, last: *offset };
            prop_assert_eq!(archived.hold(*partition, one), matches!(searched, Searched::ByArchive(_)));
            prop_assert_eq!(run.unreadable.is_some(), *searched == Searched::Unreadable);
            prop_assert_eq!(archived.hold(*partition, run.offsets), matches!(searched, Searched::ByArchive(_)), "whole runs");
        }
        // Every archive is over what it was over before.
        for (archive, was) in new.archives.iter().zip(old.pages.iter().flat_map(|page| &page.archives)) {
            prop_assert_eq!(&archive.key, &was.key);
            for run in &was.runs {
                let of_partition = |wide: &&ArchiveRun| wide.partition == run.partition;
                let wide: Vec<_> = archive.runs.iter().filter(of_partition).collect();
                let over = wide.iter().find(|wide| wide.first <= run.first && run.last <= wide.last).unwrap();
                prop_assert!(over.min_timestamp <= run.min_timestamp && over.max_timestamp >= run.max_timestamp);
            }
            for wide in &archive.runs {
                let held = |offset: Offset| {
                    let covers = |run: &ArchiveRun| run.partition == wide.partition && (run.first..=run.last).contains(&offset);
                    was.runs.iter().any(covers) || !old.searched.contains_key(&(wide.partition, offset))
                };
                prop_assert!((wide.first..=wide.last).all(held));
            }
        }
        // Runs lie where their batches do.
        for (partition, batches) in &old.batches {
            let lengths: u64 = batches.iter().map(|batch| batch.len() as u64).sum();
            let runs = new.of(*partition);
            prop_assert_eq!(runs.iter().map(|run| run.bytes.length).sum::<u64>(), lengths);
            for run in runs {
                let row = segments[run.segment as usize].directory.row(TOPIC, *partition).unwrap();
                prop_assert!(row.bytes.position <= run.bytes.position && run.bytes.end() <= row.bytes.end());
                prop_assert!(row.offsets.contains(run.offsets.first) && row.offsets.contains(run.offsets.last));
            }
        }
        let bounds = PageBounds::of_runs(&new, 9);
        let flat = |page: &Arc<TopicRuns>| PageBounds::of_runs(page, 0).partitions;
        for bounds in &bounds.partitions {
            let old: Vec<_> = old.pages.iter().flat_map(flat).filter(|old| old.partition == bounds.partition).collect();
            prop_assert_eq!(bounds.offsets.first, old[0].offsets.first);
            prop_assert_eq!(bounds.offsets.last, old.last().unwrap().offsets.last);
            prop_assert_eq!(bounds.scanned_from, old.iter().find_map(|old| old.scanned_from));
            prop_assert_eq!(bounds.times, old.iter().fold(TimeSpan::NONE, |times, old| times.union(old.times)));
        }
        prop_assert_eq!(bounds.level, 1);
        // It can be rewritten again.
        let again = compacted(TOPIC, &[Arc::new(new.clone())], segments, |_, _| false).unwrap();
        prop_assert_eq!(again, new);
    }

    #[test]
    fn oldest_runs_may_be_left_out_once_they_are_deleted(
        pages in prop::collection::vec(any_page(), 1..4),
        left_out in prop::collection::vec(0..9usize, 4),
        cut in 1..30usize,
    ) {
        let old = old_pages(&pages);
        let mut batches = old.batches.clone();
        for (held, count) in batches.values_mut().zip(left_out) {
            held.drain(..count.min(held.len()));
        }
        batches.retain(|_, batches| !batches.is_empty());
        let is_whole = batches == old.batches;
        let log_start = |partition| {
            let first = batches.get(&partition).map(|batches: &Vec<Bytes>| BatchHeader::parse(&batches[0]).unwrap());
            first.map_or(Offset::MAX, |first| first.base_offset)
        };
        let segments = block_on(segments(&batches, cut));
        prop_assert_eq!(compacted(TOPIC, &old.pages, segments.clone(), |_, _| false).is_ok(), is_whole);
        let new = compacted(TOPIC, &old.pages, segments, |partition, offset| offset < log_start(partition));
        let Ok(new) = new else {
            prop_assert!(batches.is_empty());
            return Ok(());
        };
        let archived = ArchivedOffsets::of(&new.archives);
        for ((partition, offset), searched) in &old.searched {
            let run = new.at(*partition, *offset);
            prop_assert_eq!(run.is_some(), *offset >= log_start(*partition));
            if let Some(run) = run {
                prop_assert_eq!(archived.hold(*partition, run.offsets), matches!(searched, Searched::ByArchive(_)));
                prop_assert_eq!(run.unreadable.is_some(), *searched == Searched::Unreadable);
            }
        }
        let is_over_one = |archive: &ArchiveEntry| {
            archive.runs.iter().any(|run| run.last >= log_start(run.partition))
        };
        let kept = old.pages.iter().flat_map(|page| &page.archives).filter(|archive| is_over_one(archive));
        prop_assert!(new.archives.iter().map(|archive| &archive.key).eq(kept.map(|archive| &archive.key)));
    }

    #[test]
    fn segments_that_hold_anything_else_are_refused(
        pages in prop::collection::vec(any_page(), 1..3), at: prop::sample::Index, how in 0..4, cut in 1..30usize,
    ) {
        let old = old_pages(&pages);
        let mut batches = old.batches.clone();
        let partition = *at.get(&batches.keys().copied().collect::<Vec<_>>());
        let held = batches.get_mut(&partition).unwrap();
        let number = at.index(held.len());
        match how {
            0 => drop(held.remove(number)),
            1 => drop(batches.remove(&partition)),
            2 => drop(batches.insert(9, batches[&partition].clone())),
            _ => {
                let mut builder = BatchBuilder::new(Codec::None);
                builder.push(5, None, Some(b"another value"), &[]);
                let mut batch = BytesMut::from(&builder.finish()[..]);
                stamp(&mut batch, BatchHeader::parse(&held[number]).unwrap().base_offset, 1);
                held[number] = batch.freeze();
            }
        }
        batches.retain(|_, batches| !batches.is_empty());
        let segments = block_on(segments(&batches, cut));
        prop_assert!(compacted(TOPIC, &old.pages, segments, |_, _| false).is_err());
    }
}
