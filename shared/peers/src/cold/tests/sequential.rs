//! Readers that go on: what they get, how often the store is asked for it, and what is held for them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use chronik_format::span::OffsetSpan;
use chronik_store::ObjectInfo;
use chronik_store::counted::CountedStore;
use tokio::sync::Barrier;
use tokio::time::{Duration, timeout};

use super::*;

/// So many segments with a run of a batch or two each.
async fn small_runs(count: i64) -> History {
    let mut history = History::new();
    for number in 0..count {
        history.ship(&vec![vec![number]; 1 + number as usize % 2], 1000).await;
    }
    history.export().await;
    history
}

/// Segments with a run of some 5 MiB, one with a batch that is longer than what is read at a time, and a small one.
async fn large_runs() -> History {
    let mut history = History::new();
    history.ship(&vec![vec![1; 4]; 45], 30_000).await;
    history.ship(&[vec![2; 2], vec![3; 50], vec![4; 2]], 100_000).await;
    history.ship(&[vec![5; 2]], 10).await;
    history.export().await;
    history
}

/// All batches from an offset on, with the bytes of each answer.
pub(super) async fn read_on(
    reader: &BucketReader,
    mut offset: Offset,
    end: Offset,
    max_bytes: usize,
) -> (Vec<Bytes>, Vec<usize>) {
    let (mut read, mut answers) = (Vec::new(), Vec::new());
    while offset < end {
        let batches = reader.fetch(TOPIC, 0, offset, max_bytes).await.unwrap();
        answers.push(batches.iter().map(Bytes::len).sum());
        read.extend(batches);
        offset = last_of(read.last().unwrap()) + 1;
    }
    (read, answers)
}

fn counted(history: &History, cache_bytes: u64) -> (Arc<CountedStore>, BucketReader) {
    let store = Arc::new(CountedStore::new(history.shared()));
    let reader = reader_of(store.clone(), cache_bytes).reading_ahead(AHEAD_BYTES, &Metrics::new());
    (store, reader)
}

/// Reads of batches since the last look, and of what leads there: heads, pages, directories.
async fn reads(store: &CountedStore, history: &History) -> (usize, usize) {
    let (mut data, mut metadata) = (0, 0);
    for (key, range) in store.take() {
        let size = history.store.info(&key).await.unwrap().size;
        match range {
            Some(range) if key.ends_with(".seg") && range.end < size => data += 1,
            _ => metadata += 1,
        }
    }
    (data, metadata)
}

#[tokio::test]
async fn one_record_costs_one_read_of_data_and_one_of_each_that_leads_there() {
    for folds in 0..3 {
        let mut history = History::new();
        for number in 0..4 {
            history.ship(&[vec![number]], 100).await;
            history.ship(&vec![vec![number; 4]; 12], 30_000).await;
            history.close().await;
            if number >= folds {
                history.fold().await;
            }
        }
        history.ship(&[vec![9]], 100).await;
        history.export().await;
        // Small and large runs in turn, of 1 and 48 records.
        for offset in [0, 1, 25, 48, 49, 147, 148, 170, 195, 196] {
            let is_large = offset % 49 != 0;
            let page = history.head.pages.iter().find(|page| page.bounds.of(0).unwrap().offsets.contains(offset));
            let pages = page.map_or(0, |page| 1 + usize::from(page.height));
            for max_bytes in [1, 1 << 20] {
                let (store, reader) = counted(&history, 0);
                reader.catalog.refresh().await.unwrap();
                store.take();
                let batches = reader.fetch(TOPIC, 0, offset, max_bytes).await.unwrap();
                assert!(last_of(&batches[0]) >= offset);
                let expected = (1, 1 + pages + usize::from(is_large));
                assert_eq!(reads(&store, &history).await, expected, "{offset}");
            }
        }
    }
}

#[tokio::test]
async fn who_goes_on_gets_all_by_reads_of_each_run_once() {
    let history = small_runs(100).await;
    for (max_bytes, answers_max) in [(1 << 20, 3), (20_000, 12)] {
        let (store, reader) = counted(&history, 1 << 20);
        let (read, answers) = read_on(&reader, 0, history.end(), max_bytes).await;
        assert!(read == history.batches);
        // The first one is that of the first run alone.
        assert!(answers.len() <= answers_max + 1, "{answers:?}");
        assert!(answers[1..answers.len() - 1].iter().all(|bytes| (max_bytes / 2..=max_bytes).contains(bytes)));
        assert_eq!(reads(&store, &history).await.0, 100);
    }
}

#[tokio::test]
async fn large_runs_are_read_piece_by_piece_from_where_the_reader_is() {
    let history = large_runs().await;
    let bytes: usize = history.batches.iter().map(Bytes::len).sum();
    for first in [0, 1, 21, 40, 44, 45, 46, 47] {
        let offset = BatchHeader::parse(&history.batches[first]).unwrap().base_offset;
        for max_bytes in [1, 300_000, 1 << 20, 50 << 20] {
            let (store, reader) = counted(&history, 1 << 20);
            let (read, _) = read_on(&reader, offset, history.end(), max_bytes).await;
            assert!(read == history.batches[first..]);
            let pieces = bytes.div_ceil(2 << 20) + 3;
            let (data, _) = reads(&store, &history).await;
            assert!(data <= pieces + 1, "{data} reads for {pieces} pieces");
        }
    }
}

/// As compaction leaves them.
#[tokio::test]
async fn runs_that_lie_side_by_side_in_a_segment_are_read_together() {
    let mut history = History::new();
    history.ship(&vec![vec![1; 4]; 100], 1000).await;
    let runs = &mut Arc::make_mut(&mut history.head.open).partitions[0].runs;
    let mut whole = runs.remove(0);
    for batch in &history.batches {
        let header = BatchHeader::parse(batch).unwrap();
        whole.offsets = OffsetSpan { first: header.base_offset, last: header.last_offset() };
        whole.bytes.length = batch.len() as u64;
        runs.push(whole.clone());
        whole.bytes.position += whole.bytes.length;
    }
    history.export().await;
    let (store, reader) = counted(&history, 1 << 20);
    assert!(read_on(&reader, 0, history.end(), 1 << 20).await.0 == history.batches);
    assert_eq!(reads(&store, &history).await.0, 2);
}

#[tokio::test]
async fn nothing_is_read_ahead_for_who_does_not_go_on() {
    let history = small_runs(100).await;
    let (store, reader) = counted(&history, 1 << 20);
    for number in (0..100).rev() {
        reader
            .fetch(TOPIC, 0, BatchHeader::parse(&history.batches[number]).unwrap().base_offset, 1 << 20)
            .await
            .unwrap();
    }
    assert_eq!(reads(&store, &history).await.0, 100);
}

/// Reads of segments wait until a number of them are out.
#[derive(Debug)]
struct Gate {
    inner: SharedStore,
    is_closed: AtomicBool,
    barrier: Barrier,
}

#[async_trait]
impl Store for Gate {
    async fn create(&self, key: &str, parts: Vec<Bytes>) -> Result<(), StoreError> {
        self.inner.create(key, parts).await
    }
    async fn upload(&self, key: &str) -> Result<Box<dyn chronik_store::ObjectUpload>, StoreError> {
        self.inner.upload(key).await
    }
    async fn overwrite(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.overwrite(key, bytes).await
    }
    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        if self.is_closed.load(Ordering::SeqCst) && key.ends_with(".seg") {
            self.barrier.wait().await;
        }
        self.inner.read(key, range).await
    }
    async fn info(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        self.inner.info(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.inner.list(prefix).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }
}

#[tokio::test(start_paused = true)]
async fn neighbouring_runs_are_read_side_by_side() {
    let history = small_runs(17).await;
    let gate = Gate { inner: history.shared(), is_closed: AtomicBool::new(false), barrier: Barrier::new(16) };
    let gate = Arc::new(gate);
    let reader = reader_of(gate.clone(), 1 << 20).reading_ahead(AHEAD_BYTES, &Metrics::new());
    let first = reader.fetch(TOPIC, 0, 0, 1 << 20).await.unwrap();
    gate.is_closed.store(true, Ordering::SeqCst);
    let rest = timeout(Duration::from_secs(1), reader.fetch(TOPIC, 0, last_of(&first[0]) + 1, 1 << 20)).await;
    assert!([first, rest.unwrap().unwrap()].concat() == history.batches);
}

#[tokio::test(start_paused = true)]
async fn what_is_read_ahead_is_bounded_and_given_up_for_who_does_not_come_back() {
    let history = large_runs().await;
    let metrics = Metrics::new();
    let bytes_max = 3 << 20;
    let reader = reader_of(history.shared(), 1 << 20).reading_ahead(bytes_max, &metrics);
    let held = || shown(&metrics, "chronik_cold_ahead_bytes");
    let starts: Vec<_> =
        (0..4).map(|number| BatchHeader::parse(&history.batches[number]).unwrap().base_offset).collect();
    let mut next = starts.clone();
    for _ in 0..3 {
        for offset in &mut next {
            *offset = last_of(reader.fetch(TOPIC, 0, *offset, 1).await.unwrap().last().unwrap()) + 1;
            assert!(held() <= bytes_max as u64);
        }
    }
    assert!(held() > 0);
    tokio::time::advance(Duration::from_secs(11)).await;
    reader.fetch(TOPIC, 0, history.end() - 1, 1).await.unwrap();
    assert_eq!(held(), 0);
    let (read, unused) = ("chronik_cold_ahead_read_bytes_total", "chronik_cold_ahead_unused_bytes_total");
    assert!(shown(&metrics, unused) > 0 && shown(&metrics, unused) <= shown(&metrics, read));
}

#[tokio::test]
async fn what_is_deleted_meanwhile_is_not_served_from_what_was_read_ahead() {
    let mut history = small_runs(20).await;
    let reader = history.reader(1 << 20);
    let mut next = 0;
    for _ in 0..2 {
        next = last_of(reader.fetch(TOPIC, 0, next, 1).await.unwrap().last().unwrap()) + 1;
    }
    // Each batch has one record.
    history.head.partitions[0].log_start = next + 1;
    history.export().await;
    reader.catalog.refresh().await.unwrap();
    let error = reader.fetch(TOPIC, 0, next, 1).await.unwrap_err();
    assert!(matches!(error, ColdError::NotInCatalog { .. }), "{error}");
    assert!(read_on(&reader, next + 1, history.end(), 1 << 20).await.0 == history.batches[next as usize + 1..]);
}

#[tokio::test]
async fn a_store_that_fails_at_times_leaves_no_gap() {
    let history = large_runs().await;
    for after in 0..8 {
        let reader = history.reader(1 << 20);
        reader.fetch(TOPIC, 0, 0, 1).await.unwrap();
        history.store.add(chronik_store::faulty::ScriptLine {
            operation: StoreOperation::Read,
            key_part: ".seg".to_owned(),
            after,
            times: 2,
            fault: StoreFault::Before,
        });
        let (mut offset, mut read, mut failures) = (0, Vec::new(), 0);
        while offset < history.end() {
            match reader.fetch(TOPIC, 0, offset, 1 << 20).await {
                Ok(batches) => read.extend(batches),
                Err(error) => {
                    assert!(matches!(error, ColdError::Store(_)), "{error}");
                    failures += 1;
                }
            }
            offset = read.last().map_or(0, |last| last_of(last) + 1);
        }
        assert!(read == history.batches && failures <= 2, "{failures}");
        history.store.heal();
    }
}

#[tokio::test]
async fn a_reader_goes_on_in_what_is_shipped_later() {
    let mut history = small_runs(5).await;
    let reader = history.reader(1 << 20);
    assert!(read_on(&reader, 0, history.end(), 1 << 20).await.0 == history.batches);
    let (seen, end) = (history.batches.len(), history.end());
    history.ship(&[vec![1], vec![2]], 100).await;
    history.close().await;
    history.ship(&[vec![3]], 100).await;
    history.export().await;
    let (read, answers) = read_on(&reader, end, history.end(), 1 << 20).await;
    assert!(read == history.batches[seen..]);
    assert_eq!(answers.len(), 1, "over the border of a page");
}

fn shown(metrics: &Metrics, name: &str) -> u64 {
    let text = metrics.exposition();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap()
}
