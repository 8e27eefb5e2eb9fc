//! A bucket on a local directory.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;

use super::{BucketAccess, ErrorCause, ObjectBucket, ObjectInfo, ObjectUpload, Store, StoreError};

/// The file whose lock says that the bucket is in use.
const LOCK_FILE: &str = ".lock";
/// How many directories are remembered as durable before the memory starts afresh.
const DURABLE_MAX: usize = 16_384;

/// Why a directory can't be opened as a bucket.
#[derive(Debug, thiserror::Error)]
pub enum LocalBucketError {
    /// Another process holds the lock.
    #[error("the bucket {} is in use by another process: stop that one, or choose another directory", directory.display())]
    InUse {
        /// The bucket's directory.
        directory: PathBuf,
    },
    /// Only the bucket's owner creates its directory.
    #[error(
        "the bucket directory {} is not there: start the broker on it first, or name the right one with \
         --local-storage-path (LOCAL_STORAGE_PATH)",
        directory.display()
    )]
    Absent {
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// The directory can't be created, read or locked.
    #[error("the bucket directory {} can't be opened: {source}", directory.display())]
    Unusable {
        /// The bucket's directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A directory as a bucket. Objects are files, created whole (written aside, fsynced, linked) and durable together
/// with their directories when a call returns. The owner holds the directory's lock while it lives, which takes the
/// place of the beat in `latest` as the proof that no other owner is at work; workers add objects beside it.
#[derive(Debug)]
pub struct LocalBucket {
    objects: ObjectBucket,
    root: PathBuf,
    /// Directories known to be durable, up to the root. Empty ones are never removed.
    durable: Mutex<HashSet<PathBuf>>,
    /// Whether objects may be added.
    writable: bool,
    /// The owner's, held for its lock.
    lock: Option<File>,
}

impl LocalBucket {
    /// Opens the directory as its owner, or beside the owner.
    pub fn open_for(directory: &Path, access: BucketAccess) -> Result<Self, LocalBucketError> {
        match access {
            BucketAccess::Owner => Self::open(directory),
            BucketAccess::Worker => Self::beside(directory),
            BucketAccess::Reader => Self::view(directory),
        }
    }

    /// Creates the directory if need be and locks it until the value is dropped.
    pub fn open(directory: &Path) -> Result<Self, LocalBucketError> {
        let unusable = |source| LocalBucketError::Unusable { directory: directory.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(unusable)?;
        let lock = File::options().create(true).truncate(false).write(true).open(directory.join(LOCK_FILE));
        let lock = lock.map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {
                remove_leftovers(directory).map_err(unusable)?;
                Self::over(directory, true, Some(lock))
            }
            Err(TryLockError::WouldBlock) => Err(LocalBucketError::InUse { directory: directory.to_owned() }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// An existing directory for reading alone, whether it is in use or not.
    pub fn view(directory: &Path) -> Result<Self, LocalBucketError> {
        Self::over(directory, false, None)
    }

    /// An existing directory for adding objects beside its owner, as indexers do.
    pub fn beside(directory: &Path) -> Result<Self, LocalBucketError> {
        Self::over(directory, true, None)
    }

    fn over(directory: &Path, writable: bool, lock: Option<File>) -> Result<Self, LocalBucketError> {
        let unusable = |source: io::Error| {
            let directory = directory.to_owned();
            match source.kind() {
                io::ErrorKind::NotFound => LocalBucketError::Absent { directory },
                _ => LocalBucketError::Unusable { directory, source },
            }
        };
        let root = directory.canonicalize().map_err(unusable)?;
        // `object_store` makes URLs of paths.
        if root.to_str().is_none() {
            return Err(unusable(io::Error::other("its path is not UTF-8")));
        }
        let files = LocalFileSystem::new_with_prefix(&root).map_err(|error| unusable(io::Error::other(error)))?;
        let objects = ObjectBucket::new(Arc::new(files.with_fsync(true)));
        Ok(Self { objects, root, durable: Mutex::default(), writable, lock })
    }

    fn check_writable(&self, operation: &'static str, key: &str) -> Result<(), StoreError> {
        if self.writable {
            return Ok(());
        }
        let message = format!("{} was opened for reading alone", self.root.display());
        Err(StoreError::Unavailable {
            operation: operation.into(),
            key: key.to_owned(),
            message,
            cause: ErrorCause::Right,
        })
    }

    /// A bucket that was moved away or unmounted is not begun anew in its place: it may come back.
    async fn check_root(&self, operation: &'static str, key: &str) -> Result<(), StoreError> {
        if tokio::fs::metadata(&self.root).await.is_ok_and(|root| root.is_dir()) {
            return Ok(());
        }
        Err(StoreError::Unavailable {
            operation: operation.into(),
            key: key.to_owned(),
            message: format!("there is no directory {} any more", self.root.display()),
            cause: ErrorCause::Passing,
        })
    }

    /// Creates the object's directory, durably up to the root. Done before the write, since a directory that
    /// another write has made a moment ago may not be durable yet.
    async fn prepare_directory(&self, operation: &'static str, key: &str) -> Result<(), StoreError> {
        self.check_root(operation, key).await?;
        let directory = self.root.join(key).parent().map_or_else(|| self.root.clone(), Path::to_owned);
        if self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(&directory) {
            return Ok(());
        }
        let root = self.root.clone();
        let wanted = directory.clone();
        let made = tokio::task::spawn_blocking(move || make_durable_directory(&root, &wanted)).await;
        made.map_err(io::Error::other).flatten().map_err(|error| StoreError::Unavailable {
            operation: operation.into(),
            key: key.to_owned(),
            message: format!("directory {}: {error}", directory.display()),
            cause: match error.kind() {
                io::ErrorKind::PermissionDenied => ErrorCause::Right,
                _ => ErrorCause::Passing,
            },
        })?;
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if durable.len() >= DURABLE_MAX {
            durable.clear();
        }
        durable.insert(directory);
        Ok(())
    }
}

/// Removes what a process that was killed had begun to write: files `{name}#{number}`, which no key can name. Only
/// under the lock, when no owner writes; a worker that does so at this moment fails and tries again.
fn remove_leftovers(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_leftovers(&entry.path())?;
        } else if is_leftover(&entry.file_name().to_string_lossy()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_leftover(name: &str) -> bool {
    let digits = |number: &str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    name.rsplit_once('#').is_some_and(|(_, number)| digits(number))
}

fn make_durable_directory(root: &Path, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for ancestor in directory.ancestors() {
        File::open(ancestor)?.sync_all()?;
        if ancestor == root {
            break;
        }
    }
    Ok(())
}

#[async_trait]
impl Store for LocalBucket {
    async fn create(&self, key: &str, parts: Vec<Bytes>) -> Result<(), StoreError> {
        self.check_writable("create", key)?;
        self.prepare_directory("create", key).await?;
        self.objects.create(key, parts).await
    }

    async fn upload(&self, key: &str) -> Result<Box<dyn ObjectUpload>, StoreError> {
        self.check_writable("upload", key)?;
        self.prepare_directory("upload", key).await?;
        self.objects.upload(key).await
    }

    async fn overwrite(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.check_writable("overwrite", key)?;
        self.prepare_directory("overwrite", key).await?;
        self.objects.overwrite(key, bytes).await
    }

    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        self.objects.read(key, range).await
    }

    async fn info(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        self.objects.info(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.objects.list(prefix).await
    }

    async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.objects.list_after(prefix, after).await
    }

    fn pages<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<Vec<ObjectInfo>, StoreError>> {
        self.objects.pages(prefix)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.check_writable("delete", key)?;
        self.objects.delete(key).await
    }

    fn is_locked(&self) -> bool {
        self.lock.is_some()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::suite::{large_store_suite, store_suite};

    #[tokio::test]
    async fn a_directory_passes_the_suite() {
        let directory = tempfile::tempdir().unwrap();
        let bucket = Arc::new(LocalBucket::open(&directory.path().join("a/bucket")).unwrap());
        store_suite(bucket.clone()).await;
        large_store_suite(bucket).await;
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_is_no_text_is_refused() {
        use std::os::unix::ffi::OsStrExt;
        let directory = tempfile::tempdir().unwrap();
        let odd = directory.path().join(std::ffi::OsStr::from_bytes(b"\xff"));
        let error = LocalBucket::open(&odd).unwrap_err();
        assert!(error.to_string().contains("not UTF-8"), "{error}");
    }

    #[tokio::test]
    async fn a_second_owner_is_refused_until_the_first_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let first = LocalBucket::open(directory.path()).unwrap();
        let error = LocalBucket::open(directory.path()).unwrap_err();
        assert!(matches!(&error, LocalBucketError::InUse { .. }));
        assert!(error.to_string().contains(directory.path().to_str().unwrap()));
        drop(first);
        LocalBucket::open(directory.path()).unwrap();
    }

    #[tokio::test]
    async fn a_view_reads_beside_the_owner_and_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let owner = LocalBucket::open(directory.path()).unwrap();
        owner.create("a/b", vec![Bytes::from_static(b"x")]).await.unwrap();
        let view = LocalBucket::view(directory.path()).unwrap();
        assert_eq!(view.read("a/b", None).await.unwrap(), "x");
        assert!(view.create("a/c", vec![]).await.is_err());
        assert!(view.upload("a/c").await.is_err());
        assert!(view.overwrite("a/b", Bytes::new()).await.is_err());
        assert!(view.delete("a/b").await.is_err());
        assert_eq!(owner.list("a/").await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_worker_adds_objects_beside_the_owner() {
        let directory = tempfile::tempdir().unwrap();
        let owner = LocalBucket::open(directory.path()).unwrap();
        let worker = LocalBucket::beside(directory.path()).unwrap();
        worker.create("a/b", vec![Bytes::from_static(b"x")]).await.unwrap();
        assert_eq!(owner.read("a/b", None).await.unwrap(), "x");
    }

    #[tokio::test]
    async fn a_bucket_that_was_moved_away_is_not_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (here, away) = (folder.path().join("here"), folder.path().join("away"));
        let bucket = LocalBucket::open(&here).unwrap();
        bucket.create("a/b", vec![Bytes::from_static(b"x")]).await.unwrap();
        std::fs::rename(&here, &away).unwrap();
        for key in ["a/c", "d/e"] {
            let error = bucket.create(key, vec![Bytes::from_static(b"y")]).await.unwrap_err();
            assert!(error.is_passing() && error.to_string().contains("there is no directory"), "{error}");
            assert!(bucket.upload(key).await.is_err());
        }
        assert!(bucket.overwrite("a/b", Bytes::from_static(b"y")).await.is_err());
        assert!(!here.exists());
        std::fs::rename(&away, &here).unwrap();
        bucket.create("d/e", vec![Bytes::from_static(b"y")]).await.unwrap();
        assert_eq!(bucket.read("a/b", None).await.unwrap(), "x");
    }

    #[tokio::test]
    async fn what_a_killed_writer_left_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let bucket = LocalBucket::open(directory.path()).unwrap();
        bucket.create("a/b", vec![Bytes::from_static(b"x")]).await.unwrap();
        drop(bucket);
        let (half, other) = (directory.path().join("a/c#1"), directory.path().join("a/#x"));
        std::fs::write(&half, b"half").unwrap();
        std::fs::write(&other, b"not ours").unwrap();
        let bucket = LocalBucket::open(directory.path()).unwrap();
        assert!(!half.exists() && other.exists());
        assert_eq!(bucket.read("a/b", None).await.unwrap(), "x");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("taken");
        std::fs::write(&file, b"").unwrap();
        let error = LocalBucket::open(&file).unwrap_err();
        assert!(error.to_string().contains("taken"));
        assert!(LocalBucket::view(&directory.path().join("absent")).is_err());
    }
}
