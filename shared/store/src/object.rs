//! The bucket over any backend of `object_store`.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};

use super::failure::{BucketLocation, CallFailure, within};
use super::upload::PartsUpload;
use super::{ErrorCause, ObjectInfo, ObjectUpload, PAGE_OBJECTS_MAX, READ_BYTES_MAX, SharedStore, Store, StoreError};

/// Pauses between tries of a create that was refused for a name that turned out to be free: the other of two racing
/// writers has not finished, or never will.
const CREATE_PAUSES: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(800)];

/// A bucket in memory: a full backend without a disk, gone with its last handle.
pub fn memory() -> SharedStore {
    Arc::new(ObjectBucket::new(Arc::new(object_store::memory::InMemory::new())))
}

/// A bucket on any backend of `object_store`. Every call has a deadline of 30 s plus a second for each megabyte.
#[derive(Debug)]
pub struct ObjectBucket {
    objects: Arc<dyn ObjectStore>,
    place: Option<BucketLocation>,
}

impl ObjectBucket {
    /// A bucket whose keys are paths of `objects`.
    pub fn new(objects: Arc<dyn ObjectStore>) -> Self {
        Self { objects, place: None }
    }

    /// The same, whose failures name the settings that say where it is.
    pub(super) fn at(objects: Arc<dyn ObjectStore>, place: BucketLocation) -> Self {
        Self { objects, place: Some(place) }
    }

    fn object_error<'a>(&'a self, operation: &'static str, key: &'a str) -> impl Fn(CallFailure) -> StoreError + 'a {
        move |failure| failure.of_object(operation, key, self.place.as_ref())
    }

    fn bucket_error<'a>(&'a self, operation: &'static str, key: &'a str) -> impl Fn(CallFailure) -> StoreError + 'a {
        move |failure| failure.of_bucket(operation, key, self.place.as_ref())
    }

    /// Settles a create that was refused or whose outcome is unknown, by what is stored under the name now.
    /// `None` means that nothing is.
    async fn stored_equals(&self, key: &str, parts: &[Bytes]) -> Result<Option<bool>, StoreError> {
        let size: u64 = parts.iter().map(|part| part.len() as u64).sum();
        match self.info(key).await {
            Ok(info) if info.size != size => return Ok(Some(false)),
            Ok(_) => {}
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut position = 0;
        for part in parts.iter().filter(|part| !part.is_empty()) {
            let end = position + part.len() as u64;
            if self.read(key, Some(position..end)).await? != *part {
                return Ok(Some(false));
            }
            position = end;
        }
        Ok(Some(true))
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<GetResult, StoreError> {
        let path = path(key)?;
        let options = GetOptions { range: range.clone().map(GetRange::Bounded), ..GetOptions::default() };
        let error = match within(0, self.objects.get_opts(&path, options)).await {
            Ok(result) => return Ok(result),
            Err(failure) => self.object_error("read", key)(failure),
        };
        // Backends refuse a range that starts beyond the end each in a way of its own.
        if let (StoreError::Unavailable { .. }, Some(range)) = (&error, range)
            && let Ok(info) = self.info(key).await
            && range.end > info.size
        {
            return Err(beyond_end(key, info.size, &range));
        }
        Err(error)
    }
}

#[async_trait]
impl Store for ObjectBucket {
    async fn create(&self, key: &str, parts: Vec<Bytes>) -> Result<(), StoreError> {
        let path = path(key)?;
        let payload: PutPayload = parts.iter().cloned().collect();
        let size = payload.content_length() as u64;
        let mut pauses = CREATE_PAUSES.into_iter();
        loop {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let failure = match within(size, self.objects.put_opts(&path, payload.clone(), options)).await {
                Ok(_) => return Ok(()),
                Err(failure) => failure,
            };
            // "Exists already" may be the answer to a retry of our own successful try, and a failure may have come
            // after the write: only the stored bytes show it.
            match self.stored_equals(key, &parts).await {
                Ok(Some(true)) => return Ok(()),
                Ok(Some(false)) => return Err(StoreError::Exists { key: key.to_owned() }),
                Ok(None) | Err(_) if !failure.is_conflict() => return Err(self.bucket_error("create", key)(failure)),
                Ok(None) | Err(_) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await,
                    None => return Err(self.bucket_error("create", key)(failure)),
                },
            }
        }
    }

    async fn upload(&self, key: &str) -> Result<Box<dyn ObjectUpload>, StoreError> {
        let path = path(key)?;
        let upload = within(0, self.objects.put_multipart(&path)).await.map_err(self.bucket_error("upload", key))?;
        Ok(Box::new(PartsUpload::new(upload, key, self.place.clone())))
    }

    async fn overwrite(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = path(key)?;
        let size = bytes.len() as u64;
        let put = self.objects.put_opts(&path, bytes.into(), PutOptions::default());
        within(size, put).await.map(|_| ()).map_err(self.bucket_error("overwrite", key))
    }

    async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        if let Some(range) = &range {
            if range.end.saturating_sub(range.start) > READ_BYTES_MAX {
                let size = range.end - range.start;
                return Err(StoreError::TooLarge { key: key.to_owned(), size, limit: READ_BYTES_MAX });
            }
            if range.is_empty() {
                return Ok(Bytes::new());
            }
        }
        let result = self.get(key, range.clone()).await?;
        let object_size = result.meta.size;
        if let Some(range) = &range
            && range.end > object_size
        {
            return Err(beyond_end(key, object_size, range));
        }
        let size = result.range.end - result.range.start;
        if size > READ_BYTES_MAX {
            return Err(StoreError::TooLarge { key: key.to_owned(), size, limit: READ_BYTES_MAX });
        }
        let bytes = within(size, result.bytes()).await.map_err(self.object_error("read", key))?;
        if bytes.len() as u64 == size {
            return Ok(bytes);
        }
        let message = format!("{} bytes came instead of {size}", bytes.len());
        Err(StoreError::Unavailable {
            operation: "read".into(),
            key: key.to_owned(),
            message,
            cause: ErrorCause::Passing,
        })
    }

    async fn info(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        let path = path(key)?;
        let meta = within(0, self.objects.head(&path)).await;
        meta.map(object_info).map_err(self.object_error("info", key))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut objects: Vec<ObjectInfo> = self.pages(prefix).try_concat().await?;
        objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let (below, after) = (path(prefix.trim_end_matches('/'))?, path(after)?);
        let mut listing = self.objects.list_with_offset(Some(&below), &after).fuse();
        let mut objects = Vec::new();
        let error = self.bucket_error("list", prefix);
        while let Some(meta) = within(0, listing.try_next()).await.map_err(&error)? {
            objects.push(object_info(meta));
        }
        objects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    fn pages<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<Vec<ObjectInfo>, StoreError>> {
        let path = match path(prefix.trim_end_matches('/')) {
            Ok(path) => path,
            Err(error) => return futures::stream::once(async { Err(error) }).boxed(),
        };
        // Asked once more after its end, which not every listing bears.
        let listing = self.objects.list(Some(&path)).fuse();
        futures::stream::try_unfold(listing, |mut listing| async {
            let mut page = Vec::new();
            while page.len() < PAGE_OBJECTS_MAX {
                // The deadline is for each answer of the store, however many there are.
                let next = within(0, listing.try_next()).await;
                match next.map_err(self.bucket_error("list", prefix))? {
                    Some(meta) => page.push(object_info(meta)),
                    None => break,
                }
            }
            Ok((!page.is_empty()).then_some((page, listing)))
        })
        .boxed()
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = path(key)?;
        match within(0, self.objects.delete(&path)).await.map_err(self.object_error("delete", key)) {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn path(key: &str) -> Result<Path, StoreError> {
    Path::parse(key).map_err(|error| StoreError::Unavailable {
        operation: "naming".into(),
        key: key.to_owned(),
        message: error.to_string(),
        cause: ErrorCause::Setting,
    })
}

fn object_info(meta: ObjectMeta) -> ObjectInfo {
    ObjectInfo { key: meta.location.into(), size: meta.size, last_modified: meta.last_modified.into() }
}

fn beyond_end(key: &str, size: u64, range: &Range<u64>) -> StoreError {
    StoreError::BeyondEnd { key: key.to_owned(), size, start: range.start, end: range.end }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::collections::VecDeque;
    use std::fmt;
    use std::sync::Mutex;

    use futures::stream::BoxStream;
    use object_store::memory::InMemory;
    use object_store::{CopyOptions, Error, ListResult, MultipartUpload, PutMultipartOptions, PutResult};

    use super::*;
    use crate::suite::{large_store_suite, store_suite};

    /// What happens to one put.
    #[derive(Debug)]
    enum Put {
        FailsBefore,
        FailsAfter,
        HangsBefore,
        HangsAfter,
        ConflictsFirst,
    }

    #[derive(Debug, Default)]
    struct Backend {
        inner: InMemory,
        puts: Mutex<VecDeque<Put>>,
    }

    impl fmt::Display for Backend {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.inner.fmt(f)
        }
    }

    fn broken() -> Error {
        Error::Generic { store: "test", source: "connection lost".into() }
    }

    #[async_trait]
    impl ObjectStore for Backend {
        async fn put_opts(
            &self,
            path: &Path,
            payload: PutPayload,
            options: PutOptions,
        ) -> object_store::Result<PutResult> {
            let put = self.puts.lock().unwrap().pop_front();
            match put {
                None => self.inner.put_opts(path, payload, options).await,
                Some(Put::FailsBefore) => Err(broken()),
                Some(Put::FailsAfter) => {
                    self.inner.put_opts(path, payload, options).await?;
                    Err(broken())
                }
                Some(Put::HangsBefore) => std::future::pending().await,
                Some(Put::HangsAfter) => {
                    self.inner.put_opts(path, payload, options).await?;
                    std::future::pending().await
                }
                Some(Put::ConflictsFirst) => {
                    Err(Error::AlreadyExists { path: path.to_string(), source: "racing create".into() })
                }
            }
        }
        async fn put_multipart_opts(
            &self,
            path: &Path,
            options: PutMultipartOptions,
        ) -> object_store::Result<Box<dyn MultipartUpload>> {
            self.inner.put_multipart_opts(path, options).await
        }
        async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
            self.inner.get_opts(path, options).await
        }
        fn delete_stream(
            &self,
            paths: BoxStream<'static, object_store::Result<Path>>,
        ) -> BoxStream<'static, object_store::Result<Path>> {
            self.inner.delete_stream(paths)
        }
        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
            self.inner.list(prefix)
        }
        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
            self.inner.list_with_delimiter(prefix).await
        }
        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
            self.inner.copy_opts(from, to, options).await
        }
    }

    fn bucket_where(puts: impl IntoIterator<Item = Put>) -> ObjectBucket {
        ObjectBucket::new(Arc::new(Backend { inner: InMemory::new(), puts: Mutex::new(puts.into_iter().collect()) }))
    }

    fn parts() -> Vec<Bytes> {
        vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"cde")]
    }

    #[tokio::test]
    async fn memory_passes_the_suite() {
        store_suite(memory()).await;
        large_store_suite(memory()).await;
    }

    #[tokio::test]
    async fn many_objects_come_in_pages() {
        let bucket = memory();
        for at in 0..=PAGE_OBJECTS_MAX {
            bucket.create(&format!("a/{at}"), vec![]).await.unwrap();
        }
        let pages: Vec<_> = bucket.pages("a/").try_collect().await.unwrap();
        let sizes: Vec<usize> = pages.iter().map(Vec::len).collect();
        assert_eq!(sizes, [PAGE_OBJECTS_MAX, 1]);
        assert_eq!(bucket.list("a/").await.unwrap().len(), PAGE_OBJECTS_MAX + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_create_that_was_applied_counts_whatever_the_answer_was() {
        for put in [Put::FailsAfter, Put::HangsAfter, Put::ConflictsFirst] {
            let bucket = bucket_where([put]);
            bucket.create("a/b", parts()).await.unwrap();
            assert_eq!(bucket.read("a/b", None).await.unwrap(), "abcde");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_create_that_was_not_applied_is_unavailable() {
        for put in [Put::FailsBefore, Put::HangsBefore] {
            let bucket = bucket_where([put]);
            let error = bucket.create("a/b", parts()).await.unwrap_err();
            assert!(
                matches!(&error, StoreError::Unavailable { operation, key, .. } if operation == "create" && key == "a/b")
            );
            bucket.create("a/b", parts()).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unclear_create_over_other_bytes_of_the_same_size_is_lost() {
        for put in [Put::FailsBefore, Put::HangsBefore, Put::ConflictsFirst] {
            let backend = Backend { inner: InMemory::new(), puts: Mutex::new([put].into()) };
            backend.inner.put(&Path::from("a/b"), "abcdX".into()).await.unwrap();
            let bucket = ObjectBucket::new(Arc::new(backend));
            let error = bucket.create("a/b", parts()).await.unwrap_err();
            assert!(matches!(error, StoreError::Exists { key } if key == "a/b"));
        }
    }
}
