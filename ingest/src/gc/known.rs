//! Which objects are known: by the lane's state, or by the pages that it names.

use std::collections::HashSet;

use chronik_format::catalog::{CatalogError, CatalogReader, TopicRuns};
use chronik_format::ids::{Timestamp, TopicId};
use chronik_format::names::ArchiveName;
use ulid::Ulid;

use super::DAY_MS;
use super::object::NamedObject;
use crate::state::LaneState;
use crate::state::segments::SegmentId;

/// Archives in pages are looked for this long after they were named, so that a look reads what was closed lately, and
/// not all of history. One that no look has found by then stays.
pub(super) const LOOKED_FOR_MS: i64 = 8 * DAY_MS;
/// The most that an indexer's clock is taken to be ahead of ours: a page is written after its archives were named.
const NAMED_AHEAD_MS: i64 = DAY_MS;

/// What is known, as of one look at the bucket. Names of one topic at a time are kept, as a listing goes by topics.
pub struct KnownObjects<'a> {
    catalog: &'a CatalogReader,
    now: Timestamp,
    names: Option<TopicNames>,
}

/// The archives and pages of a living topic, all that were registered when it was looked at. What came since was named
/// less than six hours before it was registered.
struct TopicNames {
    topic: TopicId,
    ulids: HashSet<Ulid>,
}

impl<'a> KnownObjects<'a> {
    /// As of `now`; pages are read through `catalog`.
    pub fn new(catalog: &'a CatalogReader, now: Timestamp) -> Self {
        Self { catalog, now, names: None }
    }

    /// Whether an object is known, needed or not, or may be. Checkpoints and exports are never in the state.
    pub async fn contains(&mut self, key: &str, object: &NamedObject, state: &LaneState) -> Result<bool, CatalogError> {
        if state.tombstones.contains_key(key) {
            return Ok(true);
        }
        match object {
            NamedObject::Segment(name) => {
                let registered = state.segments.get(SegmentId(name.last));
                Ok(registered.is_some_and(|registered| *registered.key == *key))
            }
            NamedObject::Result(_) => Ok(state.results.contains_key(key)),
            NamedObject::Page(name) => self.names_of(name.topic, name.ulid, state).await,
            NamedObject::Archive(name) if state.topics.contains_key(&name.topic) && self.is_old(name) => Ok(true),
            NamedObject::Archive(name) => self.names_of(name.topic, name.ulid, state).await,
            NamedObject::Checkpoint(_) | NamedObject::Export(_) | NamedObject::Probe(_) => Ok(false),
        }
    }

    fn is_old(&self, name: &ArchiveName) -> bool {
        NamedObject::Archive(*name).named_at().saturating_add(LOOKED_FOR_MS) < self.now
    }

    async fn names_of(&mut self, topic: TopicId, ulid: Ulid, state: &LaneState) -> Result<bool, CatalogError> {
        let names = match self.names.take().filter(|names| names.topic == topic) {
            Some(names) => names,
            None => self.read_names(topic, state).await?,
        };
        let is_known = names.ulids.contains(&ulid);
        self.names = Some(names);
        Ok(is_known)
    }

    async fn read_names(&self, topic: TopicId, state: &LaneState) -> Result<TopicNames, CatalogError> {
        let mut ulids = HashSet::new();
        if let Some(state) = state.topics.get(&topic) {
            ulids.extend(state.archives.keys().filter_map(|key| ulid_of(key)));
            ulids.extend(state.pages.iter().filter_map(|page| ulid_of(&page.object)));
            let since = self.now - LOOKED_FOR_MS - NAMED_AHEAD_MS;
            for page in state.pages.iter().filter(|page| page.written_at >= since) {
                ulids.extend(archives_of(&*self.catalog.page(topic, page).await?));
            }
        }
        Ok(TopicNames { topic, ulids })
    }
}

fn archives_of(runs: &TopicRuns) -> impl Iterator<Item = Ulid> {
    runs.archives.iter().filter_map(|archive| ulid_of(&archive.key))
}

/// Of an archive or a page.
fn ulid_of(key: &str) -> Option<Ulid> {
    match NamedObject::named(key)? {
        NamedObject::Archive(name) => Some(name.ulid),
        NamedObject::Page(name) => Some(name.ulid),
        _ => None,
    }
}
