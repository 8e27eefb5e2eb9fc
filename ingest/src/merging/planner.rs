//! Which leaves have their archives merged, and when: a pure function of the state. An archive is merged once when its
//! runs were compacted, and once more if they are compacted again: twice at the most.

use std::sync::Arc;

use chronik_format::catalog::PageEntry;
use chronik_format::ids::Timestamp;
use chronik_format::job::{JobKind, JobPage, MergeJob, VERSION};
use chronik_format::origin::Origin;

use crate::compaction::CompactionScope;
use crate::compaction::planner::{LEVELS, is_day_over};
use crate::state::LaneState;
use crate::state::topic::TopicState;

/// The pages at the top below which archives are to be merged, or that are leaves of such themselves, the oldest last.
pub fn at_top(state: &LaneState, scope: CompactionScope) -> Vec<(&TopicState, Arc<PageEntry>)> {
    let is_asked = |topic: &&Arc<TopicState>| match scope {
        CompactionScope::Everything(Some(id)) => topic.id == id,
        CompactionScope::Everything(None) | CompactionScope::Due => true,
    };
    let topics = state.topics.values().filter(is_asked).filter(|topic| topic.config.search_enabled());
    let pages = topics.flat_map(|topic| topic.pages.iter().map(|page| (&**topic, page.clone())));
    let mut pages: Vec<_> = pages.filter(|(_, page)| page.bounds.mergeable > 0).collect();
    pages.sort_by_key(|(topic, page)| (std::cmp::Reverse(page.bounds.last), topic.id));
    pages
}

/// Whether a leaf's archives may be merged: no others come to it.
pub fn is_ready(topic: &TopicState, leaf: &PageEntry) -> bool {
    leaf.height == 0 && leaf.bounds.mergeable > 0 && topic.config.search_enabled() && leaf.bounds.waiting.runs == 0
}

/// Whether it is time to: its runs will not be compacted again, or not soon.
pub fn is_due(topic: &TopicState, leaf: &PageEntry, now: Timestamp) -> bool {
    is_ready(topic, leaf) && (leaf.bounds.level >= LEVELS || is_day_over(leaf.closed_at, now))
}

/// How many archives are to be merged, whether it is time or not.
pub fn debt(state: &LaneState) -> u64 {
    let topics = state.topics.values().filter(|topic| topic.config.search_enabled());
    topics.flat_map(|topic| &topic.pages).map(|page| u64::from(page.bounds.mergeable)).sum()
}

/// The message for a leaf of a topic; `None` if there are no records in it.
pub fn job(origin: &Origin, id: &str, topic: &TopicState, leaf: &PageEntry) -> Option<MergeJob> {
    let begins = leaf.bounds.partitions.first()?;
    Some(MergeJob {
        v: VERSION,
        kind: JobKind::Merge,
        cluster: origin.cluster.to_string(),
        incarnation: origin.incarnation,
        lane: origin.lane,
        id: id.into(),
        topic: topic.name.to_string(),
        topic_id: topic.id,
        page: JobPage { key: leaf.object.clone(), size: leaf.size, crc: leaf.crc },
        partition: begins.partition,
        first: begins.offsets.first,
    })
}
