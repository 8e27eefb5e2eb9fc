//! What can't be searched is named in the answer, and everything else is searched.

use std::sync::Arc;

use bytes::Bytes;
use chronik_format::archive::{ArchiveDescription, IndexFile, build, open};
use chronik_format::batch::{BatchBuilder, BatchHeader, Codec, forged, stamp};
use chronik_format::ids::Offset;
use chronik_format::search::ANALYSIS;
use chronik_query::QueryLimits;
use chronik_service::telemetry::Metrics;
use chronik_store::counted::CountedStore;
use chronik_store::faulty::{FaultyStore, StoreFault, StoreOperation};
use serde_json::{Value, json};

use crate::world::{World, coverage, get, parameters, places};

/// Batches of two records each: "record N even|odd", at the times 10·N.
fn batches(count: i64) -> Vec<Bytes> {
    (0..count).map(|n| batch(2 * n, &[2 * n, 2 * n + 1])).collect()
}

fn batch(base: Offset, numbers: &[i64]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::Zstd);
    for number in numbers {
        let value = format!("record {number} {}", if number % 2 == 0 { "even" } else { "odd" });
        builder.push(10 * number, None, Some(value.as_bytes()), &[]);
    }
    let mut bytes = builder.finish().to_vec();
    stamp(&mut bytes, base, 1);
    bytes.into()
}

/// One topic of six batches: two archived, two in a segment, two in the tail.
async fn world() -> World {
    let mut world = World::new();
    world.add_topic("t", vec![batches(6)]);
    world.ship(2).await;
    world.archive(0, 0).await;
    world.ship(2).await;
    world.export(0).await;
    world
}

async fn replace(world: &World, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = world.store.read(key, None).await.unwrap().to_vec();
    change(&mut bytes);
    world.store.overwrite(key, bytes.into()).await.unwrap();
}

fn missing(document: &Value) -> Vec<(i64, Option<i64>)> {
    let ranges = document["not_searched"].as_array().unwrap().iter();
    ranges.map(|range| (range["from"].as_i64().unwrap(), range["to"].as_i64())).collect()
}

fn offsets(document: &Value) -> Vec<i64> {
    places(document).into_iter().map(|(_, _, offset)| offset).collect()
}

#[tokio::test]
async fn a_damaged_batch_is_named_and_the_rest_is_found() {
    let world = world().await;
    let run = world.topics[0].partitions[0].runs[1].entry.clone();
    replace(&world, "segments/1", |bytes| bytes[run.bytes.position as usize + 70] ^= 1).await;
    let service = world.service(true);
    let (status, problem) = get(&service, "/v1/search", &parameters([("topic", "t"), ("q", "odd")])).await;
    assert_eq!((status.as_u16(), problem["code"].as_str()), (503, Some("incomplete")));
    assert_eq!(missing(&problem), [(4, Some(8))]);
    let (status, document) =
        get(&service, "/v1/search", &parameters([("topic", "t"), ("q", "odd"), ("partial", "true")])).await;
    assert_eq!((status.as_u16(), offsets(&document)), (200, vec![11, 9, 3, 1]));
    assert_eq!(missing(&document), [(4, Some(8))]);
    let ranges: Vec<_> =
        document["coverage"].as_array().unwrap().iter().map(|range| (&range["from"], &range["to"])).collect();
    assert_eq!(ranges, [(&json!(0), &json!(4)), (&json!(8), &json!(12))]);
}

/// Pages that hold records 0 to 3 and 4 to 7, below another.
async fn folded() -> World {
    let mut world = world().await;
    world.close(0, 1).await;
    world.close(0, 2).await;
    world.fold(0, 0, 2).await;
    world.export(0).await;
    world
}

#[tokio::test]
async fn pages_that_cannot_be_read_are_named_with_all_that_lies_below_them() {
    for (page, range) in [("pages/t-0", 0..4), ("pages/t-1", 4..8), ("pages/t-0-above-2", 0..8)] {
        let world = folded().await;
        replace(&world, page, |bytes| bytes[60] ^= 1).await;
        let asked = parameters([("topic", "t"), ("q", "record"), ("partial", "true")]);
        let (status, document) = get(&world.service(true), "/v1/search", &asked).await;
        let left: Vec<i64> = (0..12).rev().filter(|offset| !range.contains(offset)).collect();
        assert_eq!((status.as_u16(), offsets(&document)), (200, left), "{page}");
        assert_eq!(missing(&document), [(range.start, Some(range.end))], "{page}");
        assert!(document["not_searched"][0]["reason"].as_str().unwrap().contains(page));
    }
}

#[tokio::test]
async fn a_search_reads_only_the_pages_that_its_time_admits() {
    let world = folded().await;
    world.store.delete("pages/t-1").await.unwrap();
    let asked = parameters([("topic", "t"), ("q", "record"), ("to", "40")]);
    let (status, document) = get(&world.service(true), "/v1/search", &asked).await;
    assert_eq!((status.as_u16(), offsets(&document)), (200, vec![3, 2, 1, 0]), "{document}");
}

/// A batch as a producer may send it whose records do not unpack.
fn undecodable(batch: &[u8]) -> Bytes {
    forged(batch, |bytes| {
        let body = bytes.len();
        bytes[body - 4..].fill(0xee);
    })
}

fn count(metrics: &Metrics, name: &str) -> u64 {
    let exposition = metrics.exposition();
    let mut lines = exposition.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.next().unwrap().parse().unwrap()
}

/// In the tail, in a segment behind others or beside them, it is the same batch.
#[tokio::test]
async fn a_batch_that_does_not_unpack_is_named_each_time_and_unpacked_once() {
    for partitions in [1, 2] {
        let mut world = World::new();
        let mut list = batches(3);
        list[1] = undecodable(&list[1]);
        world.add_topic("t", vec![list; partitions]);
        world.export(0).await;
        let metrics = Metrics::new();
        let service = world.measured_service(QueryLimits::default(), true, &metrics);
        for shipped in [false, true] {
            if shipped {
                world.ship(9).await;
                world.export(0).await;
            }
            for _ in 0..2 {
                let (status, document) = get(&service, "/v1/search", &parameters([("topic", "t")])).await;
                assert_eq!(
                    (status.as_u16(), offsets(&document).len(), missing(&document)),
                    (200, 4 * partitions, vec![(2, Some(4)); partitions]),
                    "{document}"
                );
                let ranges = document["not_searched"].as_array().unwrap();
                assert!(ranges.iter().all(|range| range["permanent"] == true), "{document}");
                let unpacked = count(&metrics, "chronik_search_unreadable_batches_total");
                assert_eq!(unpacked, partitions as u64);
            }
        }
    }
}

/// Whatever the search is for: the archive knows them, so the search neither unpacks them nor reads their surroundings.
#[tokio::test]
async fn what_an_archive_can_not_decode_is_named_and_not_read() {
    let mut world = World::new();
    let mut list = batches(6);
    for spoiled in [1, 2, 5] {
        list[spoiled] = undecodable(&list[spoiled]);
    }
    world.add_topic("t", vec![list]);
    world.ship(5).await;
    world.ship(1).await;
    for segment in 0..2 {
        world.archive(0, segment).await;
    }
    world.topics[0].partitions[0].log_start = 3;
    world.export(0).await;
    let store = Arc::new(CountedStore::new(world.store.clone()));
    world.store = store.clone();
    let metrics = Metrics::new();
    let service = world.measured_service(QueryLimits::default(), true, &metrics);
    for (query, found, reads) in [("", vec![9, 8, 7, 6], 1), ("odd", vec![9, 7], 2), ("absent", vec![], 2)] {
        let (status, document) = get(&service, "/v1/search", &parameters([("topic", "t"), ("q", query)])).await;
        assert_eq!((status.as_u16(), offsets(&document)), (200, found), "{document}");
        assert_eq!(missing(&document), [(3, Some(6)), (10, Some(12))]);
        assert_eq!(coverage(&document).into_values().collect::<Vec<_>>(), [(6, 10)]);
        for range in document["not_searched"].as_array().unwrap() {
            let reason = range["reason"].as_str().unwrap();
            assert!(range["permanent"] == true && reason.contains("as the producer sent it"), "{document}");
        }
        assert_eq!(store.count("segments/"), reads, "{query}");
    }
    assert_eq!(count(&metrics, "chronik_search_unreadable_batches_total"), 0);
    assert_eq!(count(&metrics, "chronik_search_archives_failed_total"), 0);
}

#[tokio::test]
async fn records_before_a_batch_that_does_not_unpack_are_given_and_it_is_named() {
    let mut world = World::new();
    let mut list = batches(3);
    list[1] = undecodable(&list[1]);
    world.add_topic("t", vec![list]);
    world.export(0).await;
    let service = world.service(true);
    let page = async |from: &str, limit: &str| {
        let path = "/v1/topics/t/partitions/0/records";
        get(&service, path, &parameters([("offset", from), ("limit", limit)])).await
    };
    let (status, first) = page("0", "1").await;
    assert_eq!((status.as_u16(), first["next_offset"].as_i64()), (200, Some(1)), "{first}");
    let (status, before) = page("0", "9").await;
    let given = before["records"].as_array().unwrap().len();
    assert_eq!((status.as_u16(), given, before["next_offset"].as_i64()), (200, 2, Some(2)), "{before}");
    let (status, named) = page("2", "9").await;
    assert_eq!(before["stopped_by"], json!({"code": named["code"], "detail": named["detail"]}));
    assert!(first["stopped_by"].is_null(), "{first}");
    let detail = named["detail"].as_str().unwrap();
    assert!(status.as_u16() == 500 && detail.contains("offsets 2 to 3") && detail.contains("offset 4"), "{named}");
    let (status, behind) = page("4", "9").await;
    assert_eq!((status.as_u16(), behind["records"].as_array().unwrap().len()), (200, 2), "{behind}");
}

/// The text of the first archive as if `analysis` had made its words.
async fn analyse_as(world: &mut World, analysis: &str) {
    let entry = &mut world.topics[0].archives[0];
    let store = world.store.as_ref();
    let archive = open(store, &entry.key, entry.size, None, 0).await.unwrap();
    let mut index = Vec::new();
    for (name, section) in archive.toc.index_files() {
        let (name, data) = (name.to_owned(), archive.section(store, section).await.unwrap());
        index.push(IndexFile { name, data });
    }
    let description = ArchiveDescription { analysis: analysis.to_owned(), ..archive.toc.description.clone() };
    let runs = archive.runs(store).await.unwrap();
    let built = build(description, index, &runs).unwrap();
    store.overwrite(&entry.key, built.parts.concat().into()).await.unwrap();
    (entry.size, entry.crc) = (built.size, built.toc_crc);
    world.export(0).await;
}

#[tokio::test]
async fn an_archive_of_a_newer_analysis_is_not_asked_and_its_records_are_read_instead() {
    for (analysis, scanned) in [(ANALYSIS, 0), ("words-of-tomorrow", 1)] {
        let mut world = world().await;
        analyse_as(&mut world, analysis).await;
        let metrics = Metrics::new();
        let service = world.measured_service(QueryLimits::default(), true, &metrics);
        let (status, document) = get(&service, "/v1/search", &parameters([("topic", "t"), ("q", "even")])).await;
        assert_eq!((status.as_u16(), offsets(&document)), (200, vec![10, 8, 6, 4, 2, 0]));
        assert_eq!(missing(&document), []);
        assert_eq!(count(&metrics, "chronik_search_archives_failed_total"), scanned, "{analysis}");
    }
}

#[tokio::test]
async fn records_that_do_not_decode_are_missing_and_those_behind_them_are_found() {
    let mut world = World::new();
    let mut list = batches(3);
    list[1] = undecodable(&list[1]);
    world.add_topic("t", vec![list]);
    world.ship(9).await;
    world.export(0).await;
    let (status, document) = get(&world.service(true), "/v1/search", &parameters([("topic", "t")])).await;
    assert_eq!(status, 200, "asking again would not help: {document}");
    assert_eq!((offsets(&document), missing(&document)), (vec![5, 4, 1, 0], vec![(2, Some(4))]));
    assert_eq!(document["not_searched"][0]["permanent"], true, "{document}");
}

#[tokio::test(start_paused = true)]
async fn an_archive_that_the_store_does_not_give_is_not_searched_and_its_records_are_not_read() {
    let mut world = world().await;
    let store = Arc::new(FaultyStore::new(world.store.clone()));
    world.store = store.clone();
    let search = parameters([("topic", "t"), ("q", "even")]);
    store.fail(StoreOperation::Read, "archives/", StoreFault::Before, 2);
    let (status, document) = get(&world.service(true), "/v1/search", &search).await;
    assert_eq!((status.as_u16(), offsets(&document)), (200, vec![10, 8, 6, 4, 2, 0]));
    store.fail(StoreOperation::Read, "archives/", StoreFault::Before, usize::MAX);
    let (status, problem) = get(&world.service(true), "/v1/search", &search).await;
    assert_eq!((status.as_u16(), missing(&problem)), (503, vec![(0, Some(4))]));
    assert_eq!(problem["not_searched"][0]["permanent"], false, "{problem}");
}

#[tokio::test]
async fn the_partitions_of_a_segment_are_read_together() {
    let (segments, partitions) = (5, 100);
    let mut world = World::new();
    world.add_topic("t", vec![batches(segments); partitions]);
    for _ in 0..segments {
        world.ship(1).await;
    }
    world.export(0).await;
    let store = Arc::new(CountedStore::new(world.store.clone()));
    world.store = store.clone();
    let all = [("topic", "t"), ("q", "odd"), ("limit", "10000"), ("sort", "oldest")];
    let (status, document) = get(&world.service(true), "/v1/search", &parameters(all)).await;
    assert_eq!((status.as_u16(), offsets(&document).len()), (200, 500), "{}", document["not_searched"]);
    assert_eq!(store.count("segments/"), 5);
}

/// What is wrong with one of the runs that are read together is not the others' fault.
#[tokio::test]
async fn damage_in_one_partition_leaves_its_neighbours() {
    let mut world = World::new();
    world.add_topic("t", vec![batches(2); 3]);
    world.ship(9).await;
    world.export(0).await;
    let run = world.topics[0].partitions[1].runs[0].entry.clone();
    replace(&world, "segments/0", |bytes| bytes[run.bytes.position as usize + 70] ^= 1).await;
    let partial = parameters([("topic", "t"), ("q", "odd"), ("partial", "true")]);
    let (_, document) = get(&world.service(true), "/v1/search", &partial).await;
    assert_eq!((offsets(&document), missing(&document)), (vec![3, 3, 1, 1], vec![(0, Some(4))]));
    assert_eq!(document["not_searched"][0]["partition"], 1);
    assert_eq!(document["not_searched"][0]["permanent"], false, "a good copy may be put back");
}

#[tokio::test]
async fn an_archive_that_is_gone_or_damaged_is_replaced_by_its_records() {
    for damage in [true, false] {
        let world = world().await;
        let key = &world.topics[0].archives[0].key;
        if damage {
            replace(&world, key, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x55)).await;
        } else {
            world.store.delete(key).await.unwrap();
        }
        let (status, document) =
            get(&world.service(true), "/v1/search", &parameters([("topic", "t"), ("q", "even")])).await;
        assert_eq!((status.as_u16(), offsets(&document)), (200, vec![10, 8, 6, 4, 2, 0]), "{document}");
    }
}

#[tokio::test]
async fn a_segment_that_is_gone_is_missing() {
    let world = world().await;
    world.store.delete("segments/0").await.unwrap();
    let (status, problem) = get(&world.service(true), "/v1/search", &parameters([("topic", "t"), ("q", "even")])).await;
    assert_eq!(status, 503);
    assert_eq!(missing(&problem), [(0, Some(1)), (2, Some(3))], "the candidates of the archive");
}

#[tokio::test]
async fn records_before_what_is_lost_are_given_and_it_is_named() {
    let mut world = world().await;
    world.ship(2).await;
    world.export(0).await;
    let read = async |offset: &str| {
        let path = "/v1/topics/t/partitions/0/records";
        let (status, document) = get(&world.service(true), path, &parameters([("offset", offset)])).await;
        (status.as_u16(), document)
    };
    let check = async |before: &str, lost: &str, status: u16, code: &str| {
        let (found, page) = read(before).await;
        assert_eq!((found, page["next_offset"].to_string().as_str()), (200, lost), "{page}");
        let (found, refused) = read(lost).await;
        assert_eq!((found, refused["code"].as_str()), (status, Some(code)), "{refused}");
        assert_eq!(page["stopped_by"], json!({"code": refused["code"], "detail": refused["detail"]}), "{page}");
    };
    let place = world.topics[0].partitions[0].runs[1].entry.bytes.position as usize + 70;
    replace(&world, "segments/1", |bytes| bytes[place] ^= 1).await;
    check("0", "4", 500, "damaged_records").await;
    replace(&world, "segments/1", |bytes| bytes[place] ^= 1).await;
    world.store.delete("segments/2").await.unwrap();
    check("0", "8", 503, "storage_unavailable").await;
}

#[tokio::test]
async fn a_damaged_page_is_named_as_a_damaged_segment_is() {
    let mut world = world().await;
    world.close(0, 1).await;
    world.export(0).await;
    replace(&world, "pages/t-0", |bytes| bytes[60] ^= 1).await;
    let service = world.service(true);
    let (status, problem) = get(&service, "/v1/topics/t/partitions/0/records", &Vec::new()).await;
    assert_eq!((status.as_u16(), problem["code"].as_str()), (500, Some("damaged_records")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().starts_with("pages/t-0 is damaged"), "{problem}");
    let (status, problem) = get(&service, "/v1/search", &parameters([("topic", "t"), ("q", "even")])).await;
    assert_eq!((status.as_u16(), missing(&problem)), (503, vec![(0, Some(4))]), "{problem}");
    let reason = problem["not_searched"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("pages/t-0 is damaged"), "{reason}");
}

#[tokio::test]
async fn what_archives_find_is_read_where_compaction_wrote_it() {
    let mut world = world().await;
    world.close(0, 1).await;
    world.close(0, 2).await;
    world.export(0).await;
    let stale = world.service(true);
    let search = parameters([("topic", "t"), ("q", "even"), ("limit", "100")]);
    let (_, before) = get(&stale, "/v1/search", &search).await;
    world.compact(0, 0, 2).await;
    world.export(0).await;
    for segment in ["segments/0", "segments/1"] {
        world.store.delete(segment).await.unwrap();
    }
    for service in [world.service(true), stale] {
        let (status, document) = get(&service, "/v1/search", &search).await;
        assert_eq!((status.as_u16(), offsets(&document)), (200, offsets(&before)), "{document}");
        let (status, page) = get(&service, "/v1/topics/t/partitions/0/records", &Vec::new()).await;
        assert_eq!((status.as_u16(), page["next_offset"].as_i64()), (200, Some(12)), "{page}");
    }
    let segments = world.store.list("topics/").await.unwrap();
    let segment = segments.iter().find(|object| object.key.ends_with(".seg")).unwrap();
    world.store.delete(&segment.key).await.unwrap();
    let (status, problem) = get(&world.service(true), "/v1/search", &search).await;
    let mut gone = missing(&problem);
    gone.sort_unstable();
    assert_eq!((status.as_u16(), gone), (503, vec![(0, Some(4)), (4, Some(8))]), "{problem}");
}

#[tokio::test]
async fn without_a_broker_the_bucket_is_all_and_a_silent_one_leaves_the_tail_open() {
    let world = world().await;
    let (status, document) =
        get(&world.service(false), "/v1/search", &parameters([("topic", "t"), ("q", "odd")])).await;
    assert_eq!((status.as_u16(), offsets(&document)), (200, vec![7, 5, 3, 1]));
    assert_eq!(coverage(&document).into_values().collect::<Vec<_>>(), [(0, 8)]);

    world.tail.change(|state| state.unplugged = true);
    let service = world.service(true);
    for topic in [parameters([("topic", "t")]), Vec::new()] {
        let (status, problem) = get(&service, "/v1/search", &topic).await;
        assert_eq!((status.as_u16(), missing(&problem)), (503, vec![(8, None)]));
    }
    let (status, document) =
        get(&service, "/v1/search", &parameters([("topic", "t"), ("q", "odd"), ("partial", "true")])).await;
    assert_eq!((status.as_u16(), offsets(&document)), (200, vec![7, 5, 3, 1]));
    let (status, problem) = get(&service, "/v1/search", &parameters([("topic", "new")])).await;
    assert_eq!((status.as_u16(), problem["code"].as_str()), (503, Some("storage_unavailable")));
}

#[tokio::test]
async fn what_is_shipped_while_the_tail_is_read_is_found_in_the_bucket() {
    let mut world = world().await;
    let service = world.service(true);
    let search = parameters([("topic", "t"), ("limit", "100")]);
    assert_eq!(offsets(&get(&service, "/v1/search", &search).await.1).len(), 12);
    let known = world.tail.clone();
    world.ship(2).await;
    world.export(0).await;
    // The broker still answers the old position, and has released its records when they are asked for.
    known.change(|state| {
        state.topics.get_mut("t").unwrap().partitions[0].start = 8;
        state.ship_on_read = true;
    });
    let (status, document) = get(&service, "/v1/search", &search).await;
    assert_eq!((status.as_u16(), offsets(&document).len()), (200, 12), "{document}");
}

#[tokio::test]
async fn a_batch_larger_than_a_chunk_is_read_whole() {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(1, None, Some(format!("first {}", "x".repeat(9 << 20)).as_bytes()), &[]);
    builder.push(2, None, Some(b"second"), &[]);
    let large = builder.finish();
    let mut behind = batch(0, &[7]).to_vec();
    stamp(&mut behind, BatchHeader::parse(&large).unwrap().last_offset() + 1, 1);
    let mut world = World::new();
    world.add_topic("t", vec![vec![large, behind.into()]]);
    world.ship(9).await;
    world.export(0).await;
    for _ in 0..2 {
        let service = world.service(true);
        for (query, found) in [("first", vec![0]), ("second OR odd", vec![2, 1])] {
            let (status, document) = get(&service, "/v1/search", &parameters([("topic", "t"), ("q", query)])).await;
            assert_eq!((status.as_u16(), offsets(&document)), (200, found));
        }
        world.archive(0, 0).await;
        world.export(0).await;
    }
}

#[tokio::test]
async fn what_cannot_be_read_may_have_happened_at_any_time() {
    let mut batches = batches(6);
    batches[2] = forged(&batches[2], |bytes| bytes[61] ^= 0xff);
    let mut world = World::new();
    world.add_topic("t", vec![batches]);
    world.ship(2).await;
    world.ship(2).await;
    world.export(0).await;
    let service = world.service(true);
    for (from, to, found) in [("1000", "2000", vec![]), ("-9", "11", vec![1, 0]), ("70", "90", vec![8, 7])] {
        let asked = [("topic", "t"), ("from", from), ("to", to), ("partial", "true")];
        let (status, document) = get(&service, "/v1/search", &parameters(asked)).await;
        assert_eq!((status.as_u16(), offsets(&document)), (200, found));
        assert_eq!(missing(&document), [(4, Some(6))]);
    }
}
