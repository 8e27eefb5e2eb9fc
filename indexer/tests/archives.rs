//! The archives that a job makes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod kit;

use std::sync::Arc;

use bytes::Bytes;
use chronik_format::archive::{UNDECODABLE_MAX, inspect};
use chronik_format::batch::{CONTROL, Codec, HEADER_LENGTH, forged};
use chronik_format::job::{IndexSettings, Job, JobInput, JobResult, JobRun};
use chronik_format::names::ArchiveName;
use chronik_format::span::{ByteSpan, OffsetSpan};
use chronik_store::faulty::{FaultyStore, ScriptLine, StoreFault, StoreOperation};
use chronik_store::{SharedStore, memory};
use kit::{batch, embedded, indexer, job, record, segment};

/// One of everything: keys, headers, a tombstone, a gap, every codec, a control batch, a batch that can't be decoded,
/// two partitions and segments.
async fn one_of_everything(store: &SharedStore) -> Job {
    let first = vec![
        batch(Codec::None, 100, 0, &[(0, record(1_000, Some("a key"), Some("ERROR blk_12 lost"), &[]))]),
        batch(
            Codec::Zstd,
            101,
            0,
            &[
                (0, record(3_000, None, Some("Größe 10.0.0.1"), &[])),
                (0, record(2_000, Some(""), None, &[("host", "web-1"), ("host", "")])),
            ],
        ),
        batch(Codec::None, 103, CONTROL, &[(0, record(9_000, Some("abort"), Some("never"), &[]))]),
        batch(Codec::Snappy, 104, 0, &[(6, record(-1, Some("k"), Some("{\"level\":\"INFO\"}"), &[]))]),
    ];
    let second =
        vec![batch(Codec::Lz4, 5, 0, &[(0, record(5_000, Some("k"), Some("last"), &[]))]), undecodable(Codec::Gzip, 6)];
    let one = segment(store, "lanes/00000000/segments/01/one.seg", &[(0, first)]).await;
    let two = segment(store, "lanes/00000000/segments/02/two.seg", &[(1, second)]).await;
    job(vec![one, two], IndexSettings::default())
}

async fn archive_of(store: &SharedStore, job: Job) -> (String, Bytes) {
    let result = indexer(store, embedded()).index(job).await.unwrap();
    assert_eq!((result.archives.len(), result.unreadable.len()), (1, 0));
    let key = result.archives[0].key.clone();
    let bytes = store.read(&key, None).await.unwrap();
    (key, bytes)
}

#[tokio::test]
async fn an_archive_names_what_it_covers() {
    let store = memory();
    let job = one_of_everything(&store).await;
    let result = indexer(&store, embedded()).index(job.clone()).await.unwrap();
    let [made] = &result.archives[..] else { panic!("{result:?}") };
    let name: ArchiveName = made.key.parse().unwrap();
    assert_eq!((name.topic, name.incarnation), (job.topic_id, job.incarnation));
    assert_eq!((result.job, result.index_epoch, made.records), (job.id, job.index_epoch, 5));
    assert_eq!((made.runs[0].first, made.runs[0].last, made.runs[0].partition), (100, 110, 0));
    assert_eq!((made.runs[0].min_timestamp, made.runs[0].max_timestamp), (Some(-1), Some(3_000)));
    assert_eq!((made.runs[1].segment.as_str(), made.runs[1].partition), (job.inputs[1].key.as_str(), 1));

    let inspection = inspect(store.as_ref(), &made.key).await.unwrap();
    assert_eq!((inspection.size, inspection.crc), (made.size, made.crc));
    assert_eq!(inspection.runs, made.runs);
    let names: Vec<_> = inspection.sections.iter().map(|section| section.name.as_str()).collect();
    let index = "index/00000000000000000000000000000000";
    assert_eq!(names[..2], ["metadata.json", "index/meta.json"]);
    assert!(names.contains(&format!("{index}.term").as_str()) && names.contains(&format!("{index}.idx").as_str()));
}

/// Bytes at rest of version 0. The file changes only together with the format, in one commit that says why.
#[tokio::test]
async fn the_same_inputs_give_the_bytes_of_the_golden_file() {
    let store = memory();
    let job = one_of_everything(&store).await;
    let (first_key, first) = archive_of(&store, job.clone()).await;
    let (second_key, second) = archive_of(&store, job).await;
    assert_ne!(first_key, second_key);
    assert!(first == second);
    chronik_format::golden::check("archive-v0.ckx", &first);
}

#[tokio::test]
async fn larger_archives_are_the_same_each_time_too() {
    let store = memory();
    let list: Vec<_> =
        (0..20_000).map(|n| (0, record(n, Some(&format!("k{n}")), Some(&format!("w{} {n}", n % 97)), &[]))).collect();
    let input = segment(&store, "s", &[(0, vec![batch(Codec::Zstd, 0, 0, &list)])]).await;
    let job = job(vec![input], IndexSettings { positions: true, ..IndexSettings::default() });
    let (_, first) = archive_of(&store, job.clone()).await;
    let (_, second) = archive_of(&store, job).await;
    assert!(first == second);
}

/// A batch of one record, as a producer may send it, whose body is of no codec.
fn undecodable(codec: Codec, base: i64) -> Bytes {
    let body = [0xee; 8];
    forged(&[&batch(codec, base, 0, &[(0, record(0, None, None, &[]))])[..HEADER_LENGTH], &body].concat(), |bytes| {
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
    })
}

/// Runs of partitions 0, 1, ...
async fn made_of(store: &SharedStore, runs: Vec<Vec<Bytes>>) -> JobResult {
    let runs: Vec<_> = (0..).zip(runs).collect();
    let input = segment(store, "s", &runs).await;
    indexer(store, embedded()).index(job(vec![input], IndexSettings::default())).await.unwrap()
}

#[tokio::test]
async fn an_archive_names_the_batches_that_no_program_can_decode() {
    let store = memory();
    let good = |base| batch(Codec::None, base, 0, &[(0, record(7, None, Some("good"), &[]))]);
    let cut_off = forged(&good(3), |bytes| bytes[HEADER_LENGTH] = 2);
    let too_large = |codec| batch(codec, 0, 0, &[(0, record(0, None, Some(&"z".repeat(130 << 20)), &[]))]);
    let mixed = vec![good(0), undecodable(Codec::Zstd, 1), undecodable(Codec::Zstd, 2), cut_off, good(4)];
    let runs =
        vec![mixed, vec![too_large(Codec::Zstd)], vec![too_large(Codec::Snappy)], vec![undecodable(Codec::Lz4, 9)]];
    let result = made_of(&store, runs).await;
    assert_eq!((result.archives.len(), &result.unreadable[..]), (1, &[][..]));
    let made = &result.archives[0];
    let times: Vec<_> = made.runs.iter().map(|run| (run.min_timestamp, run.max_timestamp)).collect();
    assert_eq!((made.records, times), (2, vec![(Some(i64::MIN), Some(i64::MAX)); 4]));

    let undecodable = inspect(store.as_ref(), &made.key).await.unwrap().undecodable;
    let named: Vec<_> =
        undecodable.iter().map(|batches| (batches.partition, batches.first, batches.last, &*batches.reason)).collect();
    let too_large = "the batch decompresses to more than 134217728 bytes";
    let no_codec = "the batch is corrupt: its records do not decompress";
    assert_eq!(
        named,
        [
            (0, 1, 2, no_codec),
            (0, 3, 3, "the batch is corrupt: a record is not as long as it says"),
            (1, 0, 0, too_large),
            (2, 0, 0, too_large),
            (3, 9, 9, no_codec),
        ]
    );
}

#[tokio::test]
async fn a_run_with_too_much_that_no_program_can_decode_stays_without_an_archive() {
    let store = memory();
    let alternating = |count: usize| -> Vec<Bytes> {
        let codecs = [Codec::Gzip, Codec::None].into_iter().cycle();
        (0..).zip(codecs.take(count)).map(|(base, codec)| undecodable(codec, base)).collect()
    };
    let result =
        made_of(&store, vec![alternating(UNDECODABLE_MAX), alternating(1), alternating(UNDECODABLE_MAX + 1)]).await;
    let covered: Vec<Vec<_>> =
        result.archives.iter().map(|made| made.runs.iter().map(|run| run.partition).collect()).collect();
    assert_eq!((covered, result.unreadable.len()), (vec![vec![0], vec![1]], 1));
    assert!(result.unreadable[0].reason.contains("1024"), "{}", result.unreadable[0].reason);
}

#[tokio::test]
async fn a_run_that_can_not_be_indexed_does_not_keep_the_others() {
    let store = memory();
    let good = |base| batch(Codec::None, base, 0, &[(0, record(0, None, Some("good"), &[]))]);
    let huge = "z".repeat(40 << 20);
    let bomb = batch(Codec::Zstd, 0, 0, &[(0, record(0, None, Some(&huge), &[]))]);
    let runs = [(0, vec![good(0)]), (1, vec![good(0), good(1), good(2)]), (2, vec![bomb]), (3, vec![good(7)])];
    let mut input = segment(&store, "rotten", &runs).await;
    spoil(&store, "rotten", input.runs[1].bytes.position + input.runs[1].bytes.length / 2).await;
    let run = input.runs[3];
    let cut = JobRun { partition: 4, bytes: ByteSpan { length: run.bytes.length - 1, ..run.bytes }, ..run };
    let other = JobRun { partition: 5, offsets: OffsetSpan { first: 6, last: 8 }, ..run };
    let impossible = JobRun { partition: 6, bytes: ByteSpan { position: u64::MAX, ..run.bytes }, ..run };
    input.runs.extend([cut, other, impossible]);
    let missing = JobInput { key: "missing".to_owned(), runs: vec![input.runs[0]], ..input.clone() };
    let job = job(vec![input, missing], IndexSettings::default());
    let result = indexer(&store, embedded()).index(job).await.unwrap();

    let covered: Vec<_> = result.archives.iter().flat_map(|made| &made.runs).map(|run| run.partition).collect();
    assert_eq!(covered, [0, 3]);
    let unreadable: Vec<_> = result.unreadable.iter().map(|run| (run.segment.as_str(), run.partition)).collect();
    let rotten = [1, 2, 4, 5, 6].map(|partition| ("rotten", partition));
    assert_eq!(unreadable, [&rotten[..], &[("missing", 0)]].concat());
    assert!(result.unreadable.iter().all(|run| !run.reason.is_empty()));
}

/// A segment with three partitions of a record each.
async fn three_partitions(store: &SharedStore) -> JobInput {
    let one = || batch(Codec::None, 0, 0, &[(0, record(0, None, Some("word"), &[]))]);
    segment(store, "segments/three", &[(0, vec![one()]), (1, vec![one()]), (2, vec![one()])]).await
}

#[tokio::test]
async fn partitions_that_lie_side_by_side_are_one_read() {
    let faulty = Arc::new(FaultyStore::new(memory()));
    let store: SharedStore = faulty.clone();
    let input = three_partitions(&store).await;
    faulty.add(ScriptLine {
        operation: StoreOperation::Read,
        key_part: "segments/".into(),
        after: 1,
        times: usize::MAX,
        fault: StoreFault::Missing,
    });
    let job = job(vec![input.clone()], IndexSettings::default());
    let result = indexer(&store, embedded()).index(job).await.unwrap();
    assert_eq!((result.archives[0].runs.len(), result.unreadable.len()), (3, 0));
}

#[tokio::test]
async fn a_run_beyond_its_segment_does_not_keep_its_neighbours() {
    let store = memory();
    let mut input = three_partitions(&store).await;
    input.runs[2].bytes.length += 1;
    let job = job(vec![input], IndexSettings::default());
    let result = indexer(&store, embedded()).index(job).await.unwrap();
    let partitions: Vec<_> = result.archives[0].runs.iter().map(|run| run.partition).collect();
    assert_eq!((partitions, result.unreadable[0].partition), (vec![0, 1], 2));
}

/// Flips a bit of an object.
async fn spoil(store: &SharedStore, key: &str, at: u64) {
    let mut bytes = store.read(key, None).await.unwrap().to_vec();
    bytes[at as usize] ^= 1;
    store.delete(key).await.unwrap();
    store.create(key, vec![bytes.into()]).await.unwrap();
}
