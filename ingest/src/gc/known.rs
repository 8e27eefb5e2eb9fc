//! Which objects are known: by the lane's state, or by the pages and lists of segments that it names.

use std::collections::HashSet;
use std::sync::Arc;

use chronik_format::catalog::{CatalogError, CatalogReader, Page, PageEntry};
use chronik_format::ids::{Timestamp, TopicId};
use chronik_format::names::PageName;
use ulid::Ulid;

use super::DAY_MS;
use super::object::NamedObject;
use super::segment_names::SegmentNames;
use crate::state::LaneState;
use crate::state::topic::TopicState;

/// What pages and lists of segments name is looked for this long after it was named, so that a look reads what was
/// written lately, and not all of history. What no look has found by then stays.
pub(super) const LOOKED_FOR_MS: i64 = 8 * DAY_MS;
/// The most that an indexer's clock is taken to be ahead of ours: a page is written after what it names was named.
const NAMED_AHEAD_MS: i64 = DAY_MS;

/// What is known, as of one look at the bucket. Names of one topic at a time are kept, as a listing goes by topics.
pub struct KnownObjects {
    catalog: Arc<CatalogReader>,
    now: Timestamp,
    segments: SegmentNames,
    names: Option<TopicNames>,
}

/// The archives, pages and own segments of a living topic, all that were registered when it was looked at and are
/// looked for. What came since was named less than six hours before it was registered.
struct TopicNames {
    topic: TopicId,
    ulids: HashSet<Ulid>,
}

impl KnownObjects {
    /// As of `now`; pages are read through `catalog`.
    pub fn new(catalog: Arc<CatalogReader>, segments: SegmentNames, now: Timestamp) -> Self {
        Self { catalog, now, segments, names: None }
    }

    /// Whether an object is known, needed or not, or may be. Checkpoints and exports are never in the state.
    pub async fn contains(&mut self, key: &str, object: &NamedObject, state: &LaneState) -> Result<bool, CatalogError> {
        if state.tombstones.contains_key(key) {
            return Ok(true);
        }
        let (topic, ulid) = match object {
            NamedObject::Segment(name) => return Ok(self.segments.may_have(name)),
            NamedObject::SegmentList(name) => return Ok(self.segments.has_list(name)),
            NamedObject::Result(_) => return Ok(state.results.contains_key(key)),
            NamedObject::Page(name) => (name.topic, name.ulid),
            NamedObject::TopicSegment(name) => (name.topic, name.ulid),
            NamedObject::Archive(name) => (name.topic, name.ulid),
            NamedObject::Checkpoint(_) | NamedObject::Export(_) | NamedObject::Probe(_) => return Ok(false),
        };
        match state.topics.get(&topic) {
            None => Ok(has_tombstoned_pages(state, topic)),
            Some(_) if object.named_at().saturating_add(LOOKED_FOR_MS) < self.now => Ok(true),
            Some(topic) => self.names(topic, ulid).await,
        }
    }

    async fn names(&mut self, topic: &TopicState, ulid: Ulid) -> Result<bool, CatalogError> {
        let names = match self.names.take().filter(|names| names.topic == topic.id) {
            Some(names) => names,
            None => self.read_names(topic).await?,
        };
        let is_known = names.ulids.contains(&ulid);
        self.names = Some(names);
        Ok(is_known)
    }

    /// A page that was written before names nothing that is looked for, nor do those below it.
    async fn read_names(&self, topic: &TopicState) -> Result<TopicNames, CatalogError> {
        let since = self.now - LOOKED_FOR_MS - NAMED_AHEAD_MS;
        let mut ulids: HashSet<Ulid> = topic.archives.keys().filter_map(|key| ulid_of(key)).collect();
        let written_since = |page: &PageEntry| page.written_at >= since;
        let mut pages = self.catalog.walk(topic.id, topic.pages.iter().cloned(), written_since);
        while let Some((entry, page)) = pages.next().await? {
            ulids.extend(ulid_of(&entry.object));
            if let Page::Runs(runs) = page {
                let segments = runs.segments.iter().map(|segment| &segment.key);
                let named = runs.archives.iter().map(|archive| &archive.key).chain(segments);
                ulids.extend(named.filter_map(|key| ulid_of(key)));
            }
        }
        Ok(TopicNames { topic: topic.id, ulids })
    }
}

/// Whether a deleted topic still has pages that take along what they name, once no reader looks for it.
fn has_tombstoned_pages(state: &LaneState, topic: TopicId) -> bool {
    let prefix = PageName::prefix(topic);
    state.tombstones.range(prefix.clone()..).next().is_some_and(|(object, _)| object.starts_with(&prefix))
}

/// Of an archive, a page, or a segment of a topic.
fn ulid_of(key: &str) -> Option<Ulid> {
    match NamedObject::named(key)? {
        NamedObject::Archive(name) => Some(name.ulid),
        NamedObject::Page(name) => Some(name.ulid),
        NamedObject::TopicSegment(name) => Some(name.ulid),
        _ => None,
    }
}
