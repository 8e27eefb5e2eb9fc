//! A store that remembers what was read of it, for tests of how often that is.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{ObjectInfo, ObjectUpload, SharedStore, Store, StoreError};

/// An object that was read, and which bytes of it if not all.
pub type StoreRead = (String, Option<Range<u64>>);

/// Wraps a store.
#[derive(Debug)]
pub struct CountedStore {
    inner: SharedStore,
    reads: Mutex<Vec<StoreRead>>,
}

impl CountedStore {
    /// Nothing was read yet.
    pub fn new(inner: SharedStore) -> Self {
        Self { inner, reads: Mutex::default() }
    }

    /// How often objects whose names contain `key_part` were read.
    pub fn count(&self, key_part: &str) -> usize {
        self.reads().iter().filter(|(key, _)| key.contains(key_part)).count()
    }

    /// All reads since the last call, in order.
    pub fn take(&self) -> Vec<StoreRead> {
        std::mem::take(&mut self.reads())
    }

    fn reads(&self) -> MutexGuard<'_, Vec<StoreRead>> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for CountedStore {
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
        self.reads().push((key.to_owned(), range.clone()));
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
    fn is_locked(&self) -> bool {
        self.inner.is_locked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;
    use crate::suite::store_suite;

    #[tokio::test]
    async fn it_is_the_store_that_it_wraps() {
        store_suite(std::sync::Arc::new(CountedStore::new(memory()))).await;
    }
}
