//! The handlers on a real lane, asked by the bytes that a client sends.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod any_input;
mod cluster;
mod configs;
mod deletion;
mod fetch;
mod groups;
mod message_sets;
mod offsets;
mod partitions;
mod produce;
mod producers;
mod sessions;
mod topics;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chronik_format::batch::{BatchBuilder, BatchHeader, Codec};
use chronik_format::catalog::CatalogReader;
use chronik_format::ids::LaneId;
use chronik_format::origin::Origin;
use chronik_net::{ApiTable, KafkaRequest, KafkaService, RequestOutcome};
use chronik_peers::cold::BucketReader;
use chronik_service::telemetry::Metrics;
use chronik_store::{LocalBucket, SharedStore};
use chronik_wire::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, ErrorCode, FetchPartition, FetchRequest, FetchTopic,
    Message, PartitionData, PartitionProduceData, PartitionProduceResponse, ProduceRequest, RequestHeader,
    TopicProduceData,
};
use clap::Parser;
use futures::future::BoxFuture;
use prometheus::{IntCounter, IntGauge};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{BrokerConfig, BrokerContext, FetchRoom, FetchSessions, ProducerIds, SessionLimits, table};
use crate::clock::now_ms;
use crate::data_dir::DataDir;
use crate::groups::{Coordinator, GroupLimits};
use crate::lane::Lane;
use crate::lane::owner::{LaneOwner, LaneSettings};
use crate::lane::ship_policy::ShipLimits;
use crate::listener::{Address, BoundListener};
use crate::metrics::{FetchMetrics, GroupMetrics, LaneMetrics, PageMetrics, SessionMetrics, ShipMetrics};
use crate::publish::catalog::{CatalogExporter, ExporterParts};
use crate::publish::pages::{PageCloser, PageLimits};
use crate::publish::segment_lists::{SegmentListLimits, SegmentLister};
use crate::publish::segments::SegmentShipper;
use crate::reading::RecordReader;
use crate::settings::IngestSettings;
use crate::startup::{StartedLane, start};

const LANE: LaneId = LaneId(0);
/// Longer than any test takes: who waits so long was not woken.
const LONG_MS: i32 = 600_000;

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    settings: IngestSettings,
}

/// The API table over a lane that lives as long as this value.
struct Served {
    table: ApiTable<BrokerContext>,
    lane: Lane,
    exporter: CatalogExporter,
    answer_bytes: IntGauge,
    sessions: SessionMetrics,
    _stop: DropGuard,
    _folder: TempDir,
}

impl Served {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut BrokerContext)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let data_dir = Arc::new(DataDir::open(&settings.data_dir).unwrap());
        let store: SharedStore = Arc::new(LocalBucket::open(&folder.path().join("bucket")).unwrap());
        let StartedLane { ownership, beat, replayed, log, .. } =
            start(&settings, &data_dir, &store, LANE).await.unwrap();
        let origin = ownership.origin(LANE);
        let Origin { cluster, incarnation, .. } = origin;
        let (order, orders) = mpsc::unbounded_channel();
        let limits = ShipLimits { bytes: 64 << 20, age: Duration::from_secs(600) };
        let lane_settings = LaneSettings {
            incarnation,
            ship: limits,
            tail_bytes_max: 1 << 20,
            commit_refresh: Duration::from_secs(3600),
        };
        let metrics = Metrics::new();
        let (owner, lane) = LaneOwner::new(lane_settings, replayed, log, order, LaneMetrics::new(&metrics));
        let stop = CancellationToken::new();
        tokio::spawn(owner.run(stop.clone()));
        let shipper = SegmentShipper {
            origin,
            lane: lane.clone(),
            store: store.clone(),
            ownership,
            checkpoints: tokio::sync::watch::channel(0).0,
            metrics: ShipMetrics::new(&metrics),
        };
        tokio::spawn(shipper.run(orders, stop.clone()));
        let catalog = Arc::new(CatalogReader::new(store.clone(), LANE, 1 << 20));
        let exporter = CatalogExporter::new(ExporterParts {
            origin,
            lane: lane.clone(),
            store: store.clone(),
            reader: catalog.clone(),
            data_dir,
            beat,
            pages: PageCloser {
                origin,
                lane: lane.clone(),
                store: store.clone(),
                limits: PageLimits::default(),
                metrics: PageMetrics::new(&metrics),
            },
            lister: SegmentLister {
                origin,
                lane: lane.clone(),
                store: store.clone(),
                limits: SegmentListLimits::default(),
                held: IntGauge::new("held_segments", "in the state").unwrap(),
            },
            checkpoint_failures: IntCounter::new("checkpoint_failures", "of checkpoints").unwrap(),
        });
        let cold = Arc::new(BucketReader::new(store, catalog.clone(), 1 << 20));
        let fetch_metrics = FetchMetrics::new(&metrics);
        let answer_bytes = fetch_metrics.answer_bytes.clone();
        let sessions = SessionMetrics::new(&metrics);
        let limits = GroupLimits { initial_rebalance_delay: Duration::ZERO, ..GroupLimits::default() };
        let retention = Duration::from_secs(7 * 86_400);
        let (state, group_metrics) = (lane.snapshot().await.unwrap(), GroupMetrics::new(&metrics));
        let (coordinator, groups) = Coordinator::restored(&state, lane.clone(), limits, retention, group_metrics);
        tokio::spawn(coordinator.run(stop.clone()));
        let listeners = [listener("INSIDE", 9092, "broker.test"), listener("OUTSIDE", 9094, "fd00::1")];
        let mut broker = BrokerContext {
            config: BrokerConfig::new(&settings, &listeners),
            listeners: listeners.into(),
            groups,
            producer_ids: ProducerIds::after(&state),
            answers: FetchRoom::new(4 << 20, answer_bytes.clone()),
            sessions: FetchSessions::new(SessionLimits::default(), sessions.clone()),
            reader: RecordReader::new(lane.clone(), cold, fetch_metrics),
            catalog,
            lane: lane.clone(),
            cluster,
            auto_create_topics: true,
            num_partitions: 2,
        };
        change(&mut broker);
        Self { table: table(broker), lane, exporter, answer_bytes, sessions, _stop: stop.drop_guard(), _folder: folder }
    }

    /// Moves everything acknowledged so far to the bucket: when this returns, nothing else holds it.
    async fn ship(&mut self) {
        let border = self.lane.cut(false).await.unwrap();
        self.lane.shipped(border).await.unwrap();
        self.exporter.export_if_changed(now_ms()).await.unwrap();
        // The owner releases it before it answers later requests.
        self.lane.cut(false).await.unwrap();
    }

    /// Hands in a request; what comes back is its answer, once it is polled.
    fn call<R: chronik_wire::RequestMessage>(&self, version: i16, request: &R) -> BoxFuture<'static, RequestOutcome> {
        self.call_from(9, version, request)
    }

    /// As [`Self::call`], over the connection from a client's port.
    fn call_from<R: chronik_wire::RequestMessage>(
        &self,
        port: u16,
        version: i16,
        request: &R,
    ) -> BoxFuture<'static, RequestOutcome> {
        let body = Bytes::from(request.encode(version).concat());
        let frame_bytes = body.len();
        let mut request = arrived::<R>(version, body, frame_bytes);
        request.peer.set_port(port);
        self.table.call(request)
    }

    /// Asks over the connection of a client that came in by another listener than the first.
    async fn ask_by<R: chronik_wire::RequestMessage>(&self, listener: usize, version: i16, request: &R) -> R::Response {
        let body = Bytes::from(request.encode(version).concat());
        let frame_bytes = body.len();
        let request = KafkaRequest { listener, ..arrived::<R>(version, body, frame_bytes) };
        response::<R>(version, self.table.call(request).await)
    }

    async fn ask<R: chronik_wire::RequestMessage>(&self, version: i16, request: R) -> R::Response {
        response::<R>(version, self.call(version, &request).await)
    }

    async fn create(&self, name: &str, num_partitions: i32, configs: &[(&str, &str)]) -> uuid::Uuid {
        let config =
            |(name, value): &(&str, &str)| CreatableTopicConfig { name: (*name).into(), value: Some((*value).into()) };
        let configs = configs.iter().map(config).collect();
        let topic =
            CreatableTopic { name: name.into(), num_partitions, replication_factor: 1, configs, ..Default::default() };
        let asked = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let created = self.ask(7, asked).await.topics.remove(0);
        assert_eq!(created.error_code, ErrorCode::NONE);
        created.topic_id
    }

    async fn produce(&self, version: i16, topic: &str, batch: &Bytes) -> PartitionProduceResponse {
        let mut response = self.ask(version, produce(1, topic, &[(0, batch)])).await;
        response.responses.remove(0).partition_responses.remove(0)
    }

    /// What partition 0 of a topic answers to a fetch of everything from an offset.
    async fn fetch(&self, version: i16, topic: &str, offset: i64) -> PartitionData {
        let mut response = self.ask(version, fetch(topic, &[(0, offset)])).await;
        response.responses.remove(0).partitions.remove(0)
    }
}

fn listener(name: &str, port: u16, advertised: &str) -> BoundListener {
    let advertised = Address { host: advertised.into(), port };
    BoundListener { name: name.into(), bound: ([127, 0, 0, 1], port).into(), advertised }
}

fn settings(folder: &Path) -> IngestSettings {
    let data_dir = folder.join("data");
    let line = ["chronik-ingest", "--data-dir", data_dir.to_str().unwrap(), "--wal-max-bytes", "256MiB"];
    CommandLine::parse_from(line).settings
}

fn arrived<R: Message>(version: i16, body: Bytes, frame_bytes: usize) -> KafkaRequest {
    let header = RequestHeader {
        api_key: R::API.key(),
        api_version: version,
        correlation_id: 1,
        client_id: Some("test".into()),
    };
    let (peer, delivery) = (([127, 0, 0, 1], 9).into(), Arc::default());
    KafkaRequest { api: R::API, header, body, frame_bytes, peer, listener: 0, delivery }
}

fn response<R: chronik_wire::RequestMessage>(version: i16, outcome: RequestOutcome) -> R::Response {
    let RequestOutcome::Answer(chunks) = outcome else { panic!("no answer: {outcome:?}") };
    R::Response::decode(chunks.concat().into(), version).unwrap()
}

/// A batch without compression; each record has a timestamp and a value.
fn batch(records: &[(i64, &str)]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for (timestamp, value) in records {
        builder.push(*timestamp, None, Some(value.as_bytes()), &[]);
    }
    builder.finish()
}

/// Changes a batch behind its CRC, and the CRC with it.
fn changed(batch: &Bytes, change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut bytes = batch.to_vec();
    change(&mut bytes);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

fn produce(acks: i16, topic: &str, batches: &[(i32, &Bytes)]) -> ProduceRequest {
    let data = |(index, batch): &(i32, &Bytes)| PartitionProduceData { index: *index, records: Some((*batch).clone()) };
    let topic = TopicProduceData { name: topic.into(), partition_data: batches.iter().map(data).collect() };
    ProduceRequest { acks, topic_data: vec![topic], ..Default::default() }
}

fn fetch(topic: &str, partitions: &[(i32, i64)]) -> FetchRequest {
    let partition = |(partition, fetch_offset): &(i32, i64)| FetchPartition {
        partition: *partition,
        fetch_offset: *fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let partitions = partitions.iter().map(partition).collect();
    let topic = FetchTopic { topic: topic.into(), partitions, ..Default::default() };
    FetchRequest { max_bytes: 1 << 20, topics: vec![topic], ..Default::default() }
}

/// The bytes of what was read.
fn records(partition: &PartitionData) -> Bytes {
    assert_eq!(partition.error_code, ErrorCode::NONE);
    partition.records.0.concat().into()
}
