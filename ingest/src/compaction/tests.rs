#![allow(clippy::unwrap_used, clippy::expect_used)]

use chronik_format::batch::TimeSpan;
use chronik_format::catalog::{PageBounds, PartitionBounds, WaitingRuns};
use chronik_format::ids::{Incarnation, LaneId};
use chronik_format::span::OffsetSpan;
use uuid::Uuid;

use super::planner::{job, plan};
use super::*;
use crate::state::command::{Command, CreateTopic};
use crate::state::topic_config::TopicConfig;

const TOPIC: TopicId = TopicId(Uuid::from_u128(1));
const ORIGIN: Origin = Origin { cluster: Uuid::nil(), incarnation: Incarnation(1), lane: LaneId(0) };
const HOUR: Timestamp = 60 * 60 * 1000;
/// Midnight.
const DAY: Timestamp = 20_000 * 24 * HOUR;
const LIMITS: CompactionLimits = CompactionLimits {
    job_bytes: 1000,
    pages: 3,
    enough_bytes: 100,
    small_run_bytes: 50,
    folding: PageLimits {
        page_runs: 9,
        open_runs: 9,
        fan_out: 5,
        top_pages: 1 << 20,
        waiting_pages: 4,
        waiting_runs: 9,
    },
};

fn topic_of(partitions: i32) -> LaneState {
    let mut state = LaneState::new(Incarnation(1));
    let create = CreateTopic { id: TOPIC, name: "t".into(), partitions, config: TopicConfig::default() };
    state.apply_frame(1, &[Command::CreateTopic(create)])[0].as_ref().unwrap();
    state
}

/// A page as the planner's tables say it: level, bytes of each of its ten runs over two partitions, the hour in which
/// it was closed; what is higher than a leaf has no hour.
#[derive(Clone, Copy, Debug)]
enum P {
    Leaf(u8, u64, Timestamp),
    Inner,
}

use P::{Inner, Leaf};

/// Why, a history, the hour, and the names of the pages of each job.
type PlanCase<'a> = (&'a str, &'a [P], Timestamp, &'a [&'a [&'a str]]);

fn history(pages: &[P]) -> LaneState {
    let mut state = topic_of(2);
    let topic = Arc::make_mut(state.topics.get_mut(&TOPIC).unwrap());
    for (number, page) in (0..).zip(pages) {
        let bounds = |partition| PartitionBounds {
            partition,
            offsets: OffsetSpan { first: number * 10, last: number * 10 + 9 },
            times: TimeSpan::at(1),
            bytes: 1,
            scanned_from: None,
        };
        let (height, level, bytes, hour) = match *page {
            Leaf(level, bytes, hour) => (0, level, bytes, hour),
            Inner => (1, 0, 0, 0),
        };
        let bounds = PageBounds {
            last: number as u64 + 1,
            runs: 10,
            bytes: 10 * bytes,
            archives: 1,
            mergeable: 0,
            waiting: WaitingRuns::default(),
            level,
            partitions: vec![bounds(0), bounds(1)],
            ..PageBounds::default()
        };
        let (object, closed_at) = (number.to_string(), DAY + hour * HOUR);
        let entry = PageEntry { object, size: 7, crc: 8, height, closed_at, bounds, ..PageEntry::default() };
        topic.pages.push_back(Arc::new(entry));
    }
    state
}

/// The names of the pages of each job.
fn planned(
    state: &LaneState,
    hour: Timestamp,
    turn: impl Fn(&PageEntry) -> PageTurn,
    everything: bool,
) -> Vec<Vec<String>> {
    let groups = plan(state, LIMITS, DAY + hour * HOUR, turn, everything).into_iter();
    groups.map(|group| group.pages.iter().map(|page| page.object.clone()).collect()).collect()
}

#[test]
fn pages_are_compacted_by_size_and_day() {
    let jobs: &[PlanCase] = &[
        ("too few", &[Leaf(0, 40, 1), Leaf(0, 40, 2)], 3, &[]),
        ("as many as it takes", &[Leaf(0, 30, 1), Leaf(0, 30, 2), Leaf(0, 30, 3)], 3, &[&["0", "1", "2"]]),
        ("small ones wait for more", &[Leaf(0, 1, 1); 4], 3, &[]),
        ("until they would be folded", &[Leaf(0, 1, 1); 5], 3, &[&["0", "1", "2", "3", "4"]]),
        ("or their day is over", &[Leaf(0, 1, 1), Leaf(0, 1, 23)], 25, &[&["0", "1"]]),
        ("with some minutes to spare", &[Leaf(0, 1, 1), Leaf(0, 1, 23)], 24, &[]),
        ("one alone, too", &[Leaf(0, 1, 1)], 25, &[&["0"]]),
        ("within a day", &[Leaf(0, 1, 1), Leaf(0, 1, 23), Leaf(0, 1, 25)], 26, &[&["0", "1"]]),
        ("full jobs at once", &[Leaf(0, 45, 1), Leaf(0, 45, 1), Leaf(0, 45, 1)], 1, &[&["0", "1"]]),
        ("large runs stay", &[Leaf(0, 50, 1), Leaf(0, 60, 1), Leaf(0, 70, 1)], 99, &[]),
        ("what lies between, too", &[Leaf(0, 30, 1), Leaf(0, 60, 1), Leaf(0, 30, 1)], 1, &[&["0"]]),
        ("not below other pages", &[Inner, Leaf(0, 1, 1), Inner, Leaf(0, 1, 1)], 1, &[&["1"]]),
        ("once more", &[Leaf(1, 30, 1), Leaf(1, 30, 2), Leaf(1, 30, 3)], 3, &[&["0", "1", "2"]]),
        ("at the end of the day", &[Leaf(1, 9, 1), Leaf(1, 9, 2)], 25, &[&["0", "1"]]),
        ("small ones go on over days", &[Leaf(1, 1, 1), Leaf(1, 1, 25)], 99, &[]),
        ("until they are many", &[Leaf(1, 1, 1), Leaf(1, 1, 25), Leaf(1, 1, 49)], 49, &[&["0", "1", "2"]]),
        ("but not large ones", &[Leaf(1, 9, 1), Leaf(1, 9, 2), Leaf(1, 9, 25)], 25, &[&["0", "1"]]),
        ("and never again", &[Leaf(2, 1, 1); 9], 99, &[]),
        ("each level by itself", &[Leaf(1, 1, 1), Leaf(1, 1, 1), Leaf(0, 1, 1)], 1, &[&["0", "1"]]),
    ];
    for (why, pages, hour, expected) in jobs {
        assert_eq!(planned(&history(pages), *hour, |_| PageTurn::Free, false), *expected, "{why}");
    }
}

#[test]
fn everything_is_what_there_is_to_gain() {
    let state = history(&[Leaf(1, 1, 1), Leaf(0, 1, 1), Leaf(0, 1, 1)]);
    assert_eq!(planned(&state, 1, |_| PageTurn::Free, true), [vec!["0"], vec!["1", "2"]]);
    let mut state = history(&[Leaf(0, 1, 1)]);
    let topic = Arc::make_mut(state.topics.get_mut(&TOPIC).unwrap());
    Arc::make_mut(&mut topic.pages[0]).bounds.runs = 2;
    assert!(planned(&state, 99, |_| PageTurn::Free, true).is_empty(), "a run of each partition is as few as there are");
}

#[test]
fn what_is_out_or_has_failed_goes_with_no_others() {
    let state = history(&[Leaf(0, 9, 1); 9]);
    let turn = |page: &PageEntry| match &*page.object {
        "2" => PageTurn::Out,
        "5" => PageTurn::Alone,
        _ => PageTurn::Free,
    };
    assert_eq!(planned(&state, 25, turn, false), [vec!["0", "1"], vec!["3", "4"], vec!["5"], vec!["6", "7", "8"]]);
}

#[test]
fn what_waits_for_archives_is_compacted_once_it_has_them() {
    let mut state = history(&[Leaf(0, 9, 1); 4]);
    let topic = Arc::make_mut(state.topics.get_mut(&TOPIC).unwrap());
    Arc::make_mut(&mut topic.pages[1]).bounds.waiting.runs = 1;
    let plan = |state: &LaneState| planned(state, 25, |_| PageTurn::Free, false);
    assert_eq!(plan(&state), [vec!["0"], vec!["2", "3"]]);
    let topic = Arc::make_mut(state.topics.get_mut(&TOPIC).unwrap());
    topic.config = TopicConfig::new([("search.enabled".to_owned(), "false".to_owned())]).unwrap();
    assert_eq!(plan(&state), [vec!["0", "1", "2", "3"]], "what is not searched waits for none");
}

#[test]
fn no_batch_is_compacted_more_than_twice_and_little_is_left() {
    for (partitions, runs, bytes) in
        [(100, 4096, 4 << 20), (100, 4096, 400 << 20), (1, 4096, 1 << 20), (5000, 5000, 9 << 20)]
    {
        let (limits, mut state) = (CompactionLimits::default(), topic_of(partitions));
        let (mut written, mut leaves) = (0_u64, 0_u64);
        for number in 0..200 * 5_u64 {
            let now = DAY + number as i64 * HOUR / 8;
            let bounds = |partition| PartitionBounds {
                partition,
                offsets: OffsetSpan { first: number as i64, last: number as i64 },
                times: TimeSpan::at(now),
                bytes: 1,
                scanned_from: None,
            };
            let bounds = PageBounds {
                last: number + 1,
                runs,
                bytes,
                archives: 1,
                mergeable: 0,
                waiting: WaitingRuns::default(),
                level: 0,
                partitions: (0..partitions).map(bounds).collect(),
                ..PageBounds::default()
            };
            let topic = Arc::make_mut(state.topics.get_mut(&TOPIC).unwrap());
            let entry = PageEntry { object: number.to_string(), closed_at: now, bounds, ..PageEntry::default() };
            topic.pages.push_back(Arc::new(entry));
            leaves += bytes;
            loop {
                let groups = plan(&state, limits, now, |_| PageTurn::Free, false);
                let Some(CompactionGroup { pages, .. }) = groups.first() else { break };
                written += pages.iter().map(|page| page.bounds.bytes).sum::<u64>();
                replace(&mut state, pages, partitions as u32);
            }
        }
        assert!(written <= 2 * leaves, "{partitions}: {written} of {leaves}");
        let topic = &state.topics[&TOPIC];
        let small = topic.pages.iter().filter(|page| page.bounds.level == 0).count();
        assert!(small <= 64, "{partitions}: {small} pages were never compacted");
        let runs: u32 = topic.pages.iter().filter(|page| page.bounds.level > 0).map(|page| page.bounds.runs).sum();
        println!(
            "{partitions}: {} pages, {runs} runs, amplification {}",
            topic.pages.len(),
            1.0 + written as f64 / leaves as f64
        );
    }
}

/// Has pages of a topic become one, with a run of each partition.
fn replace(state: &mut LaneState, old: &[Arc<PageEntry>], runs: u32) {
    let topic = Arc::make_mut(state.topics.get_mut(&TOPIC).unwrap());
    let first = topic.pages.iter().position(|page| page.object == old[0].object).unwrap();
    let mut bounds = PageBounds::of_pages(old.iter().map(Arc::as_ref)).unwrap();
    (bounds.runs, bounds.level) = (runs, bounds.level + 1);
    let newest = old.last().unwrap();
    let page = PageEntry { object: format!("{}+", newest.object), bounds, ..PageEntry::clone(newest) };
    let behind = topic.pages.split_off(first + old.len());
    topic.pages.truncate(first);
    topic.pages.push_back(Arc::new(page));
    topic.pages.append(behind);
}

#[test]
fn a_job_names_its_pages_and_the_epoch_that_all_batches_have() {
    let mut state = history(&[Leaf(0, 1, 1), Leaf(0, 1, 1)]);
    let pages: Vec<_> = state.topics[&TOPIC].pages.iter().cloned().collect();
    let topic = Arc::make_mut(state.topics.get_mut(&TOPIC).unwrap());
    for (epochs, expected) in [
        (&[(1, 0)][..], [Some(1), Some(1)]),
        (&[(1, 0), (4, 10)], [Some(1), Some(4)]),
        (&[(1, 0), (4, 5)], [None, Some(4)]),
        (&[(1, 0), (4, 20)], [Some(1), Some(1)]),
        (&[(4, 15)], [None, Some(4)]),
    ] {
        for partition in 0..2 {
            topic.partition_mut(partition).unwrap().epochs = epochs.iter().copied().collect();
        }
        let jobs = pages.iter().map(|page| job(&ORIGIN, "id", topic, std::slice::from_ref(page)));
        let jobs: Vec<_> = jobs.collect();
        assert_eq!(jobs.iter().map(|job| job.epoch).collect::<Vec<_>>(), expected, "{epochs:?}");
        let named: Vec<_> =
            jobs.iter().flat_map(|job| &job.pages).map(|page| (&*page.key, page.size, page.crc)).collect();
        assert_eq!(named, [("0", 7, 8), ("1", 7, 8)]);
    }
}
