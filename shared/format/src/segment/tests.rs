#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::batch::{self, BatchBuilder, BatchHeader, Codec, records, stamp};
use crate::ids::{Incarnation, LaneId, Offset, PartitionId, Timestamp, TopicId};
use crate::origin::Origin;
use chronik_store::{SharedStore, memory};

const KEY: &str = "lanes/00000000/segments/05/test.seg";

fn topic(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

fn header(first: u64, last: u64) -> SegmentHeader {
    let origin = Origin { cluster: Uuid::from_u128(7), incarnation: Incarnation(3), lane: LaneId(0) };
    SegmentHeader { origin, first, last }
}

/// A batch at `offset` with a record for each timestamp, padded to about `size` bytes a record.
fn batch(offset: Offset, timestamps: &[Timestamp], size: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for timestamp in timestamps {
        builder.push(*timestamp, Some(b"key"), Some(&vec![b'x'; size]), &[]);
    }
    let mut batch = BytesMut::from(&builder.finish()[..]);
    stamp(&mut batch, offset, 5);
    batch.freeze()
}

/// Batches of `records` records each from `offset` on, a millisecond a record.
fn batches(offset: Offset, count: usize, records: i64, size: usize) -> Vec<Bytes> {
    let first = |number: usize| offset + number as i64 * records;
    let timestamps = |from: i64| (from..from + records).map(|at| 1000 + at).collect::<Vec<_>>();
    (0..count).map(|number| batch(first(number), &timestamps(first(number)), size)).collect()
}

fn partition(topic_number: u128, partition: PartitionId, batches: Vec<Bytes>) -> PartitionBatches {
    PartitionBatches { topic: topic(topic_number), partition, batches }
}

fn log(first: u64, last: u64) -> Vec<LogEntry> {
    let entry = |index| LogEntry { index, epoch: 2, commands: Bytes::from(vec![index as u8; index as usize % 5]) };
    (first..=last).map(entry).collect()
}

fn joined(built: &BuiltSegment) -> Vec<u8> {
    built.parts.concat()
}

async fn stored(built: &BuiltSegment) -> SharedStore {
    let store = memory();
    store.create(KEY, built.parts.clone()).await.unwrap();
    store
}

fn example() -> BuiltSegment {
    let partitions = vec![
        partition(2, 1, batches(10, 3, 2, 40)),
        partition(1, 0, batches(0, 5, 1, 30_000)),
        partition(2, 0, batches(7, 1, 1, 0)),
        partition(3, 0, vec![]),
    ];
    build(header(5, 9), partitions, &log(5, 9)).unwrap()
}

#[tokio::test]
async fn what_was_written_is_read() {
    let built = example();
    assert_eq!(joined(&built).len() as u64, built.size);
    let store = stored(&built).await;
    let reader = SegmentReader::open(store.clone(), KEY).await.unwrap();
    let known =
        SegmentReader::open_known(store.clone(), KEY, built.size, built.directory_position, built.directory_crc);
    for reader in [reader, known.await.unwrap()] {
        assert_eq!(*reader.header(), header(5, 9));
        assert_eq!(*reader.directory(), built.directory);
        assert_eq!((reader.size(), reader.directory_crc()), (built.size, built.directory_crc));
        assert_eq!(reader.log().await.unwrap(), log(5, 9));
        assert_eq!(reader.batches(topic(2), 1, 12, usize::MAX).await.unwrap(), batches(10, 3, 2, 40)[1..]);
        assert_eq!(reader.batches(topic(2), 1, 13, 1).await.unwrap(), batches(10, 3, 2, 40)[1..2]);
        assert_eq!(reader.batches(topic(1), 0, 4, 1).await.unwrap(), batches(0, 5, 1, 30_000)[4..]);
    }
    let rows: Vec<_> = built
        .directory
        .rows
        .iter()
        .map(|row| (row.topic, row.partition, row.offsets.first, row.offsets.last))
        .collect();
    assert_eq!(rows, [(topic(1), 0, 0, 4), (topic(2), 0, 7, 7), (topic(2), 1, 10, 15)]);
    assert_eq!(built.directory.rows_of(topic(2)).len(), 2);
    assert!(built.directory.rows_of(topic(4)).is_empty());
    let row = built.directory.row(topic(1), 0).unwrap();
    assert_eq!((row.times.earliest, row.times.latest, row.first_epoch, row.batches), (1000, 1004, 5, 5));
    assert_eq!(row.chunks, 2);
    verify_stored(&*store, KEY, &built).await.unwrap();
}

#[tokio::test]
async fn offsets_that_are_not_here_are_refused() {
    let built = example();
    let reader = SegmentReader::open(stored(&built).await, KEY).await.unwrap();
    for (topic_number, partition, offset) in [(1, 0, -1), (1, 0, 5), (2, 1, 9), (2, 2, 0), (3, 0, 0)] {
        let error = reader.batches(topic(topic_number), partition, offset, 1).await.unwrap_err();
        assert!(matches!(error, SegmentError::NotHere { .. }), "{error}");
    }
}

#[tokio::test]
async fn offsets_used_up_by_refused_appends_are_passed_over() {
    let mut some = batches(0, 3, 1, 70_000);
    some.extend(batches(20, 2, 1, 10));
    let built = build(header(1, 1), vec![partition(1, 0, some.clone())], &log(1, 1)).unwrap();
    let reader = SegmentReader::open(stored(&built).await, KEY).await.unwrap();
    assert_eq!(reader.batches(topic(1), 0, 3, 1).await.unwrap(), some[3..4]);
    assert_eq!(reader.batches(topic(1), 0, 10, usize::MAX).await.unwrap(), some[3..]);
}

#[test]
fn what_breaks_the_format_is_not_built() {
    let once = || batches(0, 2, 1, 10);
    let fails = |partitions, log: &[LogEntry]| {
        assert!(matches!(build(header(1, 2), partitions, log), Err(SegmentError::Unbuildable { .. })));
    };
    fails(vec![], &log(1, 1));
    fails(vec![], &log(1, 3));
    fails(vec![], &[]);
    fails(vec![partition(1, 0, once()), partition(1, 0, once())], &log(1, 2));
    fails(vec![partition(1, 0, once().into_iter().rev().collect())], &log(1, 2));
    fails(vec![partition(1, 0, vec![once()[0].clone(), once()[0].clone()])], &log(1, 2));
    fails(vec![partition(1, 0, vec![once().concat().into()])], &log(1, 2));
    fails(vec![partition(1, 0, vec![once()[0].slice(..70)])], &log(1, 2));
    fails(vec![partition(1, 0, batches(-1, 1, 1, 10))], &log(1, 2));
}

#[tokio::test]
async fn another_object_or_version_is_named() {
    let built = example();
    let mut later = joined(&built);
    let trailer = later.len() - TRAILER_LENGTH as usize;
    later[trailer + 8] = 1;
    let crc = crc32c::crc32c(&later[trailer..trailer + 52]).to_le_bytes();
    later[trailer + 52..trailer + 56].copy_from_slice(&crc);
    let error = open_bytes(later).await.unwrap_err();
    assert!(matches!(&error, SegmentError::UnknownVersion { object, version: 1 } if object == KEY), "{error}");
    for other in [vec![], vec![0; 100], vec![1; 5000]] {
        assert!(matches!(open_bytes(other).await.unwrap_err(), SegmentError::NotSegment { object } if object == KEY));
    }
}

#[tokio::test]
async fn another_segment_than_the_known_one_is_refused() {
    let built = example();
    let store = stored(&built).await;
    let BuiltSegment { size, directory_position, directory_crc, .. } = built.clone();
    for (size, position, crc) in [
        (size, directory_position, directory_crc + 1),
        (size, directory_position + 1, directory_crc),
        (size - 1, directory_position, directory_crc),
        (size, size + 1, directory_crc),
    ] {
        SegmentReader::open_known(store.clone(), KEY, size, position, crc).await.unwrap_err();
        let other = BuiltSegment { size, directory_position: position, directory_crc: crc, ..built.clone() };
        verify_stored(&*store, KEY, &other).await.unwrap_err();
    }
}

async fn open_bytes(bytes: Vec<u8>) -> Result<SegmentReader, SegmentError> {
    let store = memory();
    store.create(KEY, vec![bytes.into()]).await.unwrap();
    SegmentReader::open(store, KEY).await
}

#[tokio::test]
async fn a_record_is_found_by_its_time() {
    let mut some = batches(0, 4, 3, 30_000);
    some.push(batch(12, &[5000, 4000, 6000], 10));
    some.push(batch(15, &[100], 10));
    let built = build(header(1, 1), vec![partition(1, 0, some.clone())], &log(1, 1)).unwrap();
    let reader = SegmentReader::open(stored(&built).await, KEY).await.unwrap();
    for from in 0..16 {
        for timestamp in [0, 1000, 1004, 1011, 1012, 4000, 5000, 5001, 6000, 6001] {
            let mut all = some.iter().flat_map(|batch| records(batch, 1 << 20).unwrap()).map(Result::unwrap);
            let expected = all.find(|record| record.offset >= from && record.timestamp >= timestamp);
            let found = reader.find_time(topic(1), 0, from, timestamp).await.unwrap();
            assert_eq!(found, expected.map(|record| (record.offset, record.timestamp)), "{from} {timestamp}");
        }
    }
}

#[test]
fn the_directory_has_the_times_of_the_records_or_all_there_are() {
    let lying = batch::forged(&batch(0, &[50, 20, 70], 10), |bytes| bytes[35..43].fill(0xff));
    let garbage = batch::forged(&batch(3, &[90], 10), |bytes| bytes[61] = 0xfe);
    let built = |batches| build(header(1, 1), vec![partition(1, 0, batches)], &log(1, 1)).unwrap();
    let times = |built: &BuiltSegment| {
        let row = built.directory.rows[0];
        let chunk = built.directory.chunks(&row)[0];
        (row.times.earliest, row.times.latest, chunk.max_timestamp)
    };
    assert_eq!(times(&built(vec![lying.clone()])), (20, 70, 70));
    assert_eq!(times(&built(vec![lying, garbage])), (i64::MIN, i64::MAX, i64::MAX));
}

#[tokio::test]
async fn a_batch_that_does_not_open_answers_by_its_header() {
    let mut builder = BatchBuilder::new(Codec::Zstd);
    builder.push(2000, None, Some(&[b'x'; 1000]), &[]);
    builder.push(3000, None, Some(&[b'x'; 1000]), &[]);
    let mut bytes = BytesMut::from(&builder.finish()[..]);
    assert_eq!(BatchHeader::parse(&bytes).unwrap().codec().unwrap(), Codec::Zstd);
    bytes[61] ^= 0xff;
    let crc = crc32c::crc32c(&bytes[21..]).to_be_bytes();
    bytes[17..21].copy_from_slice(&crc);
    stamp(&mut bytes, 4, 5);
    let built = build(header(1, 1), vec![partition(1, 0, vec![bytes.freeze()])], &log(1, 1)).unwrap();
    let reader = SegmentReader::open(stored(&built).await, KEY).await.unwrap();
    assert_eq!(reader.find_time(topic(1), 0, 5, 2500).await.unwrap(), Some((5, 3000)));
    assert_eq!(reader.find_time(topic(1), 0, 4, 3001).await.unwrap(), None);
}

#[tokio::test]
async fn inspection_describes_and_finds_damage() {
    let built = example();
    let description = inspect(stored(&built).await, KEY).await.unwrap();
    assert!(description.damage.is_empty());
    assert_eq!((description.first_index, description.last_index, description.size), (5, 9, built.size));
    let partitions: Vec<_> = description.topics.iter().map(|topic| topic.partitions.len()).collect();
    assert_eq!(partitions, [1, 2]);
    for at in [20, 60, built.directory_position as usize - 1] {
        let mut bytes = joined(&built);
        bytes[at] ^= 1;
        let store = memory();
        store.create(KEY, vec![bytes.into()]).await.unwrap();
        assert_eq!(inspect(store, KEY).await.unwrap().damage.len(), 1, "byte {at}");
    }
}

/// The bytes of a segment of level 1.
fn compacted(topic_number: u128, partitions: &[(PartitionId, Vec<Bytes>)]) -> Result<Vec<u8>, SegmentError> {
    let (mut writer, start) = TopicSegmentWriter::begin(header(1, 1).origin, topic(topic_number));
    let mut bytes = start.to_vec();
    for (partition, batch) in partitions.iter().flat_map(|(at, batches)| batches.iter().map(move |each| (*at, each))) {
        writer.add(partition, batch)?;
        bytes.extend_from_slice(batch);
        assert_eq!(writer.length(), bytes.len() as u64);
    }
    let end = writer.finish()?;
    bytes.extend_from_slice(&end.bytes);
    assert_eq!(end.size, bytes.len() as u64);
    Ok(bytes)
}

#[tokio::test]
async fn at_level_1_there_is_one_topic_and_no_log() {
    let partitions = [(0, batches(7, 2, 1, 0)), (4, batches(10, 5, 2, 30_000))];
    let bytes = compacted(2, &partitions).unwrap();
    let reader = open_bytes(bytes.clone()).await.unwrap();
    assert_eq!((reader.header().level(), reader.size()), (1, bytes.len() as u64));
    assert!(reader.log().await.unwrap().is_empty());
    assert_eq!(reader.batches(topic(2), 4, 12, usize::MAX).await.unwrap(), batches(10, 5, 2, 30_000)[1..]);
    let store = memory();
    store.create(KEY, vec![bytes.into()]).await.unwrap();
    let description = inspect(store, KEY).await.unwrap();
    assert_eq!((description.level, description.log_bytes, description.damage.len()), (1, 0, 0));

    let (writer, _) = TopicSegmentWriter::begin(header(1, 1).origin, topic(2));
    writer.finish().unwrap_err();
    compacted(2, &[(4, batches(0, 1, 1, 0)), (0, batches(0, 1, 1, 0))]).unwrap_err();
    compacted(2, &[(4, batches(1, 1, 1, 0)), (4, batches(0, 1, 1, 0))]).unwrap_err();
}

#[tokio::test]
async fn a_level_that_does_not_fit_the_log_is_refused() {
    for (own, level) in [(example(), 1), (build(header(0, 0), vec![], &[]).unwrap(), 0), (example(), 2)] {
        let mut bytes = joined(&own);
        let trailer = bytes.len() - TRAILER_LENGTH as usize;
        bytes[trailer + 10] = level;
        let crc = crc32c::crc32c(&bytes[trailer..trailer + 52]).to_le_bytes();
        bytes[trailer + 52..trailer + 56].copy_from_slice(&crc);
        let error = open_bytes(bytes).await.unwrap_err();
        assert!(error.to_string().contains("level"), "{error}");
    }
    let two_topics = vec![partition(1, 0, batches(0, 1, 1, 10)), partition(2, 0, batches(0, 1, 1, 10))];
    let two_topics = build(SegmentHeader::of_topic(header(1, 1).origin), two_topics, &[]).unwrap();
    let error = open_bytes(joined(&two_topics)).await.unwrap_err();
    assert!(error.to_string().contains("2 topics"), "{error}");
}

#[test]
fn golden_file_of_level_1() {
    let bytes = compacted(2, &[(0, batches(7, 1, 1, 0)), (1, batches(10, 3, 2, 40))]).unwrap();
    crate::golden::check("segment-1-v0.seg", &bytes);
}

#[tokio::test]
async fn golden_file() {
    let partitions = vec![
        partition(2, 1, batches(10, 3, 2, 40)),
        partition(2, 0, batches(7, 1, 1, 0)),
        partition(1, 0, batches(0, 3, 1, 300)),
    ];
    let built = build(header(5, 9), partitions, &log(5, 9)).unwrap();
    crate::golden::check("segment-v0.seg", &joined(&built));
}

/// Reads everything that a segment has; the first error counts.
async fn read_all(store: SharedStore) -> Result<Vec<Bytes>, SegmentError> {
    let reader = SegmentReader::open(store, KEY).await?;
    let mut all = Vec::new();
    for row in &reader.directory().rows {
        let mut from = row.offsets.first;
        while from <= row.offsets.last {
            let some = reader.batches(row.topic, row.partition, from, 100_000).await?;
            from = BatchHeader::parse(some.last().unwrap()).unwrap().last_offset() + 1;
            all.extend(some);
        }
    }
    all.extend(reader.log().await?.into_iter().map(|entry| entry.commands));
    Ok(all)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

prop_compose! {
    fn any_partition()(
        topic_number in 0..4u128,
        number in 0..3,
        first in 0..1_000_000i64,
        sizes in prop::collection::vec((0..3i64, 1..4usize, 0..40_000usize), 1..12),
    ) -> PartitionBatches {
        let mut offset = first;
        let batches = sizes.into_iter().map(|(gap, records, size)| {
            offset += gap;
            let batch = batch(offset, &vec![offset; records], size);
            offset += records as i64;
            batch
        });
        partition(topic_number, number, batches.collect())
    }
}

prop_compose! {
    /// A directory as the fuzzer meets it: the counts and the log's position, then its bytes.
    fn any_directory()(batches in any_partition()) -> Vec<u8> {
        let built = build(header(1, 1), vec![batches], &log(1, 1)).unwrap();
        let row = built.directory.rows[0];
        let mut bytes = vec![1, 1, row.chunks as u8];
        bytes.extend((row.bytes.end() as u32 - HEADER_LENGTH as u32).to_le_bytes());
        let end = built.parts.last().unwrap();
        bytes.extend_from_slice(&end[..end.len() - TRAILER_LENGTH as usize]);
        bytes
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_segment_reads_back(some in prop::collection::vec(any_partition(), 0..8), first in 1..1000u64, entries in 0..20u64) {
        let mut some = some;
        some.sort_by_key(|batches| (batches.topic, batches.partition));
        some.dedup_by_key(|batches| (batches.topic, batches.partition));
        let log = log(first, first + entries);
        let built = build(header(first, first + entries), some.clone(), &log).unwrap();
        let mut expected: Vec<_> = some.into_iter().flat_map(|batches| batches.batches).collect();
        expected.extend(log.into_iter().map(|entry| entry.commands));
        let read = block_on(async { read_all(stored(&built).await).await });
        prop_assert_eq!(read.unwrap(), expected);
        fuzz_open(&joined(&built));
    }

    #[test]
    fn a_segment_of_level_1_has_the_directory_of_its_batches(some in prop::collection::vec(any_partition(), 1..6)) {
        let mut some: Vec<_> = some.into_iter().map(|batches| PartitionBatches { topic: topic(2), ..batches }).collect();
        some.sort_by_key(|batches| batches.partition);
        some.dedup_by_key(|batches| batches.partition);
        let partitions: Vec<_> = some.iter().map(|each| (each.partition, each.batches.clone())).collect();
        let bytes = compacted(2, &partitions).unwrap();
        fuzz_open(&bytes);
        let reader = block_on(open_bytes(bytes)).unwrap();
        prop_assert_eq!(reader.directory(), &build(header(1, 1), some, &log(1, 1)).unwrap().directory);
    }

    #[test]
    fn a_flipped_bit_behind_the_header_is_an_error(at: prop::sample::Index, bit in 0..8) {
        let mut bytes = joined(&example());
        let at = HEADER_LENGTH as usize + at.index(bytes.len() - HEADER_LENGTH as usize);
        bytes[at] ^= 1u8 << bit;
        fuzz_open(&bytes);
        let store = memory();
        let read = block_on(async {
            store.create(KEY, vec![bytes.into()]).await.unwrap();
            read_all(Arc::clone(&store)).await
        });
        prop_assert!(read.is_err(), "byte {}", at);
    }

    #[test]
    fn a_cut_segment_is_an_error(length: prop::sample::Index) {
        let bytes = joined(&example());
        let cut = bytes[..length.index(bytes.len())].to_vec();
        fuzz_open(&cut);
        prop_assert!(block_on(open_bytes(cut)).is_err());
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), keep_end: bool) {
        let mut bytes = bytes;
        if keep_end {
            let end = joined(&example());
            bytes.extend(&end[end.len() - TRAILER_LENGTH as usize..]);
        }
        fuzz_open(&bytes);
    }

    #[test]
    fn no_directory_panics(built in any_directory(), at: prop::sample::Index, byte: u8) {
        let mut bytes = built;
        fuzz_open(&bytes);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        fuzz_open(&bytes);
    }
}
