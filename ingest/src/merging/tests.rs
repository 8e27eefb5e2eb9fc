#![allow(clippy::unwrap_used, clippy::expect_used)]

use chronik_format::catalog::{PageBounds, PartitionBounds, WaitingRuns};
use chronik_format::ids::{Incarnation, LaneId, TopicId};
use chronik_format::span::OffsetSpan;
use uuid::Uuid;

use super::*;
use crate::state::command::{Command, CreateTopic};
use crate::state::topic_config::TopicConfig;

const HOUR: Timestamp = 60 * 60 * 1000;
/// Midnight.
const DAY: Timestamp = 20_000 * 24 * HOUR;

fn topic(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

/// A leaf of a level with archives to be merged, closed at one o'clock.
fn leaf(last: u64, level: u8, mergeable: u32, waiting: u64) -> PageEntry {
    let partition = PartitionBounds {
        partition: 3,
        offsets: OffsetSpan { first: last as i64, last: last as i64 },
        times: chronik_format::batch::TimeSpan::at(1),
        bytes: 1,
        scanned_from: None,
    };
    let waiting = WaitingRuns { runs: waiting, bytes: waiting };
    let bounds = PageBounds { last, level, mergeable, waiting, partitions: vec![partition], ..PageBounds::default() };
    PageEntry { object: last.to_string(), size: 7, crc: 8, closed_at: DAY + HOUR, bounds, ..PageEntry::default() }
}

/// Two topics with these pages.
fn state(pages: [&[PageEntry]; 2]) -> LaneState {
    let mut state = LaneState::new(Incarnation(1));
    for (number, pages) in (1..).zip(pages) {
        let (id, config) = (topic(number), TopicConfig::default());
        let create = CreateTopic { id, name: number.to_string(), partitions: 4, config };
        state.apply_frame(number as u64, &[Command::CreateTopic(create)])[0].as_ref().unwrap();
        let topic = Arc::make_mut(state.topics.get_mut(&id).unwrap());
        topic.pages = pages.iter().cloned().map(Arc::new).collect();
    }
    state
}

#[test]
fn archives_are_merged_once_their_runs_are_where_they_stay() {
    let state = state([&[], &[]]);
    let known = &state.topics[&topic(1)];
    for (why, leaf, hour, expected) in [
        ("compacted, and the day is over", leaf(1, 1, 3, 0), 25, true),
        ("with some minutes to spare", leaf(1, 1, 3, 0), 24, false),
        ("it may be compacted again today", leaf(1, 1, 3, 0), 23, false),
        ("it is not compacted again", leaf(1, 2, 3, 0), 2, true),
        ("there is nothing to be merged", leaf(1, 2, 0, 0), 99, false),
        ("others are still to come", leaf(1, 2, 3, 1), 99, false),
        ("it is no leaf", PageEntry { height: 1, ..leaf(1, 2, 3, 0) }, 99, false),
    ] {
        assert_eq!(planner::is_due(known, &leaf, DAY + hour * HOUR), expected, "{why}");
    }
    let mut unsearched = (**known).clone();
    unsearched.config = TopicConfig::new([("search.enabled".to_owned(), "false".to_owned())]).unwrap();
    assert!(!planner::is_due(&unsearched, &leaf(1, 2, 3, 0), DAY + 99 * HOUR));
}

#[test]
fn the_oldest_pages_of_all_topics_come_first() {
    let inner = |last, mergeable| PageEntry { height: 1, ..leaf(last, 1, mergeable, 0) };
    let state = state([&[inner(1, 5), leaf(4, 1, 2, 0), leaf(5, 1, 0, 0)], &[inner(2, 0), inner(3, 4)]]);
    let top = |scope| {
        let pages = planner::at_top(&state, scope).into_iter().rev();
        pages.map(|(_, page)| page.object.clone()).collect::<Vec<_>>()
    };
    assert_eq!(top(CompactionScope::Due), ["1", "3", "4"]);
    assert_eq!(top(CompactionScope::Everything(None)), ["1", "3", "4"]);
    assert_eq!(top(CompactionScope::Everything(Some(topic(2)))), ["3"]);
    assert_eq!(planner::debt(&state), 11);
}

#[test]
fn a_job_names_its_leaf_and_how_it_is_found_again() {
    let state = state([&[], &[]]);
    let origin = Origin { cluster: Uuid::nil(), incarnation: Incarnation(1), lane: LaneId(0) };
    let job = planner::job(&origin, "id", &state.topics[&topic(1)], &leaf(9, 1, 3, 0)).unwrap();
    assert_eq!((job.topic.as_str(), job.topic_id, job.id.as_str()), ("1", topic(1), "id"));
    assert_eq!((job.page.key.as_str(), job.page.size, job.page.crc), ("9", 7, 8));
    assert_eq!((job.partition, job.first), (3, 9));
}
