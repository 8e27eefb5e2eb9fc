//! The one task that owns the lane's state.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use chronik_format::ids::{Incarnation, LogIndex, PartitionId, TopicId};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::frame::{Duplicate, InFlight, InFlightAppend, InFlightCommand, OpenFrame};
use super::memory::TailMemory;
use super::replay::ReplayedLane;
use super::ship_policy::{ShipLimits, UnshippedLog};
use super::stage::{StagedAppends, Staging};
use super::stretch::FrameSpan;
use super::tail::{BatchBytes, PartitionTail, TailBatch, TopicTable};
use super::waiting::{ArrivalTime, WaitingRequests};
use super::{
    AppendedBatch, CheckpointState, Lane, LaneError, LaneProgress, LaneRequest, ProducedBatch, Reply, ShipOrder,
};
use crate::clock::{now_ms, sleep_until};
use crate::lane::presence::OwnerPresence;
use crate::log::{FramePlace, FramePurpose, Log, LogEvent, NoSpace};
use crate::metrics::LaneMetrics;
use crate::state::LaneState;
use crate::state::apply::{BatchPlace, LogStarts};
use crate::state::command::{Append, Command, DeleteRecords, FirstKept};
use crate::state::producer::ProducerStamp;
use crate::state::refusal::CommandRefusal;

/// Bytes of the log that a command uses besides its batch, the frame's header included, at most.
const OVERHEAD_BYTES: u64 = 128;
/// A checkpoint goes to the bucket at least this often while there is something new.
const CHECKPOINT_AGE: Duration = Duration::from_secs(5 * 60);
/// A checkpoint goes to the bucket after so many bytes of commands, so that replaying them stays short.
const CHECKPOINT_COMMAND_BYTES: u64 = 64 << 20;

/// What the owner gets at its start.
pub struct LaneSettings {
    /// The claim under which it writes.
    pub incarnation: Incarnation,
    /// When to ship.
    pub ship: ShipLimits,
    /// Memory for the batches that fetches find without reading, and for where the log has the others, bytes.
    pub tail_bytes_max: usize,
    /// An offset that is committed once more as it is, is written once more after so long: it is in use.
    pub commit_refresh: Duration,
}

/// The partitions that have grown in one round.
type Grown = HashMap<(TopicId, PartitionId), Arc<PartitionTail>>;

/// The owner's work; [`LaneOwner::run`] is its life.
pub struct LaneOwner<L> {
    incarnation: Incarnation,
    state: LaneState,
    stage: StagedAppends,
    commit_refresh: Duration,
    log: L,
    requests: mpsc::UnboundedReceiver<LaneRequest>,
    in_flight: VecDeque<InFlight>,
    waiting: WaitingRequests,
    next_index: LogIndex,
    topics: Arc<ArcSwap<TopicTable>>,
    memory: TailMemory,
    progress: watch::Sender<LaneProgress>,
    ship: mpsc::UnboundedSender<ShipOrder>,
    unshipped: UnshippedLog,
    checkpoint_turn: Arc<Semaphore>,
    checkpoint_at: Instant,
    checkpoint_command_bytes: u64,
    ended: CancellationToken,
    metrics: LaneMetrics,
}

impl<L: Log> LaneOwner<L> {
    /// An owner that goes on where the replay ended, and the handle to it. Segments are ordered through `ship`.
    pub fn new(
        settings: LaneSettings,
        replayed: ReplayedLane,
        log: L,
        ship: mpsc::UnboundedSender<ShipOrder>,
        metrics: LaneMetrics,
    ) -> (Self, Lane) {
        let state = replayed.state;
        let (requests, inbox) = mpsc::unbounded_channel();
        let topics = Arc::new(ArcSwap::from_pointee(replayed.topics));
        let begin = LaneProgress { applied: state.applied, catalog: state.applied, ..LaneProgress::default() };
        let (progress, progress_seen) = watch::channel(begin);
        let checkpoint_turn = Arc::new(Semaphore::new(1));
        let handle = Lane {
            requests,
            topics: topics.clone(),
            progress: progress_seen,
            checkpoint_turn: checkpoint_turn.clone(),
            log: log.reader(),
            presence: Arc::new(OwnerPresence::new(Duration::MAX, None)),
        };
        let now = Instant::now();
        let mut owner = Self {
            incarnation: settings.incarnation,
            unshipped: UnshippedLog::new(settings.ship, state.shipped_index() + 1),
            next_index: state.applied + 1,
            state,
            stage: StagedAppends::default(),
            commit_refresh: settings.commit_refresh,
            log,
            requests: inbox,
            in_flight: VecDeque::new(),
            waiting: WaitingRequests::default(),
            topics,
            memory: TailMemory::new(settings.tail_bytes_max, replayed.stretches),
            progress,
            ship,
            checkpoint_turn,
            checkpoint_at: now,
            checkpoint_command_bytes: 0,
            ended: CancellationToken::new(),
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

    /// Once cancelled, it ends at once and answers nothing any more: the bucket is another owner's, or the process
    /// ends.
    pub fn until(self, ended: CancellationToken) -> Self {
        Self { ended, ..self }
    }

    /// Serves until cancelled, then until everything in flight is applied; or ends at once if the log fails or the
    /// bucket is lost.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), L::Error> {
        loop {
            let due = self.unshipped.due_at();
            tokio::select! {
                biased;
                () = self.ended.cancelled() => return Ok(()),
                Some(event) = self.log.event() => self.take_event(event?),
                () = sleep_until(self.waiting.until()) => self.refuse_late(),
                request = self.requests.recv() => match request {
                    Some(request) => self.take_requests(request),
                    None => break,
                },
                () = sleep_until(due.map(Into::into)) => self.order_if_due(),
                () = cancel.cancelled() => break,
            }
        }
        self.requests.close();
        while let Ok(request) = self.requests.try_recv() {
            self.take_requests(request);
        }
        while !self.in_flight.is_empty() {
            tokio::select! {
                biased;
                () = self.ended.cancelled() => return Ok(()),
                event = self.log.event() => match event {
                    Some(event) => self.take_event(event?),
                    None => break,
                },
            }
        }
        self.log.close();
        Ok(())
    }

    fn take_event(&mut self, event: LogEvent) {
        match event {
            LogEvent::Committed { places, fsync } => self.take_committed(places, fsync),
            LogEvent::Space(decided) => self.take_decided(decided),
        }
    }

    /// Puts all requests that wait into frames and hands those to the log.
    fn take_requests(&mut self, first: LaneRequest) {
        let _turn = self.metrics.turn_seconds.start_timer();
        let (mut frame, now) = (OpenFrame::default(), ArrivalTime::now());
        let mut next = Some(first);
        while let Some(request) = next {
            self.take_request(request, now, &mut frame);
            next = self.requests.try_recv().ok();
        }
        self.write(frame);
    }

    /// Takes what found no space once more, in its order; or refuses it, as there will be none.
    fn take_decided(&mut self, decided: Result<(), NoSpace>) {
        let mut frame = OpenFrame::default();
        for (since, request) in self.waiting.take() {
            match &decided {
                Ok(()) => self.take_request(request, since, &mut frame),
                Err(refused) => self.refuse(request, refused),
            }
        }
        self.write(frame);
    }

    /// Refuses what has waited for space for as long as it may.
    fn refuse_late(&mut self) {
        while let Some(request) = self.waiting.pop_late() {
            self.refuse(request, &NoSpace::Late);
        }
    }

    fn refuse(&self, request: LaneRequest, why: &NoSpace) {
        match request {
            LaneRequest::Append(_, reply) => {
                self.metrics.refused_for_room.inc();
                let _ = reply.send(Err(why.into()));
            }
            LaneRequest::DeleteRecords(_, reply) => {
                self.metrics.refused_deletions.inc();
                let _ = reply.send(Err(why.into()));
            }
            LaneRequest::Propose(command, reply) if matches!(*command, Command::CommitOffsets(_)) => {
                self.metrics.refused_commits.inc();
                let _ = reply.send(Err(why.into()));
            }
            LaneRequest::Propose(_, reply) => {
                tracing::warn!("a command was refused: {why}");
                let _ = reply.send(Err(why.into()));
            }
            // Nothing else takes space.
            LaneRequest::Snapshot(_) | LaneRequest::Cut { .. } | LaneRequest::Release(_) => {}
        }
    }

    /// Takes a request that arrived at `since`.
    fn take_request(&mut self, request: LaneRequest, since: ArrivalTime, frame: &mut OpenFrame) {
        match request {
            LaneRequest::Append(batch, reply) => {
                if !frame.has_room_for(batch.bytes.len()) {
                    self.write(std::mem::take(frame));
                }
                self.stage(batch, reply, since, frame);
            }
            LaneRequest::DeleteRecords(delete, reply) => self.delete_records(delete, reply, since, frame),
            LaneRequest::Propose(command, reply) => {
                let encoded = command.encoded();
                if !frame.has_room_for(encoded.len()) {
                    self.write(std::mem::take(frame));
                }
                self.accept(command, &encoded, reply, since, frame);
            }
            LaneRequest::Snapshot(reply) => drop(reply.send(self.state.clone())),
            LaneRequest::Cut { with_checkpoint, reply } => {
                let _ = reply.send(self.cut(with_checkpoint));
            }
            LaneRequest::Release(up_to) => self.release(up_to),
        }
    }

    /// Puts a deletion of records into the frame, unless it would change nothing: some clients ask for the same again
    /// and again, and idle ones must not make segments for ever.
    fn delete_records(
        &mut self,
        delete: DeleteRecords,
        reply: Reply<Result<LogStarts, LaneError>>,
        since: ArrivalTime,
        frame: &mut OpenFrame,
    ) {
        if let Some(log_starts) = self.state.unchanged_by(&delete) {
            let _ = reply.send(Ok(log_starts));
            return;
        }
        let encoded = Command::DeleteRecords(delete.clone()).encoded();
        if !frame.has_room_for(encoded.len()) {
            self.write(std::mem::take(frame));
        }
        match self.reserve(encoded.len(), FramePurpose::Append) {
            Ok(()) => frame.delete_records(delete, &encoded, reply),
            Err(refused) => self.put_off(LaneRequest::DeleteRecords(delete, reply), since, &refused),
        }
    }

    /// Puts a command that answers with nothing into the frame. Bookkeeping may use the space that others must leave:
    /// it is what frees space.
    fn accept(
        &mut self,
        command: Box<Command>,
        encoded: &[u8],
        reply: Reply<Result<(), LaneError>>,
        since: ArrivalTime,
        frame: &mut OpenFrame,
    ) {
        if let Command::CommitOffsets(commit) = &*command
            && self.waiting.is_empty()
            && self.stage.is_committed(&self.state, commit, self.commit_refresh)
        {
            let _ = reply.send(Ok(()));
            return;
        }
        let purpose = if command.is_bookkeeping() { FramePurpose::Bookkeeping } else { FramePurpose::Append };
        match self.reserve(encoded.len(), purpose) {
            Ok(()) => {
                command.commits_for().into_iter().for_each(|group| self.stage.take_group(group));
                frame.propose(*command, encoded, reply);
            }
            Err(refused) => self.put_off(LaneRequest::Propose(command, reply), since, &refused),
        }
    }

    /// Room for a command and its batch, unless others wait for some already: what can wait keeps its order.
    fn reserve(&mut self, bytes: usize, purpose: FramePurpose) -> Result<(), NoSpace> {
        let bytes = bytes as u64 + OVERHEAD_BYTES;
        if purpose == FramePurpose::Append && !self.waiting.is_empty() {
            return Err(NoSpace::Allocating { bytes });
        }
        self.log.reserve(bytes, purpose)
    }

    /// Has a request wait if there will be space for it.
    fn put_off(&mut self, request: LaneRequest, since: ArrivalTime, refused: &NoSpace) {
        match refused {
            NoSpace::Allocating { .. } => self.waiting.push(since, request),
            _ => self.refuse(request, refused),
        }
    }

    /// Gives a batch its offsets and a place in the frame.
    fn stage(
        &mut self,
        produced: ProducedBatch,
        reply: Reply<Result<AppendedBatch, LaneError>>,
        since: ArrivalTime,
        frame: &mut OpenFrame,
    ) {
        if !self.waiting.is_empty() {
            // What is numbered must not overtake.
            return self.waiting.push(since, LaneRequest::Append(produced, reply));
        }
        let (topic, partition, at) = (produced.topic, produced.partition, now_ms());
        let records = i64::from(produced.header.last_offset_delta) + 1;
        let producer = ProducerStamp::of(&produced.header, at);
        match self.stage.place(&self.state, topic, partition, records, producer.as_ref()) {
            Err(refusal) => drop(reply.send(Err(refusal.into()))),
            Ok(Staging::Duplicate(before)) => {
                let log_append_time = produced.log_append_time.then_some(before.at);
                let before = AppendedBatch { base_offset: before.base_offset, log_append_time, log_start: 0 };
                self.answer_again(Duplicate { topic, partition, before, reply }, frame);
            }
            Ok(Staging::Append(stamp)) => match self.reserve(produced.bytes.len(), FramePurpose::Append) {
                Err(refused) => self.put_off(LaneRequest::Append(produced, reply), since, &refused),
                Ok(()) => {
                    self.stage.take(&self.state, topic, partition, records, producer.as_ref());
                    frame.append(&produced, stamp, producer, produced.log_append_time.then_some(at), reply);
                }
            },
        }
    }

    /// Answers a batch that was sent again once what it repeats is durable.
    fn answer_again(&mut self, duplicate: Duplicate, frame: &mut OpenFrame) {
        if !frame.is_empty() {
            frame.duplicates.push(duplicate);
        } else if let Some(last) = self.in_flight.back_mut() {
            last.duplicates.push(duplicate);
        } else {
            self.confirm(duplicate);
        }
    }

    /// Tells where a batch lies that was appended before; all that was in flight when it was sent again is applied.
    fn confirm(&self, Duplicate { topic, partition, before, reply }: Duplicate) {
        let topic = self.state.topics.get(&topic);
        let outcome = match topic.and_then(|topic| topic.partition(partition)) {
            Some(partition) => Ok(AppendedBatch { log_start: partition.log_start, ..before }),
            None => Err(CommandRefusal::UnknownTopic.into()),
        };
        let _ = reply.send(outcome);
    }

    fn write(&mut self, frame: OpenFrame) {
        if frame.is_empty() {
            return;
        }
        let (frame, in_flight) = frame.close(self.next_index, self.incarnation);
        self.next_index += 1;
        self.log.append(frame);
        self.in_flight.push_back(in_flight);
    }

    /// Applies what was committed, publishes it, and answers.
    fn take_committed(&mut self, places: Vec<FramePlace>, fsync: Duration) {
        self.metrics.fsync_seconds.observe(fsync.as_secs_f64());
        let _apply = self.metrics.apply_seconds.start_timer();
        let mut catalog_changed = false;
        let mut grown = Grown::new();
        let now = Instant::now();
        for place in places {
            let Some(frame) = self.in_flight.pop_front() else { break };
            debug_assert_eq!(frame.index, place.index, "the log commits frames in order");
            if self.unshipped.is_full_before(&frame.weight) {
                self.order_segment(self.state.applied, false);
            }
            self.unshipped.add(&frame.weight, now);
            self.checkpoint_command_bytes += frame.command_bytes;
            catalog_changed |= frame.changes_catalog();
            let span = self.memory.stretches.next_frame(&place);
            self.apply(frame, span, &mut grown);
        }
        self.shrink();
        self.publish_progress(catalog_changed);
        grown.values().for_each(|partition| partition.wake());
        self.order_if_due();
    }

    /// Applies each command, lets readers see what it did, and answers.
    fn apply(&mut self, frame: InFlight, span: FrameSpan, grown: &mut Grown) {
        self.state.begin_frame(frame.index);
        for command in frame.commands {
            match command {
                InFlightCommand::Append(append) => self.apply_append(append, span, grown),
                InFlightCommand::DeleteRecords(delete, reply) => {
                    let log_starts = self.state.delete_records(&delete);
                    self.publish_log_starts(&delete);
                    let _ = reply.send(log_starts.map_err(LaneError::Refused));
                }
                InFlightCommand::Propose(command, reply) => {
                    command.commits_for().into_iter().for_each(|group| self.stage.settle_group(group));
                    let applied = self.state.apply(&command);
                    self.publish_topics(&command);
                    let _ = reply.send(applied.map_err(LaneError::Refused));
                }
            }
        }
        frame.duplicates.into_iter().for_each(|duplicate| self.confirm(duplicate));
    }

    fn apply_append(&mut self, in_flight: InFlightAppend, span: FrameSpan, grown: &mut Grown) {
        let InFlightAppend { append, bytes, log_append_time, reply } = in_flight;
        self.stage.settle(append.topic, append.partition);
        let appended = self.state.append(&append).map_err(LaneError::Refused);
        let appended = appended.map(|BatchPlace { base_offset, log_start }| {
            self.hold(&append, span, bytes, grown);
            AppendedBatch { base_offset, log_append_time, log_start }
        });
        let _ = reply.send(appended);
    }

    /// Lets readers see which topics live, and how they are, if a command that was applied has changed that.
    fn publish_topics(&self, command: &Command) {
        match command {
            Command::CreateTopic(create) => self.publish_topic(create.id),
            Command::AlterTopicConfig(alter) => self.publish_topic(alter.topic),
            Command::AddPartitions(add) => self.publish_topic(add.topic),
            Command::DeleteRecords(delete) => self.publish_log_starts(delete),
            Command::DeleteTopic(delete) => {
                let mut table = TopicTable::clone(&self.topics.load());
                if let Some(gone) = table.remove(delete.id) {
                    self.topics.store(Arc::new(table));
                    gone.retire();
                }
            }
            _ => {}
        }
    }

    fn publish_topic(&self, id: TopicId) {
        if let Some(topic) = self.state.topics.get(&id) {
            let mut table = TopicTable::clone(&self.topics.load());
            table.put(topic);
            self.topics.store(Arc::new(table));
        }
    }

    /// Lets readers see where the logs of these partitions start.
    fn publish_log_starts(&self, delete: &DeleteRecords) {
        let topics = self.topics.load();
        let known = topics.get(delete.topic).zip(self.state.topics.get(&delete.topic));
        for (view, topic) in known.into_iter() {
            for FirstKept { partition, .. } in &delete.partitions {
                let known = view.partition(*partition).zip(topic.partition(*partition));
                known.into_iter().for_each(|(tail, partition)| tail.begin_at(partition));
            }
        }
    }

    /// Has the tail hold an applied batch.
    fn hold(&mut self, append: &Append, span: FrameSpan, bytes: BatchBytes, grown: &mut Grown) {
        if let Some(partition) = self.topics.load().partition(append.topic, append.partition) {
            self.memory.hold(partition, TailBatch::new(append, span, bytes));
            grown.entry((append.topic, append.partition)).or_insert_with(|| partition.clone());
        }
    }

    fn publish_progress(&mut self, catalog_changed: bool) {
        let shipped = self.state.shipped_index();
        self.unshipped.registered(shipped);
        let since = |oldest: Instant| now_ms() - oldest.elapsed().as_millis() as i64;
        let catalog = if catalog_changed { self.state.applied } else { self.progress.borrow().catalog };
        self.progress.send_replace(LaneProgress {
            applied: self.state.applied,
            shipped,
            catalog,
            unshipped_bytes: self.unshipped.bytes(),
            unshipped_since: self.unshipped.oldest().map(since),
        });
    }

    fn order_if_due(&mut self) {
        if self.unshipped.is_due(Instant::now()) {
            self.order_segment(self.state.applied, false);
        }
    }

    /// Draws a border after everything applied, unless only bookkeeping lies before it.
    fn cut(&mut self, with_checkpoint: bool) -> LogIndex {
        if self.unshipped.is_worth_shipping() || (with_checkpoint && !self.unshipped.is_empty()) {
            self.order_segment(self.state.applied, with_checkpoint);
        }
        self.unshipped.first() - 1
    }

    /// Hands the log up to `last` to the shipper, with the state if a checkpoint is due. A checkpoint is the state at
    /// exactly the border, so there is none where the border lies behind; and none while the last one is on its way.
    fn order_segment(&mut self, last: LogIndex, with_checkpoint: bool) {
        let due = with_checkpoint
            || self.checkpoint_at.elapsed() >= CHECKPOINT_AGE
            || self.checkpoint_command_bytes >= CHECKPOINT_COMMAND_BYTES;
        let checkpoint = (due && last == self.state.applied).then(|| self.checkpoint()).flatten();
        if checkpoint.is_some() {
            self.checkpoint_at = Instant::now();
            self.checkpoint_command_bytes = 0;
        }
        let _ = self.ship.send(ShipOrder { first: self.unshipped.first(), last, checkpoint });
        self.unshipped.cut(last);
    }

    fn checkpoint(&self) -> Option<CheckpointState> {
        let turn = self.checkpoint_turn.clone().try_acquire_owned().ok()?;
        Some(CheckpointState { state: self.state.clone(), _turn: turn })
    }

    /// Keeps the tails within their memory.
    fn shrink(&mut self) {
        let taken = self.memory.shrink(&self.topics.load());
        self.metrics.tail_bytes.set(taken as i64);
    }

    /// What `latest` names as shipped is no longer served from here.
    fn release(&mut self, up_to: LogIndex) {
        let mut stretches = 0;
        for topic in self.topics.load().iter() {
            let known = self.state.topics.get(&topic.id);
            for (number, tail) in topic.partitions.iter().enumerate() {
                let partition = known.and_then(|topic| topic.partitions.get(number));
                let released_to = partition.map_or(0, |partition| partition.shipped_by(up_to));
                stretches += tail.release(up_to, released_to);
            }
        }
        self.memory.release(up_to, stretches);
        self.shrink();
        self.log.purge(up_to);
    }
}

impl From<&NoSpace> for LaneError {
    fn from(refused: &NoSpace) -> Self {
        match *refused {
            NoSpace::Frame { bytes, max } => Self::TooLarge { bytes, max },
            NoSpace::Limit { .. }
            | NoSpace::Allocating { .. }
            | NoSpace::Late
            | NoSpace::Disk { .. }
            | NoSpace::Queue { .. }
            | NoSpace::Closed => Self::NoSpace,
        }
    }
}

#[cfg(test)]
mod tests;
