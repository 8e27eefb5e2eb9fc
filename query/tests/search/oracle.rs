//! Searches find exactly what a scan of all records finds, in the same order, whatever lies where, and while it moves.

use bytes::Bytes;
use chronik_format::batch::{BatchBuilder, Codec, Record, RecordHeader, forged, stamp, stamp_log_append_time};
use chronik_format::ids::{PartitionId, Timestamp};
use chronik_format::search::{Query, RecordMatcher, parse};
use proptest::prelude::*;
use serde_json::Value;

use crate::world::{Topic, World, coverage, get, places, whole};

const WORDS: [&str; 6] = ["alpha", "beta", "gamma", "blk_12", "blk_13", "Größe"];
/// JSON strings.
const STRINGS: [&str; 6] = ["alpha", "beta\\nalpha", "\\u0062eta", "x\\tblk_12", "Gr\\u00f6\\u00dfe", "nalpha"];
const QUERIES: [&str; 16] = [
    "",
    "alpha",
    "blk_12",
    "blk",
    "NOT alpha",
    "alpha OR gamma",
    "alpha beta",
    "\"alpha beta\"",
    "key:k1",
    "headers.h:beta",
    "GRÖßE NOT (blk_12 OR beta)",
    "nothing",
    "NOT key:k1 alpha",
    "key:k2 OR \"beta alpha\"",
    "nalpha NOT blk_12",
    "\"alpha beta\" OR grösse",
];

/// What happens to the bucket between two pages.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ship { batches: usize },
    Archive { topic: usize, segment: usize },
    Close { topic: usize, segments: usize },
    Fold { topic: usize, from: usize, count: usize },
    Compact { topic: usize, from: usize, count: usize },
    Export { kept: usize },
}

#[derive(Clone, Debug)]
struct Asked {
    query: &'static str,
    newest: bool,
    limit: usize,
    topic: Option<&'static str>,
    partition: Option<PartitionId>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

fn record() -> impl Strategy<Value = Record> {
    let text =
        || prop::collection::vec(prop::sample::select(&WORDS[..]), 0..5).prop_map(|words| Bytes::from(words.join(" ")));
    let json = prop::collection::vec(prop::sample::select(&STRINGS[..]), 0..4)
        .prop_map(|strings| Bytes::from(format!("{{\"log\":[\"{}\"]}}", strings.join("\",\""))));
    let key = prop::option::of(prop::sample::select(&["k1", "k2"][..]).prop_map(Bytes::from));
    let header = text().prop_map(|value| RecordHeader { key: Bytes::from("h"), value: Some(value) });
    (
        prop_oneof![20 => 0i64..40, 1 => Just(-1), 1 => Just(-7), 1 => Just(i64::MIN), 1 => Just(i64::MAX)],
        key,
        prop::option::of(prop_oneof![text(), json]),
        prop::collection::vec(header, 0..2),
    )
        .prop_map(|(timestamp, key, value, headers)| Record { offset: 0, timestamp, key, value, headers })
}

/// What a batch's header says beside the truth. The broker checks none of it, but for the time of the append, which it
/// sets.
#[derive(Clone, Copy, Debug)]
enum Claim {
    Truth,
    MaxTimestamp(Timestamp),
    /// All records' timestamps move with it, beyond i64's bounds and back.
    BaseTimestamp(Timestamp),
    ProducerAndSequence(i64),
    UnknownAttributes,
    LogAppendTime(Timestamp),
}

fn claim() -> impl Strategy<Value = Claim> {
    let time = || prop_oneof![Just(-1), 0i64..40, Just(i64::MIN), Just(i64::MAX), Just(i64::MAX - 10)];
    prop_oneof![
        2 => Just(Claim::Truth),
        3 => time().prop_map(Claim::MaxTimestamp),
        1 => time().prop_map(Claim::BaseTimestamp),
        1 => any::<i64>().prop_map(Claim::ProducerAndSequence),
        1 => Just(Claim::UnknownAttributes),
        1 => (0i64..40).prop_map(Claim::LogAppendTime),
    ]
}

impl Claim {
    fn write(self, batch: &mut [u8]) {
        let mut put = |at: usize, field: &[u8]| batch[at..at + field.len()].copy_from_slice(field);
        match self {
            Self::Truth => {}
            Self::BaseTimestamp(time) => put(27, &time.to_be_bytes()),
            Self::MaxTimestamp(time) => put(35, &time.to_be_bytes()),
            Self::ProducerAndSequence(id) => put(43, &id.to_be_bytes().repeat(2)[..14]),
            Self::UnknownAttributes => put(21, &[0xff]),
            Self::LogAppendTime(time) => stamp_log_append_time(batch, time),
        }
    }
}

/// Batches with gaps between them and inside.
fn batches() -> impl Strategy<Value = Vec<Bytes>> {
    let batch = (
        prop::collection::vec((record(), prop::sample::select(&[0, 0, 0, 2][..])), 1..6),
        0usize..5,
        prop::sample::select(&[0, 0, 3][..]),
        claim(),
    );
    prop::collection::vec(batch, 0..9).prop_map(|batches| {
        let mut next = 0;
        let build = |(records, codec, gap, claim): (Vec<(Record, i32)>, usize, i64, Claim)| {
            let mut builder = BatchBuilder::new(Codec::ALL[codec]);
            let mut length = 0;
            for (record, gap) in &records {
                builder.leave_gap(*gap);
                builder.push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers);
                length += i64::from(*gap) + 1;
            }
            let mut bytes = forged(&builder.finish(), |batch| claim.write(batch)).to_vec();
            stamp(&mut bytes, next + gap, 1);
            next += gap + length;
            Bytes::from(bytes)
        };
        batches.into_iter().map(build).collect()
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1usize..4).prop_map(|batches| Step::Ship { batches }),
        (0usize..2, 0usize..4).prop_map(|(topic, segment)| Step::Archive { topic, segment }),
        (0usize..2, 1usize..4).prop_map(|(topic, segments)| Step::Close { topic, segments }),
        (0usize..2, 0usize..2, 1usize..4).prop_map(|(topic, from, count)| Step::Fold { topic, from, count }),
        (0usize..2, 0usize..2, 1usize..4).prop_map(|(topic, from, count)| Step::Compact { topic, from, count }),
        (0usize..3).prop_map(|kept| Step::Export { kept }),
    ];
    prop::collection::vec(step, 0..12)
}

fn asked() -> impl Strategy<Value = Asked> {
    let time = || {
        let time = prop_oneof![9 => 0i64..40, 1 => prop::sample::select(&[i64::MIN, -7, -1, i64::MAX][..])];
        prop::option::weighted(0.3, time)
    };
    (
        prop::sample::select(&QUERIES[..]),
        any::<bool>(),
        prop::sample::select(&[1usize, 2, 3, 7, 50][..]),
        prop::option::of(prop::sample::select(&["a", "b"][..])),
        prop::option::weighted(0.2, 0i32..1),
        time(),
        time(),
    )
        .prop_map(|(query, newest, limit, topic, partition, from, to)| {
            let (from, to) = from.zip(to).map_or((from, to), |(a, b)| (Some(a.min(b)), Some(a.max(b))));
            Asked { query, newest, limit, topic, partition, from, to }
        })
}

impl Asked {
    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut list = vec![("q", self.query.to_owned()), ("limit", self.limit.to_string())];
        list.push(("sort", if self.newest { "newest" } else { "oldest" }.to_owned()));
        list.extend(self.topic.map(|topic| ("topic", topic.to_owned())));
        list.extend(self.partition.map(|partition| ("partition", partition.to_string())));
        list.extend(self.from.map(|from| ("from", from.to_string())));
        list.extend(self.to.map(|to| ("to", to.to_string())));
        list
    }

    /// All matches, in order, by looking at every record.
    fn expected(&self, world: &World) -> Vec<(String, i64, i64)> {
        let query: Query = parse(self.query).unwrap();
        let wanted = |(topic, partition, record): &(&Topic, PartitionId, Record)| {
            self.topic.is_none_or(|name| name == topic.name)
                && self.partition.is_none_or(|number| number == *partition)
                && self.from.is_none_or(|from| record.timestamp >= from)
                && self.to.is_none_or(|to| record.timestamp < to)
                && RecordMatcher::new(&query, topic.settings).matches(record)
        };
        let mut found: Vec<_> = world.records().into_iter().filter(wanted).collect();
        found.sort_by(|a, b| {
            let key = |(topic, partition, record): &(&Topic, PartitionId, Record)| {
                (record.timestamp, *partition, record.offset, topic.name.clone())
            };
            if self.newest { key(b).cmp(&key(a)) } else { key(a).cmp(&key(b)) }
        });
        found
            .into_iter()
            .map(|(topic, partition, record)| (topic.name.clone(), partition.into(), record.offset))
            .collect()
    }
}

async fn step(world: &mut World, step: Step) {
    match step {
        Step::Ship { batches } => world.ship(batches).await,
        Step::Archive { topic, segment } if segment < world.segments.len() => world.archive(topic, segment).await,
        Step::Close { topic, segments } if segments <= world.segments.len() => world.close(topic, segments).await,
        Step::Archive { .. } | Step::Close { .. } => {}
        Step::Fold { topic, from, count } => world.fold(topic, from, count).await,
        Step::Compact { topic, from, count } => world.compact(topic, from, count).await,
        Step::Export { kept } => world.export(kept).await,
    }
}

async fn check(mut world: World, before: Vec<Step>, between: Vec<Step>, asked: Asked) {
    for next in before {
        step(&mut world, next).await;
    }
    world.export(1).await;
    let service = world.service(true);
    let expected = asked.expected(&world);
    let mut between = between.into_iter();
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let mut parameters = asked.parameters();
        parameters.extend(cursor.map(|cursor| ("cursor", cursor)));
        let (status, document) = get(&service, "/v1/search", &parameters).await;
        assert_eq!(status, 200, "{document}");
        assert_eq!(document["not_searched"], Value::Array(vec![]));
        let mut covers = whole(&world);
        covers.retain(|(topic, partition), _| {
            asked.topic.is_none_or(|name| name == topic)
                && asked.partition.is_none_or(|number| i64::from(number) == *partition)
        });
        assert_eq!(coverage(&document), covers);
        let total = document["total"]["value"].as_u64().unwrap() as usize;
        match document["total"]["relation"].as_str().unwrap() {
            "eq" => assert_eq!(total, expected.len(), "{document}"),
            _ => assert!(total <= expected.len()),
        }
        found.extend(places(&document));
        assert_eq!(found, expected[..found.len().min(expected.len())]);
        cursor = document["cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
        for next in between.by_ref().take(3) {
            step(&mut world, next).await;
        }
        world.export(0).await;
    }
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 300, ..ProptestConfig::default() })]
    #[test]
    fn a_search_finds_what_a_scan_finds(
        topics in (batches(), batches(), batches()),
        log_start in 0i64..4,
        before in steps(),
        between in steps(),
        asked in asked(),
    ) {
        let mut world = World::new();
        let (a0, a1, b0) = topics;
        let topic = world.add_topic("a", vec![a0, a1]);
        topic.partitions[0].log_start = log_start.min(topic.partitions[0].end());
        world.add_topic("b", vec![b0]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(world, before, between, asked));
    }
}
