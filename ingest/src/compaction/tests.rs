#![allow(clippy::unwrap_used, clippy::expect_used)]

use chronik_format::batch::TimeSpan;
use chronik_format::catalog::{PageBounds, PartitionBounds, UncompactedPages, WaitingRuns};
use chronik_format::ids::{Incarnation, LaneId};
use chronik_format::span::OffsetSpan;
use uuid::Uuid;

use chronik_format::job::RecordPlace;

use super::planner::{CompactionDebt, debt, job, plan, plan_below};
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
    jobs: 32,
    folding: PageLimits {
        page_runs: 9,
        page_bytes: 1 << 30,
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

/// Why, leaves, and the names of the pages of each job.
type GroupCase<'a> = (&'a str, &'a [P], &'a [&'a [&'a str]]);

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
            records: 20,
            bytes: 10 * bytes,
            archives: 1,
            mergeable: 0,
            waiting: WaitingRuns::default(),
            level,
            uncompacted: if (height, level) == (0, 0) { uncompacted(10, 10 * bytes) } else { uncompacted(0, 0) },
            partitions: vec![bounds(0), bounds(1)],
            ..PageBounds::default()
        };
        let (object, closed_at) = (number.to_string(), DAY + hour * HOUR);
        let entry = PageEntry { object, size: 7, crc: 8, height, closed_at, bounds, ..PageEntry::default() };
        topic.pages.push_back(Arc::new(entry));
    }
    state
}

/// A page of so many runs, or none.
fn uncompacted(runs: u64, bytes: u64) -> UncompactedPages {
    UncompactedPages { pages: u64::from(runs > 0), runs, records: 2 * runs, bytes }
}

/// The names of the pages of each job.
fn planned(
    state: &LaneState,
    hour: Timestamp,
    turn: impl Fn(&PageEntry) -> PageTurn,
    everything: bool,
) -> Vec<Vec<String>> {
    names(plan(state, LIMITS, DAY + hour * HOUR, turn, everything))
}

fn names(groups: Vec<CompactionGroup>) -> Vec<Vec<String>> {
    groups.into_iter().map(|group| group.pages.iter().map(|page| page.object.clone()).collect()).collect()
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
        ("large runs, too", &[Leaf(0, 50, 1), Leaf(0, 60, 1), Leaf(0, 99, 1)], 25, &[&["0"], &["1"], &["2"]]),
        ("a page that is larger than a job", &[Leaf(0, 500, 1), Leaf(0, 1, 1)], 1, &[&["0"]]),
        ("not below other pages", &[Inner, Leaf(0, 1, 1), Inner, Leaf(0, 1, 1)], 1, &[&["1"]]),
        ("once more", &[Leaf(1, 30, 1), Leaf(1, 30, 2), Leaf(1, 30, 3)], 3, &[&["0", "1", "2"]]),
        ("but not large runs", &[Leaf(1, 50, 1), Leaf(1, 60, 1), Leaf(1, 70, 1)], 99, &[]),
        ("nor across them", &[Leaf(1, 30, 1), Leaf(1, 60, 1), Leaf(1, 30, 1)], 1, &[&["0"]]),
        ("at the end of the day", &[Leaf(1, 9, 1), Leaf(1, 9, 2)], 25, &[&["0", "1"]]),
        ("small ones go on over days", &[Leaf(1, 1, 1), Leaf(1, 1, 25)], 99, &[]),
        ("until they are many", &[Leaf(1, 1, 1), Leaf(1, 1, 25), Leaf(1, 1, 49)], 49, &[&["0", "1", "2"]]),
        ("but not large ones", &[Leaf(1, 9, 1), Leaf(1, 9, 2), Leaf(1, 9, 25)], 25, &[&["0", "1"]]),
        ("and never again", &[Leaf(2, 1, 1); 9], 99, &[]),
        ("each level by itself", &[Leaf(1, 1, 1), Leaf(1, 1, 1), Leaf(0, 1, 1)], 25, &[&["2"]]),
        ("nor is one joined behind others", &[Leaf(1, 1, 1), Leaf(2, 1, 1), Leaf(0, 1, 1)], 1, &[&["0"]]),
        ("once it is time", &[Leaf(1, 1, 1), Leaf(1, 1, 1), Leaf(1, 1, 1), Leaf(0, 1, 1)], 1, &[&["0", "1", "2"]]),
        ("or it can't be joined", &[Leaf(1, 1, 1), Leaf(0, 1, 1), Leaf(1, 1, 1)], 1, &[&["0"], &["1"]]),
    ];
    for (why, pages, hour, expected) in jobs {
        assert_eq!(planned(&history(pages), *hour, |_| PageTurn::Free, false), *expected, "{why}");
    }
}

#[test]
fn everything_is_what_there_is_to_gain() {
    let state = history(&[Leaf(1, 1, 1), Leaf(0, 1, 1), Leaf(0, 1, 1)]);
    assert_eq!(planned(&state, 1, |_| PageTurn::Free, true), [vec!["0"], vec!["1", "2"]]);
    for (level, expected) in [(0, vec![vec!["0"]]), (1, vec![])] {
        let mut state = history(&[Leaf(level, 1, 1)]);
        let topic = Arc::make_mut(state.topics.get_mut(&TOPIC).unwrap());
        Arc::make_mut(&mut topic.pages[0]).bounds.runs = 2;
        let planned = planned(&state, 99, |_| PageTurn::Free, true);
        assert_eq!(planned, expected, "a run of each partition is as few as there are");
    }
}

#[test]
fn below_other_pages_all_that_never_was_is_compacted() {
    let jobs: &[GroupCase] = &[
        ("as it follows", &[Leaf(0, 30, 1), Leaf(0, 30, 2), Leaf(0, 30, 3)], &[&["0", "1", "2"]]),
        ("one alone", &[Leaf(1, 1, 1), Leaf(0, 99, 2), Leaf(2, 1, 3)], &[&["1"]]),
        ("between others", &[Leaf(0, 1, 1), Leaf(1, 1, 1), Leaf(0, 1, 1), Leaf(0, 1, 1)], &[&["0"], &["2", "3"]]),
        ("as much as a job has", &[Leaf(0, 45, 1), Leaf(0, 45, 1), Leaf(0, 45, 1)], &[&["0", "1"], &["2"]]),
        ("by days", &[Leaf(0, 9, 1), Leaf(0, 9, 2), Leaf(0, 9, 25)], &[&["0", "1"], &["2"]]),
        ("or what is small", &[Leaf(0, 1, 1), Leaf(0, 1, 25), Leaf(0, 1, 49)], &[&["0", "1", "2"]]),
        ("nothing", &[Leaf(1, 1, 1), Leaf(1, 1, 1), Leaf(1, 1, 1)], &[]),
    ];
    for (why, pages, expected) in jobs {
        let state = history(pages);
        let topic = &state.topics[&TOPIC];
        let leaves: Vec<_> = topic.pages.iter().cloned().collect();
        assert_eq!(names(plan_below(topic, LIMITS, &leaves, |_| PageTurn::Free)), *expected, "{why}");
    }
}

#[test]
fn what_is_deleted_is_not_compacted() {
    let mut state = history(&[Leaf(0, 9, 1); 4]);
    let topic = Arc::make_mut(state.topics.get_mut(&TOPIC).unwrap());
    let leaves: Vec<_> = topic.pages.iter().cloned().collect();
    // The first leaf is deleted, and half of the second.
    topic.partition_mut(0).unwrap().log_start = 15;
    topic.partition_mut(1).unwrap().log_start = 20;
    let place = |partition, offset| RecordPlace { partition, offset };
    for (pages, expected) in [
        (&leaves[..2], vec![place(0, 15), place(1, 20)]),
        (&leaves[1..], vec![place(0, 15), place(1, 20)]),
        (&leaves[2..], vec![]),
    ] {
        assert_eq!(job(&ORIGIN, "id", topic, pages).log_starts, expected);
    }
    assert_eq!(names(plan_below(topic, LIMITS, &leaves, |_| PageTurn::Free)), [["1", "2", "3"]]);
    assert_eq!(planned(&state, 25, |_| PageTurn::Free, false), [["1", "2", "3"]]);
}

#[test]
fn debt_is_what_was_never_compacted() {
    let mut state = history(&[Inner, Leaf(2, 1, 1), Leaf(1, 1, 1), Leaf(0, 3, 5), Leaf(0, 4, 6)]);
    let topic = Arc::make_mut(state.topics.get_mut(&TOPIC).unwrap());
    let inner = Arc::make_mut(&mut topic.pages[0]);
    inner.bounds.uncompacted = UncompactedPages { pages: 7, runs: 100, records: 200, bytes: 1000 };
    let expected = CompactionDebt { pages: 9, runs: 120, bytes: 1070, oldest_closed_at: Some(DAY) };
    assert_eq!(debt(&state), expected);
    assert_eq!(debt(&history(&[Inner, Leaf(1, 1, 1)])), CompactionDebt::default());
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

/// One topic of a cluster, as its bytes come.
#[derive(Clone, Copy, Debug)]
struct TopicLoad {
    name: &'static str,
    /// Bytes that are stored a second.
    rate: f64,
    /// Those of all topics.
    all: f64,
    partitions: u32,
    /// Until a page is closed, though it is not full.
    page_seconds: f64,
}

/// What compaction makes of a load.
#[derive(Debug, Default)]
struct Compacted {
    /// Bytes of leaves, and those that were written anew.
    shipped: u64,
    written: u64,
    jobs: u64,
    /// Segments of all jobs, and how many are left of them.
    segments: u64,
    gone: u64,
    largest_job: u64,
}

const MIB: f64 = (1 << 20) as f64;
const RUN_BYTES_MAX: u64 = 64 << 20;

impl TopicLoad {
    const fn new(name: &'static str, rate: f64, all: f64, partitions: u32) -> Self {
        Self { name, rate, all, partitions, page_seconds: 12.0 * 3600.0 }
    }

    /// How long a page takes, and what it has: runs, bytes and archives. It ends with one of those.
    fn page(&self) -> (f64, u32, u64, u32) {
        let limits = CompactionLimits::default().folding;
        let of_segment = (64.0 * MIB / self.all).min(10.0);
        let of_archive = (MIB / self.rate).clamp(60.0, 600.0).min(64.0 * MIB / self.rate);
        let full = of_segment * f64::from(limits.page_runs as u32) / f64::from(self.partitions);
        let seconds = full.min(limits.page_bytes as f64 / self.rate).min(self.page_seconds).max(of_archive);
        let segments = (seconds / of_segment).ceil().max(1.0);
        let archives = (seconds / of_archive).ceil();
        (seconds, segments as u32 * self.partitions, (seconds * self.rate) as u64, archives as u32)
    }

    /// Days of it, with indexers that answer at once.
    fn run(&self, days: i64) -> Compacted {
        let (seconds, runs, bytes, archives) = self.page();
        let (limits, mut state) = (CompactionLimits::default(), topic_of(self.partitions as i32));
        let (mut done, mut closed, mut hours) = (Compacted::default(), 0_u64, 0);
        while hours < 24 * days {
            let closes_at = DAY + ((closed + 1) as f64 * seconds * 1000.0) as i64;
            let now = closes_at.min(DAY + (hours + 1) * HOUR);
            if now == closes_at {
                closed += 1;
                done.shipped += bytes;
                push_leaf(&mut state, closed, (runs, bytes, archives), now);
            } else {
                hours += 1;
            }
            while let Some(CompactionGroup { pages, .. }) =
                plan(&state, limits, now, |_| PageTurn::Free, false).into_iter().next()
            {
                done.count(&pages);
                replace(&mut state, &pages, self.partitions);
            }
            self.check(&mut state, now);
        }
        done
    }

    /// Nothing waits for longer than it may; what will not be compacted any more is folded away.
    fn check(&self, state: &mut LaneState, now: Timestamp) {
        let topic = Arc::make_mut(state.topics.get_mut(&TOPIC).unwrap());
        let fan_out = CompactionLimits::default().folding.fan_out_of(self.partitions as usize, 1);
        let waiting: Vec<_> = topic.pages.iter().filter(|page| page.bounds.level == 0).collect();
        assert!(waiting.len() <= fan_out, "{self:?}: {} pages wait, and would be folded", waiting.len());
        let day = |at: Timestamp| at.div_euclid(24 * HOUR);
        let is_late = waiting.iter().any(|page| day(page.closed_at) < day(now - 2 * HOUR));
        assert!(!is_late, "{self:?}: a page waits longer than its day");
        if topic.pages.len() >= 2 * fan_out {
            topic.pages = topic.pages.split_off(fan_out);
        }
    }
}

impl Compacted {
    fn count(&mut self, pages: &[Arc<PageEntry>]) {
        let bytes = pages.iter().map(|page| page.bounds.bytes).sum::<u64>();
        self.jobs += 1;
        self.written += bytes;
        self.segments += bytes.div_ceil(1 << 30).max(1);
        let of_pages = |page: &Arc<PageEntry>| page.bounds.bytes.div_ceil(1 << 30).max(1);
        let compacted = pages.iter().filter(|page| page.bounds.level > 0);
        self.gone += compacted.map(of_pages).sum::<u64>();
        self.largest_job = self.largest_job.max(bytes);
    }
}

/// How often a batch is written anew, MiB of a job, and segments of a topic and day. The first ones are what
/// infra/costs.py reckons with: one of its topics, at each rate of records.
#[test]
fn at_any_load_all_is_compacted_within_its_day_and_little_is_written() {
    const LOADS: &[(TopicLoad, &str)] = &[
        (
            TopicLoad::new("1 MB/s, uncompressed", 1.07e6 / 20.0, 1.07e6, 10),
            "1.00 times, 734 MiB a job, 6.0 segments a day",
        ),
        (
            TopicLoad::new("100 MB/s, uncompressed", 107e6 / 20.0, 107e6, 10),
            "1.00 times, 1311 MiB a job, 671.0 segments a day",
        ),
        (
            TopicLoad::new("1,000 MB/s, uncompressed", 1070e6 / 20.0, 214e6, 10),
            "1.00 times, 4096 MiB a job, 4302.0 segments a day",
        ),
        (TopicLoad::new("1 MB/s, zstd", 0.148e6 / 20.0, 0.148e6, 10), "1.00 times, 305 MiB a job, 2.0 segments a day"),
        (
            TopicLoad::new("100 MB/s, zstd", 14.8e6 / 20.0, 14.8e6, 10),
            "1.00 times, 1311 MiB a job, 92.9 segments a day",
        ),
        (
            TopicLoad::new("1,000 MB/s, zstd", 148e6 / 20.0, 148e6, 10),
            "1.00 times, 1311 MiB a job, 929.0 segments a day",
        ),
        (TopicLoad::new("1 MB/s, one topic", 1e6, 1e6, 100), "1.00 times, 778 MiB a job, 105.9 segments a day"),
        (TopicLoad::new("100 MB/s, one topic", 100e6, 100e6, 50), "1.00 times, 4096 MiB a job, 8044.0 segments a day"),
        (
            TopicLoad::new("100 MB/s, one partition", 100e6, 100e6, 1),
            "1.00 times, 4096 MiB a job, 8044.0 segments a day",
        ),
        (
            TopicLoad::new("10 KB/s in a hundred partitions", 1e4, 1e6, 100),
            "1.97 times, 117 MiB a job, 1.4 segments a day",
        ),
        (TopicLoad::new("a record a minute", 2.0, 1e6, 1), "1.46 times, 1 MiB a job, 0.5 segments a day"),
    ];
    let mut figures = Vec::new();
    for (load, _) in LOADS {
        let days = if load.rate > 1e6 { 2 } else { 32 };
        let done = load.run(days);
        assert!(done.written <= 2 * done.shipped, "{load:?}: {done:?}");
        assert!(done.largest_job <= 5 << 30, "{load:?}: {done:?}");
        let times = done.written as f64 / done.shipped as f64;
        let (of_job, segments) = (done.written / done.jobs, (done.segments - done.gone) as f64 / days as f64);
        let of_day = done.shipped as f64 / days as f64 / f64::from(1 << 30);
        assert!(segments <= (2.0 * of_day).max(50.0), "{load:?}: {done:?}");
        figures.push(format!(
            "{times:.2} times, {:.0} MiB a job, {segments:.1} segments a day",
            (of_job as f64 / MIB).ceil()
        ));
    }
    let expected: Vec<_> = LOADS.iter().map(|(load, figures)| format!("{}: {figures}", load.name)).collect();
    let found: Vec<_> =
        LOADS.iter().zip(figures).map(|((load, _), figures)| format!("{}: {figures}", load.name)).collect();
    assert_eq!(found, expected);
}

fn push_leaf(state: &mut LaneState, number: u64, (runs, bytes, archives): (u32, u64, u32), closed_at: Timestamp) {
    let topic = Arc::make_mut(state.topics.get_mut(&TOPIC).unwrap());
    let bounds = |partition| PartitionBounds {
        partition,
        offsets: OffsetSpan { first: number as i64, last: number as i64 },
        times: TimeSpan::at(closed_at),
        bytes: 1,
        scanned_from: None,
    };
    let bounds = PageBounds {
        last: number,
        runs,
        bytes,
        archives,
        uncompacted: uncompacted(runs.into(), bytes),
        partitions: (0..topic.partitions.len() as i32).map(bounds).collect(),
        ..PageBounds::default()
    };
    let entry = PageEntry { object: number.to_string(), closed_at, bounds, ..PageEntry::default() };
    topic.pages.push_back(Arc::new(entry));
}

/// Has pages of a topic become one, with as few runs of so many partitions as there may be.
fn replace(state: &mut LaneState, old: &[Arc<PageEntry>], partitions: u32) {
    let topic = Arc::make_mut(state.topics.get_mut(&TOPIC).unwrap());
    let first = topic.pages.iter().position(|page| page.object == old[0].object).unwrap();
    let mut bounds = PageBounds::of_pages(old.iter().map(Arc::as_ref)).unwrap();
    let runs = (bounds.bytes / u64::from(partitions)).div_ceil(RUN_BYTES_MAX).max(1);
    (bounds.runs, bounds.level) = (partitions * runs as u32, bounds.level + 1);
    bounds.uncompacted = UncompactedPages::default();
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
        assert_eq!(jobs.iter().map(|job| job.place.offset).collect::<Vec<_>>(), [0, 10]);
        let named: Vec<_> =
            jobs.iter().flat_map(|job| &job.pages).map(|page| (&*page.key, page.size, page.crc)).collect();
        assert_eq!(named, [("0", 7, 8), ("1", 7, 8)]);
    }
}
