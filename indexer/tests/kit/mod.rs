//! A bucket with a segment, and jobs over it.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::sync::Arc;

use bytes::Bytes;
use chronik_format::batch::{BatchBuilder, Codec, Record, RecordHeader, stamp, verify};
use chronik_format::ids::{Incarnation, LaneId, Offset, PartitionId, TopicId};
use chronik_format::job::{IndexSettings, Job, JobInput, JobKind, JobResult, JobRun, VERSION};
use chronik_format::span::{ByteSpan, OffsetSpan};
use chronik_indexer::{Indexer, IndexerParts};
use chronik_service::telemetry::Metrics;
use chronik_store::SharedStore;
use chronik_store::queue::{EmbeddedQueue, SharedQueue};
use uuid::Uuid;

pub fn record(timestamp: i64, key: Option<&str>, value: Option<&str>, headers: &[(&str, &str)]) -> Record {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let headers = headers.iter().map(|(name, value)| RecordHeader { key: bytes(name), value: Some(bytes(value)) });
    Record { offset: 0, timestamp, key: key.map(bytes), value: value.map(bytes), headers: headers.collect() }
}

pub fn batch(codec: Codec, base: Offset, attributes: i16, list: &[(i32, Record)]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    builder.set_attributes(attributes);
    for (gap, record) in list {
        builder.leave_gap(*gap);
        builder.push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers);
    }
    let mut bytes = builder.finish().to_vec();
    stamp(&mut bytes, base, 1);
    bytes.into()
}

/// Stores a segment of these runs and returns the input of a job over them.
pub async fn segment(store: &SharedStore, key: &str, runs: &[(PartitionId, Vec<Bytes>)]) -> JobInput {
    let mut parts = vec![Bytes::from_static(b"what stands before the batches")];
    let mut places = Vec::new();
    for (partition, batches) in runs {
        let position = parts.iter().map(|part| part.len() as u64).sum();
        let length = batches.iter().map(|batch| batch.len() as u64).sum();
        let first = verify(&batches[0]).unwrap().base_offset;
        let last = verify(batches.last().unwrap()).unwrap().last_offset();
        let (offsets, bytes) = (OffsetSpan { first, last }, ByteSpan { position, length });
        places.push(JobRun { partition: *partition, offsets, bytes });
        parts.extend(batches.iter().cloned());
    }
    let size = parts.iter().map(|part| part.len() as u64).sum();
    store.create(key, parts).await.unwrap();
    JobInput { key: key.to_owned(), size, crc: 0, runs: places }
}

pub fn job(inputs: Vec<JobInput>, settings: IndexSettings) -> Job {
    Job {
        v: VERSION,
        kind: JobKind::Index,
        cluster: "01900000-0000-7000-8000-000000000000".to_owned(),
        incarnation: Incarnation(1),
        lane: LaneId(0),
        id: "01HF7YAT00000000000000000A".to_owned(),
        topic: "logs".to_owned(),
        topic_id: TopicId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001)),
        index_epoch: 3,
        inputs,
        settings,
    }
}

pub fn embedded() -> Arc<EmbeddedQueue> {
    Arc::new(EmbeddedQueue::new(1 << 20))
}

pub fn indexer(store: &SharedStore, queue: SharedQueue) -> Indexer {
    Indexer::new(IndexerParts { store: store.clone(), queue, memory_bytes: 1 << 28, metrics: Metrics::new() })
}

pub async fn results(store: &SharedStore) -> Vec<JobResult> {
    let mut results = Vec::new();
    for object in store.list("inbox/00000000/").await.unwrap() {
        results.push(serde_json::from_slice(&store.read(&object.key, None).await.unwrap()).unwrap());
    }
    results
}
