//! A store that is waited for.

use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::{ObjectInfo, ObjectUpload, SharedStore, Store, StoreError};

/// The first pause; each is twice as long as the one before it.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// How long a call is tried again.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Tries every call again, but for what is done of an upload, with growing pauses and for ten minutes, as long as
/// waiting may mend what it failed of. For who has nothing else to do meanwhile, and is stopped by being dropped.
///
/// A create whose outcome was unknown counts as done if a later try finds the same bytes: a caller that must know its
/// own object from another's puts something unique into it.
#[derive(Clone, Debug)]
pub struct PatientStore {
    inner: SharedStore,
}

impl PatientStore {
    /// Waits for `inner`.
    pub fn new(inner: SharedStore) -> Self {
        Self { inner }
    }

    async fn wait_for<T, F>(&self, call: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let gives_up_at = Instant::now() + PATIENCE;
        let mut pause = PAUSE_FIRST;
        loop {
            let error = match call().await {
                Err(error) if error.is_passing() => error,
                outcome => return outcome,
            };
            if Instant::now() + pause > gives_up_at {
                return Err(given_up(error));
            }
            tracing::warn!("waiting for the bucket, asking again in {pause:?}: {error}");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

fn given_up(error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable { operation, key, message, cause } => StoreError::Unavailable {
            operation,
            key,
            message: format!("{message} (asked again and again for {} min)", PATIENCE.as_secs() / 60),
            cause,
        },
        other => other,
    }
}

#[async_trait]
impl Store for PatientStore {
    async fn create(&self, key: &str, parts: Vec<Bytes>) -> Result<(), StoreError> {
        self.wait_for(|| self.inner.create(key, parts.clone())).await
    }
    async fn upload(&self, key: &str) -> Result<Box<dyn ObjectUpload>, StoreError> {
        self.wait_for(|| self.inner.upload(key)).await
    }
    async fn overwrite(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.wait_for(|| self.inner.overwrite(key, bytes.clone())).await
    }
    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        self.wait_for(|| self.inner.read(key, range.clone())).await
    }
    async fn info(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        self.wait_for(|| self.inner.info(key)).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.wait_for(|| self.inner.list(prefix)).await
    }
    async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.wait_for(|| self.inner.list_after(prefix, after)).await
    }
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.wait_for(|| self.inner.delete(key)).await
    }
    fn is_locked(&self) -> bool {
        self.inner.is_locked()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::sync::Arc;

    use super::*;
    use crate::faulty::{FaultyStore, StoreFault, StoreOperation};
    use crate::memory;
    use crate::suite::store_suite;

    fn patient() -> (Arc<FaultyStore>, PatientStore) {
        let faulty = Arc::new(FaultyStore::new(memory()));
        (faulty.clone(), PatientStore::new(faulty))
    }

    #[tokio::test]
    async fn it_is_the_store_that_it_waits_for() {
        store_suite(Arc::new(patient().1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn every_call_is_tried_again_until_it_goes_well() {
        let (faulty, store) = patient();
        for operation in [
            StoreOperation::Create,
            StoreOperation::Overwrite,
            StoreOperation::Read,
            StoreOperation::Info,
            StoreOperation::List,
            StoreOperation::Delete,
        ] {
            faulty.fail(operation, "", StoreFault::Before, 20);
        }
        let bytes = Bytes::from_static(b"bytes");
        store.create("d/a", vec![bytes.clone()]).await.unwrap();
        store.overwrite("d/b", bytes.clone()).await.unwrap();
        assert_eq!(store.read("d/a", Some(1..3)).await.unwrap(), "yt");
        assert_eq!(store.info("d/b").await.unwrap().size, 5);
        assert_eq!(store.list("d/").await.unwrap().len(), 2);
        faulty.fail(StoreOperation::List, "", StoreFault::Before, 20);
        assert_eq!(store.list_after("d/", "d/a").await.unwrap().len(), 1);
        store.delete("d/a").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_create_of_unknown_outcome_is_told_from_anothers() {
        let (faulty, store) = patient();
        faulty.fail(StoreOperation::Create, "", StoreFault::After, 1);
        store.create("own", vec![Bytes::from_static(b"ours")]).await.unwrap();
        faulty.create("taken", vec![Bytes::from_static(b"others")]).await.unwrap();
        faulty.fail(StoreOperation::Create, "", StoreFault::Before, 3);
        let taken = store.create("taken", vec![Bytes::from_static(b"ours")]).await;
        assert!(matches!(taken, Err(StoreError::Exists { .. })), "{taken:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waiting_can_not_mend_ends_at_once_and_an_outage_after_minutes() {
        let (faulty, store) = patient();
        let began = Instant::now();
        assert!(matches!(store.read("a", None).await, Err(StoreError::NotFound { .. })));
        assert_eq!(began.elapsed(), Duration::ZERO);
        faulty.fail(StoreOperation::Read, "", StoreFault::Before, usize::MAX);
        let told = store.read("a", None).await.unwrap_err().to_string();
        assert!(told.contains("for 10 min"), "{told}");
        let waited = began.elapsed().as_secs();
        assert!((580..=600).contains(&waited), "{waited} s");
    }
}
