//! Which pages are compacted together. A pure function of the state: adjacent leaves whose runs are small, of the same
//! level, by size tiers: each batch is written anew twice at the most.

use std::sync::Arc;

use chronik_format::catalog::PageEntry;
use chronik_format::ids::{Timestamp, TopicId};
use chronik_format::job::{CompactJob, JobKind, JobPage, VERSION};
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

/// What waits to be compacted, whether it is time or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CompactionDebt {
    pub pages: usize,
    pub runs: u64,
    pub bytes: u64,
    /// When the oldest of these pages was closed, ms since the epoch.
    pub oldest_closed_at: Option<Timestamp>,
}

/// What is to be compacted now, as of `now`; or all that there is to be gained, if `everything` is asked for.
pub fn plan(
    state: &LaneState,
    limits: CompactionLimits,
    now: Timestamp,
    turn: impl Fn(&PageEntry) -> PageTurn,
    everything: bool,
) -> Vec<CompactionGroup> {
    let topics = state.topics.len();
    let plan = |topic: &Arc<TopicState>| plan_topic(topic, limits, topics, now, &turn, everything);
    state.topics.values().flat_map(plan).collect()
}

fn plan_topic(
    topic: &TopicState,
    limits: CompactionLimits,
    topics: usize,
    now: Timestamp,
    turn: &impl Fn(&PageEntry) -> PageTurn,
    everything: bool,
) -> Vec<CompactionGroup> {
    let mut groups = Vec::new();
    let mut open = Group::default();
    for page in &topic.pages {
        let turn = if limits.wants(page) && !waits(topic, page) { turn(page) } else { PageTurn::Out };
        let goes_on = turn == PageTurn::Free && open.takes(page, limits);
        if !goes_on {
            groups.extend(std::mem::take(&mut open).gain());
        }
        match turn {
            PageTurn::Free => open.add(page),
            PageTurn::Alone => groups.extend(Group::of(page).gain()),
            PageTurn::Out => {}
        }
    }
    if everything || open.is_due(limits, topics, now) {
        groups.extend(open.gain());
    }
    groups.into_iter().map(|pages| CompactionGroup { topic: topic.id, pages }).collect()
}

/// Whether archives are still to come over a page: each is put into it, and a job over it would be overtaken.
fn waits(topic: &TopicState, page: &PageEntry) -> bool {
    topic.config.search_enabled() && page.bounds.waiting.runs > 0
}

/// What of a state there is to compact.
pub fn debt(state: &LaneState, limits: CompactionLimits) -> CompactionDebt {
    let pages = state.topics.values().flat_map(|topic| &topic.pages);
    pages.filter(|page| limits.wants(page)).fold(CompactionDebt::default(), |debt, page| CompactionDebt {
        pages: debt.pages + 1,
        runs: debt.runs + u64::from(page.bounds.runs),
        bytes: debt.bytes.saturating_add(page.bounds.bytes),
        oldest_closed_at: Some(debt.oldest_closed_at.map_or(page.closed_at, |oldest| oldest.min(page.closed_at))),
    })
}

impl CompactionLimits {
    /// Whether a page is a leaf of small runs that may be compacted once more.
    fn wants(&self, page: &PageEntry) -> bool {
        let bounds = &page.bounds;
        page.height == 0 && bounds.level < LEVELS && bounds.bytes < u64::from(bounds.runs) * self.small_run_bytes
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

    /// Whether a page that follows goes with these: within a day, unless they are small and have been gathered before.
    fn takes(&self, page: &PageEntry, limits: CompactionLimits) -> bool {
        let Some(last) = self.pages.last() else { return true };
        let bytes = self.bytes.saturating_add(page.bounds.bytes);
        let is_of_day = day(last.closed_at) == day(page.closed_at);
        let is_small = page.bounds.level > 0 && bytes < limits.enough_bytes;
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

    /// The pages, if fewer runs come of them.
    fn gain(self) -> Option<Vec<Arc<PageEntry>>> {
        let fewer = self.pages.len() > 1
            || self.pages.iter().any(|page| page.bounds.runs as usize > page.bounds.partitions.len());
        fewer.then_some(self.pages)
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
        epoch: epoch_of(topic, pages),
    }
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
