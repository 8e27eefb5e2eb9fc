//! Closing: what of a topic's open runs is settled, or has waited for archives for too long, goes into a leaf, once
//! there is enough of it, or at the end of its UTC day.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_format::ids::{LogIndex, Timestamp, TopicId};

use super::pages::{PAGES_AT_ONCE, PageLimits};
use crate::state::LaneState;
use crate::state::partition::IndexStatus;
use crate::state::segments::{RegisteredSegments, SegmentId};
use crate::state::topic::TopicState;

/// No topic with fewer open runs is closed, however many topics there are.
const OPEN_RUNS_MIN: usize = 16;
const HOUR_MS: i64 = 60 * 60 * 1000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// When of a UTC day all topics are closed, however little of them is open: early enough to be compacted with the day.
const CLOSED_AT_MS: i64 = 23 * HOUR_MS;
/// Only those of which something has been open for so long by then: the newest runs still get their archives.
const SETTLES_IN_MS: i64 = HOUR_MS;

/// What of a topic can be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosableRuns {
    pub topic: TopicId,
    /// All that is open up to this log index.
    pub last: LogIndex,
}

impl PageLimits {
    /// Open runs of a topic, one of so many, from which on it is closed.
    fn enough(&self, topics: usize) -> usize {
        (self.open_runs / topics.max(1)).max(OPEN_RUNS_MIN).min(self.page_runs)
    }

    /// Open runs of a topic, one of so many, that wait for archives, from which on the oldest are closed although they
    /// do. `waiting` are those of all topics.
    fn too_many_wait(&self, topics: usize, waiting: usize) -> usize {
        let of_one = self.waiting_pages * self.page_runs;
        match waiting > self.waiting_runs {
            true => (self.waiting_runs / topics.max(1)).max(OPEN_RUNS_MIN).min(of_one),
            false => of_one,
        }
    }
}

/// When all topics were to be closed last: the level 0 segments that their runs lie in are other topics', too, and none
/// of these goes before it is compacted.
pub fn last_evening(now: Timestamp) -> Timestamp {
    now.saturating_sub(CLOSED_AT_MS).div_euclid(DAY_MS) * DAY_MS + CLOSED_AT_MS
}

/// What there is to close as of `now`, in segments up to `exported`; of each topic about a page.
pub fn closable(state: &LaneState, exported: LogIndex, limits: PageLimits, now: Timestamp) -> Vec<ClosableRuns> {
    let (topics, overdue_before) = (state.topics.len(), last_evening(now) - SETTLES_IN_MS);
    let (enough, too_many) = (limits.enough(topics), limits.too_many_wait(topics, state.pending.len()));
    let closable = state.topics.values().filter_map(|topic| {
        let is_overdue = open_since(topic, &state.segments).is_some_and(|since| since < overdue_before);
        let least = if is_overdue { 1 } else { enough };
        let size = PageSize { enough: least, runs: limits.page_runs, bytes: limits.page_bytes };
        if !size.may_be_reached(topic) {
            return None;
        }
        let last = |waits| last_closable(topic, SegmentId(exported), size, waits);
        let may_wait = !is_overdue && state.pending.of_topic(topic.id).count() < too_many;
        let although_it_waits = || if may_wait { None } else { last(false) };
        let SegmentId(last) = last(topic.config.search_enabled()).or_else(although_it_waits)?;
        Some(ClosableRuns { topic: topic.id, last })
    });
    closable.take(PAGES_AT_ONCE).collect()
}

/// When the oldest of a topic's open runs was registered.
fn open_since(topic: &TopicState, segments: &RegisteredSegments) -> Option<Timestamp> {
    let oldest = topic.partitions.iter().filter_map(|partition| partition.runs.head()).map(|run| run.segment).min();
    oldest.and_then(|id| segments.get(id)).map(|segment| segment.registered_at)
}

/// How large a page is to be.
#[derive(Clone, Copy, Debug)]
struct PageSize {
    /// Runs that are enough for one, however few their bytes are.
    enough: usize,
    /// Runs that it has at the most.
    runs: usize,
    /// Bytes of their batches that are enough, however few runs they are in; nothing is added to them.
    bytes: u64,
}

impl PageSize {
    fn may_be_reached(self, topic: &TopicState) -> bool {
        let bytes = || topic.partitions.iter().flat_map(|partition| &partition.runs).map(|run| run.bytes.length).sum();
        topic.open_runs() >= self.enough || self.bytes <= bytes()
    }
}

/// The open runs of a topic in one segment.
#[derive(Default)]
struct SegmentRuns {
    count: usize,
    /// Bytes of their batches.
    bytes: u64,
    /// Whether one may still get an archive.
    waits: bool,
    /// The archives over them.
    archives: Vec<Arc<str>>,
}

/// The segment up to which a topic is closed next: all runs there are settled, unless it `waits` for none, no archive
/// is over runs behind it too, and they are of the size of a page, or more if less can't be closed.
fn last_closable(topic: &TopicState, exported: SegmentId, size: PageSize, waits: bool) -> Option<SegmentId> {
    let mut segments: BTreeMap<SegmentId, SegmentRuns> = BTreeMap::new();
    let mut ends: BTreeMap<Arc<str>, SegmentId> = BTreeMap::new();
    for run in topic.partitions.iter().flat_map(|partition| &partition.runs) {
        let segment = segments.entry(run.segment).or_default();
        segment.count += 1;
        segment.bytes += run.bytes.length;
        match &run.indexed {
            IndexStatus::Pending => segment.waits |= waits,
            IndexStatus::Unreadable(_) => {}
            IndexStatus::Archive(key) => {
                let end = ends.entry(key.clone()).or_insert(run.segment);
                *end = run.segment.max(*end);
                segment.archives.push(key.clone());
            }
        }
    }
    let (mut count, mut bytes, mut not_before, mut found) = (0, 0, SegmentId::default(), None);
    for (id, segment) in segments.into_iter().take_while(|(id, segment)| *id <= exported && !segment.waits) {
        count += segment.count;
        bytes += segment.bytes;
        not_before = segment.archives.iter().map(|key| ends[key]).fold(not_before, SegmentId::max);
        if (count > size.runs || bytes > size.bytes) && found.is_some() {
            break;
        }
        if (count >= size.enough || bytes >= size.bytes) && id >= not_before {
            found = Some(id);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use chronik_format::batch::TimeSpan;
    use chronik_format::catalog::page::PageBuilder;
    use chronik_format::ids::{Incarnation, LaneId, PartitionId};
    use chronik_format::job::CoveredRun;
    use chronik_format::names::{ArchiveName, PageName, SegmentName};
    use chronik_format::origin::Origin;
    use chronik_format::span::{ByteSpan, OffsetSpan};
    use ulid::Ulid;
    use uuid::Uuid;

    use super::*;
    use crate::publish::folding::{FoldablePages, foldable};
    use crate::publish::page_tree::page_name;
    use crate::publish::topic_runs::open_runs;
    use crate::state::checkpoint;
    use crate::state::command::{
        Append, ArchiveFacts, ClosePage, Command, CreateTopic, ForgetResults, RegisterResult, RegisterSegment,
        ReplacePages, SegmentRun,
    };
    use crate::state::partition::{PartitionRun, PartitionState};
    use crate::state::topic_config::TopicConfig;

    const TOPIC: TopicId = TopicId(Uuid::from_u128(1));

    /// A topic of two partitions whose runs are in segments of one index each: `p` pending, `u` unreadable, others
    /// under the archive of that name; a segment has a letter for each of its runs, those of the first partition first.
    fn topic(segments: &[&str], search: bool) -> LaneState {
        topic_registered(segments, search, 0)
    }

    fn topic_registered(segments: &[&str], search: bool, at: Timestamp) -> LaneState {
        let mut state = LaneState::new(Incarnation(1));
        let config = TopicConfig::new([("search.enabled".to_owned(), search.to_string())]).unwrap();
        let create = CreateTopic { id: TOPIC, name: "t".into(), partitions: 2, config };
        state.apply_frame(1, &[Command::CreateTopic(create)])[0].as_ref().unwrap();
        state.applied = 1000;
        for (index, letters) in (1..).zip(segments) {
            let runs = Vec::<SegmentRun>::new();
            let register = RegisterSegment {
                incarnation: Incarnation(1),
                first: index,
                last: index,
                key: format!("segment-{index}"),
                size: 1,
                crc: 0,
                directory_position: 0,
                named_at: at,
                at,
                runs,
            };
            state.adopt_segment(&register).unwrap();
            let topic = Arc::make_mut(state.topics.get_mut(&TOPIC).unwrap());
            for (partition, letter) in (0..).zip(letters.chars()) {
                let partition = topic.partition_mut(partition as PartitionId % 2).unwrap();
                let offset = partition.shipped_to;
                partition.shipped_to += 1;
                partition.runs.push_back(PartitionRun {
                    offsets: OffsetSpan { first: offset, last: offset },
                    segment: SegmentId(index),
                    bytes: ByteSpan { position: 0, length: 1 },
                    times: TimeSpan::at(1),
                    indexed: match letter {
                        'p' => IndexStatus::Pending,
                        'u' => IndexStatus::Unreadable("because".into()),
                        archive => IndexStatus::Archive(archive.to_string().into()),
                    },
                });
            }
        }
        state
    }

    #[test]
    fn a_topic_is_closed_as_far_as_it_is_settled_and_fits_a_page() {
        for (why, segments, enough, page_runs, exported, expected) in [
            ("all settled", &["aa", "bb", "cc"][..], 1, 99, 99, Some(3)),
            ("unreadable ones too", &["aa", "ub"], 1, 99, 99, Some(2)),
            ("up to one that waits", &["aa", "bp", "cc"], 1, 99, 99, Some(1)),
            ("nothing before one that waits", &["ap", "bb"], 1, 99, 99, None),
            ("what fits", &["aa", "bb", "cc"], 1, 4, 99, Some(2)),
            ("a segment that alone is too large", &["aaaa", "bb"], 1, 3, 99, Some(1)),
            ("not enough", &["aa", "bb"], 5, 9, 99, None),
            ("just enough", &["aa", "bb"], 4, 9, 99, Some(2)),
            ("not across an archive", &["aa", "bc", "cc"], 1, 4, 99, Some(1)),
            ("an archive that is larger than a page", &["ab", "bb", "bb"], 1, 2, 99, Some(3)),
            ("an archive with one that waits behind it", &["ab", "bp"], 1, 99, 99, None),
            ("only what is exported", &["aa", "bb", "cc"], 1, 99, 2, Some(2)),
            ("no archive beyond what is exported", &["aa", "bc", "cc"], 1, 99, 2, Some(1)),
            ("nothing is exported", &["aa"], 1, 99, 0, None),
        ] {
            let state = topic(segments, true);
            let size = PageSize { enough, runs: page_runs, bytes: u64::MAX };
            let found = last_closable(&state.topics[&TOPIC], SegmentId(exported), size, true);
            assert_eq!(found, expected.map(SegmentId), "{why}");
        }
    }

    /// Each run has one byte.
    #[test]
    fn large_runs_make_a_page_however_few_they_are() {
        for (why, segments, page_bytes, expected) in [
            ("too few bytes", &["aa", "bb"][..], 5, None),
            ("as many as it takes", &["aa", "bb"], 4, Some(2)),
            ("no more than it takes", &["aa", "bb", "cc", "dd"], 5, Some(3)),
            ("a segment that alone is too large", &["aaaa", "bb"], 3, Some(1)),
            ("an archive that is larger than a page", &["ab", "bb", "bb", "cc"], 2, Some(3)),
        ] {
            let limits = PageLimits { page_bytes, ..PageLimits::default() };
            let found = closable(&topic(segments, true), 99, limits, 0);
            assert_eq!(found.first().map(|closable| closable.last), expected, "{why}");
        }
    }

    #[test]
    fn what_is_not_searched_waits_for_nothing() {
        let limits = PageLimits { page_runs: 2, open_runs: 0, ..PageLimits::default() };
        let closable = |search| closable(&topic(&["pp"], search), 99, limits, 0);
        assert_eq!(closable(true), []);
        assert_eq!(closable(false), [ClosableRuns { topic: TOPIC, last: 1 }]);
    }

    #[test]
    fn the_oldest_of_too_many_that_wait_are_closed_although_they_do() {
        let of_a_page = PageLimits { page_runs: 2, ..PageLimits::default() };
        let of_all = PageLimits { page_runs: 16, waiting_runs: 16, ..PageLimits::default() };
        for (why, segments, limits, exported, expected) in [
            ("as many as may wait", vec!["p"; 7], of_a_page, 99, None),
            ("one more", vec!["p"; 8], of_a_page, 99, Some(2)),
            ("what is settled goes first", [&["a"; 3][..], &["p"; 8]].concat(), of_a_page, 99, Some(3)),
            ("as far as they are exported", vec!["pp"; 8], of_a_page, 1, Some(1)),
            ("not across an archive", [&["pa", "pa"], &["p"; 8][..]].concat(), of_a_page, 99, Some(2)),
            ("as many as may wait of all topics", vec!["pp"; 8], of_all, 99, None),
            ("more than that", vec!["pp"; 9], of_all, 99, Some(8)),
        ] {
            let state = with_pending(topic(&segments, true));
            let found = closable(&state, exported, limits, 0);
            assert_eq!(found.first().map(|closable| closable.last), expected, "{why}");
        }
    }

    #[test]
    fn however_little_is_open_it_is_closed_as_its_day_ends() {
        const MINUTE_MS: i64 = 60 * 1000;
        let limits = PageLimits::default();
        let day = 20_000 * DAY_MS;
        for (why, segments, registered, now, expected) in [
            ("in the evening", &["a", "a"][..], day, day + 23 * HOUR_MS, Some(2)),
            ("not before", &["a", "a"], day, day + 23 * HOUR_MS - 1, None),
            ("nor what is new", &["a"], day + 22 * HOUR_MS, day + 23 * HOUR_MS, None),
            ("what is older", &["a"], day + 22 * HOUR_MS - 1, day + 23 * HOUR_MS, Some(1)),
            ("after midnight, too", &["a"], day, day + DAY_MS + MINUTE_MS, Some(1)),
            ("the next evening at the latest", &["a"], day + 22 * HOUR_MS, day + DAY_MS + 23 * HOUR_MS, Some(1)),
            ("up to what waits for archives", &["a", "p", "b"], day, day + 23 * HOUR_MS, Some(1)),
            ("if it has not waited for as long", &["p", "a"], day, day + 23 * HOUR_MS, Some(2)),
            ("not across an archive", &["b", "ab", "p"], day, day + 23 * HOUR_MS, Some(2)),
        ] {
            let state = topic_registered(segments, true, registered);
            let found = closable(&state, 99, limits, now);
            assert_eq!(found.first().map(|closable| closable.last), expected, "{why}");
        }
    }

    /// The state as it is restored: what waits follows from the topics.
    fn with_pending(state: LaneState) -> LaneState {
        let bytes = checkpoint::encode(&state, Uuid::nil(), LaneId(0));
        checkpoint::decode("test", bytes, Uuid::nil(), LaneId(0)).unwrap()
    }

    #[test]
    fn the_more_topics_there_are_the_fewer_runs_of_each_are_open() {
        let limits = PageLimits::default();
        assert_eq!(
            [0, 1, 64, 128, 10_000, 1_000_000].map(|topics| limits.enough(topics)),
            [4096, 4096, 4096, 2048, 26, 16]
        );
    }

    fn apply(state: &mut LaneState, commands: &[Command]) {
        state.apply_frame(state.applied + 1, commands).into_iter().for_each(|result| result.unwrap());
    }

    /// Ships a segment with a run of every partition.
    fn ship(state: &mut LaneState) -> RegisterSegment {
        let partitions = state.topics[&TOPIC].partitions.clone();
        let append = |(partition, known): (PartitionId, &Arc<PartitionState>)| {
            Command::Append(Append {
                topic: TOPIC,
                partition,
                base_offset: known.next_offset,
                last_offset: known.next_offset + 9,
                position: 0,
                length: 1000,
                producer: None,
            })
        };
        apply(state, &(0..).zip(&partitions).map(append).collect::<Vec<_>>());
        let (first, last) = (state.shipped_index() + 1, state.applied);
        let at = 1_700_000_000_000 + 10_000 * last as i64;
        let times = TimeSpan { earliest: at, latest: at + 9_999 };
        let run = |(partition, known): (PartitionId, &Arc<PartitionState>)| SegmentRun {
            topic: TOPIC,
            partition,
            offsets: OffsetSpan { first: known.next_offset, last: known.next_offset + 9 },
            bytes: ByteSpan { position: 1000 * partition as u64, length: 1000 },
            times,
        };
        let name = SegmentName { lane: LaneId(0), incarnation: Incarnation(1), first, last, ulid: Ulid(last.into()) };
        let register = RegisterSegment {
            incarnation: Incarnation(1),
            first,
            last,
            key: name.to_string(),
            size: 1 << 24,
            crc: 0xffff_ffff,
            directory_position: 1 << 23,
            named_at: at,
            at,
            runs: (0..).zip(&partitions).map(run).collect(),
        };
        apply(state, &[Command::RegisterSegment(register.clone())]);
        register
    }

    /// Registers an archive over all of a segment.
    fn index(state: &mut LaneState, segment: &RegisterSegment) {
        let RegisterSegment { last, at, .. } = *segment;
        let covered = segment.runs.iter().map(|run| CoveredRun {
            segment: segment.key.clone(),
            partition: run.partition,
            first: run.offsets.first,
            last: run.offsets.last,
            min_timestamp: Some(run.times.earliest),
            max_timestamp: Some(run.times.latest),
        });
        let archive = ArchiveName { topic: TOPIC, incarnation: Incarnation(1), ulid: Ulid(last.into()) }.to_string();
        let facts =
            ArchiveFacts { key: archive, size: 1 << 20, crc: 1, records: 1000, named_at: at, runs: covered.collect() };
        let result = RegisterResult {
            result: format!("result-{last}"),
            topic: TOPIC,
            index_epoch: 0,
            at,
            archives: vec![facts],
            unreadable: vec![],
        };
        let forget = ForgetResults { results: vec![result.result.clone()] };
        apply(state, &[Command::RegisterResult(result), Command::ForgetResults(forget)]);
    }

    /// Closes and folds what is to be.
    fn close_and_fold(state: &mut LaneState, limits: PageLimits) {
        for closable in closable(state, LogIndex::MAX, limits, 0) {
            let close = page_of(state, closable);
            apply(state, &[Command::ClosePage(close)]);
        }
        for FoldablePages { topic, pages } in foldable(state, limits) {
            let builder = PageBuilder { origin: ORIGIN, topic, written_at: 0 };
            let page = builder.inner(page_name(builder), &pages).unwrap();
            let old = pages.iter().map(|page| page.object.clone()).collect();
            let replace = ReplacePages { topic, old, new: vec![page.entry], gone: vec![], deleted: vec![], at: 0 };
            apply(state, &[Command::ReplacePages(replace)]);
        }
    }

    const ORIGIN: Origin = Origin { cluster: Uuid::nil(), incarnation: Incarnation(1), lane: LaneId(0) };

    fn page_of(state: &LaneState, ClosableRuns { topic, last }: ClosableRuns) -> ClosePage {
        let runs = open_runs(&state.topics[&topic], &state.segments, last);
        let object = PageName { topic, incarnation: Incarnation(1), ulid: Ulid(last.into()) }.to_string();
        let page = PageBuilder { origin: ORIGIN, topic, written_at: 0 }.leaf(object, &runs, last).unwrap();
        assert!(page.bytes.len() < 1 << 20, "{} bytes", page.bytes.len());
        ClosePage { topic, page: page.entry }
    }

    fn one_topic(partitions: i32) -> LaneState {
        let mut state = LaneState::new(Incarnation(1));
        let create = CreateTopic { id: TOPIC, name: "t".into(), partitions, config: TopicConfig::default() };
        apply(&mut state, &[Command::CreateTopic(create)]);
        state
    }

    #[test]
    fn a_history_of_any_length_leaves_a_page_of_it_open() {
        let limits = PageLimits { fan_out: 1000, ..PageLimits::default() };
        let (mut state, segments) = (one_topic(100), 200);
        for _ in 0..segments {
            let segment = ship(&mut state);
            index(&mut state, &segment);
            close_and_fold(&mut state, limits);
            assert!(state.topics[&TOPIC].open_runs() < limits.page_runs);
            assert!(state.topics[&TOPIC].archives.len() <= limits.page_runs / 100);
        }
        let (pages, open) = (&state.topics[&TOPIC].pages, state.topics[&TOPIC].open_runs());
        assert_eq!((pages.len(), open), (segments * 100 / 4100, segments * 100 % 4100));
    }

    #[test]
    fn a_million_runs_that_wait_for_archives_leave_four_pages_of_them_open() {
        let (limits, partitions, segments) = (PageLimits::default(), 1000, 1000);
        let mut state = one_topic(partitions);
        for _ in 0..segments / 4 {
            (0..4).for_each(|_| drop(ship(&mut state)));
            close_and_fold(&mut state, limits);
            assert!(state.pending.len() < 4 * limits.page_runs);
        }
        let waiting = state.waiting(&state.topics[&TOPIC]);
        assert_eq!((waiting.runs, waiting.bytes), (1_000_000, 1_000_000_000));
        let bytes = checkpoint::encode(&state, Uuid::nil(), LaneId(0)).len();
        assert!(bytes < 2 << 20, "{bytes} bytes of checkpoint");
    }
}
