//! Which segments are registered, by the names that the state holds and those in its newest lists.

use std::collections::HashSet;

use chronik_format::ids::{LogIndex, Timestamp};
use chronik_format::names::{SegmentListName, SegmentName};
use chronik_format::segment_list::{SegmentList, SegmentListError};
use chronik_store::{Store, StoreError};
use ulid::Ulid;

use crate::state::segments::RegisteredSegments;

/// Lists that are read, at most: with 4,096 segments each some 20 MB, as long as the bucket is looked through.
const LISTS_READ_MAX: usize = 128;

/// The names as of one state. It must stay the same for a whole look: what a list takes from it meanwhile would be in
/// neither.
pub struct SegmentNames {
    /// The oldest one; what begins later and ends up to `to` is registered only if it is among `segments`.
    oldest: Option<SegmentName>,
    to: LogIndex,
    /// What ends before it is deleted, and registered no more.
    begin: LogIndex,
    segments: HashSet<Ulid>,
    lists: HashSet<Ulid>,
}

impl SegmentNames {
    /// Those that are in no list, and those in lists that were written since. Lists before one that is gone or damaged
    /// are not read: their segments count as registered, whatever they are.
    pub async fn of(registered: &RegisteredSegments, store: &dyn Store, since: Timestamp) -> Result<Self, StoreError> {
        let unlisted: Vec<SegmentName> =
            registered.unlisted().map_while(|(_, segment)| segment.key.parse().ok()).collect();
        let list_name = |object: &str| Some(object.parse::<SegmentListName>().ok()?.ulid);
        let mut names = Self {
            oldest: unlisted.first().copied(),
            to: unlisted.last().map_or(registered.listed_index(), |newest| newest.last),
            begin: registered.begin(),
            segments: unlisted.iter().map(|name| name.ulid).collect(),
            lists: registered.lists().iter().filter_map(|list| list_name(&list.object)).collect(),
        };
        let lists = registered.lists().iter().rev().take_while(|list| list.written_at >= since);
        for list in lists.take(LISTS_READ_MAX) {
            match SegmentList::read(store, list).await {
                Ok(SegmentList { segments, .. }) => {
                    names.oldest = segments.first().map(|segment| segment.name);
                    names.segments.extend(segments.iter().map(|segment| segment.name.ulid));
                }
                Err(SegmentListError::Store(error)) if !matches!(error, StoreError::NotFound { .. }) => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::warn!("{error}; unknown segments up to index {} are not looked for", list.last);
                    break;
                }
            }
        }
        Ok(names)
    }

    /// Whether a segment is registered, or may be.
    pub fn may_have(&self, name: &SegmentName) -> bool {
        let is_among = self.oldest.is_some_and(|oldest| oldest.first <= name.first) && name.last <= self.to;
        let is_told = is_among || name.last < self.begin;
        !is_told || self.segments.contains(&name.ulid)
    }

    /// Whether there is such a list.
    pub fn has_list(&self, name: &SegmentListName) -> bool {
        self.lists.contains(&name.ulid)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use chronik_format::ids::{Incarnation, LaneId};
    use chronik_format::segment_list::SegmentListEntry;
    use chronik_store::memory;

    use super::*;
    use crate::state::LaneState;
    use crate::state::command::{Command, ListSegments, RegisterSegment};

    fn name(first: LogIndex, last: LogIndex, ulid: u128) -> SegmentName {
        SegmentName { lane: LaneId(0), incarnation: Incarnation(1), first, last, ulid: Ulid(ulid) }
    }

    #[tokio::test]
    async fn only_what_lies_among_the_segments_that_are_looked_for_is_unknown() {
        let mut state = LaneState::new(Incarnation(1));
        state.begin_frame(10);
        for (first, last) in [(1, 2), (3, 4), (5, 6), (7, 8)] {
            let segment = RegisterSegment {
                incarnation: Incarnation(1),
                first,
                last,
                key: name(first, last, 1).to_string(),
                size: 1,
                crc: 0,
                directory_position: 0,
                named_at: 0,
                at: 0,
                runs: vec![],
            };
            state.adopt_segment(&segment).unwrap();
        }
        let list = SegmentListEntry { first: 1, last: 4, segments: 2, written_at: 5, ..Default::default() };
        state.apply(&Command::ListSegments(ListSegments { list })).unwrap();
        let names = SegmentNames::of(&state.segments, &*memory(), 6).await.unwrap();
        for (why, segment, known) in [
            ("one that is registered", name(5, 6, 1), true),
            ("a copy of it", name(5, 6, 2), false),
            ("with other borders", name(6, 7, 2), false),
            ("one of an older list", name(3, 4, 1), true),
            ("a copy of that", name(3, 4, 2), true),
            ("one that begins there", name(4, 6, 2), true),
            ("one that follows", name(9, 10, 2), true),
            ("one that ends there", name(8, 9, 2), true),
        ] {
            assert_eq!(names.may_have(&segment), known, "{why}");
        }
    }
}
