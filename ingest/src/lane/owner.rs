//! The one task that owns the lane's state.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use chronik_core::batch;
use chronik_core::ids::{Incarnation, LogIndex, Offset, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::border::{FrameWeight, ShipLimits, Unshipped};
use super::replay::Replayed;
use super::stage::Stage;
use super::tail::{BatchBytes, PartitionTail, TailBatch, TopicTable};
use super::{Appended, LaneError, LaneHandle, ProducedBatch, Progress, Reply, Request, ShipOrder};
use crate::clock::now_ms;
use crate::command::{Append, Command};
use crate::metrics::LaneMetrics;
use crate::state::LaneState;
use crate::wal::{Frame, FramePlace, Purpose, WalError, WalHandle, WalReader, Written};

/// Batch bytes that go into one frame; a larger batch has one of its own.
const FRAME_BATCH_BYTES: usize = 1 << 20;
/// What a frame takes besides its batches and commands, generously.
const FRAME_OVERHEAD_BYTES: u64 = 128;
/// A checkpoint goes to the bucket at least this often while there is something new.
const CHECKPOINT_AGE: Duration = Duration::from_secs(5 * 60);
/// A checkpoint goes to the bucket after so many bytes of commands, so that replaying them stays short.
const CHECKPOINT_COMMAND_BYTES: u64 = 64 << 20;

/// What the owner is told at its start.
pub struct LaneSettings {
    /// The claim under which it writes.
    pub incarnation: Incarnation,
    /// When to ship.
    pub ship: ShipLimits,
    /// Batch bytes kept in memory for fetches.
    pub tail_bytes_max: usize,
}

/// The write-ahead log's side of the owner.
pub struct LaneLog {
    /// Takes frames.
    pub wal: WalHandle,
    /// Reads frames and batches.
    pub reader: WalReader,
    /// What has become durable, in order.
    pub written: mpsc::UnboundedReceiver<Result<Written, WalError>>,
}

/// The owner's work; [`Owner::run`] is its life.
pub struct Owner {
    settings: LaneSettings,
    state: LaneState,
    stage: Stage,
    wal: WalHandle,
    written: mpsc::UnboundedReceiver<Result<Written, WalError>>,
    requests: mpsc::UnboundedReceiver<Request>,
    in_flight: VecDeque<InFlight>,
    next_index: LogIndex,
    topics: Arc<ArcSwap<TopicTable>>,
    progress: watch::Sender<Progress>,
    ship: mpsc::UnboundedSender<ShipOrder>,
    unshipped: Unshipped,
    shipping: VecDeque<Shipping>,
    in_memory: VecDeque<InMemory>,
    in_memory_bytes: usize,
    checkpoint_at: Instant,
    checkpoint_command_bytes: u64,
    metrics: LaneMetrics,
}

/// A frame between write-ahead log and application.
struct InFlight {
    index: LogIndex,
    commands: Vec<Command>,
    answers: Vec<Answer>,
    batches: Vec<BatchBytes>,
    weight: FrameWeight,
    command_bytes: u64,
}

/// Who waits for a command's outcome.
enum Answer {
    Append(Option<Timestamp>, Reply<Result<Appended, LaneError>>),
    Propose(Reply<Result<(), LaneError>>),
}

/// A range that was handed to the shipper and is not registered yet.
struct Shipping {
    last: LogIndex,
    bytes: u64,
    since: Option<Timestamp>,
}

/// A batch whose bytes are held in memory.
struct InMemory {
    index: LogIndex,
    partition: Arc<PartitionTail>,
    base_offset: Offset,
    length: usize,
}

/// A frame that is being put together.
#[derive(Default)]
struct OpenFrame {
    commands: Vec<Command>,
    encoded: Vec<u8>,
    answers: Vec<Answer>,
    batches: Vec<BatchBytes>,
    batch_bytes: usize,
}

impl Owner {
    /// An owner that goes on where the replay ended, and the handle to it. Segments are ordered through `ship`.
    pub fn new(
        settings: LaneSettings,
        replayed: Replayed,
        log: LaneLog,
        ship: mpsc::UnboundedSender<ShipOrder>,
        metrics: LaneMetrics,
    ) -> (Self, LaneHandle) {
        let (requests, inbox) = mpsc::unbounded_channel();
        let topics = Arc::new(ArcSwap::from_pointee(replayed.topics));
        let now = Instant::now();
        let first_unshipped = replayed.state.shipped_index() + 1;
        let (progress, progress_seen) = watch::channel(Progress {
            applied: replayed.state.applied,
            shipped: replayed.state.shipped_index(),
            catalog: replayed.state.applied,
            ..Progress::default()
        });
        let handle = LaneHandle {
            requests,
            topics: topics.clone(),
            progress: progress_seen,
            wal: log.reader,
        };
        let mut owner = Self {
            unshipped: Unshipped::new(settings.ship, first_unshipped),
            settings,
            next_index: replayed.state.applied + 1,
            state: replayed.state,
            stage: Stage::default(),
            wal: log.wal,
            written: log.written,
            requests: inbox,
            in_flight: VecDeque::new(),
            topics,
            progress,
            ship,
            shipping: VecDeque::new(),
            in_memory: VecDeque::new(),
            in_memory_bytes: 0,
            checkpoint_at: now,
            checkpoint_command_bytes: 0,
            metrics,
        };
        for (index, weight) in replayed.unshipped {
            if owner.unshipped.is_full_before(&weight) {
                owner.order_segment(index - 1, false);
            }
            owner.unshipped.add(&weight, now);
        }
        owner.publish_progress(false);
        (owner, handle)
    }

    /// Serves until cancelled, then until everything in flight is applied; or ends at once if the log fails.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), WalError> {
        loop {
            let due = self.unshipped.due_at();
            tokio::select! {
                biased;
                Some(written) = self.written.recv() => self.take_written(written?),
                request = self.requests.recv() => match request {
                    Some(request) => self.take_requests(request),
                    None => break,
                },
                () = sleep_until(due) => self.order_if_due(),
                () = cancel.cancelled() => break,
            }
        }
        self.requests.close();
        while let Ok(request) = self.requests.try_recv() {
            self.take_requests(request);
        }
        while !self.in_flight.is_empty() {
            match self.written.recv().await {
                Some(written) => self.take_written(written?),
                None => break,
            }
        }
        self.wal.close();
        Ok(())
    }

    /// Puts all requests that wait into frames and hands those to the log.
    fn take_requests(&mut self, first: Request) {
        let mut frame = OpenFrame::default();
        let mut next = Some(first);
        while let Some(request) = next {
            self.take_request(request, &mut frame);
            next = self.requests.try_recv().ok();
        }
        self.write(frame);
    }

    fn take_request(&mut self, request: Request, frame: &mut OpenFrame) {
        match request {
            Request::Append(batch, reply) => {
                if frame.batch_bytes > 0 && frame.batch_bytes + batch.bytes.len() > FRAME_BATCH_BYTES {
                    self.write(std::mem::take(frame));
                }
                self.stage(batch, reply, frame);
            }
            Request::Propose(command, reply) => self.accept(*command, reply, frame),
            Request::Look(look) => look(&self.state),
            Request::Cut { with_checkpoint, reply } => {
                let _ = reply.send(self.cut(with_checkpoint));
            }
            Request::Release(up_to) => self.release(up_to),
        }
    }

    /// Puts a command that is not an append into the frame. Bookkeeping may use the room that others must leave: it is
    /// what frees space.
    fn accept(&mut self, command: Command, reply: Reply<Result<(), LaneError>>, frame: &mut OpenFrame) {
        let purpose = if command.is_bookkeeping() {
            Purpose::Bookkeeping
        } else {
            Purpose::Append
        };
        let encoded = command.encoded();
        match self.wal.reserve(encoded.len() as u64 + FRAME_OVERHEAD_BYTES, purpose) {
            Ok(()) => frame.add(command, &encoded, Answer::Propose(reply)),
            Err(refused) => {
                tracing::warn!("a command was refused: {refused}");
                let _ = reply.send(Err(LaneError::NoRoom));
            }
        }
    }

    /// Gives a batch its offsets and a place in the frame.
    fn stage(&mut self, produced: ProducedBatch, reply: Reply<Result<Appended, LaneError>>, frame: &mut OpenFrame) {
        let records = i64::from(produced.header.last_offset_delta) + 1;
        let stamp = match self
            .stage
            .take(&self.state, produced.topic, produced.partition, records)
        {
            Ok(stamp) => stamp,
            Err(refusal) => {
                let _ = reply.send(Err(refusal.into()));
                return;
            }
        };
        let length = produced.bytes.len();
        if self
            .wal
            .reserve(length as u64 + FRAME_OVERHEAD_BYTES, Purpose::Append)
            .is_err()
        {
            self.stage.give_back(produced.topic, produced.partition, records);
            self.metrics.refused_for_room.inc();
            let _ = reply.send(Err(LaneError::NoRoom));
            return;
        }
        let append_time = produced.log_append_time.then(now_ms);
        let append = Append {
            topic: produced.topic,
            partition: produced.partition,
            base_offset: stamp.base_offset,
            last_offset: stamp.base_offset + records - 1,
            max_timestamp: append_time.unwrap_or(produced.header.max_timestamp),
            position: frame.batch_bytes as u32,
            length: length as u32,
        };
        frame.add_batch(stamped(
            &produced.bytes,
            stamp.base_offset,
            stamp.leader_epoch,
            append_time,
        ));
        let command = Command::Append(append);
        frame.add(command.clone(), &command.encoded(), Answer::Append(append_time, reply));
    }

    fn write(&mut self, frame: OpenFrame) {
        if frame.commands.is_empty() {
            return;
        }
        let command_bytes = frame.encoded.len() as u64;
        let index = self.next_index;
        self.next_index += 1;
        self.wal.append(Frame {
            index,
            incarnation: self.settings.incarnation,
            epoch: u64::from(self.settings.incarnation.0),
            kind: 0,
            flags: 0,
            commands: Bytes::from(frame.encoded),
            batches: frame
                .batches
                .iter()
                .flat_map(|batch| [batch.head.clone(), batch.body.clone()])
                .collect(),
        });
        let weight = weigh(&frame.commands, command_bytes, frame.batch_bytes as u64);
        self.in_flight.push_back(InFlight {
            index,
            commands: frame.commands,
            answers: frame.answers,
            batches: frame.batches,
            weight,
            command_bytes,
        });
    }

    /// Applies what has become durable, publishes it, and answers.
    fn take_written(&mut self, written: Written) {
        self.metrics.fsync_seconds.observe(written.fsync.as_secs_f64());
        let mut catalog_changed = false;
        let mut woken: Vec<Arc<PartitionTail>> = Vec::new();
        let now = Instant::now();
        for place in written.places {
            let Some(frame) = self.in_flight.pop_front() else { break };
            debug_assert_eq!(frame.index, place.index, "the log writes frames in order");
            if self.unshipped.is_full_before(&frame.weight) {
                self.order_segment(self.state.applied, false);
            }
            self.unshipped.add(&frame.weight, now);
            self.checkpoint_command_bytes += frame.command_bytes;
            catalog_changed |= frame
                .commands
                .iter()
                .any(|command| !matches!(command, Command::Append(_)));
            self.apply(frame, &place, &mut woken);
        }
        self.shrink_memory();
        self.publish_progress(catalog_changed);
        woken.iter().for_each(|partition| partition.wake());
        self.order_if_due();
    }

    fn apply(&mut self, frame: InFlight, place: &FramePlace, woken: &mut Vec<Arc<PartitionTail>>) {
        let results = self.state.apply_frame(frame.index, &frame.commands);
        if frame
            .commands
            .iter()
            .any(|c| matches!(c, Command::CreateTopic(_) | Command::DeleteTopic(_)))
        {
            let table = self.topics.load().with_topics(self.state.topics.values());
            self.topics.store(Arc::new(table));
        }
        let mut batches = frame.batches.into_iter();
        for ((command, result), answer) in frame.commands.iter().zip(results).zip(frame.answers) {
            match (command, answer) {
                (Command::Append(append), Answer::Append(append_time, reply)) => {
                    self.stage.settle(append.topic, append.partition);
                    let bytes = batches.next();
                    let published = result.map_err(LaneError::Refused).map(|()| {
                        let log_start = bytes.and_then(|bytes| self.publish(append, place, bytes, woken));
                        Appended {
                            base_offset: append.base_offset,
                            log_append_time: append_time,
                            log_start: log_start.unwrap_or(0),
                        }
                    });
                    let _ = reply.send(published);
                }
                (_, Answer::Propose(reply)) => drop(reply.send(result.map_err(LaneError::Refused))),
                (_, Answer::Append(_, reply)) => drop(reply),
            }
        }
    }

    /// Lets others see an applied batch; returns the partition's log start if it (still) exists.
    fn publish(
        &mut self,
        append: &Append,
        place: &FramePlace,
        bytes: BatchBytes,
        woken: &mut Vec<Arc<PartitionTail>>,
    ) -> Option<Offset> {
        let topics = self.topics.load();
        let partition = topics.partition(append.topic, append.partition)?;
        self.in_memory_bytes += bytes.length();
        self.in_memory.push_back(InMemory {
            index: place.index,
            partition: partition.clone(),
            base_offset: append.base_offset,
            length: bytes.length(),
        });
        partition.push(tail_batch(append, place, Some(bytes)));
        if !woken.iter().any(|known| Arc::ptr_eq(known, partition)) {
            woken.push(partition.clone());
        }
        Some(partition.bounds().log_start)
    }

    fn shrink_memory(&mut self) {
        while self.in_memory_bytes > self.settings.tail_bytes_max {
            let Some(oldest) = self.in_memory.pop_front() else {
                break;
            };
            self.in_memory_bytes -= oldest.length;
            oldest.partition.forget_bytes(oldest.base_offset);
        }
        self.metrics.tail_bytes.set(self.in_memory_bytes as i64);
    }

    fn publish_progress(&mut self, catalog_changed: bool) {
        let shipped = self.state.shipped_index();
        while self.shipping.front().is_some_and(|range| range.last <= shipped) {
            self.shipping.pop_front();
        }
        let waiting = self
            .unshipped
            .oldest_append()
            .map(|since| now_ms() - since.elapsed().as_millis() as i64);
        let progress = Progress {
            applied: self.state.applied,
            shipped,
            catalog: if catalog_changed {
                self.state.applied
            } else {
                self.progress.borrow().catalog
            },
            unshipped_bytes: self.shipping.iter().map(|range| range.bytes).sum::<u64>() + self.unshipped.bytes(),
            unshipped_since: self.shipping.iter().find_map(|range| range.since).or(waiting),
        };
        self.progress.send_replace(progress);
    }

    fn order_if_due(&mut self) {
        if self.unshipped.is_due(Instant::now()) {
            self.order_segment(self.state.applied, false);
        }
    }

    /// Draws a border after everything applied, unless only bookkeeping lies before it.
    fn cut(&mut self, with_checkpoint: bool) -> LogIndex {
        if self.unshipped.is_worth_shipping() || (with_checkpoint && self.unshipped.bytes() > 0) {
            self.order_segment(self.state.applied, with_checkpoint);
        }
        self.unshipped.first() - 1
    }

    /// Hands the log up to `last` to the shipper, with the state if a checkpoint is due. A checkpoint is the state at
    /// exactly the border, so there is none where the border lies behind.
    fn order_segment(&mut self, last: LogIndex, with_checkpoint: bool) {
        let due = with_checkpoint
            || self.checkpoint_at.elapsed() >= CHECKPOINT_AGE
            || self.checkpoint_command_bytes >= CHECKPOINT_COMMAND_BYTES;
        let checkpoint = (due && last == self.state.applied).then(|| Box::new(self.state.clone()));
        if checkpoint.is_some() {
            self.checkpoint_at = Instant::now();
            self.checkpoint_command_bytes = 0;
        }
        let since = self
            .unshipped
            .oldest_append()
            .map(|since| now_ms() - since.elapsed().as_millis() as i64);
        self.shipping.push_back(Shipping {
            last,
            bytes: self.unshipped.bytes(),
            since,
        });
        let _ = self.ship.send(ShipOrder {
            first: self.unshipped.first(),
            last,
            checkpoint,
        });
        self.unshipped.cut(last);
    }

    fn release(&mut self, up_to: LogIndex) {
        for topic in self.topics.load().iter() {
            topic.partitions.iter().for_each(|partition| partition.release(up_to));
        }
        while self.in_memory.front().is_some_and(|batch| batch.index <= up_to) {
            self.in_memory_bytes -= self.in_memory.pop_front().map_or(0, |batch| batch.length);
        }
        self.shrink_memory();
        self.wal.recycle(up_to);
    }
}

impl OpenFrame {
    fn add(&mut self, command: Command, encoded: &[u8], answer: Answer) {
        self.encoded.extend_from_slice(encoded);
        self.commands.push(command);
        self.answers.push(answer);
    }

    fn add_batch(&mut self, batch: BatchBytes) {
        self.batch_bytes += batch.length();
        self.batches.push(batch);
    }
}

/// A batch with offset and epoch in its header. The records are shared with the request, not copied, unless the
/// broker's timestamp changes what the CRC covers.
fn stamped(bytes: &Bytes, base_offset: Offset, leader_epoch: i32, append_time: Option<Timestamp>) -> BatchBytes {
    match append_time {
        None => {
            let mut head = BytesMut::from(&bytes[..batch::HEADER_LENGTH]);
            batch::stamp(&mut head, base_offset, leader_epoch);
            BatchBytes {
                head: head.freeze(),
                body: bytes.slice(batch::HEADER_LENGTH..),
            }
        }
        Some(now) => {
            let mut whole = BytesMut::from(&bytes[..]);
            batch::stamp(&mut whole, base_offset, leader_epoch);
            batch::stamp_log_append_time(&mut whole, now);
            let body = whole.split_off(batch::HEADER_LENGTH).freeze();
            BatchBytes {
                head: whole.freeze(),
                body,
            }
        }
    }
}

/// What a frame of these commands means for shipping.
pub(super) fn weigh(commands: &[Command], command_bytes: u64, batch_bytes: u64) -> FrameWeight {
    FrameWeight {
        bytes: command_bytes + batch_bytes,
        appends: batch_bytes > 0,
        others: commands
            .iter()
            .any(|c| !c.is_bookkeeping() && !matches!(c, Command::Append(_))),
    }
}

/// An appended batch as readers of the tail see it.
pub(super) fn tail_batch(append: &Append, place: &FramePlace, bytes: Option<BatchBytes>) -> TailBatch {
    TailBatch {
        base_offset: append.base_offset,
        last_offset: append.last_offset,
        max_timestamp: append.max_timestamp,
        index: place.index,
        file: place.file,
        position: place.batches_position + u64::from(append.position),
        length: append.length,
        bytes,
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
