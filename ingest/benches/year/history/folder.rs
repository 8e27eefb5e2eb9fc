//! A bucket in a folder, for pages and lists: no object outlives the process, so none is made durable.

use std::fs;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use chronik_store::{ErrorCause, ObjectInfo, ObjectUpload, Store, StoreError};
use tempfile::TempDir;

/// Counts what is read of it.
#[derive(Debug)]
pub struct Folder {
    folder: TempDir,
    reads: AtomicUsize,
}

impl Folder {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), reads: AtomicUsize::new(0) }
    }

    /// Reads so far.
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// What was written.
    pub fn bytes(&self, key: &str) -> Vec<u8> {
        fs::read(self.path(key)).unwrap()
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.path().join(key.replace('/', "!"))
    }
}

fn failure(operation: &'static str, key: &str, error: &io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::NotFound => StoreError::NotFound { key: key.to_owned() },
        _ => unable(operation, key, &error.to_string()),
    }
}

fn unable(operation: &'static str, key: &str, message: &str) -> StoreError {
    let (key, message) = (key.to_owned(), message.to_owned());
    StoreError::Unavailable { operation: operation.into(), key, message, cause: ErrorCause::Setting }
}

#[async_trait]
impl Store for Folder {
    async fn create(&self, key: &str, parts: Vec<Bytes>) -> Result<(), StoreError> {
        fs::write(self.path(key), parts.concat()).map_err(|error| failure("create", key, &error))
    }
    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        match range {
            None => fs::read(self.path(key)).map(Bytes::from).map_err(|error| failure("read", key, &error)),
            Some(_) => Err(unable("read", key, "pages are read whole")),
        }
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failure("delete", key, &error)),
            _ => Ok(()),
        }
    }
    async fn upload(&self, key: &str) -> Result<Box<dyn ObjectUpload>, StoreError> {
        Err(unable("upload", key, "nothing is that large"))
    }
    async fn overwrite(&self, key: &str, _: Bytes) -> Result<(), StoreError> {
        Err(unable("overwrite", key, "nothing is written again"))
    }
    async fn info(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        Err(unable("info", key, "nobody asks"))
    }
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        Err(unable("list", prefix, "nobody asks"))
    }
}
