//! Compaction with indexers that are always fast enough: what the planner asks for is there a minute later.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_format::catalog::compacted::{CompactedSegment, compacted};
use chronik_format::catalog::page::PageBuilder;
use chronik_format::catalog::{PageEntry, RunEntry, SegmentEntry, TopicRuns};
use chronik_format::ids::{PartitionId, TopicId};
use chronik_format::names::TopicSegmentName;
use chronik_format::segment::SegmentDirectory;
use chronik_ingest::compaction::CompactionLimits;
use chronik_ingest::compaction::planner::{self, CompactionGroup, PageTurn};
use chronik_ingest::publish::page_tree::page_name;
use chronik_ingest::state::command::ReplacePages;

use super::Limits;
use super::broker::{Broker, INCARNATION, ORIGIN, named_at};

/// Compactions that are out at a time.
const JOBS: usize = 32;
/// Bytes of a segment, unless one run alone has more.
const SEGMENT_BYTES: u64 = 1 << 30;

pub struct Compactor {
    limits: CompactionLimits,
}

impl Compactor {
    pub fn new(limits: Limits) -> Self {
        Self { limits: CompactionLimits { folding: limits.pages, ..CompactionLimits::default() } }
    }

    /// Compacts what is due.
    pub fn compact(&self, broker: &mut Broker) {
        let groups = planner::plan(&broker.state, self.limits, broker.now, |_| PageTurn::Free, false);
        groups.into_iter().take(JOBS).for_each(|group| replace(broker, &group));
    }
}

/// Puts a page over segments that have just been written in the place of others.
fn replace(broker: &mut Broker, CompactionGroup { topic, pages }: &CompactionGroup) {
    let old: Vec<Arc<TopicRuns>> = pages.iter().map(|page| broker.leaf(*topic, page)).collect();
    let level = pages.iter().map(|page| page.bounds.level).min().unwrap_or_default() + 1;
    let written = written(broker, *topic, &old, level);
    broker.compacted_bytes += pages.iter().map(|page| page.bounds.bytes).sum::<u64>();
    let runs = compacted(*topic, &old, written, |_, _| false).unwrap();
    let builder = PageBuilder { origin: ORIGIN, topic: *topic, written_at: broker.now };
    let newest: &PageEntry = pages.last().unwrap();
    let mut page = builder.leaf(page_name(builder), &runs, newest.bounds.last).unwrap();
    page.entry.closed_at = newest.closed_at;
    let names: Vec<String> = pages.iter().map(|page| page.object.clone()).collect();
    let gone = names.iter().cloned().chain(old.iter().flat_map(|page| page.own_segments())).collect();
    let new = vec![page.entry.clone()];
    broker.create(&page.entry.object, page.bytes);
    let command = ReplacePages { topic: *topic, old: names, new, gone, deleted: Vec::new(), at: broker.now };
    broker.replace_pages(command);
}

/// The segments that the runs of some pages are written into, by partition and offset.
fn written(broker: &Broker, topic: TopicId, pages: &[Arc<TopicRuns>], level: u8) -> Vec<CompactedSegment> {
    let mut partitions: BTreeMap<PartitionId, Vec<&RunEntry>> = BTreeMap::new();
    for runs in pages.iter().flat_map(|page| &page.partitions) {
        partitions.entry(runs.partition).or_default().extend(&runs.runs);
    }
    let mut segments: Vec<Vec<(PartitionId, &RunEntry)>> = vec![Vec::new()];
    let mut bytes = 0;
    for (partition, run) in
        partitions.into_iter().flat_map(|(number, runs)| runs.into_iter().map(move |run| (number, run)))
    {
        if bytes > 0 && bytes + run.bytes.length > SEGMENT_BYTES {
            segments.push(Vec::new());
            bytes = 0;
        }
        bytes += run.bytes.length;
        segments.last_mut().unwrap().push((partition, run));
    }
    let segment = |runs: Vec<(PartitionId, &RunEntry)>| {
        let directory = SegmentDirectory::claimed(
            topic,
            runs.into_iter().map(|(partition, run)| (partition, run.offsets, run.bytes.length, run.times)),
        );
        let size = directory.rows.last().map_or(0, |row| row.bytes.end());
        let key = TopicSegmentName { topic, incarnation: INCARNATION, ulid: named_at(broker.now) }.to_string();
        let entry = SegmentEntry { key, size, crc: u32::MAX / 3, directory_position: size, level };
        CompactedSegment { entry, directory }
    };
    segments.into_iter().map(segment).collect()
}
