//! How large things are meanwhile, and what readers of the history have to read in the end.

use std::collections::HashSet;
use std::fs;
use std::ops::RangeInclusive;
use std::sync::Arc;

use chronik_format::catalog::{ArchiveRun, Page, PageEntry, TopicRuns};
use chronik_format::ids::{PartitionId, Timestamp};
use chronik_ingest::state::checkpoint;
use chronik_ingest::state::topic::TopicState;
use futures::executor::block_on;

use super::DAY_MS;
use super::broker::{BEGIN, Broker, ORIGIN};
use super::load::Load;
use super::report::{HistoryRead, Report, Sizes};

/// Hours between two checkpoints that are looked at.
const CHECKPOINT_HOURS: i64 = 6;

/// What was seen so far.
pub struct Looks {
    /// Of the process before there was a broker.
    resident_before: u64,
    /// Of each export, and when.
    exports: Vec<(Timestamp, usize)>,
    checkpoints: Vec<(Timestamp, usize)>,
    resident: u64,
}

/// Bytes of the process that are in memory.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).map_or(0, |kib: u64| kib << 10)
}

impl Looks {
    pub fn new() -> Self {
        Self { resident_before: resident(), exports: Vec::new(), checkpoints: Vec::new(), resident: 0 }
    }

    /// Looks at an export, and at a checkpoint from time to time.
    pub fn look(&mut self, broker: &mut Broker) {
        self.exports.push((broker.now, broker.export_bytes()));
        if self.exports.len() as i64 % CHECKPOINT_HOURS == 0 {
            let bytes = checkpoint::encode(&broker.state, ORIGIN.cluster, ORIGIN.lane).len();
            self.checkpoints.push((broker.now, bytes));
        }
        self.resident = self.resident.max(resident().saturating_sub(self.resident_before));
    }

    pub fn report(self, broker: &Broker, load: Load, compaction: bool) -> Report {
        let topics: Vec<&Arc<TopicState>> = broker.state.topics.values().collect();
        let some = [topics[0], topics[topics.len() / 2]];
        // The last day is open yet, and what was closed of the one before may be compacted with others.
        let days = [load.days / 4, load.days / 2, load.days.saturating_sub(3)].map(i64::from);
        let searches = some.iter().flat_map(|topic| days.map(|day| searched(broker, topic, day)));
        let half = BEGIN + i64::from(load.days) * DAY_MS / 2;
        Report {
            load,
            compaction,
            segments: broker.shipped.0,
            runs: broker.shipped.1,
            top_pages: by_height(topics.iter().flat_map(|topic| topic.pages.iter().cloned())),
            pages: by_height(topics.iter().flat_map(|topic| pages(broker, topic))),
            level_0_segments: broker.state.segments.size().0,
            resident_bytes: self.resident,
            checkpoint_bytes: Sizes::of(&self.checkpoints, half),
            export_bytes: Sizes::of(&self.exports, half),
            longest_turn_ms: broker.longest_turn.0.as_secs_f64() * 1000.0,
            longest_turn: broker.longest_turn.1.clone(),
            day: searches.reduce(HistoryRead::worst).unwrap_or_default(),
            fetch_pages: some.iter().map(|topic| fetched(broker, topic)).max().unwrap_or_default(),
            compacted_bytes: broker.compacted_bytes,
            written_bytes: broker.shipped.1 * u64::from(load.run_bytes),
        }
    }
}

/// How many pages there are of each height.
fn by_height(pages: impl Iterator<Item = Arc<PageEntry>>) -> Vec<usize> {
    let mut counts = Vec::new();
    for page in pages {
        let height = usize::from(page.height);
        counts.resize(counts.len().max(height + 1), 0);
        counts[height] += 1;
    }
    counts
}

/// All pages of a topic's history.
fn pages(broker: &Broker, topic: &TopicState) -> Vec<Arc<PageEntry>> {
    let mut ahead: Vec<Arc<PageEntry>> = topic.pages.iter().cloned().collect();
    let mut pages = Vec::new();
    while let Some(page) = ahead.pop() {
        if page.height > 0
            && let Page::Pages(below) = block_on(broker.catalog.page(topic.id, &page)).unwrap()
        {
            ahead.extend(below.iter().cloned());
        }
        pages.push(page);
    }
    pages
}

/// A search over a day of a topic: the pages that it reads, and what it finds in them.
fn searched(broker: &Broker, topic: &TopicState, day: i64) -> HistoryRead {
    let times = BEGIN + day * DAY_MS..=BEGIN + (day + 1) * DAY_MS - 1;
    let admits = |page: &PageEntry| {
        page.bounds.partitions.iter().any(|bounds| overlap(&times, bounds.times.earliest, bounds.times.latest))
    };
    let mut walk = broker.catalog.walk(topic.id, topic.pages.iter().cloned(), admits);
    let (mut pages, mut archives, mut segments) = (0, HashSet::new(), HashSet::new());
    while let Some((_, page)) = block_on(walk.next()).unwrap() {
        pages += 1;
        if let Page::Runs(runs) = page {
            archives.extend(archives_of(&runs, &times));
            segments.extend(segments_of(&runs, &times));
        }
    }
    HistoryRead { pages, archives: archives.len(), segments: segments.len() }
}

fn overlap(times: &RangeInclusive<Timestamp>, earliest: Timestamp, latest: Timestamp) -> bool {
    earliest <= *times.end() && *times.start() <= latest
}

fn archives_of(runs: &TopicRuns, times: &RangeInclusive<Timestamp>) -> Vec<String> {
    let is_of_day = |run: &ArchiveRun| {
        run.min_timestamp.zip(run.max_timestamp).is_some_and(|(earliest, latest)| overlap(times, earliest, latest))
    };
    let archives = runs.archives.iter().filter(|archive| archive.runs.iter().any(is_of_day));
    archives.map(|archive| archive.key.clone()).collect()
}

fn segments_of(runs: &TopicRuns, times: &RangeInclusive<Timestamp>) -> Vec<String> {
    let runs_of_day = runs
        .partitions
        .iter()
        .flat_map(|partition| &partition.runs)
        .filter(|run| overlap(times, run.times.earliest, run.times.latest));
    let named: HashSet<u32> = runs_of_day.map(|run| run.segment).collect();
    named.into_iter().map(|segment| runs.segments[segment as usize].key.clone()).collect()
}

/// Pages that a fetch of an old offset reads, at the most.
fn fetched(broker: &Broker, topic: &TopicState) -> usize {
    let top: Vec<Arc<PageEntry>> = topic.pages.iter().cloned().collect();
    let last = topic.partitions.len() - 1;
    let places = [0, last / 2, last].into_iter().flat_map(|number| {
        let closed = topic.partitions[number].closed.to;
        [0, closed / 3, closed - 1].map(|offset| (number as PartitionId, offset))
    });
    let reads = |(partition, offset)| {
        let before = broker.bucket.reads();
        block_on(broker.catalog.leaf_at(topic.id, &top, partition, offset)).unwrap();
        broker.bucket.reads() - before
    };
    places.map(reads).max().unwrap_or_default()
}
