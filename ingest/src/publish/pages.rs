//! Pages: what of a topic's history is settled leaves the lane's state for immutable objects, so that the state stays
//! small however long the history is.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use chronik_format::catalog::page::PageBuilder;
use chronik_format::ids::{LogIndex, Timestamp, TopicId};
use chronik_format::names::PageName;
use chronik_format::origin::Origin;
use chronik_service::failpoint;
use chronik_store::SharedStore;
use futures::{StreamExt, stream};
use ulid::Ulid;

use super::error::ExportError;
use super::folding::{FoldablePages, foldable};
use super::topic_runs::open_runs;
use crate::clock::time_at;
use crate::lane::{Lane, LaneError};
use crate::metrics::PageMetrics;
use crate::state::LaneState;
use crate::state::command::{ClosePage, Command, ReplacePages};
use crate::state::partition::IndexStatus;
use crate::state::segments::SegmentId;
use crate::state::topic::TopicState;

/// No topic with fewer open runs is closed, however many topics there are.
const OPEN_RUNS_MIN: usize = 16;
/// Pages that are made before the catalog is exported again.
pub(super) const PAGES_AT_ONCE: usize = 64;
/// Pages that are uploaded at the same time.
const UPLOADS: usize = 8;

/// How much of the settled history the state names one by one.
#[derive(Clone, Copy, Debug)]
pub struct PageLimits {
    /// Runs of a page, unless one segment alone has more; some 100 to 200 bytes each.
    pub page_runs: usize,
    /// Settled runs that all topics together have open, about.
    pub open_runs: usize,
    /// Pages below another one, if these have few partitions.
    pub fan_out: usize,
    /// Pages that all topics together have at the top at one height, about.
    pub top_pages: usize,
}

impl Default for PageLimits {
    fn default() -> Self {
        Self { page_runs: 4096, open_runs: 64 * 4096, fan_out: 64, top_pages: 64 * 1024 }
    }
}

impl PageLimits {
    /// Open runs of a topic, one of so many, from which on it is closed.
    fn enough(&self, topics: usize) -> usize {
        (self.open_runs / topics.max(1)).max(OPEN_RUNS_MIN).min(self.page_runs)
    }
}

/// What of a topic can be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosableRuns {
    pub topic: TopicId,
    /// All that is open up to this log index.
    pub last: LogIndex,
}

/// Moves settled history of one lane's topics into pages.
pub struct PageCloser {
    /// Whose pages they are.
    pub origin: Origin,
    /// The lane itself.
    pub lane: Lane,
    /// The bucket.
    pub store: SharedStore,
    pub limits: PageLimits,
    pub metrics: PageMetrics,
}

impl PageCloser {
    /// Closes what is settled, as of `now`, and folds what there is too much of. `exported` is the last log index whose
    /// segments the catalog names: what lies behind it is released by offsets of open runs. A page that can't be
    /// written now is made again later.
    pub async fn close_settled(&self, exported: LogIndex, now: Timestamp) -> Result<(), ExportError> {
        let mut left = PAGES_AT_ONCE;
        while left > 0 {
            match self.close_some(exported, now).await? + self.fold_some(now).await? {
                0 => break,
                made => left = left.saturating_sub(made),
            }
        }
        let state = self.lane.snapshot().await?;
        self.metrics.open_runs.set(state.topics.values().map(|topic| topic.open_runs() as i64).sum());
        self.metrics.top_pages.set(state.topics.values().map(|topic| topic.pages.len() as i64).sum());
        Ok(())
    }

    /// Closes a page of each topic that has one, and says of how many.
    async fn close_some(&self, exported: LogIndex, now: Timestamp) -> Result<usize, ExportError> {
        let state = self.lane.snapshot().await?;
        let closable = closable(&state, exported, self.limits);
        let count = closable.len();
        let pages = stream::iter(closable).map(|closable| self.write_leaf(&state, closable, now));
        let mut pages = pages.buffer_unordered(UPLOADS);
        while let Some(close) = pages.next().await {
            failpoint!("page-created");
            if self.name(Command::ClosePage(close?)).await? {
                self.metrics.pages.inc();
            }
            failpoint!("page-closed");
        }
        Ok(count)
    }

    /// Puts pages of each topic that has too many below one, and says of how many topics.
    async fn fold_some(&self, now: Timestamp) -> Result<usize, ExportError> {
        let state = self.lane.snapshot().await?;
        let foldable = foldable(&state, self.limits);
        let count = foldable.len();
        let folds = stream::iter(foldable).map(|fold| self.write_fold(&state, fold, now));
        let mut folds = folds.buffer_unordered(UPLOADS);
        while let Some(fold) = folds.next().await {
            failpoint!("fold-created");
            if let Some(replace) = fold? {
                self.name(Command::ReplacePages(replace)).await?;
            }
            failpoint!("fold-named");
        }
        Ok(count)
    }

    /// Has the state name a page that was written; `false` if there is no place for it any more.
    async fn name(&self, command: Command) -> Result<bool, ExportError> {
        match self.lane.propose(command).await {
            Ok(()) => Ok(true),
            Err(LaneError::Gone(gone)) => Err(gone.into()),
            Err(refused) => {
                tracing::debug!("a page is made again: {refused}");
                Ok(false)
            }
        }
    }

    async fn write_leaf(
        &self,
        state: &LaneState,
        ClosableRuns { topic, last }: ClosableRuns,
        now: Timestamp,
    ) -> Result<ClosePage, ExportError> {
        let runs = state.topics.get(&topic).map(|topic| open_runs(topic, &state.segments, last)).unwrap_or_default();
        let page = self.builder(topic, now).leaf(self.page_name(topic, now), &runs, last)?;
        self.store.create(&page.entry.object, vec![page.bytes]).await?;
        Ok(ClosePage { topic, page: page.entry })
    }

    /// Nothing is written that the state would refuse: it would be again and again.
    async fn write_fold(
        &self,
        state: &LaneState,
        FoldablePages { topic, pages }: FoldablePages,
        now: Timestamp,
    ) -> Result<Option<ReplacePages>, ExportError> {
        let page = self.builder(topic, now).inner(self.page_name(topic, now), &pages)?;
        let (object, old) = (page.entry.object.clone(), pages.iter().map(|page| page.object.clone()).collect());
        let replace = ReplacePages { topic, old, new: vec![page.entry], gone: Vec::new(), at: now };
        if let Err(refused) = state.replaceable(&replace) {
            tracing::warn!("{} pages of topic {topic} can't be folded: {refused}", pages.len());
            return Ok(None);
        }
        self.store.create(&object, vec![page.bytes]).await?;
        Ok(Some(replace))
    }

    fn builder(&self, topic: TopicId, now: Timestamp) -> PageBuilder {
        PageBuilder { origin: self.origin, topic, written_at: now }
    }

    fn page_name(&self, topic: TopicId, now: Timestamp) -> String {
        PageName { topic, incarnation: self.origin.incarnation, ulid: Ulid::from_datetime(time_at(now)) }.to_string()
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
    use chronik_format::ids::{Incarnation, LaneId, PartitionId};
    use chronik_format::job::CoveredRun;
    use chronik_format::names::{ArchiveName, SegmentName};
    use chronik_format::span::{ByteSpan, OffsetSpan};
    use uuid::Uuid;

    use super::*;
    use crate::state::command::{
        Append, ArchiveFacts, CreateTopic, ForgetResults, RegisterResult, RegisterSegment, SegmentRun,
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
