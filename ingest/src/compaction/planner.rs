//! Which pages are compacted together: adjacent leaves of the same level, by size tiers. Each batch is written anew
//! once, so that the segment that it was shipped in, with those of others, is needed no more; and once again where its
//! runs are small. Of what lies at the top of a topic's history a pure function of the state, of what lies below other
//! pages one of the leaves below one of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_format::catalog::PageEntry;
use chronik_format::ids::{Offset, PartitionId, Timestamp, TopicId};
use chronik_format::job::{CompactJob, JobKind, JobPage, RecordPlace, VERSION};
use chronik_format::origin::Origin;
use serde::Serialize;

use super::CompactionLimits;
use crate::state::LaneState;
use crate::state::topic::TopicState;

/// How often batches are compacted.
pub const LEVELS: u8 = 2;
/// Pages of a job, whatever is in them.
const PAGES_MAX: usize = 64;
/// Archives of a job's pages times the partitions they may be over: what the new page holds of them, some 25 bytes
/// each.
const ARCHIVED_MAX: u64 = 200_000;
/// Starts of logs in a job, some 40 bytes each. What lies below others is written anew like what lives.
const LOG_STARTS_MAX: usize = 2048;
/// A day is over so long after its end: what was closed late is among its pages.
const DAY_ENDS_MS: i64 = 10 * 60 * 1000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// How a page may be compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageTurn {
    /// With others.
    Free,
    /// Not with others: a job that it was in has failed.
    Alone,
    /// Not now: it is in a job, or jobs over it have failed too often.
    Out,
}

/// Pages that are compacted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactionGroup {
    pub topic: TopicId,
    /// From the oldest to the newest.
    pub pages: Vec<Arc<PageEntry>>,
}

/// What was never compacted, whether it is time or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CompactionDebt {
    pub pages: u64,
    pub runs: u64,
    pub bytes: u64,
    /// When the oldest of these pages was closed, ms since the epoch; of those below one page, the newest of them.
    pub oldest_closed_at: Option<Timestamp>,
}

/// What is to be compacted now, as of `now`, at the top; or all that there is to be gained, if `everything` is asked
/// for.
pub fn plan(
    state: &LaneState,
    limits: CompactionLimits,
    now: Timestamp,
    mut turn: impl FnMut(&PageEntry) -> PageTurn,
    everything: bool,
) -> Vec<CompactionGroup> {
    let topics = state.topics.len();
    let plan = |topic: &Arc<TopicState>| {
        let Grouped { full, open } = grouped(topic, limits, &topic.pages, Below::Nothing, &mut turn);
        let due = open.into_iter().filter(|group| everything || group.is_due(limits, topics, now));
        gains(topic, full.into_iter().chain(due))
    };
    state.topics.values().flat_map(plan).collect()
}

/// What is to be compacted of the leaves below one page: all that never was.
pub fn plan_below(
    topic: &TopicState,
    limits: CompactionLimits,
    leaves: &[Arc<PageEntry>],
    mut turn: impl FnMut(&PageEntry) -> PageTurn,
) -> Vec<CompactionGroup> {
    let Grouped { full, open } = grouped(topic, limits, leaves, Below::Another, &mut turn);
    gains(topic, full.into_iter().chain(open))
}

fn gains(topic: &TopicState, groups: impl Iterator<Item = Group>) -> Vec<CompactionGroup> {
    let gained = groups.filter_map(Group::gain);
    gained.map(|pages| CompactionGroup { topic: topic.id, pages }).collect()
}

/// What the pages that are grouped lie below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Below {
    Nothing,
    Another,
}

/// Pages that follow one another, in groups.
struct Grouped {
    full: Vec<Group>,
    /// Those that others may join: the newest of each level.
    open: Vec<Group>,
}

fn grouped<'a>(
    topic: &TopicState,
    limits: CompactionLimits,
    pages: impl IntoIterator<Item = &'a Arc<PageEntry>>,
    below: Below,
    turn: &mut impl FnMut(&PageEntry) -> PageTurn,
) -> Grouped {
    let (mut full, mut before, mut open) = (Vec::new(), Vec::new(), Group::default());
    for page in pages {
        let level = page.bounds.level;
        let is_above = |group: &Group| group.level() > Some(level);
        // What is followed by pages of lower levels alone is joined by what comes of them.
        let (above, ended): (Vec<Group>, Vec<Group>) = before.into_iter().partition(is_above);
        before = above;
        full.extend(ended);
        let is_wanted = limits.wants(page, below) && !waits(topic, page) && !topic.is_all_deleted(&page.bounds);
        let turn = if is_wanted { turn(page) } else { PageTurn::Out };
        let goes_on = turn == PageTurn::Free && open.takes(page, limits, below);
        if !goes_on {
            let group = std::mem::take(&mut open);
            let groups = if is_above(&group) { &mut before } else { &mut full };
            groups.push(group);
        }
        match turn {
            PageTurn::Free => open.add(page),
            PageTurn::Alone => full.push(Group::of(page)),
            PageTurn::Out => {}
        }
    }
    before.push(open);
    Grouped { full, open: before }
}

/// Whether archives are still to come over a page: each is put into it, and a job over it would be overtaken.
fn waits(topic: &TopicState, page: &PageEntry) -> bool {
    topic.config.search_enabled() && page.bounds.waiting.runs > 0
}

/// What of a state was never compacted.
pub fn debt(state: &LaneState) -> CompactionDebt {
    let pages = state.topics.values().flat_map(|topic| &topic.pages);
    let uncompacted = pages.map(|page| (page.bounds.uncompacted, page.closed_at)).filter(|(debt, _)| debt.pages > 0);
    uncompacted.fold(CompactionDebt::default(), |debt, (more, closed_at)| CompactionDebt {
        pages: debt.pages + more.pages,
        runs: debt.runs + more.runs,
        bytes: debt.bytes.saturating_add(more.bytes),
        oldest_closed_at: Some(debt.oldest_closed_at.map_or(closed_at, |oldest| oldest.min(closed_at))),
    })
}

impl CompactionLimits {
    /// Whether a page is a leaf that was never compacted; or, at the top, one of small runs that may be once more.
    fn wants(&self, page: &PageEntry, below: Below) -> bool {
        let bounds = &page.bounds;
        let is_small = || bounds.bytes < u64::from(bounds.runs) * self.small_run_bytes;
        page.height == 0 && (bounds.level == 0 || (below == Below::Nothing && bounds.level < LEVELS && is_small()))
    }
}

/// Pages that may be compacted together.
#[derive(Debug, Default)]
struct Group {
    pages: Vec<Arc<PageEntry>>,
    bytes: u64,
    archived: u64,
}

impl Group {
    fn of(page: &Arc<PageEntry>) -> Self {
        let mut group = Self::default();
        group.add(page);
        group
    }

    fn add(&mut self, page: &Arc<PageEntry>) {
        self.bytes = self.bytes.saturating_add(page.bounds.bytes);
        self.archived += archived(page);
        self.pages.push(page.clone());
    }

    fn level(&self) -> Option<u8> {
        self.pages.first().map(|page| page.bounds.level)
    }

    /// Whether a page that follows goes with these: within a day, unless they are small, and have been gathered before
    /// or will not be again.
    fn takes(&self, page: &PageEntry, limits: CompactionLimits, below: Below) -> bool {
        let Some(last) = self.pages.last() else { return true };
        let bytes = self.bytes.saturating_add(page.bounds.bytes);
        let is_of_day = day(last.closed_at) == day(page.closed_at);
        let is_small = bytes < limits.enough_bytes && (page.bounds.level > 0 || below == Below::Another);
        last.bounds.level == page.bounds.level
            && (is_of_day || is_small)
            && bytes <= limits.job_bytes
            && self.pages.len() < PAGES_MAX
            && self.archived + archived(page) <= ARCHIVED_MAX
    }

    /// Whether the newest pages of a topic, one of so many, are enough though others may follow: small ones, the first
    /// time, once they would be folded, or their day is over.
    fn is_due(&self, limits: CompactionLimits, topics: usize, now: Timestamp) -> bool {
        let Some(last) = self.pages.last() else { return false };
        let fan_out = limits.folding.fan_out_of(last.bounds.partitions.len(), topics);
        let (is_small, is_first) = (self.bytes < limits.enough_bytes, last.bounds.level == 0);
        let is_over = is_day_over(last.closed_at, now);
        let many = if is_small && is_first { fan_out } else { fan_out.min(limits.pages) };
        self.pages.len() >= many || (is_over && (is_first || !is_small))
    }

    /// The pages, if they were never compacted, or fewer runs come of them.
    fn gain(self) -> Option<Vec<Arc<PageEntry>>> {
        let is_first = self.level()? == 0;
        let fewer = self.pages.len() > 1
            || self.pages.iter().any(|page| page.bounds.runs as usize > page.bounds.partitions.len());
        (is_first || fewer).then_some(self.pages)
    }
}

fn archived(page: &PageEntry) -> u64 {
    u64::from(page.bounds.archives) * page.bounds.partitions.len() as u64
}

/// Whether the day in which something was closed is over.
pub fn is_day_over(closed_at: Timestamp, now: Timestamp) -> bool {
    day(closed_at) < day(now - DAY_ENDS_MS)
}

fn day(at: Timestamp) -> i64 {
    at.div_euclid(DAY_MS)
}

/// The message for pages of one topic.
pub fn job(origin: &Origin, id: &str, topic: &TopicState, pages: &[Arc<PageEntry>]) -> CompactJob {
    let page = |page: &Arc<PageEntry>| JobPage { key: page.object.clone(), size: page.size, crc: page.crc };
    let first = pages.first().and_then(|page| page.bounds.partitions.first());
    let place = first.map(|first| RecordPlace { partition: first.partition, offset: first.offsets.first });
    CompactJob {
        v: VERSION,
        kind: JobKind::Compact,
        cluster: origin.cluster.to_string(),
        incarnation: origin.incarnation,
        lane: origin.lane,
        id: id.into(),
        topic: topic.name.to_string(),
        topic_id: topic.id,
        pages: pages.iter().map(page).collect(),
        place: place.unwrap_or_default(),
        log_starts: log_starts_in(topic, pages),
        epoch: epoch_of(topic, pages),
    }
}

/// Where logs start that begin within some pages, or behind them.
fn log_starts_in(topic: &TopicState, pages: &[Arc<PageEntry>]) -> Vec<RecordPlace> {
    let mut firsts: BTreeMap<PartitionId, Offset> = BTreeMap::new();
    for bounds in pages.iter().flat_map(|page| &page.bounds.partitions) {
        firsts.entry(bounds.partition).or_insert(bounds.offsets.first);
    }
    let start = |(partition, first): (PartitionId, Offset)| {
        let offset = topic.partition(partition)?.log_start;
        (first < offset).then_some(RecordPlace { partition, offset })
    };
    firsts.into_iter().filter_map(start).take(LOG_STARTS_MAX).collect()
}

/// The leader epoch of all batches in some pages, if they have the same one. Of what is deleted none is known.
fn epoch_of(topic: &TopicState, pages: &[Arc<PageEntry>]) -> Option<i32> {
    let mut sole = None;
    for bounds in pages.iter().flat_map(|page| &page.bounds.partitions) {
        let epochs = &topic.partition(bounds.partition)?.epochs;
        let behind = epochs.iter().skip(1).map(|(_, start)| Some(*start)).chain([None]);
        for ((epoch, start), end) in epochs.iter().zip(behind) {
            let overlaps = *start <= bounds.offsets.last && end.is_none_or(|end| end > bounds.offsets.first);
            if overlaps && *sole.get_or_insert(*epoch) != *epoch {
                return None;
            }
        }
    }
    sole
}
