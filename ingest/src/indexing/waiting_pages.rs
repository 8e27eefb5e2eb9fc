//! What waits in pages: runs that were closed before they had an archive. They are read from the oldest on, a bounded
//! part of them at a time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use chronik_format::catalog::{CatalogError, CatalogReader, Page, PageEntry, SegmentEntry, TopicRuns};
use chronik_format::ids::Timestamp;
use chronik_format::names::SegmentName;

use super::job_planner::{InputSegment, PendingRun};
use crate::read_failures::ReadFailures;
use crate::state::topic::TopicState;
use crate::state::{LaneState, RunKey};

/// How much is in jobs at the same time.
#[derive(Clone, Copy, Debug)]
pub struct WaitingLimits {
    /// Runs of the oldest pages, about.
    pub runs: usize,
    /// Pages that are read in one look.
    pub reads: usize,
}

impl Default for WaitingLimits {
    fn default() -> Self {
        Self { runs: 64 * 1024, reads: 64 }
    }
}

/// The oldest leaves of all topics in which something waits.
pub struct WaitingPages {
    limits: WaitingLimits,
    /// By object name.
    leaves: HashMap<String, WaitingLeaf>,
    failures: ReadFailures,
}

struct WaitingLeaf {
    runs: Vec<RunKey>,
    /// When the oldest of them was shipped, ms since the epoch.
    since: Timestamp,
}

/// What was found in one look.
#[derive(Default)]
pub struct WaitingLook {
    /// What waits in leaves that were read, each by itself.
    pub leaves: Vec<Vec<PendingRun>>,
    /// Whether a next look reads on at once.
    pub is_cut: bool,
}

impl WaitingPages {
    /// Nothing was read yet.
    pub fn new(limits: WaitingLimits) -> Self {
        Self { limits, leaves: HashMap::new(), failures: ReadFailures::default() }
    }

    /// The runs that wait in what was read.
    pub fn runs(&self) -> impl Iterator<Item = RunKey> {
        self.leaves.values().flat_map(|leaf| leaf.runs.iter().copied())
    }

    /// When the oldest of them was shipped, ms since the epoch.
    pub fn since(&self) -> Option<Timestamp> {
        self.leaves.values().map(|leaf| leaf.since).min()
    }

    /// Reads the oldest leaves but those of which all that waits is in the jobs that are out.
    pub async fn look(&mut self, catalog: &CatalogReader, state: &LaneState, out: &HashSet<RunKey>) -> WaitingLook {
        let mut known = std::mem::take(&mut self.leaves);
        let (mut ahead, mut look) = (waiting_at_top(state), WaitingLook::default());
        let (mut runs, mut reads, mut is_known_still) = (0, 0, false);
        while let Some((topic, page)) = ahead.pop().filter(|_| runs < self.limits.runs) {
            if page.bounds.waiting.runs == 0 {
                continue;
            }
            if let Some(leaf) = known.remove(&page.object)
                && leaf.runs.iter().all(|run| out.contains(run))
            {
                runs += leaf.runs.len();
                self.leaves.insert(page.object.clone(), leaf);
                continue;
            }
            if page.height == 0 && reads == self.limits.reads {
                look.is_cut = true;
                break;
            }
            match catalog.page(topic.id, &page).await {
                Ok(Page::Pages(below)) => ahead.extend(below.iter().rev().map(|page| (topic, page.clone()))),
                Ok(Page::Runs(leaf)) => {
                    reads += 1;
                    let waiting = waiting_in(topic, &page, &leaf);
                    runs += waiting.len();
                    self.leaves.insert(page.object.clone(), WaitingLeaf::of(&waiting));
                    look.leaves.push(waiting);
                }
                Err(error) => {
                    is_known_still |= matches!(error, CatalogError::Store(_)) && !error.is_missing();
                    self.tell(&format!("what waits for an archive in {} is not indexed: {error}", page.object));
                }
            }
        }
        if is_known_still || look.is_cut {
            self.leaves.extend(known);
        }
        look
    }

    fn tell(&self, failure: &str) {
        if self.failures.is_news(failure, Instant::now()) {
            tracing::warn!("{failure}");
        }
    }
}

impl WaitingLeaf {
    fn of(runs: &[PendingRun]) -> Self {
        let since = runs.iter().map(|run| run.registered_at).min().unwrap_or(Timestamp::MAX);
        Self { runs: runs.iter().map(PendingRun::key).collect(), since }
    }
}

/// The pages at the top of topics that are searched in which something waits, the oldest last.
fn waiting_at_top(state: &LaneState) -> Vec<(&TopicState, Arc<PageEntry>)> {
    let topics = state.topics.values().filter(|topic| topic.config.search_enabled());
    let pages = topics.flat_map(|topic| topic.pages.iter().map(|page| (&**topic, page.clone())));
    let mut waiting: Vec<_> = pages.filter(|(_, page)| page.bounds.waiting.runs > 0).collect();
    waiting.sort_by_key(|(topic, page)| (std::cmp::Reverse(page.bounds.last), topic.id));
    waiting
}

fn waiting_in(topic: &TopicState, page: &PageEntry, leaf: &TopicRuns) -> Vec<PendingRun> {
    let input = |segment: &SegmentEntry| {
        let input = InputSegment { key: segment.key.as_str().into(), size: segment.size, crc: segment.crc };
        (input, named_at(segment).unwrap_or(page.written_at))
    };
    let inputs: Vec<(InputSegment, Timestamp)> = leaf.segments.iter().map(input).collect();
    let archived = leaf.archived();
    let runs = leaf.waiting(&archived).filter_map(|(partition, run)| {
        let (segment, registered_at) = inputs.get(run.segment as usize)?.clone();
        let (offsets, bytes) = (run.offsets, run.bytes);
        Some(PendingRun::of(topic, partition, offsets, bytes, segment, registered_at))
    });
    runs.collect()
}

fn named_at(segment: &SegmentEntry) -> Option<Timestamp> {
    let name: SegmentName = segment.key.parse().ok()?;
    i64::try_from(name.ulid.timestamp_ms()).ok()
}
