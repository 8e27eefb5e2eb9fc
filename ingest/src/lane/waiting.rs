//! What waits until the log has room.

use std::collections::VecDeque;
use std::time::Duration;

use super::LaneRequest;

/// How long a request waits before it is refused, as it is with a full disk. Producers send again what has no answer
/// after 30 s by default.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// When a request arrived.
pub type ArrivalTime = tokio::time::Instant;

/// Requests that found no space for now, in the order of their arrival. Like those in the inbox, they are counted by
/// the connections' limit of bytes in flight.
#[derive(Default)]
pub struct WaitingRequests(VecDeque<(ArrivalTime, LaneRequest)>);

impl WaitingRequests {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a request that arrived at `since`.
    pub fn push(&mut self, since: ArrivalTime, request: LaneRequest) {
        self.0.push_back((since, request));
    }

    /// When the oldest has waited for as long as it may.
    pub fn until(&self) -> Option<ArrivalTime> {
        self.0.front().map(|(since, _)| *since + WAIT_MAX)
    }

    /// Takes the oldest out if that is over.
    pub fn pop_late(&mut self) -> Option<LaneRequest> {
        self.until().filter(|until| *until <= ArrivalTime::now())?;
        self.0.pop_front().map(|(_, request)| request)
    }

    /// Takes all out, each with its arrival.
    pub fn take(&mut self) -> VecDeque<(ArrivalTime, LaneRequest)> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::pin::Pin;
    use std::sync::Arc;
    use std::time::Duration;

    use chronik_format::batch::{self, BatchBuilder, Codec};
    use chronik_format::ids::{Incarnation, LaneId, TopicId};
    use chronik_service::telemetry::Metrics;
    use futures::poll;
    use tokio::sync::mpsc;
    use tokio_util::sync::{CancellationToken, DropGuard};

    use super::super::owner::{LaneOwner, LaneSettings};
    use super::super::replay::LaneReplay;
    use super::super::ship_policy::ShipLimits;
    use super::super::{AppendedBatch, Lane, LaneError, ProducedBatch};
    use crate::disk::memory::MemoryDisk;
    use crate::metrics::LaneMetrics;
    use crate::state::LaneState;
    use crate::state::command::{
        Command, CommitOffsets, CreateTopic, DeleteRecords, FirstKept, ForgetTombstones, PartitionOffset,
    };
    use crate::state::group::CommittedOffset;
    use crate::state::topic_config::TopicConfig;
    use crate::wal::{self, DurableFloor, WalOptions};

    const INCARNATION: Incarnation = Incarnation(1);
    const TOPIC: TopicId = TopicId(uuid::Uuid::from_u128(1));
    const FILE_BYTES: u64 = 16 << 10;
    /// More than a file of the log has space for.
    const LARGE: usize = 40_000;

    type Appending = Pin<Box<dyn Future<Output = Result<AppendedBatch, LaneError>>>>;

    /// A lane over a disk in memory, with one topic.
    struct World {
        disk: MemoryDisk,
        lane: Lane,
        metrics: LaneMetrics,
        _orders: mpsc::UnboundedReceiver<super::super::ShipOrder>,
        _stop: DropGuard,
    }

    impl World {
        async fn new() -> Self {
            let disk = MemoryDisk::default();
            let options =
                WalOptions { file_bytes: FILE_BYTES, ..WalOptions::new("/wal", "/wal.mark", LaneId(0), INCARNATION) };
            wal::create(&disk, &options, 0).unwrap();
            let opened =
                wal::open(Arc::new(disk.clone()), options, DurableFloor::default(), &mut |_, _| Ok(())).unwrap();
            let ship = ShipLimits { bytes: 1 << 20, age: Duration::from_secs(24 * 3600) };
            let settings = LaneSettings {
                incarnation: INCARNATION,
                ship,
                tail_bytes_max: 1 << 16,
                commit_refresh: Duration::from_secs(3600),
            };
            let (ship, orders) = mpsc::unbounded_channel();
            let replayed = LaneReplay::new(LaneState::new(INCARNATION)).finish();
            let metrics = LaneMetrics::new(&Metrics::new());
            let (owner, lane) = LaneOwner::new(settings, replayed, opened.start().unwrap(), ship, metrics.clone());
            let stop = CancellationToken::new();
            tokio::spawn(owner.run(stop.clone()));
            let config = TopicConfig::default();
            let create = CreateTopic { id: TOPIC, name: "t".into(), partitions: 1, config };
            lane.propose(Command::CreateTopic(create)).await.unwrap();
            Self { disk, lane, metrics, _orders: orders, _stop: stop.drop_guard() }
        }

        /// Puts a batch of one record with so many bytes in line.
        fn append(&self, value_bytes: usize) -> Appending {
            let mut builder = BatchBuilder::new(Codec::None);
            builder.push(1, None, Some(&vec![7; value_bytes]), &[]);
            let bytes = builder.finish();
            let header = batch::check_produced(&bytes, 1 << 20).unwrap();
            let produced = ProducedBatch { topic: TOPIC, partition: 0, header, bytes, log_append_time: false };
            Box::pin(self.lane.append(produced))
        }

        async fn offset(&self, value_bytes: usize) -> i64 {
            self.append(value_bytes).await.unwrap().base_offset
        }

        /// When this returns, all that was in line before it and found space is answered.
        async fn pass_bookkeeping(&self) {
            self.lane.propose(Command::ForgetTombstones(ForgetTombstones { objects: Vec::new() })).await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_lane_goes_on_while_a_file_is_allocated_and_takes_nothing_new_until_it_is() {
        let world = World::new().await;
        assert_eq!(world.offset(10).await, 0);
        world.disk.hold_allocations(true);
        let mut large = world.append(LARGE);
        let mut small = world.append(10);
        let mut another = world.append(LARGE);
        assert_eq!(world.lane.snapshot().await.unwrap().applied, 2);
        world.pass_bookkeeping().await;
        for waiting in [&mut large, &mut small, &mut another] {
            assert!(poll!(waiting).is_pending());
        }
        world.lane.release(1);
        assert_eq!(world.lane.topics().partition(TOPIC, 0).unwrap().bounds().end, 1);
        world.disk.hold_allocations(false);
        for (offset, waiting) in (1..).zip([large, small, another]) {
            assert_eq!(waiting.await.unwrap().base_offset, offset, "in the order of their arrival");
        }
    }

    #[tokio::test]
    async fn a_disk_without_room_is_asked_again_by_whatever_comes_next() {
        let world = World::new().await;
        assert_eq!(world.offset(10).await, 0);
        world.disk.set_capacity(0);
        for _ in 0..3 {
            assert!(matches!(world.append(LARGE).await, Err(LaneError::NoSpace)));
        }
        world.pass_bookkeeping().await;
        world.disk.set_capacity(1 << 20);
        assert_eq!(world.offset(LARGE).await, 1);
    }

    #[tokio::test]
    async fn what_waits_too_long_is_refused_and_the_next_one_waits_anew() {
        let world = World::new().await;
        world.disk.hold_allocations(true);
        let large = world.append(LARGE);
        world.pass_bookkeeping().await;
        tokio::time::pause();
        assert!(matches!(large.await, Err(LaneError::NoSpace)));
        tokio::time::resume();
        let mut large = world.append(LARGE);
        world.pass_bookkeeping().await;
        assert!(poll!(&mut large).is_pending());
        world.disk.hold_allocations(false);
        assert_eq!(large.await.unwrap().base_offset, 0);
    }

    #[tokio::test]
    async fn what_is_refused_is_counted_by_its_kind() {
        let world = World::new().await;
        assert_eq!(world.offset(10).await, 0);
        world.disk.hold_allocations(true);
        let large = world.append(LARGE);
        let first_kept = FirstKept { partition: 0, offset: Some(1) };
        let deletion = world.lane.delete_records(DeleteRecords { topic: TOPIC, partitions: vec![first_kept], at: 1 });
        let committed = CommittedOffset { offset: 1, leader_epoch: -1, metadata: "".into(), at: 1 };
        let offset = PartitionOffset { topic: TOPIC, partition: 0, committed };
        let commit = CommitOffsets { group: "g".into(), offsets: vec![offset] };
        let commit = world.lane.propose(Command::CommitOffsets(commit));
        world.pass_bookkeeping().await;
        tokio::time::pause();
        assert!(matches!(large.await, Err(LaneError::NoSpace)));
        assert!(matches!(deletion.await, Err(LaneError::NoSpace)));
        assert!(matches!(commit.await, Err(LaneError::NoSpace)));
        let LaneMetrics { refused_for_room, refused_commits, refused_deletions, .. } = world.metrics;
        assert_eq!([refused_for_room, refused_commits, refused_deletions].map(|counter| counter.get()), [1, 1, 1]);
    }
}
