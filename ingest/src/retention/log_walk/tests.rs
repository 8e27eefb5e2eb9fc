#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;

use chronik_format::catalog::page::{BuiltPage, PageBuilder};
use chronik_format::catalog::{PartitionRuns, RunEntry, SegmentEntry, TopicRuns};
use chronik_format::ids::{Incarnation, LaneId, LogIndex, TopicId};
use chronik_format::origin::Origin;
use chronik_format::span::ByteSpan;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::state::LaneState;
use crate::state::command::{Command, CreateTopic, RegisterSegment};
use crate::state::partition::{IndexStatus, PartitionRun};
use crate::state::segments::SegmentId;
use crate::state::topic_config::TopicConfig;

const TOPIC: TopicId = TopicId(Uuid::from_u128(1));
const PARTITIONS: usize = 3;
/// Offsets of a run.
const OFFSETS: i64 = 10;

/// A run: of which partition, its times and bytes, and how many offsets before it no record has.
#[derive(Clone, Copy, Debug)]
struct Run {
    partition: usize,
    times: TimeSpan,
    bytes: u64,
    gap: i64,
}

fn run(partition: usize, time: Timestamp) -> Run {
    Run { partition, times: TimeSpan::at(time), bytes: 100, gap: 0 }
}

/// A topic whose runs lie in leaves, written at some time, and open in segments, registered at some time.
struct History {
    state: LaneState,
    pages: HashMap<String, Page>,
    /// By partition, all runs with when they were shipped at the latest.
    flat: Vec<Vec<(OffsetSpan, Run, Timestamp)>>,
    built: LogIndex,
}

impl History {
    fn new() -> Self {
        let mut state = LaneState::new(Incarnation(1));
        let partitions = PARTITIONS as i32;
        let create = CreateTopic { id: TOPIC, name: "t".into(), partitions, config: TopicConfig::default() };
        state.apply_frame(1, &[Command::CreateTopic(create)])[0].as_ref().unwrap();
        state.applied = 1_000_000;
        Self { state, pages: HashMap::new(), flat: vec![Vec::new(); PARTITIONS], built: 0 }
    }

    fn topic(&mut self) -> &mut TopicState {
        Arc::make_mut(self.state.topics.get_mut(&TOPIC).unwrap())
    }

    fn builder(&mut self, written_at: Timestamp) -> (PageBuilder, String) {
        self.built += 1;
        let origin = Origin { cluster: Uuid::nil(), incarnation: Incarnation(1), lane: LaneId(0) };
        (PageBuilder { origin, topic: TOPIC, written_at }, format!("page-{}", self.built))
    }

    fn note(&mut self, run: Run, shipped_at: Timestamp) -> OffsetSpan {
        let flat = &mut self.flat[run.partition];
        let first = flat.last().map_or(0, |(offsets, ..)| offsets.end()) + run.gap;
        let offsets = OffsetSpan { first, last: first + OFFSETS - 1 };
        flat.push((offsets, run, shipped_at));
        let partition = self.topic().partition_mut(run.partition as i32).unwrap();
        (partition.next_offset, partition.shipped_to) = (offsets.end(), offsets.end());
        offsets
    }

    fn close(&mut self, runs: &[Run], written_at: Timestamp) {
        let mut partitions = Vec::new();
        for partition in 0..PARTITIONS {
            let of_it: Vec<Run> = runs.iter().filter(|run| run.partition == partition).copied().collect();
            let runs = of_it.into_iter().map(|run| RunEntry {
                offsets: self.note(run, written_at),
                segment: 0,
                bytes: ByteSpan { position: 0, length: run.bytes },
                times: run.times,
                unreadable: None,
            });
            let runs: Vec<_> = runs.collect();
            if let Some(last) = runs.last() {
                self.topic().partition_mut(partition as i32).unwrap().closed.to = last.offsets.end();
                partitions.push(PartitionRuns { partition: partition as i32, runs });
            }
        }
        let segment = SegmentEntry { key: "segment".into(), size: 1, crc: 0, directory_position: 0, level: 0 };
        let runs = TopicRuns { segments: vec![segment], partitions, archives: Vec::new() };
        let (builder, object) = self.builder(written_at);
        let BuiltPage { entry, .. } = builder.leaf(object.clone(), &runs, self.built).unwrap();
        self.pages.insert(object, Page::Runs(Arc::new(runs)));
        self.topic().pages.push_back(entry.into());
    }

    /// Puts so many pages at the top below one, as far as they have one height.
    fn fold(&mut self, start: usize, count: usize) {
        let mut top: Vec<_> = self.topic().pages.iter().cloned().collect();
        let start = start % top.len().max(1);
        let level = top[start..].iter().take_while(|page| page.height == top[start].height);
        let below: Vec<_> = level.take(count).cloned().collect();
        if below.len() < 2 {
            return;
        }
        let (builder, object) = self.builder(0);
        let BuiltPage { entry, .. } = builder.inner(object.clone(), &below).unwrap();
        top.splice(start..start + below.len(), [entry.into()]);
        self.topic().pages = top.into();
        self.pages.insert(object, Page::Pages(below.into()));
    }

    fn ship(&mut self, run: Run, registered_at: Timestamp) {
        let index = self.state.shipped_index() + 1;
        let segment = RegisterSegment {
            incarnation: Incarnation(1),
            first: index,
            last: index,
            key: format!("segment-{index}"),
            size: 1,
            crc: 0,
            directory_position: 0,
            named_at: 0,
            at: registered_at,
            runs: Vec::new(),
        };
        self.state.adopt_segment(&segment).unwrap();
        let offsets = self.note(run, registered_at);
        let partition = self.topic().partition_mut(run.partition as i32).unwrap();
        partition.runs.push_back(PartitionRun {
            offsets,
            segment: SegmentId(index),
            bytes: ByteSpan { position: 0, length: run.bytes },
            times: run.times,
            indexed: IndexStatus::Pending,
        });
    }

    /// Deletes what lies below an offset, as a command does.
    fn start_at(&mut self, partition: PartitionId, offset: Offset) {
        self.topic().partition_mut(partition).unwrap().start_at(offset);
    }

    fn log_starts(&self) -> Vec<Offset> {
        self.state.topics[&TOPIC].partitions.iter().map(|partition| partition.log_start).collect()
    }

    /// The walk, with the pages that it asks for, up to so many.
    fn walk(
        &self,
        limits: RetentionLimits,
        left: &BTreeSet<PartitionId>,
        pages: usize,
    ) -> (LogWalk<'_>, Vec<String>, bool) {
        let mut walk = LogWalk::new(&self.state.topics[&TOPIC], &self.state.segments, limits, left);
        let mut read = Vec::new();
        while let Some(entry) = walk.next_page() {
            if read.len() == pages {
                return (walk, read, false);
            }
            walk.enter(&entry, &self.pages[&entry.object]);
            read.push(entry.object.clone());
        }
        (walk, read, true)
    }

    /// What goes, and the pages that were read for it.
    fn expired(&self, limits: RetentionLimits) -> (Vec<ExpiredRecords>, Vec<String>) {
        let (walk, read, _) = self.walk(limits, &BTreeSet::new(), usize::MAX);
        (walk.expired(), read)
    }

    /// The first offset of each log that a record may have: a look that ends before a run leaves the log to begin with
    /// offsets that were used up without a record.
    fn first_records(&self, log_starts: &[Offset]) -> Vec<Offset> {
        let first = |(runs, start): (&Vec<(OffsetSpan, Run, Timestamp)>, &Offset)| {
            let reaching = runs.iter().find(|(offsets, ..)| offsets.last >= *start);
            reaching.map_or(*start, |(offsets, ..)| offsets.first.max(*start))
        };
        self.flat.iter().zip(log_starts).map(first).collect()
    }

    /// The same from the list of all runs.
    fn expected(&self, limits: RetentionLimits) -> Vec<ExpiredRecords> {
        let mut expired = Vec::new();
        for (number, runs) in self.flat.iter().enumerate() {
            let old_start = self.log_starts()[number];
            let (mut log_start, mut bytes) = (old_start, 0);
            for (at, (offsets, run, shipped_at)) in runs.iter().enumerate() {
                if offsets.last < old_start {
                    continue;
                }
                let behind: u64 = runs[at + 1..].iter().map(|(_, run, _)| run.bytes).sum();
                let latest = match run.times {
                    times if times == TimeSpan::ANY || times.latest < 0 => *shipped_at,
                    times => times.latest,
                };
                if limits.before.is_none_or(|before| latest >= before) && limits.bytes.is_none_or(|kept| behind < kept)
                {
                    log_start = if log_start > old_start { offsets.first } else { log_start };
                    break;
                }
                (log_start, bytes) = (offsets.end(), bytes + run.bytes);
            }
            if log_start > old_start {
                let (partition, offsets) = (number as i32, log_start - old_start);
                expired.push(ExpiredRecords { partition, log_start, offsets, bytes });
            }
        }
        expired
    }
}

fn limits(before: Option<Timestamp>, bytes: Option<u64>) -> RetentionLimits {
    RetentionLimits { before, bytes }
}

/// Runs of partition 0, 100 bytes each: of times 10 to 50 in leaves of one, and of 60 and 70 open.
fn by_tens() -> History {
    let mut history = History::new();
    for time in (10..=50).step_by(10) {
        history.close(&[run(0, time)], 1000);
    }
    history.ship(run(0, 60), 1000);
    history.ship(run(0, 70), 1000);
    history
}

#[test]
fn whole_runs_go_from_the_oldest_on() {
    for (why, before, bytes, log_start) in [
        ("nothing is limited", None, None, 0),
        ("nothing is old", Some(10), None, 0),
        ("one is", Some(11), None, 10),
        ("not the one that is just as old as may be", Some(30), None, 20),
        ("open ones, too", Some(61), None, 60),
        ("all", Some(i64::MAX), None, 70),
        ("there is just enough", None, Some(700), 0),
        ("one byte less is kept, and no run goes that has it", None, Some(601), 0),
        ("one may go", None, Some(600), 10),
        ("of open ones, too", None, Some(100), 60),
        ("nothing is kept", None, Some(0), 70),
        ("more than there is", None, Some(u64::MAX), 0),
        ("whichever says more, time", Some(41), Some(600), 40),
        ("whichever says more, size", Some(11), Some(200), 50),
    ] {
        for folds in [&[][..], &[(0, 5)], &[(0, 2)], &[(0, 2), (1, 2), (0, 2)], &[(3, 2)]] {
            let mut history = by_tens();
            folds.iter().for_each(|(start, count)| history.fold(*start, *count));
            let (expired, _) = history.expired(limits(before, bytes));
            let expected = ExpiredRecords { partition: 0, log_start, offsets: log_start, bytes: log_start as u64 * 10 };
            assert_eq!(expired, if log_start > 0 { vec![expected] } else { vec![] }, "{why}, folded {folds:?}");
        }
    }
}

#[test]
fn a_record_from_the_future_keeps_what_lies_behind_it() {
    let mut history = History::new();
    for time in [10, 2000, 20] {
        history.close(&[run(0, time)], 30);
    }
    assert_eq!(history.expired(limits(Some(1000), None)).0[0].log_start, 10);
    history.fold(0, 3);
    assert_eq!(history.expired(limits(Some(1000), None)).0[0].log_start, 10);
}

#[test]
fn where_times_are_unknown_those_of_shipping_count() {
    for times in [TimeSpan::ANY, TimeSpan::at(-1)] {
        let undated = Run { times, ..run(0, 0) };
        let mut history = History::new();
        history.close(&[run(0, 10), undated], 500);
        history.close(&[undated], 600);
        history.ship(undated, 700);
        for folds in 0..3 {
            for (before, log_start) in [(11, 10), (500, 10), (501, 20), (601, 30), (701, 40)] {
                let (expired, _) = history.expired(limits(Some(before), None));
                assert_eq!(expired[0].log_start, log_start, "{times:?} before {before}, {folds} folds");
            }
            history.fold(0, 2);
        }
    }
}

#[test]
fn only_the_page_in_which_a_log_is_to_begin_is_read() {
    let mut history = History::new();
    for time in 0..27 {
        history.close(&[run(0, 10 * time), run(0, 10 * time + 5)], 0);
    }
    let read = |history: &History, limits| history.expired(limits).1;
    assert_eq!(read(&history, limits(Some(105), None)), ["page-11"], "in the middle of a leaf");
    assert_eq!(read(&history, limits(None, Some(27 * 200 - 2300))), ["page-12"]);
    for between in [limits(Some(0), None), limits(Some(100), None), limits(Some(1000), None)] {
        assert!(read(&history, between).is_empty(), "between leaves");
    }
    for start in 0..3 {
        history.fold(start, 9);
    }
    history.fold(0, 3);
    assert_eq!(read(&history, limits(Some(105), None)), ["page-31", "page-29", "page-11"], "one at each height");
    assert!(read(&history, limits(Some(0), None)).is_empty());
    assert!(read(&history, limits(Some(1000), None)).is_empty());
    assert!(read(&history, limits(None, Some(27 * 200))).is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Close(Vec<Run>, Timestamp),
    Fold(usize, usize),
    StartAt(PartitionId, Offset),
}

fn any_run() -> impl Strategy<Value = Run> {
    let times = prop_oneof![
        6 => (0..60i64, 0..9i64).prop_map(|(earliest, more)| TimeSpan { earliest, latest: earliest + more }),
        1 => Just(TimeSpan::ANY),
        1 => Just(TimeSpan { earliest: -1, latest: 20 }),
        1 => Just(TimeSpan::at(-1)),
    ];
    let gap = prop_oneof![4 => Just(0), 1 => 1..4i64];
    (0..PARTITIONS, times, 1..100u64, gap).prop_map(|(partition, times, bytes, gap)| Run {
        partition,
        times,
        bytes,
        gap,
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (prop::collection::vec(any_run(), 1..5), 0..60i64).prop_map(|(runs, at)| Step::Close(runs, at)),
        2 => (0..9usize, 2..5usize).prop_map(|(start, count)| Step::Fold(start, count)),
        1 => (0..PARTITIONS as i32, 0..60i64).prop_map(|(partition, offset)| Step::StartAt(partition, offset)),
    ]
}

fn any_limits() -> impl Strategy<Value = RetentionLimits> {
    let before = prop::option::of(-2..70i64);
    let bytes = prop::option::of(0..800u64);
    (before, bytes).prop_map(|(before, bytes)| RetentionLimits { before, bytes })
}

proptest! {
    #[test]
    fn what_goes_is_what_goes_of_a_list_of_all_runs(
        steps in prop::collection::vec(any_step(), 0..16),
        open in prop::collection::vec((any_run(), 0..60i64), 0..6),
        limits in any_limits(),
        pages_at_once in 5..9usize,
    ) {
        let mut history = History::new();
        for step in steps {
            match step {
                Step::Close(runs, at) => history.close(&runs, at),
                Step::Fold(start, count) => history.fold(start, count),
                Step::StartAt(partition, offset) => {
                    let known = &history.state.topics[&TOPIC].partitions[partition as usize];
                    let offset = offset.clamp(known.log_start, known.next_offset);
                    history.start_at(partition, offset);
                }
            }
        }
        for (run, at) in open {
            history.ship(run, at);
        }
        let expected = history.expected(limits);
        let mut log_starts = history.log_starts();
        prop_assert_eq!(&history.expired(limits).0, &expected);
        for ExpiredRecords { partition, log_start, .. } in expected {
            log_starts[partition as usize] = log_start;
        }
        // Looks that read a few pages each come to the same in the end.
        let mut had_turn = BTreeSet::new();
        loop {
            let (walk, _, is_done) = history.walk(limits, &had_turn, pages_at_once);
            let (expired, decided) = (walk.expired(), walk.decided());
            let went_on = is_done || decided != had_turn || !expired.is_empty();
            prop_assert!(went_on, "no look goes on");
            had_turn = if is_done { BTreeSet::new() } else { decided };
            let done = is_done && expired.is_empty();
            for ExpiredRecords { partition, log_start, .. } in expired {
                history.start_at(partition, log_start);
            }
            if done {
                break;
            }
        }
        prop_assert_eq!(history.first_records(&history.log_starts()), history.first_records(&log_starts));
    }
}
