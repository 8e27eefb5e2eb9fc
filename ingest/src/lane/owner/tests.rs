//! The owner upon a log that commits when the test says so.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};

use chronik_format::batch::{self, BatchBuilder, Codec};
use chronik_service::telemetry::Metrics;
use futures::poll;

use super::*;
use crate::lane::replay::LaneReplay;
use crate::log::{Frame, FrameError, LogFrames, LogReader, SharedLogReader};
use crate::state::command::{CommitOffsets, CreateTopic, DeleteTopic, PartitionOffset};
use crate::state::group::CommittedOffset;
use crate::state::refusal::CommandRefusal;
use crate::state::topic_config::TopicConfig;

const INCARNATION: Incarnation = Incarnation(1);
const TOPIC: TopicId = TopicId(uuid::Uuid::from_u128(1));

/// A log whose test takes out what is appended, and tells what happens to it.
struct ToldLog {
    is_full: Arc<AtomicBool>,
    appended: mpsc::UnboundedSender<Frame>,
    events: mpsc::UnboundedReceiver<LogEvent>,
}

impl Log for ToldLog {
    type Error = Infallible;

    fn reserve(&mut self, _: u64, _: FramePurpose) -> Result<(), NoSpace> {
        if self.is_full.load(Ordering::Relaxed) { Err(NoSpace::Limit { max_bytes: 0 }) } else { Ok(()) }
    }

    fn append(&mut self, frame: Frame) {
        self.appended.send(frame).unwrap();
    }

    async fn event(&mut self) -> Option<Result<LogEvent, Infallible>> {
        self.events.recv().await.map(Ok)
    }

    fn purge(&mut self, _: LogIndex) {}

    fn reader(&self) -> SharedLogReader {
        Arc::new(Nothing)
    }

    fn close(self) {}
}

/// Frames of a log that can't be read.
struct Nothing;

impl LogReader for Nothing {
    fn frames(&self, _: LogIndex, _: Option<u64>, _: LogIndex) -> Box<dyn LogFrames> {
        Box::new(Self)
    }
}

impl LogFrames for Nothing {
    fn next_frame(&mut self) -> Option<Result<Frame, FrameError>> {
        None
    }

    fn go_on(&mut self) -> Result<bool, FrameError> {
        Ok(false)
    }
}

/// A running owner with one topic of one partition, and the log's side of it.
struct World {
    lane: Lane,
    is_full: Arc<AtomicBool>,
    metrics: LaneMetrics,
    appended: mpsc::UnboundedReceiver<Frame>,
    events: mpsc::UnboundedSender<LogEvent>,
    running: tokio::task::JoinHandle<Result<(), Infallible>>,
    stop: CancellationToken,
    _orders: mpsc::UnboundedReceiver<ShipOrder>,
}

impl World {
    fn new() -> Self {
        let create = CreateTopic { id: TOPIC, name: "t".into(), partitions: 1, config: TopicConfig::default() };
        let mut state = LaneState::new(INCARNATION);
        state.apply_frame(1, &[Command::CreateTopic(create)]);
        let (to_log, appended) = mpsc::unbounded_channel();
        let (events, from_log) = mpsc::unbounded_channel();
        let is_full = Arc::<AtomicBool>::default();
        let log = ToldLog { is_full: is_full.clone(), appended: to_log, events: from_log };
        let ship = ShipLimits { bytes: 1 << 20, age: Duration::from_secs(24 * 3600) };
        let settings = LaneSettings {
            incarnation: INCARNATION,
            ship,
            tail_bytes_max: 1 << 16,
            commit_refresh: Duration::from_secs(3600),
        };
        let (ship, orders) = mpsc::unbounded_channel();
        let replayed = LaneReplay::new(state).finish();
        let metrics = LaneMetrics::new(&Metrics::new());
        let (owner, lane) = LaneOwner::new(settings, replayed, log, ship, metrics.clone());
        let stop = CancellationToken::new();
        let running = tokio::spawn(owner.run(stop.clone()));
        Self { lane, is_full, metrics, appended, events, running, stop, _orders: orders }
    }

    /// Puts a batch of one record in line.
    fn put(&self) -> impl Future<Output = Result<AppendedBatch, LaneError>> + Unpin + use<> {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(1, None, Some(b"value"), &[]);
        let bytes = builder.finish();
        let header = batch::check_produced(&bytes, 1 << 20).unwrap();
        let batch = ProducedBatch { topic: TOPIC, partition: 0, header, bytes, log_append_time: false };
        Box::pin(self.lane.append(batch))
    }

    /// Puts a batch of one record in line, and waits until the log has its frame.
    async fn append(&mut self) -> (Frame, impl Future<Output = Result<AppendedBatch, LaneError>> + Unpin + use<>) {
        let answer = self.put();
        (self.appended.recv().await.unwrap(), answer)
    }

    /// Commits frames, in one go.
    fn commit(&self, frames: &[&Frame]) {
        let place = |frame: &&Frame| FramePlace { index: frame.index, file: 1, position: 0, length: frame.length() };
        let places = frames.iter().map(place).collect();
        self.events.send(LogEvent::Committed { places, fsync: Duration::ZERO }).unwrap();
    }

    fn end(&self) -> i64 {
        self.lane.topics().partition(TOPIC, 0).unwrap().bounds().end
    }
}

#[tokio::test]
async fn what_a_full_log_refuses_is_counted() {
    let world = World::new();
    world.is_full.store(true, Ordering::Relaxed);
    let committed = CommittedOffset { offset: 1, leader_epoch: -1, metadata: "".into(), at: 0 };
    let offsets = vec![PartitionOffset { topic: TOPIC, partition: 0, committed }];
    let commit = Command::CommitOffsets(CommitOffsets { group: "g".into(), offsets });
    for refused in 1..=2 {
        assert!(matches!(world.lane.propose(commit.clone()).await, Err(LaneError::NoSpace)));
        assert_eq!((world.metrics.refused_commits.get(), world.metrics.refused_for_room.get()), (refused, 0));
    }
    assert!(matches!(world.put().await, Err(LaneError::NoSpace)));
    assert_eq!((world.metrics.refused_commits.get(), world.metrics.refused_for_room.get()), (2, 1));
}

#[tokio::test]
async fn nothing_is_answered_or_can_be_read_before_its_frame_is_committed() {
    let mut world = World::new();
    let (first, mut answer_first) = world.append().await;
    let (second, mut answer_second) = world.append().await;
    let (third, mut answer_third) = world.append().await;
    assert_eq!([first.index, second.index, third.index], [2, 3, 4]);
    assert_eq!(world.lane.snapshot().await.unwrap().applied, 1);
    assert!(poll!(&mut answer_first).is_pending() && world.end() == 0);

    world.commit(&[&first]);
    assert_eq!(answer_first.await.unwrap().base_offset, 0);
    assert_eq!(world.lane.snapshot().await.unwrap().applied, 2);
    assert!(poll!(&mut answer_second).is_pending() && poll!(&mut answer_third).is_pending() && world.end() == 1);

    world.commit(&[&second, &third]);
    assert_eq!(answer_second.await.unwrap().base_offset, 1);
    assert_eq!(answer_third.await.unwrap().base_offset, 2);
    assert_eq!(world.end(), 3);
}

#[tokio::test]
async fn a_stop_waits_for_what_the_log_was_given_and_answers_it() {
    let mut world = World::new();
    let (frame, mut answer) = world.append().await;
    world.stop.cancel();
    assert!(poll!(&mut answer).is_pending() && !world.running.is_finished());
    world.commit(&[&frame]);
    assert_eq!(answer.await.unwrap().base_offset, 0);
    world.running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_log_that_ends_leaves_what_it_did_not_commit_unanswered_and_keeps_no_stop_waiting() {
    let mut world = World::new();
    let (_, answer) = world.append().await;
    world.stop.cancel();
    let World { events, running, .. } = world;
    drop(events);
    running.await.unwrap().unwrap();
    assert!(matches!(answer.await, Err(LaneError::Gone(_))));
}

#[tokio::test]
async fn each_command_of_a_frame_has_its_own_answer_and_a_topic_deleted_in_it_is_gone() {
    let mut world = World::new();
    let tail = world.lane.topics().partition(TOPIC, 0).unwrap().clone();
    let before = world.put();
    let lane = world.lane.clone();
    let mut deletion = Box::pin(lane.propose(Command::DeleteTopic(DeleteTopic { id: TOPIC, at: 0 })));
    assert!(poll!(&mut deletion).is_pending());
    let behind = world.put();
    let frame = world.appended.recv().await.unwrap();
    world.commit(&[&frame]);
    let appended = AppendedBatch { base_offset: 0, log_append_time: None, log_start: 0 };
    assert_eq!(before.await.unwrap(), appended);
    deletion.await.unwrap();
    assert!(matches!(behind.await, Err(LaneError::Refused(CommandRefusal::UnknownTopic))));
    assert!(tail.is_gone() && world.lane.topics().get(TOPIC).is_none());
}
