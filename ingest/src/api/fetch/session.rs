//! What is remembered of a client from fetch to fetch, so that it names only what it wants otherwise than before, and
//! is told only what has changed (KIP-227; `FetchSession` of Apache Kafka).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chronik_format::ids::{PartitionId, TopicId};
use chronik_wire::{EpochEndOffset, ErrorCode, FetchPartition, FetchTopic, ForgottenTopic, PartitionData};

use crate::lane::tail_watch::TailWatch;
use crate::lane::watcher::TailWatcher;

/// Bytes that a session takes for each partition, beside its topic's name: entries of three maps that may be half
/// empty, a watch and its mark.
const PARTITION_BYTES: usize = 640;

/// Why a request has no place in a session. The client goes on with a full fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error("there is no fetch session {id}, or it had to make room for others")]
    UnknownId { id: i32 },
    #[error("the fetch session's next request has epoch {expected}, not {epoch}")]
    Epoch { expected: i32, epoch: i32 },
    #[error("all requests of a fetch session name topics by id, or all by name")]
    Naming,
}

/// How a request names a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicKey {
    Name(Arc<str>),
    Id(TopicId),
}

/// How a request names a partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartitionKey {
    pub topic: TopicKey,
    pub partition: PartitionId,
}

/// A partition of a session that may have something to tell.
#[derive(Clone, Debug)]
pub struct DuePartition {
    /// What its request knows it by.
    pub number: u64,
    /// Its place in the order in which partitions get their share of an answer.
    pub order: u64,
    pub key: PartitionKey,
    /// What the client asks of it.
    pub asked: FetchPartition,
    pub watch: Option<Arc<TailWatch>>,
}

/// What was found of a partition.
#[derive(Debug)]
pub struct FoundPartition {
    pub number: u64,
    pub topic: TopicKey,
    /// What the client would be told.
    pub response: PartitionData,
    /// Nothing is left to tell until the partition changes.
    pub is_quiet: bool,
    pub watch: Option<Arc<TailWatch>>,
}

/// How large a session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionSize {
    pub partitions: usize,
    pub bytes: usize,
}

/// A client's partitions, and what it knows of them. Requests follow one another by their epoch.
#[derive(Debug)]
pub struct FetchSession {
    by_id: bool,
    /// Of the next request.
    epoch: i32,
    numbers: HashMap<PartitionKey, u64>,
    partitions: HashMap<u64, SessionPartition>,
    /// Those that may have something to tell, by their place in the session's order. All others are watched.
    due: BTreeMap<u64, u64>,
    next_number: u64,
    next_order: u64,
    bytes: usize,
    watcher: Arc<TailWatcher>,
}

#[derive(Debug)]
struct SessionPartition {
    key: PartitionKey,
    asked: FetchPartition,
    told: ToldBounds,
    order: u64,
    watch: Option<Arc<TailWatch>>,
}

/// What the client knows of a partition; -1 for what it has to be told in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ToldBounds {
    high_watermark: i64,
    log_start: i64,
}

impl PartitionKey {
    /// The partitions that a request names, and what it asks of them.
    pub fn of_topics(topics: Vec<FetchTopic>, by_id: bool) -> Vec<(Self, FetchPartition)> {
        let partitions = topics.into_iter().flat_map(|FetchTopic { topic, topic_id, partitions }| {
            let topic = TopicKey::new(topic, TopicId(topic_id), by_id);
            partitions.into_iter().map(move |asked| (Self { topic: topic.clone(), partition: asked.partition }, asked))
        });
        partitions.collect()
    }

    /// The partitions that leave a session.
    pub fn of_forgotten(topics: Vec<ForgottenTopic>, by_id: bool) -> Vec<Self> {
        let partitions = topics.into_iter().flat_map(|ForgottenTopic { topic, topic_id, partitions }| {
            let topic = TopicKey::new(topic, TopicId(topic_id), by_id);
            partitions.into_iter().map(move |partition| Self { topic: topic.clone(), partition })
        });
        partitions.collect()
    }

    /// How large a session of these partitions is.
    pub fn session_size(named: &[(Self, FetchPartition)]) -> SessionSize {
        SessionSize { partitions: named.len(), bytes: named.iter().map(|(key, _)| key.bytes()).sum() }
    }

    /// Bytes that a session takes for it.
    fn bytes(&self) -> usize {
        let name = match &self.topic {
            TopicKey::Name(name) => name.len(),
            TopicKey::Id(_) => 0,
        };
        PARTITION_BYTES + name
    }
}

impl TopicKey {
    fn new(name: String, id: TopicId, by_id: bool) -> Self {
        if by_id { Self::Id(id) } else { Self::Name(name.into()) }
    }
}

impl FetchSession {
    /// A session that begins with these partitions, known by their indexes and watched by `watcher`. `by_id` says how
    /// its requests name topics.
    pub fn new(named: Vec<(PartitionKey, FetchPartition)>, by_id: bool, watcher: Arc<TailWatcher>) -> Self {
        let mut session = Self {
            by_id,
            epoch: 1,
            numbers: HashMap::new(),
            partitions: HashMap::new(),
            due: BTreeMap::new(),
            next_number: 0,
            next_order: 0,
            bytes: 0,
            watcher,
        };
        session.ask(named);
        session
    }

    /// Takes a request if it is the next one: what it asks for, and what it forgets. Returns the epoch of the request
    /// after it.
    pub fn take(
        &mut self,
        epoch: i32,
        by_id: bool,
        named: Vec<(PartitionKey, FetchPartition)>,
        forgotten: &[PartitionKey],
    ) -> Result<i32, SessionError> {
        self.expect(epoch)?;
        if by_id != self.by_id {
            return Err(SessionError::Naming);
        }
        self.ask(named);
        forgotten.iter().for_each(|key| self.forget(key));
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        Ok(self.epoch)
    }

    /// Whether `epoch` is that of the next request.
    pub fn expect(&self, epoch: i32) -> Result<(), SessionError> {
        let expected = self.epoch;
        if epoch == expected { Ok(()) } else { Err(SessionError::Epoch { expected, epoch }) }
    }

    fn ask(&mut self, named: Vec<(PartitionKey, FetchPartition)>) {
        for (key, asked) in named {
            let number = self.next_number;
            self.next_number += 1;
            let known = self.numbers.get(&key).and_then(|number| Some((*number, self.partitions.get_mut(number)?)));
            let (number, order) = match known {
                Some((number, known)) => {
                    known.asked = asked;
                    (number, known.order)
                }
                None => (number, self.add(number, key, asked)),
            };
            self.due.insert(order, number);
        }
    }

    fn add(&mut self, number: u64, key: PartitionKey, asked: FetchPartition) -> u64 {
        let order = self.last_place();
        self.bytes += key.bytes();
        self.numbers.insert(key.clone(), number);
        let told = ToldBounds { high_watermark: -1, log_start: -1 };
        self.partitions.insert(number, SessionPartition { key, asked, told, order, watch: None });
        order
    }

    fn forget(&mut self, key: &PartitionKey) {
        if let Some(number) = self.numbers.remove(key)
            && let Some(gone) = self.partitions.remove(&number)
        {
            self.due.remove(&gone.order);
            self.bytes -= key.bytes();
        }
    }

    /// A place behind all others.
    fn last_place(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    /// How large it is.
    pub fn size(&self) -> SessionSize {
        SessionSize { partitions: self.partitions.len(), bytes: self.bytes }
    }

    /// Watches those partitions that have nothing to tell.
    pub fn watcher(&self) -> &Arc<TailWatcher> {
        &self.watcher
    }

    /// The partitions that may have something to tell, in the session's order.
    pub fn due(&mut self) -> Vec<DuePartition> {
        self.changed();
        self.due.values().filter_map(|number| self.due_partition(*number)).collect()
    }

    /// Those that have changed since the last call, by no particular order.
    pub fn changed(&mut self) -> Vec<DuePartition> {
        let changed = self.watcher.take();
        for number in &changed {
            if let Some(known) = self.partitions.get(number) {
                self.due.insert(known.order, *number);
            }
        }
        changed.into_iter().filter_map(|number| self.due_partition(number)).collect()
    }

    fn due_partition(&self, number: u64) -> Option<DuePartition> {
        let SessionPartition { key, asked, order, watch, .. } = self.partitions.get(&number)?;
        Some(DuePartition { number, order: *order, key: key.clone(), asked: asked.clone(), watch: watch.clone() })
    }

    /// Remembers what is told of a partition; returns whether it has to be told. One that has records goes to the end
    /// of the order, so that others come to theirs.
    pub fn settle(&mut self, found: &FoundPartition) -> bool {
        let FoundPartition { number, response, is_quiet, watch, .. } = found;
        let place = self.last_place();
        let Some(known) = self.partitions.get_mut(number) else { return true };
        let told = ToldBounds::of(response);
        let has_records = response.records.total_len() > 0;
        let has_failed = response.error_code != ErrorCode::NONE;
        let is_told =
            has_records || has_failed || response.diverging_epoch != EpochEndOffset::default() || told != known.told;
        known.told = told;
        known.watch = watch.clone();
        self.due.remove(&known.order);
        if has_records {
            known.order = place;
        }
        if !is_quiet || known.watch.is_none() {
            self.due.insert(known.order, *number);
        }
        is_told
    }
}

impl ToldBounds {
    /// After an error, the client is told as soon as it is over.
    fn of(response: &PartitionData) -> Self {
        let high_watermark = if response.error_code == ErrorCode::NONE { response.high_watermark } else { -1 };
        Self { high_watermark, log_start: response.log_start_offset }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;

    use super::*;
    use crate::lane::tail::PartitionTail;
    use crate::state::partition::PartitionState;

    /// A topic's partitions and the session that reads them.
    struct World {
        session: FetchSession,
        tails: Vec<Arc<PartitionTail>>,
    }

    fn key(partition: i32) -> PartitionKey {
        PartitionKey { topic: TopicKey::Name("t".into()), partition }
    }

    fn asked(partition: i32, fetch_offset: i64) -> (PartitionKey, FetchPartition) {
        (key(partition), FetchPartition { partition, fetch_offset, ..Default::default() })
    }

    fn quiet(high_watermark: i64, log_start_offset: i64) -> PartitionData {
        PartitionData { high_watermark, log_start_offset, ..Default::default() }
    }

    fn records(high_watermark: i64) -> PartitionData {
        PartitionData { records: Bytes::from_static(b"records").into(), ..quiet(high_watermark, 0) }
    }

    fn failed(error_code: ErrorCode) -> PartitionData {
        PartitionData { error_code, ..quiet(-1, -1) }
    }

    impl World {
        fn new(partitions: i32) -> Self {
            let tail = |_| Arc::new(PartitionTail::new(&PartitionState::new(1, Default::default())));
            Self {
                session: FetchSession::new(
                    (0..partitions).map(|partition| asked(partition, 0)).collect(),
                    false,
                    Arc::default(),
                ),
                tails: (0..partitions).map(tail).collect(),
            }
        }

        /// The partitions that are due, in their order.
        fn due(&mut self) -> Vec<i32> {
            self.session.due().iter().map(|due| due.key.partition).collect()
        }

        /// Answers each partition that is due with what `respond` finds; returns those that are told.
        fn answer(&mut self, respond: impl Fn(i32) -> PartitionData) -> Vec<i32> {
            let mut told = Vec::new();
            for due in self.session.due() {
                let response = respond(due.key.partition);
                let watch = || {
                    let tail = &self.tails[due.key.partition as usize];
                    Arc::new(TailWatch::new(self.session.watcher(), tail, due.number))
                };
                let is_quiet = response.error_code == ErrorCode::NONE && response.records.total_len() == 0;
                let watch = is_quiet.then(|| due.watch.clone().unwrap_or_else(watch));
                let topic = due.key.topic;
                let is_told =
                    self.session.settle(&FoundPartition { number: due.number, topic, response, is_quiet, watch });
                told.extend(is_told.then_some(due.key.partition));
            }
            told
        }

        fn ask(&mut self, named: Vec<(PartitionKey, FetchPartition)>, forgotten: &[i32]) {
            let forgotten: Vec<_> = forgotten.iter().map(|partition| key(*partition)).collect();
            self.session.take(self.session.epoch, false, named, &forgotten).unwrap();
        }
    }

    #[test]
    fn a_partition_is_told_when_it_differs_from_what_the_client_knows() {
        let diverging_epoch = EpochEndOffset { epoch: 1, end_offset: 2 };
        for (before, now, is_told) in [
            (quiet(5, 0), quiet(5, 0), false),
            (quiet(5, 0), quiet(6, 0), true),
            (quiet(5, 0), quiet(5, 2), true),
            (quiet(5, 0), records(5), true),
            (records(5), quiet(5, 0), false),
            (quiet(5, 0), failed(ErrorCode::UNKNOWN_TOPIC_ID), true),
            (failed(ErrorCode::UNKNOWN_TOPIC_ID), failed(ErrorCode::UNKNOWN_TOPIC_ID), true),
            (failed(ErrorCode::KAFKA_STORAGE_ERROR), quiet(5, -1), true),
            (PartitionData { high_watermark: 5, ..failed(ErrorCode::OFFSET_OUT_OF_RANGE) }, quiet(5, -1), true),
            (quiet(5, 0), PartitionData { diverging_epoch, ..quiet(5, 0) }, true),
        ] {
            let mut world = World::new(1);
            assert_eq!(world.answer(|_| before.clone()), [0], "at first, all is told");
            world.ask(vec![asked(0, 5)], &[]);
            assert_eq!(!world.answer(|_| now.clone()).is_empty(), is_told, "{before:?} {now:?}");
        }
    }

    #[test]
    fn only_what_may_have_something_to_tell_is_looked_at() {
        let mut world = World::new(4);
        assert_eq!(world.due(), [0, 1, 2, 3]);
        let respond = |partition| match partition {
            1 => records(9),
            2 => failed(ErrorCode::KAFKA_STORAGE_ERROR),
            _ => quiet(0, 0),
        };
        assert_eq!(world.answer(respond), [0, 1, 2, 3]);
        // What had records may have more, what failed is tried again.
        assert_eq!(world.due(), [2, 1]);
        assert_eq!(world.answer(|_| quiet(0, 0)), [2, 1]);
        assert_eq!(world.due(), [0; 0]);
        world.ask(vec![asked(3, 1), asked(0, 1)], &[]);
        assert_eq!(world.due(), [0, 3]);
        assert_eq!(world.answer(|_| quiet(0, 0)), [0; 0]);
        assert_eq!(world.due(), [0; 0]);
    }

    #[test]
    fn what_is_not_watched_is_looked_at_each_time() {
        let mut world = World::new(1);
        let [due] = &world.session.due()[..] else { panic!("one is due") };
        let (number, topic) = (due.number, due.key.topic.clone());
        world.session.settle(&FoundPartition { number, topic, response: quiet(0, 0), is_quiet: true, watch: None });
        assert_eq!(world.due(), [0]);
    }

    #[test]
    fn who_had_records_comes_last_the_next_time() {
        let mut world = World::new(4);
        let mut had = Vec::new();
        for _ in 0..4 {
            // There is room for the records of two.
            let first: Vec<_> = world.due().into_iter().take(2).collect();
            had.extend(first.clone());
            world.answer(|partition| match first.contains(&partition) {
                true => records(9),
                false => PartitionData { error_code: ErrorCode::KAFKA_STORAGE_ERROR, ..quiet(-1, -1) },
            });
        }
        assert_eq!(had, [0, 1, 2, 3, 0, 1, 2, 3]);
    }

    #[test]
    fn a_partition_that_is_asked_for_again_keeps_its_place_and_one_that_was_forgotten_comes_last() {
        let mut world = World::new(3);
        world.ask(vec![asked(1, 7)], &[0]);
        world.ask(vec![asked(0, 8)], &[]);
        let due = world.session.due();
        let places: Vec<_> = due.iter().map(|due| (due.key.partition, due.asked.fetch_offset)).collect();
        assert_eq!(places, [(1, 7), (2, 0), (0, 8)]);
        let bytes = world.session.size().bytes;
        world.ask(vec![], &[0, 1, 9]);
        assert_eq!(world.session.size(), SessionSize { partitions: 1, bytes: bytes / 3 });
    }

    #[test]
    fn a_partition_named_twice_is_one() {
        let mut session = FetchSession::new(vec![asked(0, 1), asked(1, 1), asked(0, 2)], false, Arc::default());
        let places: Vec<_> = session.due().iter().map(|due| (due.key.partition, due.asked.fetch_offset)).collect();
        assert_eq!(places, [(0, 2), (1, 1)]);
    }

    #[test]
    fn requests_follow_one_another_and_name_topics_in_one_way() {
        let mut session = FetchSession::new(vec![asked(0, 0)], false, Arc::default());
        for (epoch, by_id, outcome) in [
            (2, false, Err(SessionError::Epoch { expected: 1, epoch: 2 })),
            (-7, false, Err(SessionError::Epoch { expected: 1, epoch: -7 })),
            (1, true, Err(SessionError::Naming)),
            (1, false, Ok(2)),
            (1, false, Err(SessionError::Epoch { expected: 2, epoch: 1 })),
            (2, false, Ok(3)),
        ] {
            assert_eq!(session.take(epoch, by_id, vec![], &[]), outcome, "{epoch} {by_id}");
        }
        session.epoch = i32::MAX;
        assert_eq!(session.take(i32::MAX, false, vec![], &[]), Ok(1), "0 would be a full fetch");
    }
}
