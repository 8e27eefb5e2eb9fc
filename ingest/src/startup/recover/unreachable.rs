//! Whether the registered segments are in the bucket, as far as the state holds them one by one and needs them.
//!
//! A checkpoint says what was registered, not what was removed or cut since. Names and sizes do. The newest segments
//! are listed, folder by folder, without a request for each: a listing for every 1,000 of them, and one at least for
//! each of the folders that they are spread over. Older ones are held because of open runs; they are listed, too, or
//! asked for one by one, whichever takes fewer requests. So it takes no longer the longer history is. What is older is
//! named when it is read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::{fmt, iter};

use chronik_format::catalog::PartitionBounds;
use chronik_format::ids::{LaneId, LogIndex, Offset, PartitionId};
use chronik_format::names::SegmentName;
use chronik_format::span::OffsetSpan;
use chronik_store::{PAGE_OBJECTS_MAX, SharedStore, StoreError};
use futures::{StreamExt, TryStreamExt, stream};

use super::segments::LISTINGS_AT_ONCE;
use crate::state::LaneState;
use crate::state::segments::{RegisteredSegment, RegisteredSegments, SegmentId};
use crate::state::topic::TopicState;

/// A segment that is not there as it was, in words.
type Differing = (SegmentId, String);

/// How many segments, and how many ranges, are listed in full.
const LISTED: usize = 20;

/// Registered segments that are gone or have another size, and the records in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreachableSegments {
    segments: Listed,
    ranges: Listed,
    held: usize,
}

/// The first few in words, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    first: Vec<String>,
    count: usize,
}

impl UnreachableSegments {
    /// Compares the segments that the state holds with the bucket; `None` if all are there.
    pub async fn of(store: &SharedStore, lane: LaneId, state: &LaneState) -> Result<Option<Self>, StoreError> {
        let listed_from = listed_from(&state.segments);
        let held = state.segments.held().filter(|(SegmentId(last), _)| state.segments.needed_from() <= *last);
        let held = held.map(|(_, segment)| segment.clone());
        let (listed, asked): (Vec<_>, Vec<_>) = held.partition(|segment| segment.first >= listed_from);
        let held = listed.len() + asked.len();
        let mut differing = differing_from_listings(store, lane, listed).await?;
        differing.extend(differing_by_info(store, asked).await?);
        if differing.is_empty() {
            return Ok(None);
        }
        differing.sort_unstable();
        let lost: BTreeSet<SegmentId> = differing.iter().map(|(id, _)| *id).collect();
        let mut segments = Listed::default();
        differing.into_iter().for_each(|(_, words)| segments.add(|| words));
        let mut ranges = Listed::default();
        state.topics.values().for_each(|topic| add_ranges(&mut ranges, topic, &lost));
        Ok(Some(Self { segments, ranges, held }))
    }
}

/// From which log index on segments are listed, for the fewest requests: from an earlier one more of those that are
/// held are met, among all that there are.
fn listed_from(segments: &RegisteredSegments) -> LogIndex {
    let unlisted = segments.listed_index() + 1;
    let older: Vec<LogIndex> =
        segments.held().map(|(SegmentId(last), _)| last).take_while(|last| *last < unlisted).collect();
    let mut listed = 0;
    let from_lists = segments.lists().iter().rev().map(|list| {
        listed += list.segments as usize;
        let asked = older.partition_point(|last| *last < list.first);
        (asked + listed / PAGE_OBJECTS_MAX, list.first)
    });
    let from = iter::once((older.len(), unlisted)).chain(from_lists).min_by_key(|(requests, _)| *requests);
    from.map_or(unlisted, |(_, first)| first)
}

/// Those that are not in the listings as they were, and how they differ.
async fn differing_from_listings(
    store: &SharedStore,
    lane: LaneId,
    held: Vec<Arc<RegisteredSegment>>,
) -> Result<Vec<Differing>, StoreError> {
    let mut folders: BTreeMap<u64, Vec<Arc<RegisteredSegment>>> = BTreeMap::new();
    for segment in held {
        folders.entry(segment.first % SegmentName::FOLDERS).or_default().push(segment);
    }
    let listed = stream::iter(folders).map(|(number, segments)| async move {
        let folder = SegmentName::folder(lane, number);
        let after = segments.first().map(|oldest| SegmentName::before(&folder, oldest.incarnation, oldest.first));
        let objects = store.list_after(&folder, &after.unwrap_or_default()).await?;
        let sizes: HashMap<&str, u64> = objects.iter().map(|object| (object.key.as_str(), object.size)).collect();
        let differing = segments.iter().filter_map(|segment| difference(segment, sizes.get(&*segment.key).copied()));
        Ok(differing.collect())
    });
    listed.buffer_unordered(LISTINGS_AT_ONCE).try_concat().await
}

/// Those that are not there as they were when each is asked for, and how they differ.
async fn differing_by_info(
    store: &SharedStore,
    held: Vec<Arc<RegisteredSegment>>,
) -> Result<Vec<Differing>, StoreError> {
    let asked = stream::iter(held).map(|segment| async move {
        let size = match store.info(&segment.key).await {
            Ok(info) => Some(info.size),
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(difference(&segment, size))
    });
    asked.buffer_unordered(LISTINGS_AT_ONCE).try_filter_map(|differing| async { Ok(differing) }).try_collect().await
}

/// How a segment of which the bucket has so many bytes differs from what was registered, in words.
fn difference(segment: &RegisteredSegment, there: Option<u64>) -> Option<Differing> {
    let RegisteredSegment { last, key, size, .. } = segment;
    let words = match there {
        Some(there) if there == *size => return None,
        Some(there) => format!("{key} ({there} bytes instead of {size})"),
        None => format!("{key} (missing)"),
    };
    Some((SegmentId(*last), words))
}

/// What a topic has in these segments; runs that follow one another are one range. Of what is closed only pages are
/// known here, not their runs.
fn add_ranges(ranges: &mut Listed, topic: &TopicState, lost: &BTreeSet<SegmentId>) {
    let mut first = 0;
    for page in &topic.pages {
        if lost.range(SegmentId(first)..=SegmentId(page.bounds.last)).next().is_some() {
            for PartitionBounds { partition, offsets, .. } in &page.bounds.partitions {
                let OffsetSpan { first, last } = offsets;
                ranges.add(|| format!("some of {} partition {partition} offsets {first} to {last}", topic.name));
            }
        }
        first = page.bounds.last + 1;
    }
    for (partition, known) in (0..).zip(&topic.partitions) {
        let words = |partition: PartitionId, (from, to): (Offset, Offset)| {
            format!("{} partition {partition} offsets {from} to {to}", topic.name)
        };
        let mut open: Option<(Offset, Offset)> = None;
        for run in &known.runs {
            if lost.contains(&run.segment) {
                open = Some((open.map_or(run.offsets.first, |(from, _)| from), run.offsets.last));
            } else if let Some(range) = open.take() {
                ranges.add(|| words(partition, range));
            }
        }
        if let Some(range) = open {
            ranges.add(|| words(partition, range));
        }
    }
}

impl Listed {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn add(&mut self, words: impl FnOnce() -> String) {
        if self.count < LISTED {
            self.first.push(words());
        }
        self.count += 1;
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first.join(", "))?;
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl fmt::Display for UnreachableSegments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segments, ranges, held } = self;
        write!(f, "{} of {held} registered segments are not there as they were: {segments}", segments.count)?;
        match ranges.count {
            0 => write!(f, "; no topic has records in them"),
            _ => write!(f, "; records in them: {ranges}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::ops::RangeInclusive;

    use bytes::Bytes;
    use chronik_format::batch::TimeSpan;
    use chronik_format::ids::{Incarnation, TopicId};
    use chronik_format::segment_list::SegmentListEntry;
    use chronik_format::span::ByteSpan;
    use chronik_store::memory;
    use ulid::Ulid;
    use uuid::Uuid;

    use super::*;
    use crate::state::command::{
        Append, Command, CreateTopic, DeleteRecords, FirstKept, ListSegments, RegisterSegment, SegmentRun,
    };
    use crate::state::topic_config::TopicConfig;

    const LANE: LaneId = LaneId(0);
    const OWN: Incarnation = Incarnation(1);
    const SIZE: u64 = 7;
    const TOPIC: TopicId = TopicId(Uuid::from_u128(1));

    /// Segments of two indices and ten records, of which two partitions take turns of three segments.
    async fn shipped(segments: u64) -> (SharedStore, LaneState) {
        let (store, mut state) = (memory(), LaneState::new(OWN));
        let create = CreateTopic { id: TOPIC, name: "t".into(), partitions: 2, config: TopicConfig::default() };
        state.apply_frame(1, &[Command::CreateTopic(create)])[0].as_ref().unwrap();
        for number in 0..segments {
            let (partition, turn) = ((number / 3 % 2) as PartitionId, number / 6 * 3 + number % 3);
            let (base_offset, last_offset) = (turn as Offset * 10, turn as Offset * 10 + 9);
            let append =
                Append { topic: TOPIC, partition, base_offset, last_offset, position: 0, length: 1, producer: None };
            state.apply_frame(2 * number + 2, &[Command::Append(append)])[0].as_ref().unwrap();
            let (first, last) = (2 * number + 1, 2 * number + 2);
            let name = SegmentName { lane: LANE, incarnation: OWN, first, last, ulid: Ulid::new() };
            store.create(&name.to_string(), vec![Bytes::from_static(b"segment")]).await.unwrap();
            let run = SegmentRun {
                topic: TOPIC,
                partition,
                offsets: OffsetSpan { first: base_offset, last: last_offset },
                bytes: ByteSpan { position: 0, length: 1 },
                times: TimeSpan::at(1),
            };
            state.adopt_segment(&register(name, vec![run])).unwrap();
        }
        (store, state)
    }

    fn register(name: SegmentName, runs: Vec<SegmentRun>) -> RegisterSegment {
        RegisterSegment {
            incarnation: name.incarnation,
            first: name.first,
            last: name.last,
            key: name.to_string(),
            size: SIZE,
            crc: 0,
            directory_position: 0,
            named_at: 0,
            at: 0,
            runs,
        }
    }

    fn key(state: &LaneState, number: u64) -> String {
        state.segments.get(SegmentId(2 * number + 2)).unwrap().key.to_string()
    }

    #[tokio::test]
    async fn segments_that_are_all_there_are_enough_whatever_else_there_is() {
        let (store, state) = shipped(300).await;
        for number in [0, 7, 299] {
            let twin = SegmentName { ulid: Ulid::new(), ..key(&state, number).parse().unwrap() };
            store.create(&twin.to_string(), Vec::new()).await.unwrap();
        }
        assert_eq!(UnreachableSegments::of(&store, LANE, &state).await.unwrap(), None);
        assert_eq!(UnreachableSegments::of(&store, LANE, &LaneState::new(OWN)).await.unwrap(), None);
    }

    #[tokio::test]
    async fn segments_that_are_gone_or_cut_are_named_with_the_records_in_them() {
        let (store, state) = shipped(300).await;
        let keys = [4, 5, 6].map(|number| key(&state, number));
        for key in &keys {
            let again = SegmentName { ulid: Ulid::new(), ..key.parse().unwrap() };
            store.create(&again.to_string(), vec![Bytes::from_static(b"segment")]).await.unwrap();
            store.delete(key).await.unwrap();
        }
        store.create(&keys[1], vec![Bytes::from_static(b"seg")]).await.unwrap();
        let told = UnreachableSegments::of(&store, LANE, &state).await.unwrap().unwrap().to_string();
        let [gone, cut, gone_too] = &keys;
        assert_eq!(
            told,
            format!(
                "3 of 300 registered segments are not there as they were: {gone} (missing), {cut} (3 bytes instead of 7), \
                 {gone_too} (missing); records in them: t partition 0 offsets 30 to 39, t partition 1 offsets 10 to 29"
            )
        );
    }

    #[tokio::test]
    async fn what_is_told_is_bounded() {
        let (store, state) = shipped(300).await;
        for number in (0..300).filter(|number| number % 3 < 2) {
            store.delete(&key(&state, number)).await.unwrap();
        }
        let told = UnreachableSegments::of(&store, LANE, &state).await.unwrap().unwrap().to_string();
        assert!(told.starts_with("200 of 300 registered") && told.matches("(missing)").count() == LISTED, "{told}");
        assert!(told.contains(" and 180 more; ") && told.ends_with(" and 80 more"), "{told}");
    }

    #[tokio::test]
    async fn a_segment_without_records_of_living_topics_is_named_too() {
        let (store, mut state) = shipped(1).await;
        state.topics.clear();
        store.delete(&key(&state, 0)).await.unwrap();
        let told = UnreachableSegments::of(&store, LANE, &state).await.unwrap().unwrap().to_string();
        assert!(told.ends_with("(missing); no topic has records in them"), "{told}");
    }

    /// Lists the oldest segments, so many of them at a time.
    fn list(state: &mut LaneState, segments: usize, lists: usize) {
        for _ in 0..lists {
            let listed: Vec<_> = state.segments.unlisted().take(segments).map(|(_, segment)| segment.clone()).collect();
            let (first, last) = (listed[0].first, listed[segments - 1].last);
            let list = SegmentListEntry { first, last, segments: segments as u32, ..Default::default() };
            state.apply(&Command::ListSegments(ListSegments { list })).unwrap();
        }
    }

    #[tokio::test]
    async fn what_only_lists_name_is_not_asked_for_and_all_else_is() {
        let (store, mut state) = shipped(300).await;
        let [old, open, new] = [4, 10, 299].map(|number| key(&state, number));
        let kept = FirstKept { partition: 0, offset: Some(50) };
        let delete = DeleteRecords { topic: TOPIC, partitions: vec![kept], at: 0 };
        let all_of_the_other = FirstKept { partition: 1, offset: Some(30) };
        state
            .apply(&Command::DeleteRecords(DeleteRecords { partitions: vec![kept, all_of_the_other], ..delete }))
            .unwrap();
        list(&mut state, 100, 2);
        store.delete(&old).await.unwrap();
        assert_eq!(UnreachableSegments::of(&store, LANE, &state).await.unwrap(), None);
        store.delete(&open).await.unwrap();
        store.delete(&new).await.unwrap();
        let told = UnreachableSegments::of(&store, LANE, &state).await.unwrap().unwrap().to_string();
        assert!(
            told.starts_with("2 of 292 registered segments") && told.contains(&open) && told.contains(&new),
            "{told}"
        );
    }

    #[tokio::test]
    async fn an_old_segment_that_a_run_points_into_is_asked_for() {
        let (store, mut state) = shipped(2100).await;
        let partitions = [0, 1].map(|partition| FirstKept { partition, offset: None }).to_vec();
        state.apply(&Command::DeleteRecords(DeleteRecords { topic: TOPIC, partitions, at: 0 })).unwrap();
        state.segments.add_open_runs(SegmentId(10), 1);
        let old = key(&state, 4);
        list(&mut state, 1000, 2);
        assert_eq!(UnreachableSegments::of(&store, LANE, &state).await.unwrap(), None);
        store.delete(&old).await.unwrap();
        let told = UnreachableSegments::of(&store, LANE, &state).await.unwrap().unwrap().to_string();
        assert!(told.starts_with("1 of 101 registered segments") && told.contains(&old), "{told}");
    }

    #[tokio::test]
    async fn segments_that_are_asked_for_one_by_one_are_named_as_those_that_are_listed() {
        let (store, state) = shipped(30).await;
        for number in [4, 5] {
            store.delete(&key(&state, number)).await.unwrap();
        }
        store.create(&key(&state, 5), vec![Bytes::from_static(b"seg")]).await.unwrap();
        let held = || state.segments.held().map(|(_, segment)| segment.clone()).collect::<Vec<_>>();
        let sorted = |mut differing: Vec<Differing>| {
            differing.sort_unstable();
            differing
        };
        let asked = sorted(differing_by_info(&store, held()).await.unwrap());
        assert_eq!(asked.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [SegmentId(10), SegmentId(12)]);
        assert_eq!(asked, sorted(differing_from_listings(&store, LANE, held()).await.unwrap()));
    }

    #[test]
    fn older_segments_are_listed_where_that_takes_fewer_requests() {
        let registered = |held: &[RangeInclusive<LogIndex>]| {
            let mut state = LaneState::new(OWN);
            state.begin_frame(10_001);
            for last in 1..=10_001 {
                let name = SegmentName { lane: LANE, incarnation: OWN, first: last, last, ulid: Ulid(last.into()) };
                state.adopt_segment(&register(name, vec![])).unwrap();
            }
            held.iter().cloned().flatten().for_each(|last| state.segments.add_open_runs(SegmentId(last), 1));
            list(&mut state, 2000, 5);
            listed_from(&state.segments)
        };
        for (why, held, expected) in [
            ("none is held", &[][..], 10_001),
            ("few are asked for, however old", &[1..=2, 4000..=4000, 9999..=10_000], 10_001),
            ("many are listed", &[9000..=9100], 8001),
            ("the few before them are asked for", &[1..=2, 9000..=9100], 8001),
            ("many that are old are listed, too", &[1..=20], 1),
        ] {
            assert_eq!(registered(held), expected, "{why}");
        }
    }
}
