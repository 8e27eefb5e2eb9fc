//! Fetch sessions, as a client sees them.

use std::collections::{BTreeMap, BTreeSet};

use chronik_wire::{
    CreatePartitionsRequest, CreatePartitionsTopic, DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
    DeleteTopicState, DeleteTopicsRequest, FetchResponse, FetchableTopicResponse, ForgottenTopic,
};
use futures::{FutureExt, poll};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::*;

/// A request in a session.
fn in_session(session_id: i32, session_epoch: i32, asked: FetchRequest) -> FetchRequest {
    FetchRequest { session_id, session_epoch, ..asked }
}

/// Nothing that differs from before.
fn unchanged(session_id: i32, session_epoch: i32) -> FetchRequest {
    in_session(session_id, session_epoch, FetchRequest { topics: vec![], ..fetch("t", &[]) })
}

fn waiting(asked: FetchRequest) -> FetchRequest {
    FetchRequest { max_wait_ms: LONG_MS, min_bytes: 1, ..asked }
}

fn forgetting(asked: FetchRequest, topic: &str, partitions: &[i32]) -> FetchRequest {
    let forgotten = ForgottenTopic { topic: topic.into(), partitions: partitions.to_vec(), ..Default::default() };
    FetchRequest { forgotten_topics_data: vec![forgotten], ..asked }
}

fn deletion(topic: &str) -> DeleteTopicsRequest {
    DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some(topic.into()), ..Default::default() }],
        ..Default::default()
    }
}

fn records_below(topic: &str, partition_index: i32, offset: i64) -> DeleteRecordsRequest {
    let partitions = vec![DeleteRecordsPartition { partition_index, offset }];
    let topics = vec![DeleteRecordsTopic { name: topic.into(), partitions }];
    DeleteRecordsRequest { topics, timeout_ms: 30_000 }
}

/// Number, code, high watermark and bytes of records of each partition that is told.
fn told(answer: &FetchResponse) -> Vec<(i32, ErrorCode, i64, usize)> {
    assert_eq!(answer.error_code, ErrorCode::NONE);
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|p| (p.partition_index, p.error_code, p.high_watermark, p.records.total_len())).collect()
}

impl Served {
    /// Begins a session.
    async fn session(&self, version: i16, asked: FetchRequest) -> i32 {
        let answer = self.ask(version, in_session(0, 0, asked)).await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
        assert_ne!(answer.session_id, 0);
        answer.session_id
    }
}

#[tokio::test]
async fn a_request_that_does_not_fit_its_session_has_the_code_that_kafka_gives() {
    let served = Served::start().await;
    let topic_id = served.create("t", 1, &[]).await;
    let by_name = served.session(12, fetch("t", &[(0, 0)])).await;
    let mut asked = fetch("", &[(0, 0)]);
    asked.topics[0].topic_id = topic_id;
    let by_id = served.session(13, asked).await;
    let other = (1..).find(|id| ![by_name, by_id].contains(id)).unwrap();
    for (version, id, epoch, code) in [
        (12, 0, 1, ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
        (12, other, 1, ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
        (12, other, -2, ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
        (12, by_name, 2, ErrorCode::INVALID_FETCH_SESSION_EPOCH),
        (12, by_name, -2, ErrorCode::INVALID_FETCH_SESSION_EPOCH),
        (13, by_name, 1, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR),
        (7, by_id, 1, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR),
        (7, by_name, 1, ErrorCode::NONE),
        (7, by_name, 1, ErrorCode::INVALID_FETCH_SESSION_EPOCH),
        (11, by_name, 2, ErrorCode::NONE),
        (17, by_id, 1, ErrorCode::NONE),
    ] {
        let answer = served.ask(version, unchanged(id, epoch)).await;
        let session_id = if code == ErrorCode::NONE { id } else { 0 };
        assert_eq!((answer.error_code, answer.session_id), (code, session_id), "{version} {id} {epoch}");
        assert_eq!(answer.responses, []);
    }
}

#[tokio::test]
async fn a_full_fetch_ends_the_session_that_it_names() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    for (epoch, begins) in [(-1, false), (0, true)] {
        let id = served.session(12, fetch("t", &[(0, 0)])).await;
        let answer = served.ask(12, in_session(id, epoch, fetch("t", &[(0, 0)]))).await;
        assert_eq!(told(&answer), [(0, ErrorCode::NONE, 0, 0)]);
        assert_eq!((answer.session_id != 0, answer.session_id == id), (begins, false));
        let code = served.ask(12, unchanged(id, 1)).await.error_code;
        assert_eq!(code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    }
    assert_eq!(served.sessions.sessions.get(), 1);
    for version in [4, 6] {
        let answer = served.ask(version, in_session(0, 0, fetch("t", &[(0, 0)]))).await;
        assert_eq!((told(&answer).len(), answer.session_id), (1, 0), "there are none in this version");
    }
}

#[tokio::test]
async fn a_session_of_which_nothing_is_left_is_over() {
    let served = Served::start().await;
    served.create("t", 2, &[]).await;
    let id = served.session(12, fetch("t", &[(0, 0), (1, 0)])).await;
    assert_eq!((served.sessions.sessions.get(), served.sessions.partitions.get()), (1, 2));
    let answer = served.ask(12, forgetting(unchanged(id, 1), "t", &[0])).await;
    assert_eq!((answer.session_id, served.sessions.partitions.get()), (id, 1));
    let answer = served.ask(12, forgetting(unchanged(id, 2), "t", &[1])).await;
    assert_eq!((answer.error_code, answer.session_id), (ErrorCode::NONE, 0));
    assert_eq!(served.ask(12, unchanged(id, 3)).await.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    let metrics = &served.sessions;
    assert_eq!((metrics.sessions.get(), metrics.partitions.get(), metrics.bytes.get()), (0, 0, 0));
}

#[tokio::test]
async fn an_answer_names_only_what_has_changed() {
    let served = Served::start().await;
    served.create("t", 3, &[]).await;
    let sent = batch(&[(1, "a")]);
    let id = served.session(12, fetch("t", &[(0, 0), (1, 0)])).await;
    assert_eq!(told(&served.ask(12, unchanged(id, 1)).await), []);
    served.ask(9, produce(1, "t", &[(1, &sent), (2, &sent)])).await;
    let new = [(1, ErrorCode::NONE, 1, sent.len())];
    assert_eq!(told(&served.ask(12, unchanged(id, 2)).await), new);
    assert_eq!(told(&served.ask(12, unchanged(id, 3)).await), new, "the client has not gone on");
    assert_eq!(told(&served.ask(12, in_session(id, 4, fetch("t", &[(1, 1)]))).await), []);
    let added = served.ask(12, in_session(id, 5, fetch("t", &[(2, 1)]))).await;
    assert_eq!(told(&added), [(2, ErrorCode::NONE, 1, 0)]);
    // There is room for the first one's records; of the other one, the client is told that there are some.
    served.ask(9, produce(1, "t", &[(1, &sent), (2, &sent)])).await;
    let small = FetchRequest { max_bytes: 1, ..unchanged(id, 6) };
    let both = [(1, ErrorCode::NONE, 2, sent.len()), (2, ErrorCode::NONE, 2, 0)];
    assert_eq!(told(&served.ask(12, small).await), both);
    // It comes first now.
    let small = FetchRequest { max_bytes: 1, ..unchanged(id, 7) };
    assert_eq!(told(&served.ask(12, small).await), [(2, ErrorCode::NONE, 2, sent.len())]);
}

#[tokio::test]
async fn a_fetch_waits_for_all_partitions_of_its_session() {
    let served = Served::start().await;
    served.create("t", 2, &[]).await;
    served.create("u", 1, &[]).await;
    let mut asked = fetch("t", &[(0, 0), (1, 0)]);
    asked.topics.extend(fetch("u", &[(0, 0)]).topics);
    let id = served.session(12, asked).await;
    let sent = batch(&[(1, "a")]);
    for epoch in 1..4 {
        let mut fetching = served.call(12, &waiting(in_session(id, epoch, fetch("t", &[(1, i64::from(epoch) - 1)]))));
        assert!(poll!(&mut fetching).is_pending());
        served.ask(9, produce(1, "t", &[(1, &sent)])).await;
        let answer = response::<FetchRequest>(12, fetching.await);
        assert_eq!(told(&answer), [(1, ErrorCode::NONE, i64::from(epoch), sent.len())]);
    }
    let mut fetching = served.call(12, &waiting(in_session(id, 4, fetch("t", &[(1, 3)]))));
    assert!(poll!(&mut fetching).is_pending());
    served.ask(6, deletion("u")).await;
    let answer = response::<FetchRequest>(12, fetching.await);
    assert_eq!(answer.responses[0].topic, "u");
    assert_eq!(told(&answer), [(0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1, 0)]);
}

#[tokio::test]
async fn a_log_start_that_moves_is_told_and_at_once_to_who_reads_below_it() {
    let served = Served::start().await;
    served.create("t", 2, &[]).await;
    let sent = batch(&[(1, "a"), (2, "b")]);
    served.ask(9, produce(1, "t", &[(0, &sent), (1, &sent)])).await;
    let id = served.session(12, fetch("t", &[(0, 2), (1, 2)])).await;
    assert_eq!(told(&served.ask(12, unchanged(id, 1)).await), []);
    served.ask(2, records_below("t", 0, 1)).await;
    let answer = served.ask(12, unchanged(id, 2)).await;
    let [topic] = &answer.responses[..] else { panic!("{answer:?}") };
    assert_eq!((told(&answer).len(), topic.partitions[0].log_start_offset), (1, 1));
    assert_eq!(told(&served.ask(12, unchanged(id, 3)).await), []);

    let far = FetchRequest { min_bytes: 1 << 20, ..waiting(in_session(id, 4, fetch("t", &[(1, 1)]))) };
    let mut fetching = served.call(12, &far);
    assert!(poll!(&mut fetching).is_pending());
    served.ask(2, records_below("t", 1, 2)).await;
    let answer = response::<FetchRequest>(12, fetching.await);
    assert_eq!(told(&answer), [(1, ErrorCode::OFFSET_OUT_OF_RANGE, 2, 0)]);
}

#[tokio::test]
async fn a_fetch_waits_until_what_has_come_to_several_partitions_is_enough() {
    let served = Served::start().await;
    served.create("t", 3, &[]).await;
    let sent = batch(&[(1, "a")]);
    let id = served.session(12, fetch("t", &[(0, 0), (1, 0), (2, 0)])).await;
    let asked = FetchRequest { min_bytes: 2 * sent.len() as i32, ..waiting(unchanged(id, 1)) };
    let mut fetching = served.call(12, &asked);
    assert!(poll!(&mut fetching).is_pending());
    served.ask(9, produce(1, "t", &[(2, &sent)])).await;
    assert!(poll!(&mut fetching).is_pending());
    served.ask(9, produce(1, "t", &[(1, &sent)])).await;
    let answer = response::<FetchRequest>(12, fetching.await);
    let read = [(1, ErrorCode::NONE, 1, sent.len()), (2, ErrorCode::NONE, 1, sent.len())];
    assert_eq!(told(&answer), read, "in the session's order");
}

#[tokio::test]
async fn a_topic_that_is_not_there_is_looked_for_each_time() {
    let served = Served::start().await;
    let id = served.session(12, fetch("t", &[(0, 0), (1, 0)])).await;
    let absent = |partition| (partition, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1, 0);
    for epoch in 1..3 {
        let answer = served.call(12, &waiting(unchanged(id, epoch))).now_or_never().unwrap();
        assert_eq!(told(&response::<FetchRequest>(12, answer)), [absent(0), absent(1)]);
    }
    served.create("t", 1, &[]).await;
    let there = (0, ErrorCode::NONE, 0, 0);
    assert_eq!(told(&served.ask(12, unchanged(id, 3)).await), [there, absent(1)]);
    assert_eq!(told(&served.ask(12, unchanged(id, 4)).await), [absent(1)]);
    let more = CreatePartitionsTopic { name: "t".into(), count: 2, assignments: None };
    served.ask(3, CreatePartitionsRequest { topics: vec![more], ..Default::default() }).await;
    assert_eq!(told(&served.ask(12, unchanged(id, 5)).await), [(1, ErrorCode::NONE, 0, 0)]);
    assert_eq!(told(&served.ask(12, unchanged(id, 6)).await), []);
    // Another topic of the name takes the place of the first one.
    served.ask(6, deletion("t")).await;
    served.create("t", 2, &[]).await;
    assert_eq!(told(&served.ask(12, unchanged(id, 7)).await), []);
    let sent = batch(&[(1, "a")]);
    served.produce(9, "t", &sent).await;
    assert_eq!(told(&served.ask(12, unchanged(id, 8)).await), [(0, ErrorCode::NONE, 1, sent.len())]);
}

#[tokio::test]
async fn a_topic_id_that_is_not_there_is_told_each_time_and_can_be_forgotten() {
    let served = Served::start().await;
    let topic_id = served.create("t", 1, &[]).await;
    let mut asked = fetch("", &[(0, 0)]);
    asked.topics[0].topic_id = topic_id;
    let id = served.session(17, asked).await;
    assert_eq!(told(&served.ask(17, unchanged(id, 1)).await), []);
    served.ask(6, deletion("t")).await;
    let new_id = served.create("t", 1, &[]).await;
    for epoch in 2..4 {
        let answer = served.call(17, &waiting(unchanged(id, epoch))).now_or_never().unwrap();
        let answer = response::<FetchRequest>(17, answer);
        assert_eq!(told(&answer), [(0, ErrorCode::UNKNOWN_TOPIC_ID, -1, 0)]);
        assert_eq!(answer.responses[0].topic_id, topic_id);
    }
    let mut asked = forgetting(fetch("", &[(0, 0)]), "", &[0]);
    asked.forgotten_topics_data[0].topic_id = topic_id;
    asked.topics[0].topic_id = new_id;
    let answer = served.ask(17, in_session(id, 4, asked)).await;
    assert_eq!((told(&answer), answer.responses[0].topic_id), (vec![(0, ErrorCode::NONE, 0, 0)], new_id));
    let mut fetching = served.call(17, &waiting(unchanged(id, 5)));
    assert!(poll!(&mut fetching).is_pending());
}

#[tokio::test]
async fn of_two_requests_that_wait_the_newer_is_answered() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    let id = served.session(12, fetch("t", &[(0, 0)])).await;
    assert_eq!(told(&served.ask(12, unchanged(id, 1)).await), []);
    let mut older = served.call(12, &waiting(unchanged(id, 2)));
    assert!(poll!(&mut older).is_pending());
    let mut newer = served.call(12, &waiting(unchanged(id, 3)));
    assert!(poll!(&mut newer).is_pending());
    served.produce(9, "t", &batch(&[(1, "a")])).await;
    let older = response::<FetchRequest>(12, older.await);
    assert_eq!((older.error_code, older.responses.len()), (ErrorCode::INVALID_FETCH_SESSION_EPOCH, 0));
    let newer = response::<FetchRequest>(12, newer.await);
    assert_eq!((newer.session_id, told(&newer)[0].2), (id, 1));
}

#[tokio::test]
async fn a_fetch_that_its_client_left_takes_nothing_with_it() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    let id = served.session(12, fetch("t", &[(0, 0)])).await;
    let mut left = served.call(12, &waiting(unchanged(id, 1)));
    assert!(poll!(&mut left).is_pending());
    served.produce(9, "t", &batch(&[(1, "a")])).await;
    drop(left);
    assert_eq!(told(&served.ask(12, unchanged(id, 2)).await)[0].2, 1);
}

#[tokio::test]
async fn a_client_beyond_the_bound_goes_on_with_full_fetches() {
    let limits = SessionLimits { sessions_max: 2, ..SessionLimits::default() };
    let metrics = SessionMetrics::new(&Metrics::new());
    let served = Served::with(|broker| broker.sessions = FetchSessions::new(limits, metrics.clone())).await;
    served.create("t", 1, &[]).await;
    for _ in 0..2 {
        served.session(12, fetch("t", &[(0, 0)])).await;
    }
    let sent = batch(&[(1, "a")]);
    for end in 0..3 {
        let answer = served.ask(12, in_session(0, 0, fetch("t", &[(0, end)]))).await;
        assert_eq!((answer.session_id, told(&answer)), (0, vec![(0, ErrorCode::NONE, end, 0)]));
        served.produce(9, "t", &sent).await;
    }
    assert_eq!((metrics.sessions.get(), metrics.partitions.get(), metrics.evictions.get()), (2, 2, 0));
}

/// How a client knows a partition: by the topic's name or its id, and the number.
type Place = (String, Uuid, i32);

/// What a client knows of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct View {
    code: ErrorCode,
    high_watermark: i64,
    log_start: i64,
}

/// A client with a session, and what it believes.
struct SessionClient {
    version: i16,
    id: i32,
    epoch: i32,
    /// The next offset by partition.
    wanted: BTreeMap<Place, i64>,
    /// What the session was told to begin with or since.
    asked: BTreeMap<Place, i64>,
    views: BTreeMap<Place, View>,
}

#[derive(Clone, Debug)]
enum Step {
    Produce(usize, i32),
    DeleteRecords(usize, i32, i64),
    Delete(usize),
    Create(usize, i32),
    Ship,
    Want(prop::sample::Index, i32),
    Leave(prop::sample::Index),
    Fetch { max_bytes: i32 },
    BeginAgain,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fetch = prop_oneof![3 => Just(1 << 20), 1 => 0i32..300];
    let step = prop_oneof![
        6 => (0usize..2, 0i32..3).prop_map(|(topic, partition)| Step::Produce(topic, partition)),
        1 => (0usize..2, 0i32..3, -1i64..6).prop_map(|(topic, partition, to)| Step::DeleteRecords(topic, partition, to)),
        1 => (0usize..2).prop_map(Step::Delete),
        2 => (0usize..2, 1i32..4).prop_map(|(topic, partitions)| Step::Create(topic, partitions)),
        1 => Just(Step::Ship),
        3 => (any::<prop::sample::Index>(), 0i32..3).prop_map(|(topic, partition)| Step::Want(topic, partition)),
        1 => any::<prop::sample::Index>().prop_map(Step::Leave),
        9 => fetch.prop_map(|max_bytes| Step::Fetch { max_bytes }),
        1 => Just(Step::BeginAgain),
    ];
    prop::collection::vec(step, 1..40)
}

fn request(places: &BTreeMap<Place, i64>) -> FetchRequest {
    let topic = |((name, topic_id, partition), offset): (&Place, &i64)| {
        let mut topic = fetch(name, &[(*partition, *offset)]).topics.remove(0);
        topic.topic_id = *topic_id;
        topic
    };
    FetchRequest { topics: places.iter().map(topic).collect(), ..fetch("", &[]) }
}

fn answered(answer: FetchResponse) -> BTreeMap<Place, PartitionData> {
    let partitions = answer.responses.into_iter().flat_map(|FetchableTopicResponse { topic, topic_id, partitions }| {
        partitions.into_iter().map(move |data| ((topic.clone(), topic_id, data.partition_index), data))
    });
    partitions.collect()
}

fn view(data: &PartitionData) -> View {
    View { code: data.error_code, high_watermark: data.high_watermark, log_start: data.log_start_offset }
}

impl SessionClient {
    fn new(version: i16) -> Self {
        let none = BTreeMap::new;
        Self { version, id: 0, epoch: 0, wanted: none(), asked: none(), views: BTreeMap::new() }
    }

    /// Fetches, and sees the same as who fetches everything.
    async fn fetch(&mut self, served: &Served, max_bytes: i32) {
        let changed = |(place, offset): &(&Place, &i64)| self.epoch == 0 || self.asked.get(*place) != Some(*offset);
        let changed = self.wanted.iter().filter(changed).map(|(place, offset)| (place.clone(), *offset)).collect();
        let forgotten = self.asked.keys().filter(|place| self.epoch > 0 && !self.wanted.contains_key(*place));
        let forgotten = forgotten.map(|(name, topic_id, partition)| ForgottenTopic {
            topic: name.clone(),
            topic_id: *topic_id,
            partitions: vec![*partition],
        });
        let asked = FetchRequest { max_bytes, forgotten_topics_data: forgotten.collect(), ..request(&changed) };
        let answer = served.ask(self.version, in_session(self.id, self.epoch, asked)).await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
        (self.id, self.epoch) = (answer.session_id, if answer.session_id == 0 { 0 } else { self.epoch + 1 });
        self.asked = self.wanted.clone();
        let told = answered(answer);
        let full =
            served.ask(self.version, in_session(0, -1, FetchRequest { max_bytes, ..request(&self.wanted) })).await;
        let full = answered(full);

        let places: BTreeSet<_> = self.wanted.keys().cloned().collect();
        self.views.retain(|place, _| places.contains(place));
        self.views.extend(told.iter().map(|(place, data)| (place.clone(), view(data))));
        let expected: BTreeMap<_, _> = full.iter().map(|(place, data)| (place.clone(), view(data))).collect();
        assert_eq!(self.views, expected);
        let records = |answer: &BTreeMap<Place, PartitionData>| {
            let records = answer.iter().map(|(place, data)| (place.clone(), data.records.0.concat()));
            records.filter(|(_, bytes)| !bytes.is_empty()).collect::<BTreeMap<_, _>>()
        };
        if max_bytes == 1 << 20 {
            assert_eq!(records(&told), records(&full));
        }
        assert_eq!(
            records(&told).is_empty(),
            records(&full).is_empty(),
            "something comes as long as there is something"
        );
        for (place, data) in told {
            let batches = chronik_format::batch::split(data.records.0.concat().into());
            let last =
                batches.map(|batch| chronik_format::batch::verify(&batch.unwrap()).unwrap().last_offset()).last();
            if let Some(last) = last {
                self.wanted.insert(place, last + 1);
            }
        }
    }
}

async fn run(version: i16, steps: Vec<Step>) {
    let mut served = Served::start().await;
    let names = ["t", "u"];
    // One that never was, and all that ever were.
    let mut known = vec![("v".to_owned(), Uuid::from_u128(7))];
    let mut client = SessionClient::new(version);
    for step in steps {
        match step {
            Step::Produce(topic, partition) => {
                served.ask(9, produce(1, names[topic], &[(partition, &batch(&[(1, "value")]))])).await;
            }
            Step::DeleteRecords(topic, partition, to) => {
                drop(served.ask(2, records_below(names[topic], partition, to)).await)
            }
            Step::Delete(topic) => drop(served.ask(6, deletion(names[topic])).await),
            Step::Create(topic, partitions) => {
                served.ask(6, deletion(names[topic])).await;
                known.push((names[topic].into(), served.create(names[topic], partitions, &[]).await));
            }
            Step::Ship => served.ship().await,
            Step::Want(topic, partition) => {
                let (name, id) = topic.get(&known).clone();
                let place = if version < 13 { (name, Uuid::nil(), partition) } else { (String::new(), id, partition) };
                client.wanted.insert(place, 0);
            }
            Step::Leave(place) => {
                let places: Vec<_> = client.wanted.keys().cloned().collect();
                if !places.is_empty() {
                    client.wanted.remove(place.get(&places));
                }
            }
            Step::Fetch { max_bytes } => client.fetch(&served, max_bytes).await,
            Step::BeginAgain => client.epoch = 0,
        }
    }
    for _ in 0..100 {
        client.fetch(&served, 100).await;
    }
    let ends = client.wanted.iter().map(|(place, offset)| (client.views[place].code, place, *offset));
    for (code, place, offset) in ends.filter(|(code, ..)| *code == ErrorCode::NONE) {
        assert_eq!(offset, client.views[place].high_watermark, "{place:?} is read to its end, {code:?}");
    }
}

#[test]
fn a_client_with_a_session_sees_the_same_as_one_that_fetches_everything() {
    let runtime = Runtime::new().unwrap();
    for version in [12, 17] {
        let mut runner = TestRunner::new(Config::with_cases(32));
        let outcome = runner.run(&steps(), |steps| {
            runtime.block_on(run(version, steps));
            Ok(())
        });
        outcome.unwrap_or_else(|failed| panic!("{failed}"));
    }
}
