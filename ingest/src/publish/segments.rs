//! From log to bucket: builds a segment of each range that the lane orders, creates it, verifies it, and registers it.
//!
//! Uploads overlap, registrations are in order. Every step can be repeated: a failed one is, until it works, while the
//! log keeps what is not registered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chronik_format::ids::{LogIndex, PartitionId, TopicId};
use chronik_format::names::{CheckpointName, SegmentName};
use chronik_format::origin::Origin;
use chronik_format::segment::{self, BuiltSegment, LogEntry, PartitionBatches, SegmentError, SegmentHeader};
use chronik_service::backoff::Backoff;
use chronik_service::failpoint;
use chronik_service::held::CountedBytes;
use chronik_store::{SharedStore, StoreError};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use crate::clock::now_ms;
use crate::lane::{CheckpointState, Lane, LaneError, LaneGone, ShipOrder};
use crate::log::{Frame, FrameError, LogReader};
use crate::metrics::ShipMetrics;
use crate::ownership::BucketOwnership;
use crate::ownership::claim::ClaimError;
use crate::state::checkpoint;
use crate::state::command::{Command, CommandError, RegisterSegment, SegmentRun};
use crate::state::refusal::CommandRefusal;

/// Segments that are uploaded at the same time; each is held in memory meanwhile. While uploads fail none is built
/// ahead.
const UPLOADS_MAX: usize = 2;
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(15);
/// A name carries its age, and old objects are not registered: a try that begins later than this uses a new one.
const NAME_AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// How long a checkpoint is tried, once its segment is registered.
const CHECKPOINT_WAIT: Duration = Duration::from_secs(5 * 60);

/// What ends shipping, and with it the broker. An unreachable bucket does not.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The log does not give back what is to be shipped.
    #[error(transparent)]
    Log(#[from] FrameError),
    /// A frame in the log has commands that can't be read.
    #[error("frame {index}: {source}")]
    Command {
        /// The frame.
        index: LogIndex,
        /// Why.
        source: CommandError,
    },
    /// The log does not make a segment.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// Another broker owns the bucket.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The lane did not accept a segment of its own.
    #[error("segment {key} was not accepted: {refusal}")]
    Refused {
        /// The object's name.
        key: String,
        /// Why.
        refusal: CommandRefusal,
    },
    /// The lane has ended.
    #[error(transparent)]
    Gone(#[from] LaneGone),
}

/// Ships one lane.
#[derive(Clone)]
pub struct SegmentShipper {
    /// Whose log it is.
    pub origin: Origin,
    /// The lane's owner.
    pub lane: Lane,
    /// The bucket.
    pub store: SharedStore,
    /// Asked before every registration.
    pub ownership: BucketOwnership,
    /// Receives every checkpoint that is in the bucket.
    pub checkpoints: watch::Sender<LogIndex>,
    /// What is counted.
    pub metrics: ShipMetrics,
}

/// A segment in the bucket that was verified.
struct Uploaded {
    registration: RegisterSegment,
    checkpoint: Option<CheckpointState>,
}

impl SegmentShipper {
    /// Ships what is ordered until the orders end, or until cancelled: then what is not registered stays in the log.
    /// Registrations are in order, so that a segment built ahead of one that the bucket refuses would only take memory.
    pub async fn run(
        self,
        orders: mpsc::UnboundedReceiver<ShipOrder>,
        cancel: CancellationToken,
    ) -> Result<(), ShipError> {
        let this = Arc::new(self);
        let orders = futures::stream::unfold(orders, |mut orders| async { Some((orders.recv().await?, orders)) });
        let failing = watch::Sender::new(false);
        let uploads = orders.map(|order| this.upload(order, &failing)).buffered(UPLOADS_MAX);
        futures::pin_mut!(uploads);
        // At most one, as the lane has one underway at most. No registration waits for it.
        let mut checkpoints = FuturesUnordered::new();
        loop {
            let uploaded = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                Some(()) = checkpoints.next() => continue,
                uploaded = uploads.next() => uploaded,
            };
            let Some(uploaded) = uploaded else { return Ok(()) };
            let Uploaded { registration, checkpoint } = uploaded?;
            let registered = this.register_in_time(registration);
            tokio::pin!(registered);
            loop {
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => return Ok(()),
                    Some(()) = checkpoints.next() => {}
                    registered = &mut registered => break registered?,
                }
            }
            checkpoints.extend(checkpoint.map(|checkpoint| this.store_checkpoint(checkpoint)));
        }
    }

    /// Uploads what is ordered, once no upload before it fails.
    async fn upload(&self, order: ShipOrder, failing: &watch::Sender<bool>) -> Result<Uploaded, ShipError> {
        // It ends with the run, as the sender does.
        let _ = failing.subscribe().wait_for(|failing| !failing).await;
        let ShipOrder { first, last, checkpoint } = order;
        let registration = self.upload_telling(first, last, failing).await?;
        Ok(Uploaded { registration, checkpoint })
    }

    pub(crate) async fn upload_range(&self, first: LogIndex, last: LogIndex) -> Result<RegisterSegment, ShipError> {
        self.upload_telling(first, last, &watch::Sender::new(false)).await
    }

    /// Uploads a range of the log, and reports whether that fails for now.
    async fn upload_telling(
        &self,
        first: LogIndex,
        last: LogIndex,
        failing: &watch::Sender<bool>,
    ) -> Result<RegisterSegment, ShipError> {
        // A later claim does not matter yet: who takes over adopts what is uploaded in time. Asked before anything is
        // built: for a bucket that can't be reached nothing need be in memory.
        let is_the_bucket = || async { Ok(self.ownership.check_claim().await?) };
        self.asked("the bucket can't be asked", is_the_bucket).await?;
        let this = self.clone();
        let built = tokio::task::spawn_blocking(move || this.build(first, last)).await.map_err(|_| LaneGone)??;
        let _held = CountedBytes::new(&self.metrics.upload_bytes, built.size);
        failpoint!("segment-built");
        let mut name = Ulid::new();
        let mut retry = retries();
        let key = loop {
            if name.datetime().elapsed().is_ok_and(|age| age > NAME_AGE_MAX) {
                name = Ulid::new();
            }
            let Origin { lane, incarnation, .. } = self.origin;
            let key = SegmentName { lane, incarnation, first, last, ulid: name }.to_string();
            match self.store_verified(&key, &built).await {
                Ok(()) => break key,
                Err(error) => {
                    failing.send_replace(true);
                    tracing::warn!("segment {key} is not in the bucket yet, trying again: {error}");
                    self.metrics.upload_failures.inc();
                    if matches!(error, SegmentError::Store(StoreError::Exists { .. })) {
                        name = Ulid::new();
                    }
                    retry.wait().await;
                }
            }
        };
        failing.send_replace(false);
        Ok(RegisterSegment {
            incarnation: self.origin.incarnation,
            first,
            last,
            key,
            size: built.size,
            crc: built.directory_crc,
            directory_position: built.directory_position,
            named_at: i64::try_from(name.timestamp_ms()).unwrap_or(i64::MAX),
            at: now_ms(),
            runs: SegmentRun::all_of(&built.directory),
        })
    }

    async fn store_verified(&self, key: &str, built: &BuiltSegment) -> Result<(), SegmentError> {
        self.store.create(key, built.parts.clone()).await?;
        failpoint!("segment-created");
        segment::verify_stored(&*self.store, key, built).await
    }

    pub(crate) fn build(&self, first: LogIndex, last: LogIndex) -> Result<BuiltSegment, ShipError> {
        let (partitions, log) = read_range(&**self.lane.log(), first, last)?;
        Ok(segment::build(SegmentHeader { origin: self.origin, first, last }, partitions, &log)?)
    }

    /// Registers a segment. One that could not be for so long that it may be taken for an orphan is uploaded again
    /// under a new name, as is one that went into what was not the bucket.
    pub(crate) async fn register_in_time(&self, mut segment: RegisterSegment) -> Result<(), ShipError> {
        while !self.register(&segment).await? {
            tracing::warn!(
                "segment {} was not registered in time, or is not in the bucket, and is uploaded again",
                segment.key
            );
            segment = self.upload_range(segment.first, segment.last).await?;
        }
        Ok(())
    }

    /// `false` if the segment is too old, or not in the bucket.
    async fn register(&self, segment: &RegisterSegment) -> Result<bool, ShipError> {
        if !self.asked("the bucket can't be asked", || self.is_in_bucket(segment)).await? {
            return Ok(false);
        }
        let key = &segment.key;
        let mut retry = retries();
        loop {
            let command = Command::RegisterSegment(RegisterSegment { at: now_ms(), ..segment.clone() });
            match self.lane.propose(command).await {
                Ok(_) => break,
                Err(LaneError::NoSpace | LaneError::Unconfirmed) => retry.wait().await,
                Err(error @ LaneError::TooLarge { .. }) => {
                    tracing::error!("{key} can't be registered, and its log stays in the data directory: {error}");
                    retry.wait().await;
                }
                Err(LaneError::Refused(CommandRefusal::SegmentTooOld)) => return Ok(false),
                Err(LaneError::Refused(refusal)) => {
                    return Err(ShipError::Refused { key: key.clone(), refusal });
                }
                Err(LaneError::Gone(gone)) => return Err(gone.into()),
            }
        }
        failpoint!("segment-registered");
        self.metrics.segments.inc();
        self.metrics.segment_bytes.inc_by(segment.size);
        Ok(true)
    }

    /// Whether the bucket, which is ours, holds the segment: it may have been uploaded while another one had its place.
    async fn is_in_bucket(&self, segment: &RegisterSegment) -> Result<bool, ClaimError> {
        self.ownership.check().await?;
        match self.store.info(&segment.key).await {
            Ok(info) => Ok(info.size == segment.size),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The bucket's answer, once it can be asked; fails only if another broker owns it.
    async fn asked<T, A>(&self, failed: &str, ask: impl Fn() -> A) -> Result<T, ClaimError>
    where
        A: Future<Output = Result<T, ClaimError>>,
    {
        let mut retry = retries();
        loop {
            match ask().await {
                Err(ClaimError::Store(error)) => {
                    tracing::warn!("{failed}, trying again: {error}");
                    self.metrics.upload_failures.inc();
                    retry.wait().await;
                }
                answer => return answer,
            }
        }
    }

    /// Stores the state at a registered segment's end. What can't be stored for long gives way to a newer one.
    async fn store_checkpoint(&self, checkpoint: CheckpointState) {
        let index = checkpoint.state.applied;
        if tokio::time::timeout(CHECKPOINT_WAIT, self.try_checkpoint(checkpoint)).await.is_err() {
            tracing::warn!(
                "the checkpoint at {index} could not be stored in {CHECKPOINT_WAIT:?}; a newer one takes its place"
            );
        }
    }

    async fn try_checkpoint(&self, checkpoint: CheckpointState) {
        let CheckpointState { state, _turn } = checkpoint;
        let index = state.applied;
        let Origin { cluster, incarnation, lane } = self.origin;
        let encoded = tokio::task::spawn_blocking(move || checkpoint::encode(&state, cluster, lane));
        let Ok(bytes) = encoded.await else { return };
        let name = CheckpointName { lane, incarnation, index, ulid: Ulid::new() }.to_string();
        let mut retry = retries();
        while let Err(error) = self.store.create(&name, vec![bytes.clone()]).await {
            tracing::warn!("checkpoint {name} is not in the bucket yet, trying again: {error}");
            self.metrics.upload_failures.inc();
            retry.wait().await;
        }
        failpoint!("checkpoint-created");
        self.checkpoints.send_replace(index);
    }
}

/// Reads a range of the log, and groups its batches by partition.
pub fn read_range(
    log: &dyn LogReader,
    first: LogIndex,
    last: LogIndex,
) -> Result<(Vec<PartitionBatches>, Vec<LogEntry>), ShipError> {
    let mut partitions: BTreeMap<(TopicId, PartitionId), Vec<Bytes>> = BTreeMap::new();
    let (mut entries, mut frames) = (Vec::new(), log.frames(first, None, last));
    while let Some(frame) = frames.next_frame() {
        let frame = frame?;
        let commands =
            Command::decode_all(&frame.commands).map_err(|source| ShipError::Command { index: frame.index, source })?;
        let batches = contiguous(&frame);
        for command in commands {
            if let Command::Append(append) = command {
                let end = (append.position + append.length) as usize;
                let batch = batches.slice(append.position as usize..end);
                let partition = (append.topic, append.partition);
                partitions.entry(partition).or_default().push(batch);
            }
        }
        entries.push(LogEntry { index: frame.index, epoch: frame.epoch, commands: frame.commands });
    }
    let partitions = partitions
        .into_iter()
        .map(|((topic, partition), batches)| PartitionBatches { topic, partition, batches })
        .collect();
    Ok((partitions, entries))
}

fn contiguous(frame: &Frame) -> Bytes {
    match frame.batches.as_slice() {
        [] => Bytes::new(),
        [one] => one.clone(),
        many => many
            .iter()
            .fold(BytesMut::new(), |mut all, part| {
                all.extend_from_slice(part);
                all
            })
            .freeze(),
    }
}

fn retries() -> Backoff {
    Backoff::new(RETRY_FIRST, RETRY_MAX)
}
