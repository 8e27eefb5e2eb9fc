//! Objects that are too large to lie in memory before they are created.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::{MultipartUpload, WriteMultipart};

use super::failure::{BucketLocation, CallFailure, within};
use super::{ObjectUpload, StoreError};

/// Bytes of a part. Stores take 5 MiB or more, and 10,000 parts: 80 GB for an object.
const PART_BYTES: usize = 8 << 20;
/// Parts that are on their way at the same time; one more is being filled.
const PARTS_AT_ONCE: usize = 3;

/// An upload in parts, to any backend of `object_store`. What is dropped unfinished leaves no object; its parts are
/// removed by [`abort`](ObjectUpload::abort) or by the bucket's rule for uploads that were left.
pub(super) struct PartsUpload {
    write: WriteMultipart,
    key: String,
    place: Option<BucketLocation>,
}

impl PartsUpload {
    pub fn new(upload: Box<dyn MultipartUpload>, key: &str, place: Option<BucketLocation>) -> Self {
        Self { write: WriteMultipart::new_with_chunk_size(upload, PART_BYTES), key: key.to_owned(), place }
    }
}

impl fmt::Debug for PartsUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upload of {}", self.key)
    }
}

#[async_trait]
impl ObjectUpload for PartsUpload {
    async fn add(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        for piece in bytes.chunks(PART_BYTES) {
            let room = within((PARTS_AT_ONCE * PART_BYTES) as u64, self.write.wait_for_capacity(PARTS_AT_ONCE)).await;
            room.map_err(|failure| failure.of_bucket("upload", &self.key, self.place.as_ref()))?;
            self.write.write(piece);
        }
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<(), StoreError> {
        let Self { write, key, place } = *self;
        let left = (PARTS_AT_ONCE + 1) * PART_BYTES;
        let finished = within(left as u64, write.finish()).await;
        finished.map(drop).map_err(|failure| failure.of_bucket("upload", &key, place.as_ref()))
    }

    async fn abort(self: Box<Self>) {
        let aborted = within(0, self.write.abort()).await;
        if let Err(failure) = aborted.map_err(|failure: CallFailure| failure.of_bucket("abort", &self.key, None)) {
            tracing::debug!("parts of an upload are left to the bucket's rule: {failure}");
        }
    }
}
