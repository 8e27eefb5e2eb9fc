//! Reads records wherever they lie: tail in memory, write-ahead log, segments.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use chronik_format::batch::{self, BatchHeader};
use chronik_format::ids::{LogIndex, Offset, PartitionId, Timestamp, TopicId};
use chronik_peers::cold::{ColdError, SharedColdReader};

use crate::lane::Lane;
use crate::lane::stretch::LogStretch;
use crate::lane::tail::{BatchBytes, BelowTail, TailRead, TopicView};
use crate::log::{Frame, FrameError, LogReader};
use crate::metrics::FetchMetrics;
use crate::read_failures::ReadFailures;
use crate::state::command::{Append, Command, CommandError};

/// Bytes of records that are read at once to see when they happened, unless a single batch is larger.
const TIME_BYTES: usize = 1 << 20;

/// Bytes of the log that one read looks through for more, once it has found something.
const LOG_BYTES: u64 = 8 << 20;

/// Why acknowledged records could not be read. Always worth another try; never a reason to skip one.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] FrameError),
    /// The bucket could not be read.
    #[error(transparent)]
    Cold(#[from] ColdError),
    /// The write-ahead log gave other bytes than were written.
    #[error("batch at offset {offset} in the write-ahead log is damaged: {reason}")]
    Damaged {
        /// Where it should begin.
        offset: Offset,
        /// What does not fit.
        reason: String,
    },
    /// A frame in the write-ahead log has commands that are not known.
    #[error("frame {index} in the write-ahead log: {source}")]
    Command {
        /// Of the frame.
        index: LogIndex,
        /// What can't be decoded.
        source: CommandError,
    },
    /// The task that read was aborted.
    #[error("reading was aborted")]
    Aborted,
}

/// Reads partitions of one lane.
#[derive(Clone)]
pub struct RecordReader {
    lane: Lane,
    cold: SharedColdReader,
    metrics: FetchMetrics,
    failures: Arc<ReadFailures>,
}

impl RecordReader {
    /// Reads what `lane` holds, and older records through `cold`.
    pub fn new(lane: Lane, cold: SharedColdReader, metrics: FetchMetrics) -> Self {
        Self { lane, cold, metrics, failures: Arc::default() }
    }

    /// Tells the operator that records of a partition can't be read, unless that was told of the same object just now.
    pub fn tell(&self, failure: &ReadError, topic: &str, partition: PartitionId, offset: Offset) {
        if self.failures.is_news(&failure.to_string(), Instant::now()) {
            tracing::warn!(topic, partition, offset, "records can't be read now: {failure}");
        }
    }

    /// Whole batches in offset order, the first one containing `from`, at most about `max_bytes` but at least one;
    /// empty at the end. `from` lies between the partition's log start and its end. What lies before something that
    /// can't be read is returned: only what can't be read at `from` itself is an error.
    pub async fn read(
        &self,
        topic: &TopicView,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<BatchBytes>, ReadError> {
        let Some(tail) = topic.partition(partition) else {
            return Ok(Vec::new());
        };
        let here = match tail.read(from, max_bytes) {
            Ok(TailRead::Held(batches)) => Some(batches),
            Ok(TailRead::Logged(stretches)) => {
                let (log, topic) = (self.lane.log().clone(), topic.id);
                let mut read = LogRead::new(topic, partition, from, max_bytes);
                aside(move || read.run(&*log, &stretches)).await??
            }
            Err(BelowTail { .. }) => None,
        };
        if let Some(batches) = here {
            self.metrics.wal_hit();
            return Ok(batches);
        }
        let _timer = self.metrics.cold_seconds.start_timer();
        let batches = self.cold.fetch(topic.id, partition, from, max_bytes).await?;
        self.metrics.segment_hit();
        Ok(batches.into_iter().map(BatchBytes::from_whole).collect())
    }

    /// Offset and timestamp of the first record at or after the log start whose timestamp is at least `timestamp`. What
    /// is not in the bucket yet is read through.
    pub async fn offset_for_time(
        &self,
        topic: &TopicView,
        partition: PartitionId,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let Some(tail) = topic.partition(partition) else {
            return Ok(None);
        };
        let bounds = tail.bounds();
        if bounds.tail_start > bounds.log_start {
            let _timer = self.metrics.cold_seconds.start_timer();
            let found = self.cold.offset_for_time(topic.id, partition, bounds.log_start, timestamp).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        let mut from = bounds.tail_start.max(bounds.log_start);
        while from < bounds.end {
            let (batches, next) = self.piece(topic, partition, from).await?;
            let mut find = move |batch: &BatchBytes| batch::find_time(&batch.contiguous(), from, timestamp);
            let found = aside(move || batches.iter().find_map(&mut find)).await?;
            if found.is_some() {
                return Ok(found);
            }
            from = next;
        }
        Ok(None)
    }

    /// The latest timestamp of the records from the first of these offsets on, all of which are read.
    pub async fn latest_timestamp(
        &self,
        topic: &TopicView,
        partition: PartitionId,
        offsets: Range<Offset>,
    ) -> Result<Option<Timestamp>, ReadError> {
        let (mut latest, mut from) = (None, offsets.start);
        while from < offsets.end {
            let (batches, next) = self.piece(topic, partition, from).await?;
            let of_batch = move |batch: &BatchBytes| batch::latest_timestamp(&batch.contiguous(), from);
            let here = aside(move || batches.iter().filter_map(of_batch).max()).await?;
            latest = latest.max(here);
            from = next;
        }
        Ok(latest)
    }

    /// Some batches from the one that holds `from` on, and the offset at which to go on.
    async fn piece(
        &self,
        topic: &TopicView,
        partition: PartitionId,
        from: Offset,
    ) -> Result<(Vec<BatchBytes>, Offset), ReadError> {
        let batches = self.read(topic, partition, from, TIME_BYTES).await?;
        let header = batches.last().and_then(|last| BatchHeader::parse(&last.head).ok());
        let next = header.map_or(Offset::MAX, |header| header.last_offset().saturating_add(1));
        Ok((batches, next))
    }
}

/// Does what blocks, or computes for long, off the runtime's threads.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ReadError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ReadError::Aborted)
}

/// A read of batches that have to be looked for in the write-ahead log.
pub(crate) struct LogRead {
    topic: TopicId,
    partition: PartitionId,
    from: Offset,
    max_bytes: usize,
    /// The first offset that is not read yet.
    next: Offset,
    batches: Vec<BatchBytes>,
    bytes: usize,
    /// What could not be read before anything was found.
    damage: Option<FrameError>,
}

/// How a read goes on after a frame.
enum Step {
    On,
    Full,
    /// What was asked for came before: it is in the bucket by now.
    Released,
}

impl LogRead {
    pub(crate) fn new(topic: TopicId, partition: PartitionId, from: Offset, max_bytes: usize) -> Self {
        Self { topic, partition, from, max_bytes, next: from, batches: Vec::new(), bytes: 0, damage: None }
    }

    /// Whole batches, the first one containing `from`, from stretches that hold it; at most about `max_bytes`, but at
    /// least one; what comes before a failure, which is an error only for who asks for what lies in it: what lies
    /// before the one asked for does not matter. `None` if the log has been released there meanwhile.
    pub(crate) fn run(
        &mut self,
        log: &dyn LogReader,
        stretches: &[LogStretch],
    ) -> Result<Option<Vec<BatchBytes>>, ReadError> {
        match self.look_through(log, stretches) {
            _ if !self.batches.is_empty() => Ok(Some(std::mem::take(&mut self.batches))),
            Err(ReadError::Log(FrameError::Absent { .. })) => Ok(None),
            Err(error) => Err(error),
            Ok(step) => match (self.damage.take(), step) {
                (Some(damage), _) => Err(damage.into()),
                (None, Step::Released) => Ok(None),
                (None, _) => Err(self.damaged("it is not where it was written")),
            },
        }
    }

    fn look_through(&mut self, log: &dyn LogReader, stretches: &[LogStretch]) -> Result<Step, ReadError> {
        let mut bytes_read = 0;
        for stretch in stretches {
            let mut frames = log.frames(stretch.first, stretch.position, stretch.last);
            while let Some(frame) = frames.next_frame() {
                let frame = match frame {
                    Ok(frame) => frame,
                    Err(damage @ FrameError::Damaged(_)) if self.batches.is_empty() => {
                        self.damage.get_or_insert(damage);
                        frames.go_on()?;
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                };
                bytes_read += frame.length();
                match self.take(&frame)? {
                    Step::On if bytes_read < LOG_BYTES || self.batches.is_empty() => {}
                    step => return Ok(step),
                }
            }
        }
        Ok(Step::Full)
    }

    /// Takes the partition's batches out of a frame.
    fn take(&mut self, frame: &Frame) -> Result<Step, ReadError> {
        let commands =
            Command::decode_all(&frame.commands).map_err(|source| ReadError::Command { index: frame.index, source })?;
        for command in commands {
            let Command::Append(append) = command else { continue };
            if (append.topic, append.partition) != (self.topic, self.partition) || append.last_offset < self.next {
                continue;
            }
            match self.batches.is_empty() {
                true if append.base_offset > self.from => return Ok(Step::Released),
                false if append.base_offset != self.next => return Err(self.damaged("another one is in its place")),
                false if self.bytes + append.length as usize > self.max_bytes => return Ok(Step::Full),
                _ => self.push(frame, &append)?,
            }
        }
        Ok(Step::On)
    }

    /// The bytes are copied: the frame's others are not kept in memory with them.
    fn push(&mut self, frame: &Frame, append: &Append) -> Result<(), ReadError> {
        let (start, length) = (append.position as usize, append.length as usize);
        let all: &[u8] = frame.batches.first().map_or(&[], |batches| batches);
        let bytes = all.get(start..start + length);
        let bytes = bytes.ok_or_else(|| self.damaged("it is longer than its frame"))?;
        let header = batch::verify(bytes).map_err(|error| self.damaged(&error.to_string()))?;
        if header.base_offset != append.base_offset {
            return Err(self.damaged(&format!("it begins with offset {}", header.base_offset)));
        }
        self.batches.push(BatchBytes::from_whole(Bytes::copy_from_slice(bytes)));
        self.bytes += length;
        self.next = append.last_offset + 1;
        Ok(())
    }

    fn damaged(&self, reason: &str) -> ReadError {
        ReadError::Damaged { offset: self.next, reason: reason.into() }
    }
}

impl BatchBytes {
    /// A stored batch, which is in one piece.
    pub fn from_whole(mut whole: Bytes) -> Self {
        let head = whole.split_to(batch::HEADER_LENGTH.min(whole.len()));
        Self { head, body: whole }
    }

    /// The batch in one piece; copies.
    pub fn contiguous(&self) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.length());
        whole.extend_from_slice(&self.head);
        whole.extend_from_slice(&self.body);
        whole.freeze()
    }
}
