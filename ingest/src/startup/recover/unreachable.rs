//! Whether the registered segments are in the bucket.
//!
//! A checkpoint says what was registered, not what was removed or cut since. Names and sizes do, folder by
//! folder, without a request for each segment: a listing for every 1,000 of them, and one at least for each of the
//! folders that they are spread over.

use std::collections::BTreeSet;
use std::fmt;

use chronik_format::catalog::PartitionBounds;
use chronik_format::ids::{LaneId, Offset, PartitionId};
use chronik_format::names::SegmentName;
use chronik_format::span::OffsetSpan;
use chronik_store::{ObjectInfo, SharedStore, StoreError};
use futures::{StreamExt, TryStreamExt, stream};

use super::segments::{FOLDERS, LISTINGS_AT_ONCE};
use crate::state::LaneState;
use crate::state::segments::{RegisteredSegment, SegmentId};
use crate::state::topic::TopicState;

/// How many segments, and how many ranges, are listed in full.
const LISTED: usize = 20;

/// Registered segments that are gone or have another size, and the records in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreachableSegments {
    segments: Listed,
    ranges: Listed,
    registered: usize,
}

/// The first few in words, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    first: Vec<String>,
    count: usize,
}

impl UnreachableSegments {
    /// Compares the state's segments with what the bucket lists; `None` if all are there.
    pub async fn of(store: &SharedStore, lane: LaneId, state: &LaneState) -> Result<Option<Self>, StoreError> {
        let mut folders = vec![Vec::new(); FOLDERS as usize];
        let mut registered = 0;
        for (id, segment) in state.segments.iter() {
            folders[(segment.first % FOLDERS) as usize].push((id, segment));
            registered += 1;
        }
        let used: Vec<u64> = (0..FOLDERS).filter(|number| !folders[*number as usize].is_empty()).collect();
        let listed = stream::iter(used).map(|number| async move {
            let objects = store.list(&SegmentName::folder(lane, number)).await?;
            Ok::<_, StoreError>((number as usize, objects))
        });
        let mut listed = listed.buffer_unordered(LISTINGS_AT_ONCE);
        let mut differing: Vec<(SegmentId, String)> = Vec::new();
        while let Some((number, objects)) = listed.try_next().await? {
            let segments = std::mem::take(&mut folders[number]).into_iter();
            differing.extend(segments.filter_map(|(id, segment)| Some((id, difference(segment, &objects)?))));
        }
        if differing.is_empty() {
            return Ok(None);
        }
        differing.sort_unstable();
        let lost: BTreeSet<SegmentId> = differing.iter().map(|(id, _)| *id).collect();
        let mut segments = Listed::default();
        differing.into_iter().for_each(|(_, words)| segments.add(|| words));
        let mut ranges = Listed::default();
        state.topics.values().for_each(|topic| add_ranges(&mut ranges, topic, &lost));
        Ok(Some(Self { segments, ranges, registered }))
    }
}

/// How a segment differs from what was registered, in words.
fn difference(RegisteredSegment { key, size, .. }: &RegisteredSegment, listed: &[ObjectInfo]) -> Option<String> {
    match listed.binary_search_by(|object| (*object.key).cmp(key)).map(|at| listed[at].size) {
        Ok(listed) if listed == *size => None,
        Ok(listed) => Some(format!("{key} ({listed} bytes instead of {size})")),
        Err(_) => Some(format!("{key} (missing)")),
    }
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
        let Self { segments, ranges, registered } = self;
        write!(f, "{} of {registered} registered segments are not there as they were: {segments}", segments.count)?;
        match ranges.count {
            0 => write!(f, "; no topic has records in them"),
            _ => write!(f, "; records in them: {ranges}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use bytes::Bytes;
    use chronik_format::batch::TimeSpan;
    use chronik_format::ids::{Incarnation, TopicId};
    use chronik_format::span::ByteSpan;
    use chronik_store::memory;
    use ulid::Ulid;
    use uuid::Uuid;

    use super::*;
    use crate::state::command::{Append, Command, CreateTopic, RegisterSegment, SegmentRun};
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
            let register = RegisterSegment {
                incarnation: OWN,
                first,
                last,
                key: name.to_string(),
                size: SIZE,
                crc: 0,
                directory_position: 0,
                named_at: 0,
                at: 0,
                runs: vec![run],
            };
            state.adopt_segment(&register).unwrap();
        }
        (store, state)
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
}
