#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::counted::CountedStore;
use crate::memory;
use crate::suite::store_suite;
use chronik_service::setting::ByteSize;

const KEY: &str = "lanes/00000000/segments/00/a.seg";

/// An object of 300,000 bytes behind a cache.
struct World {
    folder: tempfile::TempDir,
    counted: Arc<CountedStore>,
    metrics: Metrics,
}

fn content() -> Vec<u8> {
    (0..300_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

impl World {
    async fn new() -> Self {
        let counted = Arc::new(CountedStore::new(memory()));
        counted.create(KEY, vec![content().into()]).await.unwrap();
        Self { folder: tempfile::tempdir().unwrap(), counted, metrics: Metrics::new() }
    }

    /// As after a restart.
    async fn open(&mut self, bytes_max: u64) -> CachedStore {
        self.metrics = Metrics::new();
        let cache =
            DiskCache::open(self.folder.path().join("cache"), bytes_max, CacheMetrics::register(&self.metrics)).await;
        CachedStore { inner: self.counted.clone(), cache: Arc::new(cache.unwrap().unwrap()) }
    }

    /// All files of ranges.
    fn files(&self) -> Vec<PathBuf> {
        let below = |path: PathBuf| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        let folders = below(self.folder.path().join("cache")).filter(|path| path.is_dir());
        folders.flat_map(below).collect()
    }

    fn shown(&self, name: &str) -> u64 {
        let name = format!("chronik_cache_disk_{name} ");
        self.metrics.exposition().lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap()
    }
}

impl CachedStore {
    async fn get(&self, range: Range<u64>) {
        let (from, to) = (range.start as usize, range.end as usize);
        assert!(self.read(KEY, Some(range)).await.unwrap() == content()[from..to]);
        self.settle().await;
    }

    /// Waits until what was read is written.
    async fn settle(&self) {
        drop(self.cache.waiting.acquire_many(WAITING_BYTES_MAX as u32).await.unwrap());
    }
}

#[tokio::test]
async fn it_is_the_store_that_it_reads() {
    let mut world = World::new().await;
    let CachedStore { cache, .. } = world.open(1 << 20).await;
    store_suite(Arc::new(CachedStore { inner: memory(), cache })).await;
}

#[tokio::test]
async fn what_was_read_once_is_read_from_disk_also_after_a_restart() {
    let mut world = World::new().await;
    let store = world.open(1 << 20).await;
    store.get(1000..200_000).await;
    store.get(200_000..300_000).await;
    world.counted.take();
    for range in [1000..200_000, 1000..1001, 70_000..250_000, 199_999..200_001, 299_999..300_000] {
        store.get(range).await;
    }
    drop(store);
    let store = world.open(1 << 20).await;
    store.get(1000..300_000).await;
    assert_eq!(world.counted.take(), []);
    assert_eq!((world.shown("hit_bytes_total"), world.shown("missed_bytes_total")), (299_000, 0));
    store.get(999..1001).await;
    assert_eq!(world.counted.take(), [(KEY.to_owned(), Some(999..1001))]);
}

#[tokio::test]
async fn only_ranges_of_objects_are_kept() {
    let mut world = World::new().await;
    let store = world.open(1 << 20).await;
    store.read(KEY, None).await.unwrap();
    store.overwrite("latest", Bytes::from_static(b"one")).await.unwrap();
    assert_eq!(store.read("latest", None).await.unwrap(), "one");
    store.overwrite("latest", Bytes::from_static(b"two")).await.unwrap();
    assert_eq!(store.read("latest", None).await.unwrap(), "two");
    assert!(store.read(KEY, Some(299_999..300_001)).await.is_err());
    store.settle().await;
    assert_eq!(world.files(), [] as [PathBuf; 0]);
}

#[tokio::test]
async fn a_flipped_byte_is_a_miss() {
    for restarts in [false, true] {
        let mut world = World::new().await;
        let mut store = world.open(1 << 20).await;
        store.get(0..100_000).await;
        let mut bytes = fs::read(&world.files()[0]).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&world.files()[0], bytes).unwrap();
        if restarts {
            drop(store);
            store = world.open(1 << 20).await;
        }
        world.counted.take();
        store.get(50_000..100_000).await;
        assert_eq!((world.counted.take().len(), world.shown("damaged_total")), (1, 1));
        store.get(50_000..100_000).await;
        assert_eq!(world.counted.take(), []);
    }
}

#[tokio::test]
async fn what_is_distrusted_is_read_anew() {
    let mut world = World::new().await;
    let store = world.open(1 << 20).await;
    store.get(0..100_000).await;
    store.get(200_000..300_000).await;
    store.distrust("lanes/00000000/segments/00/b.seg");
    store.get(0..100_000).await;
    assert_eq!((world.counted.take().len(), world.files().len()), (2, 2));
    store.distrust(KEY);
    store.get(0..100_000).await;
    store.get(200_000..300_000).await;
    assert_eq!(world.counted.take().len(), 2);
    // What is read already may be what is not trusted.
    let range = ObjectRange { key: KEY.into(), bytes: 100_000..100_010 };
    let distrusts = store.cache.index().distrusts();
    store.distrust(KEY);
    store.cache.write(range.clone(), &content()[100_000..100_010], distrusts);
    assert!(store.cache.read(&range).await.is_none());
}

#[tokio::test]
async fn what_a_killed_process_left_goes_at_the_start() {
    let mut world = World::new().await;
    let store = world.open(1 << 20).await;
    store.get(0..10).await;
    drop(store);
    let whole = world.files().remove(0);
    let begun = world.folder.path().join("cache").join(format!("{BEGUN}7"));
    let short = whole.with_file_name(format!("{}@0-8000", KEY.replace('/', "!")));
    let others = [begun.with_file_name("begun-by-others"), whole.with_file_name("lanes!b@0-8000")];
    for path in [&begun, &short].into_iter().chain(&others) {
        fs::write(path, b"half").unwrap();
    }
    let folder = whole.with_file_name(format!("{}@10-8000", KEY.replace('/', "!")));
    fs::create_dir(&folder).unwrap();
    let store = world.open(1 << 20).await;
    fs::remove_dir(folder).unwrap();
    assert_eq!(
        [&begun, &short, &whole, &others[0], &others[1]].map(|path| path.exists()),
        [false, false, true, true, true]
    );
    store.get(0..10).await;
    assert_eq!(world.shown("hit_bytes_total"), 10);
}

#[tokio::test]
async fn less_disk_than_before_keeps_the_newest() {
    let mut world = World::new().await;
    let store = world.open(1 << 20).await;
    for number in 0..9 {
        store.get(number * 30_000..(number + 1) * 30_000).await;
    }
    drop(store);
    // Files that are written one right after the other may have the same time.
    for path in world.files() {
        let range = ObjectRange::of_file(path.file_name().unwrap().to_str().unwrap()).unwrap();
        let written = SystemTime::UNIX_EPOCH + Duration::from_secs(range.bytes.start);
        File::options().write(true).open(path).unwrap().set_modified(written).unwrap();
    }
    let store = world.open(100_000).await;
    assert_eq!((world.files().len(), world.shown("bytes")), (3, 3 * (32 << 10)));
    world.counted.take();
    store.get(180_000..270_000).await;
    assert_eq!(world.counted.take(), []);
}

#[tokio::test]
async fn a_disk_that_fails_only_makes_it_a_miss() {
    let mut world = World::new().await;
    let store = world.open(1 << 20).await;
    store.get(0..10).await;
    let folder = world.files()[0].parent().unwrap().to_owned();
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, b"in the way").unwrap();
    world.counted.take();
    store.get(0..10).await;
    store.get(0..10).await;
    assert_eq!(world.counted.take().len(), 2);
    assert!(world.shown("failures_total") >= 2 && world.shown("bytes") == 0);
    fs::remove_file(&folder).unwrap();
    store.get(0..10).await;
    store.get(0..10).await;
    assert_eq!((world.counted.take().len(), world.files().len()), (1, 1));
}

#[tokio::test]
async fn what_it_may_still_take_of_the_volume_is_told() {
    let mut world = World::new().await;
    world.open(1 << 20).await.get(0..100_000).await;
    let data_dir = world.folder.path().to_owned();
    let settings = CacheSettings { cache_disk_bytes: ByteSize::mebibytes(16), ..CacheSettings::default() };
    let shared: SharedStore = world.counted.clone();
    let cached = cached(&shared, &settings, &data_dir, &Metrics::new()).await.unwrap();
    assert_eq!(cached.disk_bytes_left, (16 << 20) - 25 * 4096);
}

#[tokio::test]
async fn a_directory_is_for_one_process_and_one_that_can_not_be_used_is_none() {
    let mut world = World::new().await;
    let settings = |folder: &Path| CacheSettings {
        cache_disk_bytes: ByteSize::mebibytes(16),
        cache_disk_dir: Some(folder.to_owned()),
        ..CacheSettings::default()
    };
    let _store = world.open(1 << 20).await;
    let shared: SharedStore = world.counted.clone();
    let metrics = Metrics::new();
    let told = cached(&shared, &settings(&world.folder.path().join("cache")), Path::new("."), &metrics).await;
    assert!(told.unwrap_err().to_string().contains("in use by another process"));
    let (data_dir, same) = (world.folder.path(), world.folder.path().join("cache/.."));
    let told = cached(&shared, &settings(&same), data_dir, &metrics).await;
    assert!(told.unwrap_err().to_string().contains("is the data directory"));
    let file = world.folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let none = cached(&shared, &settings(&file.join("cache")), Path::new("."), &metrics).await.unwrap();
    assert!(Arc::ptr_eq(&none.store, &shared) && none.disk_bytes_left == 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_read_gives_what_the_store_has(
        reads in prop::collection::vec((0..299_999u64, 1..150_000u64, any::<bool>()), 1..25),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            let mut store = world.open(200_000).await;
            for (start, length, restarts) in reads {
                store.get(start..(start + length).min(300_000)).await;
                if restarts {
                    drop(store);
                    store = world.open(200_000).await;
                }
                let held: u64 = world.files().iter().map(|file| fs::metadata(file).unwrap().len()).sum();
                assert!(held <= 200_000);
            }
        });
    }
}
