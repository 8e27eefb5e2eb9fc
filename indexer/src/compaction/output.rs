//! The segments that a compaction writes, one after the other.

use bytes::Bytes;
use chronik_format::job::{CompactJob, SegmentMade};
use chronik_format::names::TopicSegmentName;
use chronik_format::origin::Origin;
use chronik_format::segment::TopicSegmentWriter;
use chronik_service::failpoint;
use chronik_store::{ObjectUpload, SharedStore};
use ulid::Ulid;

use super::{CompactError, CompactLimits};
use crate::patience::patiently;

/// Where the runs of a job go.
#[derive(Debug)]
pub(super) struct SegmentOutput {
    store: SharedStore,
    origin: Origin,
    job: CompactJob,
    /// Bytes of runs that have not begun yet.
    left: u64,
    limits: CompactLimits,
    open: Option<OpenSegment>,
    made: Vec<SegmentMade>,
}

#[derive(Debug)]
struct OpenSegment {
    key: String,
    /// `None` while it is lent.
    writer: Option<TopicSegmentWriter>,
    sink: SegmentSink,
}

#[derive(Debug)]
enum SegmentSink {
    Held(Vec<Bytes>),
    Sent(Box<dyn ObjectUpload>),
}

impl SegmentOutput {
    /// For runs of so many bytes.
    pub fn new(store: SharedStore, origin: Origin, job: CompactJob, bytes: u64, limits: CompactLimits) -> Self {
        Self { store, origin, job, left: bytes, limits, open: None, made: Vec::new() }
    }

    /// Whether a run of so many bytes goes into the segment that is open.
    pub fn has_room(&self, length: u64) -> bool {
        let written = |open: &OpenSegment| open.writer.as_ref().map_or(0, TopicSegmentWriter::length);
        self.open.as_ref().is_some_and(|open| written(open).saturating_add(length) <= self.limits.segment)
    }

    /// Makes sure that a segment is open which has room for a run of so many bytes.
    pub async fn begin_run(&mut self, length: u64) -> Result<(), CompactError> {
        if self.has_room(length) {
            return Ok(());
        }
        self.close().await?;
        let CompactJob { topic_id, incarnation, .. } = self.job;
        let key = TopicSegmentName { topic: topic_id, incarnation, ulid: Ulid::new() }.to_string();
        let (writer, start) = TopicSegmentWriter::begin(self.origin, topic_id);
        let sink = match self.left <= self.limits.whole {
            true => SegmentSink::Held(Vec::new()),
            false => SegmentSink::Sent(patiently(|| self.store.upload(&key)).await?),
        };
        self.open = Some(OpenSegment { key, writer: Some(writer), sink });
        self.add(start).await
    }

    /// The open segment's writer, to be given [back](Self::give_back).
    pub fn lend(&mut self) -> Option<TopicSegmentWriter> {
        self.open.as_mut()?.writer.take()
    }

    pub fn give_back(&mut self, writer: TopicSegmentWriter) {
        if let Some(open) = &mut self.open {
            open.writer = Some(writer);
        }
    }

    /// Adds batches that the writer has listed.
    pub async fn add_batches(&mut self, bytes: Bytes) -> Result<(), CompactError> {
        self.left = self.left.saturating_sub(bytes.len() as u64);
        self.add(bytes).await
    }

    async fn add(&mut self, bytes: Bytes) -> Result<(), CompactError> {
        match self.open.as_mut().map(|open| &mut open.sink) {
            Some(SegmentSink::Held(parts)) => parts.push(bytes),
            Some(SegmentSink::Sent(upload)) => upload.add(bytes).await.map_err(CompactError::Upload)?,
            None => {}
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), CompactError> {
        let Some(OpenSegment { key, writer: Some(writer), sink }) = self.open.take() else {
            return Ok(());
        };
        let end = writer.finish()?;
        match sink {
            SegmentSink::Held(mut parts) => {
                parts.push(end.bytes);
                patiently(|| self.store.create(&key, parts.clone())).await?;
            }
            SegmentSink::Sent(mut upload) => {
                upload.add(end.bytes).await.map_err(CompactError::Upload)?;
                upload.finish().await.map_err(CompactError::Upload)?;
            }
        }
        failpoint!("compactor-wrote");
        tracing::info!(job = self.job.id, segment = key, bytes = end.size, "runs are written anew");
        let (size, crc, directory_position) = (end.size, end.directory_crc, end.directory_position);
        self.made.push(SegmentMade { key, size, crc, directory_position });
        Ok(())
    }

    /// The segments, all created.
    pub async fn finish(mut self) -> Result<Vec<SegmentMade>, CompactError> {
        self.close().await?;
        Ok(self.made)
    }

    /// Takes back what was sent of a segment that does not come to its end.
    pub async fn abort(self) {
        if let Some(OpenSegment { sink: SegmentSink::Sent(upload), .. }) = self.open {
            upload.abort().await;
        }
    }
}
