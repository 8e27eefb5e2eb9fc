//! A store with a clock of its own, for tests that move time: objects are as old as the test says.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::{ObjectInfo, ObjectUpload, SharedStore, Store, StoreError};

type Clock = Box<dyn Fn() -> SystemTime + Send + Sync>;

/// Wraps a store and says of every object that it was last changed when the clock showed it.
pub struct ClockedStore {
    inner: SharedStore,
    clock: Clock,
    began: SystemTime,
    written: Mutex<HashMap<String, SystemTime>>,
}

impl ClockedStore {
    /// On tokio's clock. What `inner` holds already counts as written now.
    pub fn new(inner: SharedStore) -> Self {
        let began = Instant::now();
        let epoch = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        Self::on(inner, move || epoch + began.elapsed())
    }

    /// On a clock of the test's own. What `inner` holds already counts as written now.
    pub fn on(inner: SharedStore, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { inner, began: clock(), clock: Box::new(clock), written: Mutex::default() }
    }

    fn note(&self, key: &str) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(key.to_owned(), (self.clock)());
    }

    fn dated(&self, info: ObjectInfo) -> ObjectInfo {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        ObjectInfo { last_modified: written.get(&info.key).copied().unwrap_or(self.began), ..info }
    }
}

impl fmt::Debug for ClockedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClockedStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for ClockedStore {
    async fn create(&self, key: &str, parts: Vec<Bytes>) -> Result<(), StoreError> {
        self.inner.create(key, parts).await?;
        self.note(key);
        Ok(())
    }
    async fn upload(&self, key: &str) -> Result<Box<dyn ObjectUpload>, StoreError> {
        self.note(key);
        self.inner.upload(key).await
    }
    async fn overwrite(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.overwrite(key, bytes).await?;
        self.note(key);
        Ok(())
    }
    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        self.inner.read(key, range).await
    }
    async fn info(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        self.inner.info(key).await.map(|info| self.dated(info))
    }
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let objects = self.inner.list(prefix).await?;
        Ok(objects.into_iter().map(|info| self.dated(info)).collect())
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
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::memory;
    use crate::suite::store_suite;

    #[tokio::test]
    async fn but_for_its_clock_it_is_the_store_that_it_wraps() {
        store_suite(std::sync::Arc::new(ClockedStore::new(memory()))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn objects_are_as_old_as_the_test_says() {
        let store = ClockedStore::new(memory());
        store.overwrite("a", Bytes::new()).await.unwrap();
        tokio::time::advance(Duration::from_secs(90)).await;
        store.create("b", vec![]).await.unwrap();
        let (a, b) = (store.info("a").await.unwrap(), store.info("b").await.unwrap());
        assert_eq!(b.last_modified.duration_since(a.last_modified).unwrap().as_secs(), 90);
    }
}
