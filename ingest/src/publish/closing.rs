//! Closing: what of a topic's open runs is settled goes into a leaf, once there is enough of it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use chronik_format::ids::{LogIndex, TopicId};

use super::pages::{PAGES_AT_ONCE, PageLimits};
use crate::state::LaneState;
use crate::state::partition::IndexStatus;
use crate::state::segments::SegmentId;
use crate::state::topic::TopicState;

/// No topic with fewer open runs is closed, however many topics there are.
const OPEN_RUNS_MIN: usize = 16;

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
}

/// What there is to close, in segments up to `exported`; of each topic about a page.
pub fn closable(state: &LaneState, exported: LogIndex, limits: PageLimits) -> Vec<ClosableRuns> {
    let enough = limits.enough(state.topics.len());
    let topics = state.topics.values().filter(|topic| topic.open_runs() >= enough);
    let closable = topics.filter_map(|topic| {
        let SegmentId(last) = last_closable(topic, SegmentId(exported), enough..=limits.page_runs)?;
        Some(ClosableRuns { topic: topic.id, last })
    });
    closable.take(PAGES_AT_ONCE).collect()
}

/// The open runs of a topic in one segment.
#[derive(Default)]
struct SegmentRuns {
    count: usize,
    /// Whether one may still get an archive.
    waits: bool,
    /// The archives over them.
    archives: Vec<Arc<str>>,
}

/// The segment up to which a topic is closed next: all runs there are settled, no archive is over runs behind it too,
/// and they are as many as `runs` says, or more if less can't be closed.
fn last_closable(topic: &TopicState, exported: SegmentId, runs: RangeInclusive<usize>) -> Option<SegmentId> {
    let mut segments: BTreeMap<SegmentId, SegmentRuns> = BTreeMap::new();
    let mut ends: BTreeMap<Arc<str>, SegmentId> = BTreeMap::new();
    for run in topic.partitions.iter().flat_map(|partition| &partition.runs) {
        let segment = segments.entry(run.segment).or_default();
        segment.count += 1;
        match &run.indexed {
            IndexStatus::Pending => segment.waits |= topic.config.search_enabled(),
            IndexStatus::Unreadable(_) => {}
            IndexStatus::Archive(key) => {
                let end = ends.entry(key.clone()).or_insert(run.segment);
                *end = run.segment.max(*end);
                segment.archives.push(key.clone());
            }
        }
    }
    let (mut count, mut not_before, mut found) = (0, SegmentId::default(), None);
    for (id, segment) in segments.into_iter().take_while(|(id, segment)| *id <= exported && !segment.waits) {
        count += segment.count;
        not_before = segment.archives.iter().map(|key| ends[key]).fold(not_before, SegmentId::max);
        if count > *runs.end() && found.is_some() {
            break;
        }
        if count >= *runs.start() && id >= not_before {
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
    use crate::publish::topic_runs::open_runs;
    use crate::state::command::{
        Append, ArchiveFacts, ClosePage, Command, CreateTopic, ForgetResults, RegisterResult, RegisterSegment,
        SegmentRun,
    };
    use crate::state::partition::{PartitionRun, PartitionState};
    use crate::state::topic_config::TopicConfig;

    const TOPIC: TopicId = TopicId(Uuid::from_u128(1));

    /// A topic of two partitions whose runs are in segments of one index each: `p` pending, `u` unreadable, others
    /// under the archive of that name; a segment has a letter for each of its runs, those of the first partition first.
    fn topic(segments: &[&str], search: bool) -> LaneState {
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
                named_at: 0,
                at: 0,
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
            let found = last_closable(&state.topics[&TOPIC], SegmentId(exported), enough..=page_runs);
            assert_eq!(found, expected.map(SegmentId), "{why}");
        }
    }

    #[test]
    fn what_is_not_searched_waits_for_nothing() {
        let limits = PageLimits { page_runs: 2, open_runs: 0, ..PageLimits::default() };
        let closable = |search| closable(&topic(&["pp"], search), 99, limits);
        assert_eq!(closable(true), []);
        assert_eq!(closable(false), [ClosableRuns { topic: TOPIC, last: 1 }]);
    }

    #[test]
    fn the_more_topics_there_are_the_fewer_runs_of_each_are_open() {
        let limits = PageLimits::default();
        assert_eq!(
            [0, 1, 64, 128, 10_000, 1_000_000].map(|topics| limits.enough(topics)),
            [4096, 4096, 4096, 2048, 26, 16]
        );
    }

    /// Ships a segment with a run of every partition, under an archive of its own, and closes what is settled then.
    fn ship_and_close(state: &mut LaneState, limits: PageLimits) {
        let partitions = state.topics[&TOPIC].partitions.clone();
        let apply = |state: &mut LaneState, commands: &[Command]| {
            state.apply_frame(state.applied + 1, commands).into_iter().for_each(|result| result.unwrap());
        };
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
        let covered = register.runs.iter().map(|run| CoveredRun {
            segment: register.key.clone(),
            partition: run.partition,
            first: run.offsets.first,
            last: run.offsets.last,
            min_timestamp: Some(times.earliest),
            max_timestamp: Some(times.latest),
        });
        let archive = ArchiveName { topic: TOPIC, incarnation: Incarnation(1), ulid: name.ulid }.to_string();
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
        let indexed = [Command::RegisterResult(result), Command::ForgetResults(forget)];
        apply(state, &[Command::RegisterSegment(register)]);
        apply(state, &indexed);
        for closable in closable(state, LogIndex::MAX, limits) {
            let close = page_of(state, closable);
            apply(state, &[Command::ClosePage(close)]);
        }
    }

    fn page_of(state: &LaneState, ClosableRuns { topic, last }: ClosableRuns) -> ClosePage {
        let origin = Origin { cluster: Uuid::nil(), incarnation: Incarnation(1), lane: LaneId(0) };
        let runs = open_runs(&state.topics[&topic], &state.segments, last);
        let object = PageName { topic, incarnation: Incarnation(1), ulid: Ulid(last.into()) }.to_string();
        let page = PageBuilder { origin, topic, written_at: 0 }.leaf(object, &runs, last).unwrap();
        assert!(page.bytes.len() < 1 << 20, "{} bytes", page.bytes.len());
        ClosePage { topic, page: page.entry }
    }

    #[test]
    fn a_history_of_any_length_leaves_a_page_of_it_open() {
        let limits = PageLimits::default();
        let mut state = LaneState::new(Incarnation(1));
        let create = CreateTopic { id: TOPIC, name: "t".into(), partitions: 100, config: TopicConfig::default() };
        state.apply_frame(1, &[Command::CreateTopic(create)])[0].as_ref().unwrap();
        let segments = 200;
        for _ in 0..segments {
            ship_and_close(&mut state, limits);
            assert!(state.topics[&TOPIC].open_runs() < limits.page_runs);
            assert!(state.topics[&TOPIC].archives.len() <= limits.page_runs / 100);
        }
        let (pages, open) = (&state.topics[&TOPIC].pages, state.topics[&TOPIC].open_runs());
        assert_eq!((pages.len(), open), (segments * 100 / 4100, segments * 100 % 4100));
    }
}
