//! A store that fails by a script, for tests of what stands above it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{ErrorCause, ObjectInfo, ObjectUpload, SharedStore, Store, StoreError};

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreOperation {
    /// [`Store::create`].
    Create,
    /// The end of an upload.
    Upload,
    /// [`Store::overwrite`].
    Overwrite,
    /// [`Store::read`].
    Read,
    /// [`Store::info`].
    Info,
    /// [`Store::list`].
    List,
    /// [`Store::delete`].
    Delete,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// Nothing is done, and the call fails.
    Before,
    /// It is done, and the call fails nevertheless.
    After,
    /// The call answers that there is no such object.
    Missing,
}

/// One line of the script.
#[derive(Clone, Debug)]
pub struct ScriptLine {
    /// The kind of call that it is about.
    pub operation: StoreOperation,
    /// What the key has to contain; empty for any key.
    pub key_part: String,
    /// How many such calls go well first.
    pub after: usize,
    /// How many of the following ones fail.
    pub times: usize,
    /// How they fail.
    pub fault: StoreFault,
}

/// Wraps a store and fails the calls that its script names; the first line that matches a call decides.
#[derive(Debug)]
pub struct FaultyStore {
    inner: SharedStore,
    script: Mutex<VecDeque<ScriptLine>>,
}

impl FaultyStore {
    /// Nothing fails yet.
    pub fn new(inner: SharedStore) -> Self {
        Self { inner, script: Mutex::default() }
    }

    /// Adds a line to the script.
    pub fn add(&self, line: ScriptLine) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).push_back(line);
    }

    /// The next `times` calls of `operation` on keys that contain `key_part` fail.
    pub fn fail(&self, operation: StoreOperation, key_part: &str, fault: StoreFault, times: usize) {
        self.add(ScriptLine { operation, key_part: key_part.to_owned(), after: 0, times, fault });
    }

    /// Drops the script: nothing fails any more.
    pub fn heal(&self) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn next(&self, operation: StoreOperation, key: &str) -> Option<StoreFault> {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        let line = script.iter_mut().find(|line| {
            line.operation == operation && key.contains(&line.key_part) && (line.after > 0 || line.times > 0)
        })?;
        if line.after > 0 {
            line.after -= 1;
            return None;
        }
        line.times -= 1;
        Some(line.fault)
    }

    async fn call<T>(
        &self,
        operation: StoreOperation,
        key: &str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let key = key.to_owned();
        failing(self.next(operation, &key), key, call).await
    }
}

/// Does a call, or fails it.
async fn failing<T>(
    fault: Option<StoreFault>,
    key: String,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let failed = |key, message: &str| {
        let operation = "scripted call".into();
        Err(StoreError::Unavailable { operation, key, message: message.to_owned(), cause: ErrorCause::Passing })
    };
    match fault {
        None => call.await,
        Some(StoreFault::Missing) => Err(StoreError::NotFound { key }),
        Some(StoreFault::Before) => failed(key, "not done"),
        Some(StoreFault::After) => {
            call.await?;
            failed(key, "done, but the answer was lost")
        }
    }
}

/// An upload that ends as the script says.
#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn ObjectUpload>,
    key: String,
    fault: Option<StoreFault>,
}

#[async_trait]
impl ObjectUpload for FaultyUpload {
    async fn add(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.add(bytes).await
    }
    async fn finish(self: Box<Self>) -> Result<(), StoreError> {
        failing(self.fault, self.key, self.inner.finish()).await
    }
    async fn abort(self: Box<Self>) {
        self.inner.abort().await;
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn create(&self, key: &str, parts: Vec<Bytes>) -> Result<(), StoreError> {
        self.call(StoreOperation::Create, key, self.inner.create(key, parts)).await
    }
    async fn upload(&self, key: &str) -> Result<Box<dyn ObjectUpload>, StoreError> {
        let (inner, fault) = (self.inner.upload(key).await?, self.next(StoreOperation::Upload, key));
        Ok(Box::new(FaultyUpload { inner, key: key.to_owned(), fault }))
    }
    async fn overwrite(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.call(StoreOperation::Overwrite, key, self.inner.overwrite(key, bytes)).await
    }
    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        self.call(StoreOperation::Read, key, self.inner.read(key, range)).await
    }
    async fn info(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        self.call(StoreOperation::Info, key, self.inner.info(key)).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.call(StoreOperation::List, prefix, self.inner.list(prefix)).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.call(StoreOperation::Delete, key, self.inner.delete(key)).await
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
    async fn without_a_script_it_is_the_store_that_it_wraps() {
        store_suite(std::sync::Arc::new(FaultyStore::new(memory()))).await;
    }

    #[tokio::test]
    async fn a_script_fails_the_calls_that_it_names() {
        let store = FaultyStore::new(memory());
        store.fail(StoreOperation::Create, "a", StoreFault::Before, 1);
        store.fail(StoreOperation::Create, "a", StoreFault::After, 1);
        store.create("b", vec![]).await.unwrap();
        store.create("a", vec![]).await.unwrap_err();
        store.info("a").await.unwrap_err();
        store.create("a", vec![]).await.unwrap_err();
        store.info("a").await.unwrap();
        store.add(ScriptLine {
            operation: StoreOperation::Read,
            key_part: String::new(),
            after: 1,
            times: 9,
            fault: StoreFault::Missing,
        });
        store.read("a", None).await.unwrap();
        assert!(matches!(store.read("a", None).await, Err(StoreError::NotFound { .. })));
        store.heal();
        store.read("a", None).await.unwrap();
    }
}
