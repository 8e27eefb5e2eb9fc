//! A cache on disk of ranges of objects.
//!
//! What a ranged read brings becomes a file of its own ([`file`](self::file)), beside the reader that waits for it; a
//! later read of what files hold side by side is served from them, checked. The names of the files tell at the start
//! what is there. Whatever is wrong with the disk only means that the bucket is read.

mod file;
mod index;
#[cfg(test)]
mod tests;

use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use prometheus::{IntCounter, IntGauge};
use tokio::sync::Semaphore;

use self::file::{ObjectRange, RangeFileError};
use self::index::{MadeRoom, RangeIndex};
use super::{ObjectInfo, ObjectUpload, SharedStore, Store, StoreError};
use chronik_service::process::ServiceError;
use chronik_service::setting::CacheSettings;
use chronik_service::telemetry::Metrics;

/// The file whose lock says that the directory is in use.
const LOCK_FILE: &str = "lock";
/// What files that are not whole begin with.
const BEGUN: &str = "begun-";
/// Bytes that may wait to be written; what comes beyond is not kept.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// The directory belongs to others.
#[derive(Debug, thiserror::Error)]
enum CacheDirectoryError {
    #[error(
        "the cache directory {} is in use by another process: give each a --cache-disk-dir (CHRONIK_CACHE_DISK_DIR) of \
         its own", directory.display()
    )]
    InUse { directory: PathBuf },
    #[error(
        "the cache directory {} is the data directory: give the cache a --cache-disk-dir (CHRONIK_CACHE_DISK_DIR) of its \
         own, below the data directory or elsewhere", directory.display()
    )]
    IsDataDirectory { directory: PathBuf },
}

/// The bucket for who reads ranges of immutable objects.
#[derive(Debug)]
pub struct CachedBucket {
    pub store: SharedStore,
    /// What the cache may still take of the data directory's volume.
    pub disk_bytes_left: u64,
}

/// Puts a cache on disk before a store, as the settings say. Without one, or on a disk that can't be used, the store is
/// as it was.
pub async fn cached(
    store: &SharedStore,
    settings: &CacheSettings,
    data_dir: &Path,
    metrics: &Metrics,
) -> Result<CachedBucket, ServiceError> {
    let (metrics, plain) = (CacheMetrics::register(metrics), CachedBucket { store: store.clone(), disk_bytes_left: 0 });
    let Some((directory, bytes_max)) = settings.disk(data_dir) else {
        return Ok(plain);
    };
    if is_same_directory(&directory, data_dir) {
        return Err(ServiceError::Resource(Box::new(CacheDirectoryError::IsDataDirectory { directory })));
    }
    let cache = DiskCache::open(directory.clone(), bytes_max, metrics).await;
    match cache.map_err(|error| ServiceError::Resource(Box::new(error)))? {
        Ok(cache) => {
            let left = if directory.starts_with(data_dir) { bytes_max - cache.index().bytes() } else { 0 };
            let store = CachedStore { inner: store.clone(), cache: Arc::new(cache) };
            Ok(CachedBucket { store: Arc::new(store), disk_bytes_left: left })
        }
        Err(error) => {
            tracing::warn!("nothing is cached on disk, {} can't be used: {error}", directory.display());
            Ok(plain)
        }
    }
}

/// Whether two paths lead to the same directory; one that is not there yet is only where its path says.
fn is_same_directory(a: &Path, b: &Path) -> bool {
    a == b || fs::canonicalize(a).ok().zip(fs::canonicalize(b).ok()).is_some_and(|(a, b)| a == b)
}

/// Reads ranges through a cache, and leaves everything else to the store.
#[derive(Debug)]
struct CachedStore {
    inner: SharedStore,
    cache: Arc<DiskCache>,
}

#[derive(Debug)]
struct DiskCache {
    directory: PathBuf,
    index: Mutex<RangeIndex>,
    waiting: Arc<Semaphore>,
    begun: AtomicU64,
    is_failing: AtomicBool,
    metrics: CacheMetrics,
    /// Held for its lock.
    _lock: File,
}

#[derive(Debug)]
struct CacheMetrics {
    bytes: IntGauge,
    hit_bytes: IntCounter,
    missed_bytes: IntCounter,
    damaged: IntCounter,
    failures: IntCounter,
}

impl DiskCache {
    /// Opens the directory with what is there; the inner error is the disk's.
    async fn open(
        directory: PathBuf,
        bytes_max: u64,
        metrics: CacheMetrics,
    ) -> Result<io::Result<Self>, CacheDirectoryError> {
        let open = move || {
            let lock = create_directory(&directory).and_then(|()| {
                File::options().create(true).truncate(false).write(true).open(directory.join(LOCK_FILE))
            });
            let lock = match lock.and_then(|lock| match lock.try_lock() {
                Ok(()) => Ok(Some(lock)),
                Err(TryLockError::WouldBlock) => Ok(None),
                Err(TryLockError::Error(error)) => Err(error),
            }) {
                Ok(Some(lock)) => lock,
                Ok(None) => return Err(CacheDirectoryError::InUse { directory }),
                Err(error) => return Ok(Err(error)),
            };
            Ok(index_of(&directory, bytes_max).map(|index| {
                metrics.bytes.set(index.bytes() as i64);
                Self {
                    directory,
                    index: Mutex::new(index),
                    waiting: Arc::new(Semaphore::new(WAITING_BYTES_MAX)),
                    begun: AtomicU64::new(0),
                    is_failing: AtomicBool::new(false),
                    metrics,
                    _lock: lock,
                }
            }))
        };
        tokio::task::spawn_blocking(open).await.unwrap_or_else(|error| Ok(Err(io::Error::other(error))))
    }

    /// The bytes, if files have all of them.
    async fn read(self: &Arc<Self>, wanted: &ObjectRange) -> Option<Bytes> {
        let found = self.index().covering(wanted)?;
        let (cache, wanted) = (self.clone(), wanted.bytes.clone());
        tokio::task::spawn_blocking(move || cache.read_files(found, &wanted)).await.ok()?
    }

    fn read_files(&self, ranges: Vec<ObjectRange>, wanted: &Range<u64>) -> Option<Bytes> {
        let mut pieces = Vec::with_capacity(ranges.len());
        let mut next = wanted.start;
        for range in ranges {
            let end = wanted.end.min(range.bytes.end);
            let path = range.path(&self.directory)?;
            match range.read(&path, next..end) {
                Ok(bytes) => pieces.push(bytes),
                Err(error) => {
                    self.failed_to_read(&range, error);
                    return None;
                }
            }
            next = end;
        }
        match <[Bytes; 1]>::try_from(pieces) {
            Ok([whole]) => Some(whole),
            Err(pieces) => Some(pieces.concat().into()),
        }
    }

    fn failed_to_read(&self, range: &ObjectRange, error: RangeFileError) {
        let was_held = self.index().remove(range);
        match error {
            // Another needed the room since it was found.
            RangeFileError::Io(error) if error.kind() == io::ErrorKind::NotFound && !was_held => return,
            RangeFileError::Io(error) => self.failed("read", &error),
            RangeFileError::Damaged => {
                self.metrics.damaged.inc();
                tracing::warn!("a cached range of {} is damaged, it is read anew", range.key);
            }
        }
        self.delete(range);
        self.show();
    }

    /// Writes what was read, beside those who wait for it; not if too much waits already.
    fn keep(self: &Arc<Self>, range: ObjectRange, bytes: Bytes) {
        let permits = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if let Ok(waits) = self.waiting.clone().try_acquire_many_owned(permits) {
            let (cache, distrusts) = (self.clone(), self.index().distrusts());
            tokio::task::spawn_blocking(move || {
                cache.write(range, &bytes, distrusts);
                drop((cache, waits));
            });
        }
    }

    /// Writes what was read when so many objects had been distrusted; not if another was since.
    fn write(&self, range: ObjectRange, bytes: &[u8], distrusts: u64) {
        let Some(path) = range.path(&self.directory) else { return };
        let MadeRoom { is_booked, gone } = self.index().make_room(&range);
        gone.iter().for_each(|range| self.delete(range));
        if is_booked {
            let begun = self.directory.join(format!("{BEGUN}{}", self.begun.fetch_add(1, Ordering::Relaxed)));
            match range.write(&path, &begun, bytes) {
                Ok(()) => {
                    self.is_failing.store(false, Ordering::Relaxed);
                    let gone = self.index().add_unless_distrusted(range, distrusts);
                    gone.iter().for_each(|range| self.delete(range));
                }
                Err(error) => {
                    self.index().give_back(&range);
                    self.failed("written", &error);
                }
            }
        }
        self.show();
    }

    /// Forgets all of an object.
    fn distrust(self: &Arc<Self>, key: &str) {
        let gone = self.index().distrust(key);
        if !gone.is_empty() {
            let cache = self.clone();
            tokio::task::spawn_blocking(move || {
                gone.iter().for_each(|range| cache.delete(range));
                cache.show();
            });
        }
    }

    fn delete(&self, range: &ObjectRange) {
        let deleted = range.path(&self.directory).map_or(Ok(()), fs::remove_file);
        if let Err(error) = deleted.or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        }) {
            self.failed("deleted", &error);
        }
    }

    /// Counts a failure of the disk; the first one after it worked is told.
    fn failed(&self, done: &str, error: &io::Error) {
        self.metrics.failures.inc();
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            let directory = self.directory.display();
            tracing::warn!("ranges can't be {done} in {directory}, the bucket is read in their place: {error}");
        }
    }

    fn show(&self) {
        self.metrics.bytes.set(self.index().bytes() as i64);
    }

    fn index(&self) -> MutexGuard<'_, RangeIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates a directory and those above it, durably: what else is put into them must not go with them.
fn create_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_directory(parent)?;
    fs::create_dir(directory)?;
    File::open(parent)?.sync_all()
}

/// What files of an earlier process hold, the oldest first. What is not whole, or has no room any more, goes; what is
/// not ours stays.
fn index_of(directory: &Path, bytes_max: u64) -> io::Result<RangeIndex> {
    let (mut index, mut found) = (RangeIndex::new(bytes_max), Vec::new());
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            for file in fs::read_dir(entry.path())? {
                let path = file?.path();
                let range = path.file_name().and_then(|name| ObjectRange::of_file(name.to_str()?));
                let Some(range) = range.filter(|range| range.path(directory).as_ref() == Some(&path)) else {
                    continue;
                };
                let data = fs::metadata(&path)?;
                if !data.is_file() {
                    continue;
                }
                match data.len() == range.file_bytes() {
                    true => found.push((data.modified()?, range)),
                    false => fs::remove_file(path)?,
                }
            }
        } else if entry.file_name().to_str().and_then(|name| name.strip_prefix(BEGUN)?.parse::<u64>().ok()).is_some() {
            fs::remove_file(entry.path())?;
        }
    }
    found.sort_by_key(|(modified, _)| *modified);
    for (_, range) in found {
        let MadeRoom { is_booked, mut gone } = index.make_room(&range);
        gone.extend(if is_booked { index.add(range) } else { Some(range) });
        for path in gone.iter().filter_map(|range| range.path(directory)) {
            fs::remove_file(path)?;
        }
    }
    Ok(index)
}

#[async_trait]
impl Store for CachedStore {
    async fn create(&self, key: &str, parts: Vec<Bytes>) -> Result<(), StoreError> {
        self.inner.create(key, parts).await
    }

    async fn upload(&self, key: &str) -> Result<Box<dyn ObjectUpload>, StoreError> {
        self.inner.upload(key).await
    }

    async fn overwrite(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.overwrite(key, bytes).await
    }

    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        let Some(bytes) = range else { return self.inner.read(key, None).await };
        let wanted = ObjectRange { key: key.into(), bytes };
        if let Some(bytes) = self.cache.read(&wanted).await {
            self.cache.metrics.hit_bytes.inc_by(bytes.len() as u64);
            return Ok(bytes);
        }
        let bytes = self.inner.read(key, Some(wanted.bytes.clone())).await?;
        self.cache.metrics.missed_bytes.inc_by(bytes.len() as u64);
        self.cache.keep(wanted, bytes.clone());
        Ok(bytes)
    }

    fn distrust(&self, key: &str) {
        self.cache.distrust(key);
    }

    async fn info(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        self.inner.info(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.inner.list(prefix).await
    }

    async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.inner.list_after(prefix, after).await
    }

    fn pages<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<Vec<ObjectInfo>, StoreError>> {
        self.inner.pages(prefix)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner.delete(key).await
    }

    fn is_locked(&self) -> bool {
        self.inner.is_locked()
    }
}

impl CacheMetrics {
    fn register(metrics: &Metrics) -> Self {
        Self {
            bytes: metrics.gauge("chronik_cache_disk_bytes", "Bytes of the disk that cached ranges of objects take."),
            hit_bytes: metrics
                .counter("chronik_cache_disk_hit_bytes_total", "Bytes of objects read from the cache on disk."),
            missed_bytes: metrics.counter(
                "chronik_cache_disk_missed_bytes_total",
                "Bytes of objects read from the bucket because the cache on disk did not have them.",
            ),
            damaged: metrics.counter(
                "chronik_cache_disk_damaged_total",
                "Ranges in the cache on disk that were not what was written, and were read anew.",
            ),
            failures: metrics.counter(
                "chronik_cache_disk_failures_total",
                "Times the cache's disk failed to read, write or delete a range.",
            ),
        }
    }
}
