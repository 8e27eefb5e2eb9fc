//! The broker over a bucket that fails, with kills and recoveries in between: what was acknowledged comes back, byte
//! for byte and without a gap.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod continuity;
mod data_dir;
mod ownership;
mod recovery;

use std::time::Duration;

use bytes::Bytes;
use chronik_format::batch::{BatchBuilder, BatchHeader, Codec};
use chronik_format::ids::{Offset, TopicId};
use chronik_format::names::SegmentName;
use chronik_peers::cold::BucketReader;
use chronik_service::setting::{ByteSize, Period};
use chronik_store::faulty::{FaultyStore, StoreFault, StoreOperation};
use chronik_store::queue::EmbeddedQueue;
use chronik_store::{Store, memory};
use clap::Parser;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::*;
use crate::lane::{AppendedBatch, LaneError, ProducedBatch, ShipOrder};
use crate::metrics::ShipMetrics;
use crate::ownership::OwnershipTimes;
use crate::publish::segment_lists::SegmentListLimits;
use crate::publish::segments::SegmentShipper;
use crate::state::command::{Command, CreateTopic};
use crate::state::topic_config::TopicConfig;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    settings: IngestSettings,
}

/// A start waits for no earlier owner: a broker that was killed counts as gone at once.
const HASTY: OwnershipTimes = OwnershipTimes {
    beat: Duration::from_millis(20),
    check: Duration::from_millis(20),
    quiet: Duration::ZERO,
    look: Duration::from_millis(10),
    notice: Duration::from_millis(200),
    away: Duration::from_secs(60),
};

/// A bucket, a data directory, and what was acknowledged.
struct World {
    bucket: Arc<FaultyStore>,
    data_dir: tempfile::TempDir,
    accept_loss: bool,
    take_over: bool,
    strict_lease: bool,
    rhythm: OwnershipTimes,
    segment_lists: SegmentListLimits,
    acknowledged: Vec<(Offset, Bytes)>,
}

/// A broker on them.
struct Running {
    ingest: RunningBroker,
    reader: RecordReader,
    topic: TopicId,
}

impl World {
    fn new() -> Self {
        Self::on(Arc::new(FaultyStore::new(memory())))
    }

    /// A machine of its own on a bucket that others use too.
    fn on(bucket: Arc<FaultyStore>) -> Self {
        Self {
            bucket,
            data_dir: tempfile::tempdir().unwrap(),
            accept_loss: false,
            take_over: false,
            strict_lease: false,
            rhythm: HASTY,
            segment_lists: SegmentListLimits::default(),
            acknowledged: Vec::new(),
        }
    }

    async fn try_start(&self) -> Result<RunningBroker, IngestError> {
        let Line { mut settings } = Line::parse_from(["test", "--kafka-port", "0", "--wal-rotation-size", "64KiB"]);
        settings.data_dir = self.data_dir.path().to_owned();
        settings.ship_max_age = Period(Duration::from_secs(3600));
        settings.ship_max_bytes = ByteSize(16 << 10);
        settings.accept_loss = self.accept_loss;
        settings.take_over = self.take_over;
        settings.strict_lease = self.strict_lease;
        settings.rhythm = self.rhythm;
        settings.segment_lists = self.segment_lists;
        let store: SharedStore = self.bucket.clone();
        let catalog = Arc::new(CatalogReader::new(store.clone(), LANE, 1 << 20));
        RunningBroker::start(IngestParts {
            settings,
            store: store.clone(),
            queue: Arc::new(EmbeddedQueue::new(1 << 20)),
            cold: Arc::new(BucketReader::new(store, catalog.clone(), 1 << 20)),
            catalog,
            tail_bytes_max: 4 << 10,
            metrics: Metrics::new(),
        })
        .await
    }

    async fn start(&self) -> Running {
        let ingest = self.try_start().await.unwrap();
        let store: SharedStore = self.bucket.clone();
        let catalog = Arc::new(CatalogReader::new(store.clone(), LANE, 1 << 20));
        let cold = Arc::new(BucketReader::new(store, catalog, 1 << 20));
        let reader = RecordReader::new(ingest.lane.clone(), cold, FetchMetrics::new(&Metrics::new()));
        if ingest.lane.topics().named("t").is_none() {
            let id = TopicId(Uuid::now_v7());
            let config = TopicConfig::default();
            let create = CreateTopic { id, name: "t".into(), partitions: 1, config };
            ingest.lane.propose(Command::CreateTopic(create)).await.unwrap();
        }
        let topic = ingest.lane.topics().named("t").unwrap().id;
        Running { ingest, reader, topic }
    }

    /// Has batches of about 1 KiB acknowledged.
    async fn produce(&mut self, running: &Running, batches: usize) {
        for _ in 0..batches {
            let bytes = batch(self.acknowledged.len());
            let appended = append(&running.ingest.lane, running.topic, &bytes).await.unwrap();
            self.acknowledged.push((appended.base_offset, bytes.slice(16..)));
        }
    }

    /// Everything acknowledged can be read, as it was, and nothing else.
    async fn check(&self, running: &Running) {
        assert_eq!(running.read_all().await, self.acknowledged);
    }

    /// The machine is lost: nothing but the bucket remains.
    fn lose_data_dir(&mut self) {
        self.data_dir = tempfile::tempdir().unwrap();
    }

    async fn segments(&self) -> Vec<String> {
        let prefix = SegmentName::prefix(LANE);
        self.bucket.list(&prefix).await.unwrap().into_iter().map(|object| object.key).collect()
    }
}

/// A batch of one record of about 1 KiB.
fn batch(number: usize) -> Bytes {
    let value = format!("{number:0>1000}");
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(1, None, Some(value.as_bytes()), &[]);
    builder.finish()
}

async fn append(lane: &Lane, topic: TopicId, bytes: &Bytes) -> Result<AppendedBatch, LaneError> {
    let produced = ProducedBatch {
        topic,
        partition: 0,
        header: BatchHeader::parse(bytes).unwrap(),
        bytes: bytes.clone(),
        log_append_time: false,
    };
    lane.append(produced).await
}

impl Running {
    async fn read_all(&self) -> Vec<(Offset, Bytes)> {
        let topic = self.ingest.lane.topics().get(self.topic).unwrap().clone();
        let end = topic.partitions[0].bounds().end;
        let mut batches = Vec::new();
        let mut next = 0;
        while next < end {
            for batch in self.reader.read(&topic, 0, next, 3000).await.unwrap() {
                let whole = batch.contiguous();
                let header = chronik_format::batch::verify(&whole).unwrap();
                assert_eq!(header.base_offset, next, "offsets go on without a gap");
                next = header.last_offset() + 1;
                batches.push((header.base_offset, whole.slice(16..)));
            }
        }
        batches
    }

    async fn ship(&self) {
        let border = self.ingest.lane.cut(false).await.unwrap();
        self.ingest.lane.shipped(border).await.unwrap();
    }

    /// Beside the broker's own one.
    fn shipper(&self) -> SegmentShipper {
        let RunningBroker { lane, store, ownership, .. } = &self.ingest;
        SegmentShipper {
            origin: ownership.origin(LANE),
            lane: lane.clone(),
            store: store.clone(),
            ownership: ownership.clone(),
            checkpoints: watch::channel(0).0,
            metrics: ShipMetrics::new(&Metrics::new()),
        }
    }

    /// Ends at once, as a kill would.
    async fn kill(self) {
        self.ingest.end().await;
    }

    async fn stop(self) {
        self.ingest.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_the_log_ended() {
    let mut world = World::new();
    for _ in 0..4 {
        let running = world.start().await;
        world.check(&running).await;
        world.produce(&running, 30).await;
        world.check(&running).await;
        running.kill().await;
    }
    assert_eq!(world.acknowledged.last().unwrap().0, 119);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_shipped_survives_the_loss_of_the_machine_and_a_clean_stop_ships_all() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 40).await;
    running.ship().await;
    let shipped = world.acknowledged.clone();
    world.produce(&running, 5).await;
    running.kill().await;
    world.lose_data_dir();
    world.acknowledged = shipped;
    let running = world.start().await;
    world.check(&running).await;
    world.produce(&running, 40).await;
    running.stop().await;
    world.lose_data_dir();
    let running = world.start().await;
    world.check(&running).await;
    let topic = running.ingest.lane.topics().get(running.topic).unwrap().clone();
    assert_eq!(topic.partitions[0].epochs(), [(1, 0), (2, 40), (3, 80)]);
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_shipping_may_fail_before_or_after_it_took_effect() {
    let steps = [
        (StoreOperation::Create, "/segments/"),
        (StoreOperation::Info, "/segments/"),
        (StoreOperation::Read, "/segments/"),
        (StoreOperation::Info, "claims/"),
        (StoreOperation::Create, "/segment-lists/"),
        (StoreOperation::Create, "catalog/"),
        (StoreOperation::Overwrite, "latest"),
        (StoreOperation::Read, "latest"),
        (StoreOperation::Create, "/checkpoints/"),
    ];
    for (operation, key_part) in steps {
        for fault in [StoreFault::Before, StoreFault::After] {
            let mut world = World::new();
            world.segment_lists = SegmentListLimits { listed: 1, unlisted: 1 };
            let running = world.start().await;
            world.bucket.fail(operation, key_part, fault, 2);
            world.produce(&running, 40).await;
            running.ship().await;
            world.bucket.heal();
            world.check(&running).await;
            running.kill().await;
            world.lose_data_dir();
            let running = world.start().await;
            world.check(&running).await;
            running.kill().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_gone_costs_nothing_but_disk() {
    let mut world = World::new();
    let running = world.start().await;
    for operation in [
        StoreOperation::Create,
        StoreOperation::Read,
        StoreOperation::Info,
        StoreOperation::List,
        StoreOperation::Overwrite,
    ] {
        world.bucket.fail(operation, "", StoreFault::Before, usize::MAX);
    }
    world.produce(&running, 60).await;
    world.check(&running).await;
    world.bucket.heal();
    running.ship().await;
    running.kill().await;
    world.lose_data_dir();
    let running = world.start().await;
    world.check(&running).await;
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_can_not_be_stored_holds_up_no_segment() {
    let mut world = World::new();
    let running = world.start().await;
    world.bucket.fail(StoreOperation::Create, "/checkpoints/", StoreFault::Before, usize::MAX);
    for _ in 0..3 {
        world.produce(&running, 5).await;
        let border = running.ingest.lane.cut(true).await.unwrap();
        let shipped = running.ingest.lane.shipped(border);
        tokio::time::timeout(Duration::from_secs(20), shipped).await.expect("it is shipped").unwrap();
    }
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_could_not_be_registered_for_hours_is_uploaded_again_under_a_new_name() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 5).await;
    let (lane, shipper) = (&running.ingest.lane, running.shipper());
    let (first, last) = (1, lane.progress().borrow().applied);
    let mut segment = shipper.upload_range(first, last).await.unwrap();
    segment.named_at -= 7 * 3600 * 1000;
    shipper.register_in_time(segment).await.unwrap();
    lane.shipped(last).await.unwrap();
    assert_eq!(world.segments().await.len(), 2, "the old name is never used again");
    world.check(&running).await;
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_is_used_by_one_process_and_one_cluster() {
    let mut world = World::new();
    let running = world.start().await;
    assert!(matches!(world.try_start().await, Err(IngestError::DataDir(DataDirError::Locked { .. }))));
    running.kill().await;
    world.bucket = Arc::new(FaultyStore::new(memory()));
    assert!(matches!(
        world.try_start().await,
        Err(IngestError::Start(StartError::NotOurs { source: ClaimError::Foreign { .. }, .. }))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_built_ahead_of_a_segment_that_the_bucket_refuses() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 10).await;
    world.bucket.fail(StoreOperation::Create, "/segments/", StoreFault::Before, usize::MAX);
    let shipper = running.shipper();
    let metrics = shipper.metrics.clone();
    let failed = async |times| {
        while metrics.upload_failures.get() < times {
            tokio::task::yield_now().await;
        }
    };
    let (orders, ordered) = mpsc::unbounded_channel();
    let order = |index| orders.send(ShipOrder { first: index, last: index, checkpoint: None }).unwrap();
    let stop = CancellationToken::new();
    let shipping = tokio::spawn(shipper.run(ordered, stop.clone()));
    order(1);
    failed(1).await;
    let held = metrics.upload_bytes.get();
    assert!(held > 0);
    order(2);
    order(3);
    failed(4).await;
    assert_eq!(metrics.upload_bytes.get(), held, "the first one alone");
    world.bucket.heal();
    running.ingest.lane.shipped(3).await.unwrap();
    stop.cancel();
    shipping.await.unwrap().unwrap();
    assert_eq!(metrics.upload_bytes.get(), 0);
    running.kill().await;
}

#[tokio::test(start_paused = true)]
async fn the_reason_of_an_end_is_told_though_what_depends_on_it_ends_first() {
    let mut tasks = JoinSet::new();
    tasks.spawn(async { Ok(()) });
    tasks.spawn(async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Err(IngestError::Fault("the disk".into()))
    });
    let told = reason(Ok(Ok(())), &mut tasks).await.unwrap_err();
    assert!(told.to_string().ends_with(": the disk"), "{told}");
}
