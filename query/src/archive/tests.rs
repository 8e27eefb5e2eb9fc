#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use chronik_format::batch::{BatchBuilder, Codec, LOG_APPEND_TIME, Record, RecordHeader, records, stamp, verify};
use chronik_format::catalog::page::PageBuilder;
use chronik_format::catalog::{ArchiveRun, SegmentEntry, TopicRuns};
use chronik_format::ids::{Incarnation, LaneId, TopicId};
use chronik_format::job::{
    ArchiveMade, Job, JobInput, JobKind, JobPage, JobResult, JobRun, MergeJob, MergedArchive, VERSION, ValueFormat,
};
use chronik_format::origin::Origin;
use chronik_format::search::{Phrase, RecordMatcher, parse};
use chronik_format::span::{ByteSpan, OffsetSpan};
use chronik_indexer::{Indexer, IndexerParts};
use chronik_service::telemetry::Metrics;
use chronik_store::memory;
use proptest::prelude::*;

use super::*;

/// Nothing is read that is not asked for, and hardly anything is kept.
const NOTHING_AHEAD: ReadAhead = ReadAhead { whole_bytes: 0, end_bytes: 0, file_bytes: 0 };

const WHOLE: IndexSettings = IndexSettings { value_format: ValueFormat::Auto, positions: false };
const POSITIONS: IndexSettings = IndexSettings { value_format: ValueFormat::Auto, positions: true };
const TEXT: IndexSettings = IndexSettings { value_format: ValueFormat::Text, positions: true };
const NO_VALUES: IndexSettings = IndexSettings { value_format: ValueFormat::None, positions: false };

/// Batches of one partition, one after the other in one segment.
#[derive(Clone, Debug)]
struct SegmentRun {
    partition: PartitionId,
    batches: Vec<Bytes>,
}

/// A bucket with one topic's records, some of them in archives.
struct Bucket {
    store: SharedStore,
    entries: Vec<ArchiveEntry>,
    result: JobResult,
    records: Vec<(PartitionId, Record)>,
}

async fn bucket(segments: Vec<Vec<SegmentRun>>, settings: IndexSettings) -> Bucket {
    indexed(memory(), (0..).zip(segments), settings).await
}

/// The records of numbered segments in an archive of their own.
async fn indexed(
    store: SharedStore,
    segments: impl Iterator<Item = (usize, Vec<SegmentRun>)>,
    settings: IndexSettings,
) -> Bucket {
    let mut inputs = Vec::new();
    let mut all = Vec::new();
    for (n, runs) in segments {
        let mut parts = vec![Bytes::from_static(b"header")];
        let mut input = JobInput { key: format!("segments/{n}"), size: 0, crc: 0, runs: vec![] };
        for run in runs {
            let position = parts.iter().map(|part| part.len() as u64).sum();
            let (first, last) = (verify(&run.batches[0]).unwrap(), verify(run.batches.last().unwrap()).unwrap());
            let length = run.batches.iter().map(|batch| batch.len() as u64).sum();
            let (first, last) = (first.base_offset, last.last_offset());
            let (offsets, bytes) = (OffsetSpan { first, last }, ByteSpan { position, length });
            input.runs.push(JobRun { partition: run.partition, offsets, bytes });
            for batch in &run.batches {
                all.extend(records(batch, 1 << 24).unwrap().map(|record| (run.partition, record.unwrap())));
            }
            parts.extend(run.batches);
        }
        store.create(&input.key, parts).await.unwrap();
        inputs.push(input);
    }
    let job = Job {
        v: VERSION,
        kind: JobKind::Index,
        cluster: "c".to_owned(),
        incarnation: Incarnation(1),
        lane: LaneId(0),
        id: "job".to_owned(),
        topic: "logs".to_owned(),
        topic_id: TopicId::default(),
        index_epoch: 0,
        inputs,
        settings,
    };
    let result = indexer(&store).index(job).await.unwrap();
    let entries = result.archives.iter().map(entry).collect();
    Bucket { store, entries, result, records: all }
}

fn indexer(store: &SharedStore) -> Indexer {
    let queue = Arc::new(chronik_store::queue::EmbeddedQueue::new(1 << 20));
    let parts = IndexerParts { store: store.clone(), queue, memory_bytes: 1 << 28, metrics: Metrics::new() };
    Indexer::new(parts)
}

/// A bucket in which the archives of several have become one, as those of a page that was compacted so often.
async fn merged(parts: Vec<Bucket>, level: u8) -> Bucket {
    let store = parts[0].store.clone();
    let segments = vec![SegmentEntry { key: "compacted".to_owned(), level, ..SegmentEntry::default() }];
    let archives = parts.iter().map(|part| part.entries[0].clone()).collect();
    let leaf = TopicRuns { segments, archives, ..TopicRuns::default() };
    let origin = Origin { cluster: Default::default(), incarnation: Incarnation(1), lane: LaneId(0) };
    let builder = PageBuilder { origin, topic: TopicId::default(), written_at: 0 };
    let page = builder.leaf(format!("page over {}", parts[0].entries[0].key), &leaf, 1).unwrap();
    store.create(&page.entry.object, vec![page.bytes]).await.unwrap();
    let job = MergeJob {
        v: VERSION,
        kind: JobKind::Merge,
        cluster: "c".to_owned(),
        incarnation: Incarnation(1),
        lane: LaneId(0),
        id: "job".to_owned(),
        topic: "logs".to_owned(),
        topic_id: TopicId::default(),
        page: JobPage { key: page.entry.object, size: page.entry.size, crc: page.entry.crc },
        partition: 0,
        first: 0,
    };
    let result = indexer(&store).merge(&job).await.unwrap();
    let [made] = &result.archives[..] else { panic!("{result:?}") };
    let MergedArchive { key, size, crc, records, of } = made.clone();
    let mut of_key: BTreeMap<String, Bucket> =
        parts.into_iter().map(|part| (part.entries[0].key.clone(), part)).collect();
    let parts: Vec<Bucket> = of.iter().map(|key| of_key.remove(key).unwrap()).collect();
    assert!(of_key.is_empty() && result.alone.is_empty());
    let runs = parts.iter().flat_map(|part| part.entries[0].runs.clone()).collect();
    let entry = ArchiveEntry { key, size, crc, records, merged: level, runs };
    let result = parts[0].result.clone();
    let records = parts.into_iter().flat_map(|part| part.records).collect();
    Bucket { store, entries: vec![entry], result, records }
}

fn entry(made: &ArchiveMade) -> ArchiveEntry {
    let run = |run: &chronik_format::job::CoveredRun| ArchiveRun {
        partition: run.partition,
        first: run.first,
        last: run.last,
        min_timestamp: run.min_timestamp,
        max_timestamp: run.max_timestamp,
    };
    ArchiveEntry {
        key: made.key.clone(),
        size: made.size,
        crc: made.crc,
        records: made.records,
        merged: 0,
        runs: made.runs.iter().map(run).collect(),
    }
}

fn batch(codec: Codec, base: Offset, attributes: i16, list: &[(i32, Record)]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    builder.set_attributes(attributes);
    for (gap, record) in list {
        builder.leave_gap(*gap);
        builder.push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers);
    }
    let mut bytes = builder.finish().to_vec();
    stamp(&mut bytes, base, 0);
    bytes.into()
}

fn line(value: &str) -> (i32, Record) {
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    (0, Record { offset: 0, timestamp: 7, key: None, value, headers: vec![] })
}

async fn lines(values: &[&str], settings: IndexSettings) -> Bucket {
    let list: Vec<_> = values.iter().map(|value| line(value)).collect();
    bucket(vec![vec![SegmentRun { partition: 0, batches: vec![batch(Codec::Zstd, 0, 0, &list)] }]], settings).await
}

fn offsets(candidates: &CandidateRecords) -> Vec<Offset> {
    candidates.batches.iter().flat_map(|batch| batch.offsets.clone()).collect()
}

#[tokio::test]
async fn words_lead_to_offsets() {
    let bucket = lines(&["ERROR blk_12 lost", "INFO blk_13 kept", "INFO 12 blk"], WHOLE).await;
    let leaf = ArchiveLeaf::new(bucket.store, 1 << 20);
    for (query, expected, exact) in [
        ("", vec![0, 1, 2], true),
        ("error", vec![0], true),
        ("info NOT kept", vec![2], true),
        ("blk_12", vec![0, 2], false),
        ("NOT blk_12", vec![0, 1, 2], false),
        ("absent", vec![], true),
        ("NOT absent", vec![0, 1, 2], true),
    ] {
        let found = leaf.candidates(&bucket.entries[0], &parse(query).unwrap(), WHOLE).await.unwrap();
        assert_eq!((offsets(&found), found.exact), (expected, exact), "{query}");
    }
}

#[tokio::test]
async fn positions_make_phrases_exact() {
    let long = format!("a {} b", "x".repeat(300));
    let bucket = lines(&["ERROR blk_12 lost", "INFO 12 blk", &long, "a b"], POSITIONS).await;
    let leaf = ArchiveLeaf::new(bucket.store, 1 << 20);
    for (query, expected) in [("blk_12", vec![0]), ("NOT blk_12", vec![1, 2, 3]), ("\"a b\"", vec![3])] {
        let found = leaf.candidates(&bucket.entries[0], &parse(query).unwrap(), POSITIONS).await.unwrap();
        assert_eq!((offsets(&found), found.exact), (expected, true), "{query}");
    }
}

#[tokio::test]
async fn an_archive_without_records_has_no_candidates() {
    let control = batch(Codec::None, 5, chronik_format::batch::CONTROL, &[line("x")]);
    let bucket = bucket(vec![vec![SegmentRun { partition: 3, batches: vec![control] }]], WHOLE).await;
    assert_eq!(bucket.entries[0].records, 0);
    assert_eq!(bucket.entries[0].runs[0].min_timestamp, None);
    for ahead in [READ_AHEAD, NOTHING_AHEAD] {
        let leaf = ArchiveLeaf::reading_ahead(bucket.store.clone(), 1 << 20, ahead);
        for query in ["", "x", "NOT x"] {
            let found = leaf.candidates(&bucket.entries[0], &parse(query).unwrap(), WHOLE).await.unwrap();
            assert_eq!(found.batches, []);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_archive_is_read_by_blocks() {
    let run = |partition: PartitionId| {
        let batches = (0..40_i64).map(|n| {
            let list: Vec<_> =
                (0..1000).map(|m| line(&format!("word{} id{} even{}", m % 7, n * 1000 + m, m % 2))).collect();
            batch(Codec::Zstd, n * 1000, 0, &list)
        });
        SegmentRun { partition, batches: batches.collect() }
    };
    let bucket = bucket(vec![vec![run(0), run(1)]], POSITIONS).await;
    let entry = &bucket.entries[0];
    assert!(entry.size > 7 * chronik_format::archive::BLOCK_BYTES, "{}", entry.size);
    for cache in [0, 1 << 26] {
        let leaf = ArchiveLeaf::reading_ahead(bucket.store.clone(), cache, NOTHING_AHEAD);
        let (one, two) = (parse("word3 id10").unwrap(), parse("\"id38999 even1\" OR word6").unwrap());
        let (one, two) = tokio::join!(leaf.candidates(entry, &one, WHOLE), leaf.candidates(entry, &two, WHOLE));
        assert_eq!(offsets(&one.unwrap()), [10, 10]);
        let two = two.unwrap();
        assert_eq!(two.batches.len(), 80);
        assert_eq!(offsets(&two).len(), 2 * (40 * 142 + usize::from(999 % 7 != 6)));
    }
}

#[tokio::test]
async fn what_can_not_be_searched_says_why() {
    let bucket = lines(&["one"], WHOLE).await;
    let leaf = ArchiveLeaf::new(bucket.store.clone(), 1 << 20);
    let mut entry = bucket.entries[0].clone();
    entry.crc ^= 1;
    let error = leaf.candidates(&entry, &Query::All, WHOLE).await.unwrap_err();
    assert!(matches!(error, LeafError::Damaged { .. }), "{error}");
    entry.key.push('x');
    let error = leaf.candidates(&entry, &Query::All, WHOLE).await.unwrap_err();
    assert!(matches!(error, LeafError::NotFound { .. }), "{error}");
}

/// An archive that was written by another program.
async fn golden(name: &str) -> (SharedStore, ArchiveEntry) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name);
    let bytes = std::fs::read(&path).unwrap();
    let store = memory();
    store.create("golden", vec![bytes.clone().into()]).await.unwrap();
    let archive = chronik_format::archive::inspect(store.as_ref(), "golden").await.unwrap();
    let entry = ArchiveEntry {
        key: "golden".to_owned(),
        size: bytes.len() as u64,
        crc: archive.crc,
        records: archive.description.records,
        merged: 0,
        runs: vec![],
    };
    (store, entry)
}

/// Every word of the golden archives is found where it was when the format was fixed; in the one of an older analysis
/// by terms that may stand for it.
#[tokio::test]
async fn golden_archives_are_searched() {
    for (name, exact) in [("archive-v0.ckx", true), ("archive-words-1.ckx", false)] {
        let (store, entry) = golden(name).await;
        for ahead in [READ_AHEAD, NOTHING_AHEAD] {
            let leaf = ArchiveLeaf::reading_ahead(store.clone(), 1 << 20, ahead);
            for (query, expected) in [
                ("", vec![100, 101, 102, 110, 5]),
                ("error", vec![100]),
                ("key:\"a key\"", vec![100]),
                ("größe", vec![101]),
                ("GRÖSSE", vec![101]),
                ("headers.host:web", vec![102]),
            ] {
                let found = leaf.candidates(&entry, &parse(query).unwrap(), WHOLE).await.unwrap();
                assert_eq!(offsets(&found), expected, "{name} {query}");
                let undecodable =
                    found.undecodable.iter().map(|batches| (batches.partition, batches.first, batches.last));
                assert!(undecodable.eq([(1, 6, 6)].into_iter().take(usize::from(exact))), "{name} {query}");
            }
            let all_but_one = leaf.candidates(&entry, &parse("NOT error").unwrap(), WHOLE).await.unwrap();
            let expected = if exact { vec![101, 102, 110, 5] } else { vec![100, 101, 102, 110, 5] };
            assert_eq!((offsets(&all_but_one), all_but_one.exact), (expected, exact), "{name}");
        }
    }
}

const PIECES: &[&[u8]] = &[
    b"a",
    b"B",
    b"ab",
    b"7",
    b"_",
    b" ",
    b" ",
    b".",
    b"\xff",
    b"\xe2\x82",
    "\u{130}".as_bytes(),
    "ß".as_bytes(),
    "東京".as_bytes(),
    b"\0",
    b"{\"a\":\"b\"}",
    b"\\n",
    b"\\u0061",
    "ς".as_bytes(),
];

fn text() -> impl Strategy<Value = Bytes> {
    let pieces = prop::collection::vec(prop::sample::select(PIECES), 0..8).prop_map(|pieces| pieces.concat());
    let long = (250_usize..260).prop_map(|length| format!("a {} b", "x".repeat(length)).into_bytes());
    let json = pieces.clone().prop_map(|text| [b"[\"a\",\"", &text[..], b"\"]"].concat());
    prop_oneof![6 => pieces, 3 => json, 1 => long, 1 => any::<Vec<u8>>()].prop_map(Bytes::from)
}

fn key() -> impl Strategy<Value = Bytes> {
    let long = (1022_usize..1028).prop_map(|length| Bytes::from(vec![b'k'; length]));
    prop_oneof![4 => text(), 1 => long]
}

fn name() -> impl Strategy<Value = String> {
    let long = (253_usize..258).prop_map(|length| "n".repeat(length));
    prop_oneof![4 => prop::sample::select(&["h", "H", "", "h\u{ff}"][..]).prop_map(str::to_owned), 1 => long]
}

fn record() -> impl Strategy<Value = (i32, Record)> {
    let header = (name(), prop::option::of(text())).prop_map(|(key, value)| RecordHeader { key: key.into(), value });
    let headers = prop::collection::vec(header, 0..3);
    (0..3_i32, any::<i32>(), prop::option::of(key()), prop::option::of(text()), headers).prop_map(
        |(gap, timestamp, key, value, headers)| {
            (gap, Record { offset: 0, timestamp: timestamp.into(), key, value, headers })
        },
    )
}

fn run() -> impl Strategy<Value = SegmentRun> {
    let one = (prop::collection::vec(record(), 1..8), prop::sample::select(&Codec::ALL[..]), any::<bool>());
    (0..3_i32, 0..1000_i64, prop::collection::vec(one, 1..4)).prop_map(|(partition, mut next, list)| {
        let batches = list.into_iter().map(|(list, codec, append_time)| {
            let batch = batch(codec, next, if append_time { LOG_APPEND_TIME } else { 0 }, &list);
            next = verify(&batch).unwrap().last_offset() + 1;
            batch
        });
        SegmentRun { partition, batches: batches.collect() }
    })
}

fn phrase() -> impl Strategy<Value = Phrase> {
    let token = prop::sample::select(&["a", "b", "ab", "7", "ss", "σ", "i", "na", "東京", "nowhere"][..])
        .prop_map(str::to_owned);
    let token = prop_oneof![9 => token, 1 => (250_usize..256).prop_map(|length| "x".repeat(length))];
    prop::collection::vec(token, 1..4).prop_map(|tokens| Phrase { tokens })
}

fn query() -> impl Strategy<Value = Query> {
    let leaf = prop_oneof![
        1 => Just(Query::All),
        6 => phrase().prop_map(Query::Value),
        2 => key().prop_map(Query::Key),
        2 => (name(), phrase()).prop_map(|(name, phrase)| Query::Header { name, phrase }),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        let parts = prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            parts.clone().prop_map(Query::And),
            parts.prop_map(Query::Or),
            inner.prop_map(|part| Query::Not(Box::new(part))),
        ]
    })
}

fn settings() -> impl Strategy<Value = IndexSettings> {
    prop_oneof![3 => Just(WHOLE), 3 => Just(POSITIONS), 2 => Just(TEXT), 1 => Just(NO_VALUES)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Tantivy never sees a byte that was not written.
    #[test]
    fn damage_is_noticed_wherever_it_is_read(at: prop::sample::Index, bit in 0..8) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let list: Vec<_> = (0..3000).map(|n| line(&format!("w{} id{n}", n % 2))).collect();
            let run = SegmentRun { partition: 0, batches: vec![batch(Codec::Zstd, 0, 0, &list)] };
            let bucket = bucket(vec![vec![run]], POSITIONS).await;
            let entry = &bucket.entries[0];
            let mut bytes = bucket.store.read(&entry.key, None).await.unwrap().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            bucket.store.delete(&entry.key).await.unwrap();
            bucket.store.create(&entry.key, vec![bytes.into()]).await.unwrap();
            for ahead in [READ_AHEAD, NOTHING_AHEAD] {
                let leaf = ArchiveLeaf::reading_ahead(bucket.store.clone(), 1 << 20, ahead);
                match leaf.candidates(entry, &parse("w1 \"w1 id2999\"").unwrap(), WHOLE).await {
                    Ok(found) => prop_assert_eq!(offsets(&found), [2999]),
                    Err(error) => prop_assert!(
                        matches!(error, LeafError::Damaged { .. } | LeafError::Unsupported { .. }),
                        "{}",
                        error,
                    ),
                }
            }
            let cut = bucket.store.read(&entry.key, Some(0..at as u64)).await.unwrap_or_default();
            bucket.store.delete(&entry.key).await.unwrap();
            bucket.store.create(&entry.key, vec![cut]).await.unwrap();
            let leaf = ArchiveLeaf::new(bucket.store.clone(), 1 << 20);
            let error = leaf.candidates(entry, &Query::All, WHOLE).await.unwrap_err();
            prop_assert!(matches!(error, LeafError::Damaged { .. }), "{}", error);
            Ok(())
        })?;
    }

    /// The matcher has the last word; an archive may propose more, never fewer, and knows when it is exact.
    #[test]
    fn no_match_is_missed(
        segments in prop::collection::vec(prop::collection::vec(run(), 1..3), 1..3),
        queries in prop::collection::vec(query(), 16),
        built in settings(),
        searched in settings(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let bucket = bucket(segments, built).await;
            prop_assert_eq!(&bucket.result.unreadable, &[]);
            for ahead in [READ_AHEAD, NOTHING_AHEAD] {
                let leaf = ArchiveLeaf::reading_ahead(bucket.store.clone(), 1 << 20, ahead);
                for query in &queries {
                    agrees(&bucket, &leaf, query, searched).await?;
                }
            }
            Ok(())
        })?;
    }

    /// What was merged, also out of what was merged before, is found as it was in the parts, where it was in them.
    #[test]
    fn merged_archives_miss_nothing(
        segments in prop::collection::vec(prop::collection::vec(run(), 1..3), 2..6),
        queries in prop::collection::vec(query(), 16),
        built in settings(),
        searched in settings(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (store, mut parts) = (memory(), Vec::new());
            for segment in (0..).zip(segments) {
                parts.push(indexed(store.clone(), std::iter::once(segment), built).await);
            }
            if parts.len() > 3 {
                let others = parts.split_off(2);
                parts = vec![merged(parts, 1).await, merged(others, 1).await];
            }
            let bucket = merged(parts, 2).await;
            for ahead in [READ_AHEAD, NOTHING_AHEAD] {
                let leaf = ArchiveLeaf::reading_ahead(bucket.store.clone(), 1 << 20, ahead);
                for query in &queries {
                    agrees(&bucket, &leaf, query, searched).await?;
                }
            }
            Ok::<(), TestCaseError>(())
        })?;
    }
}

async fn agrees(
    bucket: &Bucket,
    leaf: &ArchiveLeaf,
    query: &Query,
    settings: IndexSettings,
) -> Result<(), TestCaseError> {
    let matcher = RecordMatcher::new(query, settings);
    let found = leaf.candidates(&bucket.entries[0], query, settings).await.unwrap();
    let mut proposed = Vec::new();
    for batch in &found.batches {
        let place = batch.position..batch.position + batch.length;
        let bytes = bucket.store.read(&batch.segment_key, Some(place)).await.unwrap();
        prop_assert_eq!(verify(&bytes).unwrap().base_offset, batch.base_offset);
        let list: Vec<Record> = records(&bytes, 1 << 24).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(list.iter().map(|record| record.timestamp).min(), Some(batch.min_timestamp));
        prop_assert_eq!(list.iter().map(|record| record.timestamp).max(), Some(batch.max_timestamp));
        prop_assert!(!batch.offsets.is_empty() && batch.offsets.windows(2).all(|pair| pair[0] < pair[1]));
        for offset in &batch.offsets {
            let record = list.iter().find(|record| record.offset == *offset);
            proposed.push((batch.partition, record.expect("a candidate is a record").clone()));
        }
    }
    let matching: Vec<_> = bucket.records.iter().filter(|(_, record)| matcher.matches(record)).cloned().collect();
    if found.exact {
        prop_assert_eq!(&proposed, &matching, "{}", query);
    }
    for record in &matching {
        prop_assert!(proposed.contains(record), "{} misses {:?}", query, record);
    }
    let places: BTreeSet<_> = found.batches.iter().map(|batch| (&batch.segment_key, batch.position)).collect();
    prop_assert_eq!(places.len(), found.batches.len());
    Ok(())
}
