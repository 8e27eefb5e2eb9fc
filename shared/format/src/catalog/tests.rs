#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use proptest::prelude::*;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;
use uuid::Uuid;

use super::page::{BuiltPage, PageBuilder, decode_page};
use super::*;
use crate::batch::TimeSpan;
use crate::ids::Offset;
use crate::job::ValueFormat;
use crate::names::{self, ExportName, PageName, SegmentName, TopicSegmentName};
use crate::origin::Origin;
use crate::span::{ByteSpan, OffsetSpan};
use chronik_store::faulty::{FaultyStore, StoreFault, StoreOperation};
use chronik_store::{SharedStore, memory};

const LANE: LaneId = LaneId(0);

fn head(number: u128, runs: i64) -> TopicHead {
    let run = |first: i64| RunEntry {
        offsets: OffsetSpan { first: first * 10, last: first * 10 + 9 },
        segment: 0,
        bytes: ByteSpan { position: 56 + 100 * first as u64, length: 100 },
        times: TimeSpan { earliest: 1000, latest: 2000 },
        unreadable: (first == 1).then(|| "it can't be decoded".to_owned()),
    };
    let covered = ArchiveRun { partition: 0, first: 0, last: 9, min_timestamp: Some(1000), max_timestamp: Some(1999) };
    let partitions = vec![PartitionRuns { partition: 0, runs: (0..runs).map(run).collect() }];
    let open = TopicRuns {
        segments: vec![SegmentEntry { key: "segment".into(), size: 5000, crc: 9, directory_position: 4000, level: 1 }],
        partitions: partitions.into_iter().filter(|partition| !partition.runs.is_empty()).collect(),
        archives: vec![ArchiveEntry {
            key: "archive".into(),
            size: 700,
            crc: 5,
            records: 10,
            merged: 0,
            runs: vec![covered],
        }],
    };
    TopicHead {
        id: TopicId(Uuid::from_u128(number)),
        name: format!("topic-{number}"),
        search_enabled: true,
        index: IndexSettings { value_format: ValueFormat::Json, positions: false },
        partitions: vec![
            PartitionHead {
                partition: 0,
                log_start: 0,
                shipped_to: 10 * runs,
                last_stable: 10 * runs + 3,
                epochs: vec![(1, 0)],
            },
            PartitionHead { partition: 1, log_start: 0, shipped_to: 0, last_stable: 0, epochs: vec![] },
        ],
        pages: vec![],
        open: open.into(),
    }
}

fn root(incarnation: u32, index: LogIndex, heads: Vec<HeadEntry>) -> CatalogRoot {
    CatalogRoot { incarnation: Incarnation(incarnation), lane: LANE, index, shipped_index: index / 2, heads }
}

fn name(incarnation: u32, index: LogIndex, number: u128) -> String {
    ExportName { lane: LANE, incarnation: Incarnation(incarnation), index, ulid: Ulid(number) }.to_string()
}

fn built(incarnation: u32, index: LogIndex, unchanged: Vec<HeadEntry>, changed: &[TopicHead]) -> BuiltExport {
    let object = name(incarnation, index, 1);
    build_export(Uuid::from_u128(7), &object, root(incarnation, index, unchanged), changed).unwrap()
}

fn origin() -> Origin {
    Origin { cluster: Uuid::from_u128(7), incarnation: Incarnation(1), lane: LANE }
}

fn built_page(runs: &TopicRuns) -> BuiltPage {
    let (origin, topic) = (origin(), TopicId(Uuid::from_u128(1)));
    let object = PageName { topic, incarnation: Incarnation(1), ulid: Ulid(5) }.to_string();
    PageBuilder { origin, topic, written_at: 1_700_000_000_000 }.leaf(object, runs, 8).unwrap()
}

async fn put(store: &SharedStore, export: &BuiltExport) {
    store.create(&export.latest.export, export.parts.clone()).await.unwrap();
    point_at(store, export).await;
}

async fn point_at(store: &SharedStore, export: &BuiltExport) {
    store.overwrite(&names::latest(LANE), export.latest.encode().into()).await.unwrap();
}

#[tokio::test]
async fn an_empty_bucket_has_an_empty_catalog() {
    let reader = CatalogReader::new(memory(), LANE, 1 << 20);
    let catalog = reader.refresh().await.unwrap();
    assert_eq!(catalog.generation(), (Incarnation(0), 0));
    assert_eq!(catalog.topics().count(), 0);
    assert!(reader.topic("topic-1").await.unwrap().is_none());
}

#[tokio::test]
async fn topics_are_found_in_the_export_that_holds_their_head() {
    let store = memory();
    let first = built(1, 10, vec![], &[head(2, 3), head(1, 2)]);
    put(&store, &first).await;
    let reader = CatalogReader::new(store.clone(), LANE, 1 << 20);
    reader.refresh().await.unwrap();
    assert_eq!(*reader.topic("topic-1").await.unwrap().unwrap(), head(1, 2));

    let unchanged = first.root.heads.iter().filter(|head| head.name == "topic-1").cloned().collect();
    let second = built(1, 12, unchanged, &[head(2, 5), head(3, 0)]);
    put(&store, &second).await;
    let old = reader.current();
    let catalog = reader.refresh().await.unwrap();
    assert_eq!((catalog.generation(), catalog.shipped_index()), ((Incarnation(1), 12), 6));
    let names: Vec<_> = catalog.topics().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["topic-1", "topic-2", "topic-3"]);
    for (number, runs) in [(1, 2), (2, 5), (3, 0)] {
        assert_eq!(*catalog.topic(&format!("topic-{number}")).await.unwrap().unwrap(), head(number, runs));
        let by_id = catalog.topic_by_id(TopicId(Uuid::from_u128(number))).await.unwrap();
        assert_eq!(*by_id.unwrap(), head(number, runs));
    }
    assert_eq!(*old.topic("topic-2").await.unwrap().unwrap(), head(2, 3), "an older export stays as it was");
    assert!(catalog.topic("topic-4").await.unwrap().is_none());
    assert!(catalog.topic_by_id(TopicId(Uuid::from_u128(4))).await.unwrap().is_none());
}

#[tokio::test]
async fn a_fenced_owner_does_not_turn_the_catalog_back() {
    let store = memory();
    let (old, new) = (built(1, 90, vec![], &[head(1, 9)]), built(2, 50, vec![], &[head(1, 5)]));
    put(&store, &new).await;
    let reader = CatalogReader::new(store.clone(), LANE, 1 << 20);
    reader.refresh().await.unwrap();
    put(&store, &old).await;
    assert_eq!(reader.refresh().await.unwrap().generation(), (Incarnation(2), 50));
}

#[tokio::test]
async fn the_same_state_exported_again_takes_the_place_of_the_first() {
    let store = memory();
    put(&store, &built(1, 10, vec![], &[head(1, 2)])).await;
    let reader = CatalogReader::new(store.clone(), LANE, 0);
    reader.refresh().await.unwrap();
    let again = build_export(Uuid::from_u128(7), &name(1, 10, 2), root(1, 10, vec![]), &[head(1, 2)]).unwrap();
    put(&store, &again).await;
    store.delete(&name(1, 10, 1)).await.unwrap();
    assert!(reader.current().topic("topic-1").await.unwrap_err().is_missing());
    assert!(reader.topic("topic-1").await.unwrap().is_some());
    assert!(reader.topic_by_id(head(1, 2).id).await.unwrap().is_some());
}

#[tokio::test]
async fn an_export_that_vanishes_between_two_reads_is_looked_for_once_more() {
    let store = Arc::new(FaultyStore::new(memory()));
    let shared: SharedStore = store.clone();
    put(&shared, &built(1, 10, vec![], &[head(1, 2)])).await;
    store.fail(StoreOperation::Read, ".catalog", StoreFault::Missing, 1);
    let reader = CatalogReader::new(shared, LANE, 1 << 20);
    assert_eq!(reader.refresh().await.unwrap().generation().1, 10);
    store.fail(StoreOperation::Read, ".catalog", StoreFault::Missing, 2);
    assert!(reader.topic("topic-1").await.unwrap_err().is_missing());
    store.fail(StoreOperation::Read, "latest", StoreFault::Before, 1);
    assert!(!reader.refresh().await.unwrap_err().is_missing());
}

#[tokio::test]
async fn heads_beyond_the_cache_are_read_again() {
    let store = memory();
    put(&store, &built(1, 10, vec![], &[head(1, 2)])).await;
    let reader = CatalogReader::new(store, LANE, 0);
    let catalog = reader.refresh().await.unwrap();
    let first = catalog.topic("topic-1").await.unwrap().unwrap();
    catalog.loaded.run_pending_tasks().await;
    let again = catalog.topic("topic-1").await.unwrap().unwrap();
    assert!(!Arc::ptr_eq(&first, &again));
    assert_eq!(first, again);
}

#[tokio::test(start_paused = true)]
async fn a_follower_sees_what_is_exported_later() {
    let store = memory();
    let reader = Arc::new(CatalogReader::new(store.clone(), LANE, 1 << 20));
    let cancel = CancellationToken::new();
    let follower = tokio::spawn({
        let (reader, cancel) = (reader.clone(), cancel.clone());
        async move { reader.follow(cancel).await }
    });
    put(&store, &built(1, 10, vec![], &[head(1, 2)])).await;
    tokio::time::advance(reader::PACE * 2).await;
    while reader.current().generation().1 != 10 {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    follower.await.unwrap();
}

#[tokio::test]
async fn what_readers_could_not_use_is_not_exported() {
    let fails = |unchanged: Vec<HeadEntry>, head: TopicHead| {
        let export = build_export(Uuid::nil(), "export", root(1, 1, unchanged), &[head]);
        assert!(matches!(export, Err(CatalogError::Unbuildable { .. })));
    };
    fails(built(1, 1, vec![], &[head(1, 1)]).root.heads, head(1, 2));
    let mut wrong = head(1, 2);
    wrong.partitions.swap(0, 1);
    fails(vec![], wrong);
    let mut wrong = head(1, 2);
    Arc::make_mut(&mut wrong.open).partitions[0].runs.swap(0, 1);
    fails(vec![], wrong);
    let mut wrong = head(1, 2);
    Arc::make_mut(&mut wrong.open).segments.clear();
    fails(vec![], wrong);
}

#[tokio::test]
async fn a_later_version_is_refused_by_name() {
    let store = memory();
    let mut export = built(1, 10, vec![], &[head(1, 2)]);
    let latest = String::from_utf8(export.latest.encode()).unwrap().replace("\"v\":0", "\"v\":7");
    store.overwrite(&names::latest(LANE), latest.into()).await.unwrap();
    let reader = CatalogReader::new(store.clone(), LANE, 1 << 20);
    let error = reader.refresh().await.unwrap_err();
    assert_eq!(error.to_string(), "catalog/00000000/latest has format version 7, this program reads 0");

    let mut trailer = export.parts.pop().unwrap().to_vec();
    trailer[52] = 7;
    export.parts.push(trailer.into());
    put(&store, &export).await;
    let error = reader.refresh().await.unwrap_err();
    assert!(matches!(&error, CatalogError::UnknownVersion { object, version: 7 } if object.ends_with(".catalog")));
}

#[tokio::test]
async fn the_root_stays_under_a_mebibyte_at_a_thousand_topics() {
    let heads: Vec<_> =
        (0..1000).map(|number| TopicHead { name: format!("{number:0100}"), ..head(number, 0) }).collect();
    assert!(built(1, 10, vec![], &heads).latest.root_length < 1 << 20);
}

#[tokio::test]
async fn the_newest_export_is_found_whatever_latest_says() {
    let store = memory();
    assert_eq!(newest_export(&*store, LANE).await.unwrap(), None);
    let (old, new) = (built(1, 90, vec![], &[head(1, 2)]), built(2, 50, vec![], &[head(1, 3)]));
    put(&store, &new).await;
    put(&store, &old).await;
    let newest = Some((new.latest, new.root));
    assert_eq!(newest_export(&*store, LANE).await.unwrap(), newest);
    for bytes in [&b"CHRNKCAT"[..], &[0; 66], &[0xff; 200]] {
        let broken = name(3, 1, 1);
        store.create(&broken, vec![bytes::Bytes::from_static(bytes)]).await.unwrap();
        let read = newest_export(&*store, LANE).await.unwrap();
        assert_eq!(read, newest, "a damaged one is passed over");
        store.delete(&broken).await.unwrap();
    }
}

#[tokio::test]
async fn golden_file() {
    let older = built(1, 8, vec![], &[head(3, 1)]).root.heads;
    let mut closed = head(1, 2);
    closed.pages = vec![built_page(&head(1, 2).open).entry.into()];
    let export = built(1, 10, older, &[closed, head(2, 0)]);
    crate::golden::check("catalog-v0.catalog", &export.parts.concat());
    crate::golden::check("page-v0.page", &built_page(&head(1, 2).open).bytes);
    crate::golden::check("page-inner-v0.page", &built_inner_page().bytes);
    crate::golden::check("latest-v0.json", &export.latest.encode());
}

#[tokio::test]
async fn a_page_is_read_as_it_was_built_and_as_its_topic_names_it() {
    let (store, runs) = (memory(), head(1, 3).open);
    let BuiltPage { bytes, entry } = built_page(&runs);
    store.create(&entry.object, vec![bytes]).await.unwrap();
    let reader = CatalogReader::new(store.clone(), LANE, 1 << 20);
    let topic = TopicId(Uuid::from_u128(1));
    assert_eq!(reader.page(topic, &entry).await.unwrap(), Page::Runs(runs));
    let bounds = entry.bounds.of(0).unwrap();
    let expected = (OffsetSpan { first: 0, last: 29 }, 300, Some(10));
    assert_eq!((bounds.offsets, bounds.bytes, bounds.scanned_from), expected);
    assert_eq!((entry.bounds.of(1), entry.bounds.archives, entry.bounds.bytes), (None, 1, 300));
    assert_eq!(entry.bounds.waiting, WaitingRuns { runs: 1, bytes: 100 }, "not what has an archive, or never will");

    let refused = async |topic, entry: &PageEntry| {
        let reader = CatalogReader::new(store.clone(), LANE, 0);
        reader.page(topic, entry).await.unwrap_err()
    };
    let of_another = refused(TopicId(Uuid::from_u128(2)), &entry).await;
    assert!(of_another.to_string().ends_with("it is another page than the catalog names"), "{of_another}");
    let mut other = entry.clone();
    other.bounds.partitions[0].offsets.last += 1;
    assert!(matches!(refused(topic, &other).await, CatalogError::Damaged { .. }));
    let gone = PageEntry { object: "gone".into(), ..entry };
    assert!(refused(topic, &gone).await.is_missing());
}

/// An entry of a leaf up to a log index, with offsets of partitions.
fn leaf_entry(last: LogIndex, offsets: &[(PartitionId, Offset, Offset)]) -> Arc<PageEntry> {
    let partitions = offsets.iter().map(|&(partition, first, last)| PartitionBounds {
        partition,
        offsets: OffsetSpan { first, last },
        times: TimeSpan::at(last),
        bytes: 10 + last as u64,
        scanned_from: (partition == 0).then_some(first),
    });
    let level = last as u8;
    let bounds = PageBounds {
        last,
        runs: 3,
        records: 30,
        bytes: 100,
        archives: 2,
        mergeable: 2,
        waiting: WaitingRuns { runs: 1, bytes: last },
        level,
        oldest_segment: (level < 10).then_some(OldestSegment { first: last - 3, named_at: 2 * last as i64 }),
        uncompacted: UncompactedPages { pages: 1, runs: 2, records: 20, bytes: last },
        partitions: partitions.collect(),
    };
    PageEntry { object: format!("page-{last}"), bounds, ..PageEntry::default() }.into()
}

fn three_leaves() -> [Arc<PageEntry>; 3] {
    [
        leaf_entry(5, &[(0, 0, 9)]),
        leaf_entry(9, &[(0, 10, 19), (1, 0, 4), (3, 2, 2)]),
        leaf_entry(12, &[(1, 7, 8), (2, 0, 0)]),
    ]
}

fn built_inner_page() -> BuiltPage {
    let builder = PageBuilder { origin: origin(), topic: TopicId(Uuid::from_u128(1)), written_at: 1_700_000_000_001 };
    builder.inner("above".into(), &three_leaves()).unwrap()
}

#[test]
fn a_topic_knows_which_page_reaches_an_offset() {
    let head = TopicHead { pages: three_leaves().into(), ..head(1, 0) };
    for (partition, offset, expected) in [
        (0, 0, Some("page-5")),
        (0, 9, Some("page-5")),
        (0, 10, Some("page-9")),
        (0, 20, None),
        (1, 4, Some("page-9")),
        (1, 5, Some("page-12")),
        (1, 8, Some("page-12")),
        (4, 0, None),
    ] {
        let found = PageEntry::reaching(&head.pages, partition, offset);
        assert_eq!(found.map(|page| page.object.as_str()), expected, "{partition} {offset}");
    }
    assert_eq!([0, 1, 2, 4].map(|partition| head.closed_to(partition)), [20, 9, 1, 0]);
}

#[test]
fn a_page_above_others_has_the_bounds_of_all() {
    let BuiltPage { bytes, entry } = built_inner_page();
    let PageBounds { last, runs, records, bytes: sum, archives, level, .. } = entry.bounds;
    assert_eq!((entry.height, last, runs, records, sum, archives, level), (1, 12, 9, 90, 300, 6, 5));
    assert_eq!(entry.bounds.waiting, WaitingRuns { runs: 3, bytes: 26 });
    assert_eq!(entry.bounds.oldest_segment, Some(OldestSegment { first: 2, named_at: 10 }));
    assert_eq!(entry.bounds.uncompacted, UncompactedPages { pages: 3, runs: 6, records: 60, bytes: 26 });
    let bounds = entry.bounds.partitions.iter().map(|bounds| {
        let TimeSpan { earliest, latest } = bounds.times;
        let OffsetSpan { first, last } = bounds.offsets;
        (bounds.partition, first..=last, earliest..=latest, bounds.bytes, bounds.scanned_from)
    });
    let expected = [
        (0, 0..=19, 9..=19, 48, Some(0)),
        (1, 0..=8, 4..=8, 32, None),
        (2, 0..=0, 0..=0, 10, None),
        (3, 2..=2, 2..=2, 12, None),
    ];
    assert_eq!(bounds.collect::<Vec<_>>(), expected);
    let stored = decode_page("above", &bytes).unwrap();
    assert_eq!((stored.origin, stored.topic, stored.height), (origin(), TopicId(Uuid::from_u128(1)), 1));
    assert_eq!(stored.page, Page::Pages(three_leaves().into()));
}

#[test]
fn the_oldest_level_0_segment_of_a_page_is_told_by_its_name() {
    let segment = |key: &str, level| SegmentEntry { key: key.to_owned(), level, ..SegmentEntry::default() };
    let shipped = |first| {
        let ulid = Ulid::from_parts(1000 + first, 0);
        SegmentName { lane: LANE, incarnation: Incarnation(1), first, last: first + 9, ulid }.to_string()
    };
    let compacted = TopicSegmentName { topic: TopicId(Uuid::nil()), incarnation: Incarnation(1), ulid: Ulid(1) };
    let compacted = segment(&compacted.to_string(), 1);
    let oldest = |first| Some(OldestSegment { first, named_at: 1000 + first as i64 });
    for (why, segments, expected) in [
        ("of several", vec![segment(&shipped(20), 0), segment(&shipped(10), 0)], oldest(10)),
        ("beside what was compacted", vec![compacted.clone(), segment(&shipped(20), 0)], oldest(20)),
        ("all was compacted", vec![compacted], None),
        ("nothing is known", vec![segment("x", 0), segment(&shipped(20), 0)], Some(OldestSegment::default())),
        ("there is nothing", vec![], None),
    ] {
        let runs = TopicRuns { segments, ..TopicRuns::default() };
        assert_eq!(PageBounds::of_runs(&runs, 99).oldest_segment, expected, "{why}");
    }
}

#[tokio::test]
async fn pages_are_described_for_people() {
    let store = memory();
    let (leaf, inner) = (built_page(&head(1, 3).open), built_inner_page());
    for page in [&leaf, &inner] {
        store.create(&page.entry.object, vec![page.bytes.clone()]).await.unwrap();
    }
    let described = inspect::inspect(&*store, &leaf.entry.object).await.unwrap();
    assert_eq!((described.height, described.last_index, described.size), (0, None, leaf.entry.size));
    assert_eq!((described.crc, described.batch_bytes, described.pages.len()), (leaf.entry.crc, 300, 0));
    let runs: Vec<_> = described.runs.iter().map(|run| (run.offsets.first, run.archives.concat())).collect();
    assert_eq!(runs, [(0, "archive".to_owned()), (10, String::new()), (20, String::new())]);
    assert_eq!(described.runs[1].unreadable.as_deref(), Some("it can't be decoded"));
    assert_eq!((described.archives.len(), described.archives[0].runs), (1, 1));

    let described = inspect::inspect(&*store, "above").await.unwrap();
    assert_eq!((described.height, described.last_index, described.archive_count), (1, Some(12), 6));
    let below: Vec<_> = described.pages.iter().map(|page| (&*page.object, page.partitions.len())).collect();
    assert_eq!(below, [("page-5", 1), ("page-9", 3), ("page-12", 2)]);
    assert_eq!((described.partitions.len(), described.runs.len()), (4, 0));
    assert!(inspect::inspect(&*store, "gone").await.unwrap_err().is_missing());
}

#[test]
fn pages_that_do_not_follow_one_another_go_below_none() {
    let [first, second, third] = three_leaves();
    let higher = Arc::new(PageEntry { height: 1, ..PageEntry::clone(&second) });
    let highest = Arc::new(PageEntry { height: u8::MAX, ..PageEntry::clone(&second) });
    let twisted = leaf_entry(10, &[(1, 0, 4), (0, 10, 19)]);
    let overlapping = leaf_entry(10, &[(0, 9, 19)]);
    let backwards = leaf_entry(10, &[(0, 10, 8)]);
    for (why, below) in [
        ("nothing", vec![]),
        ("out of order", vec![second.clone(), first.clone()]),
        ("twice the same", vec![first.clone(), first.clone()]),
        ("of two heights", vec![first.clone(), higher]),
        ("too high", vec![highest]),
        ("partitions out of order", vec![first.clone(), twisted]),
        ("offsets that overlap", vec![first.clone(), overlapping]),
        ("no offsets", vec![first.clone(), backwards]),
    ] {
        let builder = PageBuilder { origin: origin(), topic: TopicId(Uuid::nil()), written_at: 0 };
        let refused = builder.inner("above".into(), &below);
        assert!(matches!(refused, Err(CatalogError::Unbuildable { .. })), "{why}");
    }
    let builder = PageBuilder { origin: origin(), topic: TopicId(Uuid::nil()), written_at: 0 };
    builder.inner("above".into(), &[first, third]).unwrap();
}

fn flipped_page_is_refused(page: &BuiltPage, at: usize, bit: u8) -> bool {
    let mut bytes = page.bytes.to_vec();
    let at = at % bytes.len();
    bytes[at] ^= 1 << bit;
    decode_page(&page.entry.object, &bytes).is_err()
}

fn flipped_export_is_refused(at: usize, bit: u8) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let store = memory();
        let export = built(1, 10, vec![], &[head(1, 2)]);
        let mut bytes = export.parts.concat();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        store.create(&export.latest.export, vec![bytes.into()]).await.unwrap();
        point_at(&store, &export).await;
        let reader = CatalogReader::new(store, LANE, 1 << 20);
        match reader.refresh().await {
            Ok(catalog) => catalog.topic("topic-1").await.is_err(),
            Err(_) => true,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_flipped_bit_is_an_error(at: usize, bit in 0..8u8) {
        prop_assert!(flipped_export_is_refused(at, bit));
        for page in [built_page(&head(1, 2).open), built_inner_page()] {
            prop_assert!(flipped_page_is_refused(&page, at, bit));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz_catalog(&bytes);
    }
}
