#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;
use std::process::Command;

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::ids::{Offset, PartitionId, TopicId};
use chronik_store::memory;

const KEY: &str = "topics/t/archives/00/a.ckx";

fn table() -> RunTable {
    let batch = |base_offset, position, documents, offset_deltas: Option<Vec<u32>>| RunBatch {
        base_offset,
        position,
        length: 100,
        min_timestamp: base_offset - 5,
        max_timestamp: base_offset + 5,
        documents,
        offset_deltas: offset_deltas.map(Into::into),
    };
    let mut table = RunTable::default();
    let dense = vec![batch(10, 64, 3, None), batch(20, 200, 2, Some(vec![1, 9]))];
    table.push("one.seg", 0, 10, 30, dense, vec![undecodable(0, 13, 19), undecodable(0, 30, 30)]).unwrap();
    table.push("one.seg", 1, 0, 4, vec![], vec![]).unwrap();
    table.push("two.seg", 0, 31, 31, vec![batch(31, 64, 1, None)], vec![]).unwrap();
    table
}

fn undecodable(partition: PartitionId, first: Offset, last: Offset) -> UndecodableBatches {
    let reason = "it is made of spam".to_owned();
    UndecodableBatches { partition, first, last, min_timestamp: 20, max_timestamp: 99, reason }
}

fn description(records: u32) -> ArchiveDescription {
    ArchiveDescription {
        v: VERSION,
        incarnation: Incarnation(1),
        lane: LaneId(0),
        topic: "logs".to_owned(),
        topic_id: TopicId(Uuid::from_u128(7)),
        analysis: "words".to_owned(),
        settings: IndexSettings::default(),
        records: records.into(),
    }
}

fn members() -> Vec<IndexFile> {
    let long: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    vec![
        IndexFile { name: "0.idx".to_owned(), data: long.into() },
        IndexFile { name: "empty".to_owned(), data: Bytes::new() },
        IndexFile { name: "0.term".to_owned(), data: Bytes::from_static(b"terms") },
    ]
}

fn built() -> BuiltArchive {
    build(description(6), members(), &table()).unwrap()
}

fn bytes(built: &BuiltArchive) -> Vec<u8> {
    built.parts.concat()
}

async fn stored(bytes: &[u8]) -> chronik_store::SharedStore {
    let store = memory();
    store.create(KEY, vec![Bytes::copy_from_slice(bytes)]).await.unwrap();
    store
}

#[tokio::test]
async fn what_was_written_is_read_with_any_size_of_the_first_read() {
    let built = built();
    assert_eq!(bytes(&built).len() as u64, built.size);
    let store = stored(&bytes(&built)).await;
    for end_bytes in [0, 1, 2_000, 4_000, 100_000, 1 << 30] {
        let archive = open(store.as_ref(), KEY, built.size, Some(built.toc_crc), end_bytes).await.unwrap();
        assert_eq!(archive.toc.description, description(6));
        assert_eq!(archive.runs(store.as_ref()).await.unwrap(), table());
        let mut files = archive.toc.index_files();
        for member in members() {
            let (name, section) = files.next().unwrap();
            assert_eq!(name, member.name);
            assert_eq!(archive.section(store.as_ref(), section).await.unwrap(), member.data);
        }
        assert!(files.next().is_none());
    }
}

#[tokio::test]
async fn a_range_is_read_and_checked_by_blocks() {
    let built = built();
    let store = stored(&bytes(&built)).await;
    let archive = open(store.as_ref(), KEY, built.size, None, 0).await.unwrap();
    let section = archive.toc.section(KEY, "index/0.idx").unwrap();
    let blocks = section.blocks(BLOCK_BYTES + 1..2 * BLOCK_BYTES + 1);
    assert_eq!(blocks, 1..3);
    let read = archive.blocks(store.as_ref(), section, blocks).await.unwrap();
    assert_eq!(read, members()[0].data.slice(BLOCK_BYTES as usize..3 * BLOCK_BYTES as usize));
    assert!(section.verify(KEY, 0, &read).is_err());
    assert!(section.verify(KEY, 3, &read).is_err());
}

#[test]
fn any_tar_program_opens_an_archive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ckx");
    std::fs::File::create(&path).unwrap().write_all(&bytes(&built())).unwrap();
    let listed = Command::new("tar").arg("tf").arg(&path).output().unwrap();
    assert!(listed.status.success() && listed.stderr.is_empty());
    let names = String::from_utf8(listed.stdout).unwrap();
    let expected = [
        "metadata.json",
        "index/0.idx",
        "index/empty",
        "index/0.term",
        "chronik/runs",
        "chronik/batches",
        "chronik/toc",
        "chronik/trailer",
    ];
    assert!(names.lines().eq(expected), "{names}");

    let extracted = Command::new("tar").arg("xf").arg(&path).arg("-C").arg(folder.path()).output().unwrap();
    assert!(extracted.status.success());
    for member in members() {
        assert_eq!(std::fs::read(folder.path().join("index").join(member.name)).unwrap(), member.data);
    }
    let metadata = std::fs::read(folder.path().join("metadata.json")).unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&metadata).unwrap();
    assert_eq!(metadata["topic"], "logs");
    assert_eq!(metadata["runs"][0]["segment"], "one.seg");
    assert_eq!(metadata["runs"][1]["min_timestamp"], serde_json::Value::Null);
    assert_eq!(metadata["undecodable"][0]["first"], 13);
}

#[tokio::test]
async fn an_inspection_tells_what_is_in_it() {
    let built = built();
    let inspection = inspect(stored(&bytes(&built)).await.as_ref(), KEY).await.unwrap();
    assert_eq!(inspection.crc, built.toc_crc);
    assert_eq!(inspection.description.records, 6);
    assert_eq!(inspection.sections.len(), 6);
    assert_eq!(inspection.runs, table().covered());
    assert_eq!(inspection.undecodable, table().undecodable());
    let json = serde_json::to_value(&inspection).unwrap();
    assert_eq!(json["analysis"], "words");
}

#[tokio::test]
async fn other_versions_and_other_archives_are_refused() {
    let built = built();
    let plain = bytes(&built);
    let store = stored(&plain).await;
    let other = open(store.as_ref(), KEY, built.size, Some(built.toc_crc ^ 1), 0).await;
    assert!(matches!(other, Err(ArchiveError::Damaged { .. })));

    let mut newer = plain.clone();
    let trailer = newer.len() - 1536;
    newer[trailer + 8] = 9;
    let error = open(stored(&newer).await.as_ref(), KEY, built.size, None, 0).await.unwrap_err();
    assert_eq!(error, ArchiveError::Unsupported { archive: KEY.to_owned(), version: 9 });
    assert!(error.to_string().contains(KEY));
    let missing = open(store.as_ref(), "other", built.size, None, 0).await.unwrap_err();
    assert_eq!(missing, ArchiveError::NotFound { archive: "other".to_owned() });
}

/// Who looks for records of that time would have found them there.
#[test]
fn the_times_of_a_run_are_those_of_what_can_not_be_decoded_too() {
    let times: Vec<_> = table().covered().iter().map(|run| (run.min_timestamp, run.max_timestamp)).collect();
    assert_eq!(times, [(Some(5), Some(99)), (None, None), (Some(26), Some(36))]);
}

#[test]
fn documents_lead_to_offsets() {
    let table = table();
    let offsets: Vec<_> = (0..6).map(|document| table.locate(document).unwrap().offset).collect();
    assert_eq!(offsets, [10, 11, 12, 21, 29, 31]);
    assert_eq!(table.locate(5).unwrap().run.segment, 1);
    assert_eq!(table.locate(6), None);
    assert_eq!(RunTable::default().locate(0), None);
}

#[test]
fn what_does_not_fit_together_is_not_written() {
    let batch = |base_offset, position, documents| RunBatch {
        base_offset,
        position,
        length: 10,
        min_timestamp: 0,
        max_timestamp: 0,
        documents,
        offset_deltas: None,
    };
    let wrong = [
        vec![batch(9, 0, 1)],
        vec![batch(10, 0, 12)],
        vec![batch(10, 0, 0)],
        vec![batch(10, 0, 5), batch(14, 10, 1)],
        vec![batch(10, 5, 5), batch(15, 10, 1)],
        vec![batch(10, u64::MAX, 1)],
        vec![RunBatch { min_timestamp: 1, ..batch(10, 0, 1) }],
        vec![RunBatch { offset_deltas: Some([1, 1].into()), ..batch(10, 0, 2) }],
        vec![RunBatch { offset_deltas: Some([1].into()), ..batch(10, 0, 2) }],
    ];
    for batches in wrong {
        assert!(RunTable::default().push("s", 0, 10, 20, batches.clone(), vec![]).is_err(), "{batches:?}");
    }
    let good = undecodable(0, 10, 20);
    let wrong = [
        vec![UndecodableBatches { partition: 1, ..good.clone() }],
        vec![UndecodableBatches { first: 9, ..good.clone() }],
        vec![UndecodableBatches { last: 21, ..good.clone() }],
        vec![UndecodableBatches { first: 12, last: 11, ..good.clone() }],
        vec![UndecodableBatches { min_timestamp: 100, ..good.clone() }],
        vec![UndecodableBatches { reason: "r".repeat(REASON_BYTES_MAX + 1), ..good.clone() }],
        vec![good.clone(); UNDECODABLE_MAX + 1],
    ];
    for undecodable in wrong {
        assert!(RunTable::default().push("s", 0, 10, 20, vec![], undecodable.clone()).is_err(), "{undecodable:?}");
    }
    assert!(RunTable::default().push("s", 0, 10, 20, vec![], vec![good; UNDECODABLE_MAX]).is_ok());
    assert!(build(description(5), vec![], &table()).is_err());
    let name = IndexFile { name: "n".repeat(100), data: Bytes::new() };
    assert!(build(description(6), vec![name], &table()).is_err());
}

#[test]
fn no_two_names_share_a_header_term() {
    let long = [b'n'; 300];
    let names: [&[u8]; 7] = [b"", b"n", b"n\xff", b"\xff", &long[..254], &long[..255], &long];
    let mut terms: Vec<_> =
        names.iter().flat_map(|name| [terms::header_term(name, "a"), terms::header_term(name, "b")]).collect();
    assert!(terms.iter().filter(|term| !term.exact).count() == 2);
    terms.sort_by(|a, b| a.bytes.cmp(&b.bytes));
    terms.dedup();
    assert_eq!(terms.len(), 14);
    assert!(!terms::key_term(&[0; 1025]).exact);
    assert_ne!(terms::key_term(&[0; 1024]).bytes, terms::key_term(&[0; 1025]).bytes);
}

fn any_batches() -> impl Strategy<Value = Vec<RunBatch>> {
    let batch = (
        0_i64..1000,
        0_u64..1000,
        0_u32..1000,
        any::<(i64, i64)>(),
        prop::collection::vec(1_u32..5, 1..6),
        any::<bool>(),
    );
    prop::collection::vec(batch, 0..20).prop_map(|batches| {
        let (mut offset, mut position) = (0, 0);
        let built = |(skip, space, length, (a, b), steps, dense): (i64, u64, u32, (i64, i64), Vec<u32>, bool)| {
            let base_offset = offset + skip;
            let mut delta = 0;
            let deltas: Box<[u32]> = steps
                .iter()
                .map(|step| {
                    delta += step;
                    delta
                })
                .collect();
            let batch = RunBatch {
                base_offset,
                position: position + space,
                length,
                min_timestamp: a.min(b),
                max_timestamp: a.max(b),
                documents: deltas.len() as u32,
                offset_deltas: (!dense).then_some(deltas),
            };
            offset = base_offset + 100;
            position = batch.position + u64::from(length);
            batch
        };
        batches.into_iter().map(built).collect()
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz_archive(&bytes);
    }

    #[test]
    fn any_table_reads_back(runs in prop::collection::vec(any_batches(), 0..5)) {
        let mut table = RunTable::default();
        let mut expected = vec![];
        for (n, batches) in runs.into_iter().enumerate() {
            for batch in &batches {
                expected.extend((0..batch.documents).map(|at| {
                    let delta = batch.offset_deltas.as_ref().map_or(at, |deltas| deltas[at as usize]);
                    (n as i32, batch.position, batch.base_offset + i64::from(delta))
                }));
            }
            let undecodable = batches.iter().map(|batch| undecodable(n as i32, batch.base_offset, batch.base_offset));
            table.push(&format!("{}.seg", n % 2), n as i32, 0, i64::MAX, batches.clone(), undecodable.collect()).unwrap();
        }
        let read = RunTable::parse(KEY, &table.encode_runs().unwrap(), &table.encode_batches().unwrap()).unwrap();
        prop_assert_eq!(&read, &table);
        let located: Vec<_> = (0..read.documents())
            .map(|document| read.locate(document).unwrap())
            .map(|at| (at.run.partition, at.batch.position, at.offset))
            .collect();
        prop_assert_eq!(located, expected);
    }

    /// As if all runs had been put into one from the start; segments that both have are the same ones.
    #[test]
    fn a_table_behind_another_is_one(runs in prop::collection::vec(any_batches(), 0..8), cut in 0..8_usize) {
        let segments = ["s", "one", "two"];
        let push = |table: &mut RunTable, n: usize, batches: &Vec<RunBatch>| {
            let gap = vec![undecodable(n as i32, 5, 5)];
            table.push(segments[n % 3], n as i32, 0, 10_000_000, batches.clone(), gap).unwrap();
        };
        let (mut whole, mut first, mut second) = (RunTable::default(), RunTable::default(), RunTable::default());
        for (n, batches) in runs.iter().enumerate() {
            push(&mut whole, n, batches);
            push(if n < cut { &mut first } else { &mut second }, n, batches);
        }
        first.push_all(second).unwrap();
        prop_assert_eq!(first, whole);
    }

    #[test]
    fn damage_is_an_error_or_lies_where_nothing_is_read(at: prop::sample::Index, bit in 0..8) {
        let built = built();
        let mut bytes = bytes(&built);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let inspected = runtime.block_on(async { inspect(stored(&bytes).await.as_ref(), KEY).await });
        if let Ok(inspection) = inspected {
            let at = at as u64;
            let within = inspection.sections.iter().any(|s| (s.position..s.position + s.length).contains(&at));
            prop_assert!(!within);
            prop_assert_eq!(inspection.runs, table().covered());
        }
    }

    #[test]
    fn a_truncated_archive_is_an_error(length: prop::sample::Index) {
        let built = built();
        let bytes = bytes(&built);
        let length = length.index(bytes.len());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let opened = runtime.block_on(async {
            let store = stored(&bytes[..length]).await;
            (inspect(store.as_ref(), KEY).await.is_err(), open(store.as_ref(), KEY, built.size, None, 4096).await.is_err())
        });
        prop_assert_eq!(opened, (true, true));
    }
}
