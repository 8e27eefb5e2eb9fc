//! What every way to a broker's tail has to do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use super::memory::MemoryTail;
use super::{SharedTail, TailError, TailPartition, TailTopic};
use chronik_format::batch::{BatchBuilder, BatchHeader, Codec, stamp, verify};
use chronik_format::ids::{Offset, PartitionId, TopicId};
use chronik_format::job::{IndexSettings, ValueFormat};

const LONG: Duration = Duration::from_secs(15);
const NAME: &str = "events";
const SETTINGS: IndexSettings = IndexSettings { value_format: ValueFormat::None, positions: true };

/// The broker behind the tail, as far as the suite moves it.
#[async_trait]
pub trait TailOwner: Send + Sync {
    /// Creates a topic whose records can't be searched by their values, with positions.
    async fn create(&self, name: &str, partitions: i32) -> TopicId;
    /// Appends a batch of that many records to a partition.
    async fn append(&self, topic: TopicId, partition: PartitionId, records: usize);
    /// Ships everything, so that the tail starts at its end.
    async fn ship(&self);
    /// Deletes a topic.
    async fn delete(&self, name: &str);
}

/// Runs the whole suite; panics at the first thing that is not as promised. The broker has no topic yet.
pub async fn tail_suite(owner: &dyn TailOwner, tail: SharedTail) {
    assert_eq!(tail.topics().await.unwrap(), Vec::<String>::new());
    assert_eq!(tail.topic(NAME).await.unwrap(), None);
    let id = owner.create(NAME, 3).await;
    tells_where_a_topic_stands(owner, &tail, id).await;
    reads_from_any_offset(&tail, id).await;
    waits_for_records(owner, &tail, id).await;
    tells_what_is_too_old(owner, &tail, id).await;
    owner.delete(NAME).await;
    assert_eq!(tail.topic(NAME).await.unwrap(), None);
    let unknown = tail.moved(id, 0, Duration::ZERO).await.unwrap_err();
    assert!(matches!(unknown, TailError::UnknownTopic { id: told } if told == id), "{unknown}");
}

async fn tells_where_a_topic_stands(owner: &dyn TailOwner, tail: &SharedTail, id: TopicId) {
    for (partition, records) in [(0, 3), (2, 1), (0, 2), (0, 4)] {
        owner.append(id, partition, records).await;
    }
    assert_eq!(tail.topics().await.unwrap(), [NAME]);
    let at = |partition, end| TailPartition { partition, log_start: 0, start: 0, end };
    let expected =
        TailTopic { id, search_enabled: true, index: SETTINGS, partitions: vec![at(0, 9), at(1, 0), at(2, 1)] };
    assert_eq!(tail.topic(NAME).await.unwrap(), Some(expected.clone()));
    assert_eq!(tail.topic("event s/ü?&=").await.unwrap(), None);
    assert_eq!(tail.moved(id, 0, LONG).await.unwrap(), expected);
    assert_eq!(tail.moved(id, 10, Duration::ZERO).await.unwrap(), expected);
}

async fn reads_from_any_offset(tail: &SharedTail, id: TopicId) {
    let firsts = |batches: Vec<Bytes>| -> Vec<Offset> {
        let header = |batch: &Bytes| verify(batch).unwrap().base_offset;
        batches.iter().map(header).collect()
    };
    for (from, first) in [(0, 0), (2, 0), (3, 3), (4, 3), (5, 5), (8, 5)] {
        let all: Vec<Offset> = [0, 3, 5].into_iter().filter(|base| *base >= first).collect();
        assert_eq!(firsts(tail.read(id, 0, from, 1 << 20).await.unwrap()), all, "{from}");
        assert_eq!(firsts(tail.read(id, 0, from, 0).await.unwrap()), [first], "{from}");
    }
    assert_eq!(tail.read(id, 0, 9, 1 << 20).await.unwrap(), Vec::<Bytes>::new());
    assert_eq!(tail.read(id, 1, 0, 1 << 20).await.unwrap(), Vec::<Bytes>::new());
    assert_eq!(firsts(tail.read(id, 2, 0, 1 << 20).await.unwrap()), [0]);
    for (topic, partition) in [(id, 3), (id, -1), (TopicId(Uuid::nil()), 0)] {
        let error = tail.read(topic, partition, 0, 1).await.unwrap_err();
        assert!(matches!(error, TailError::UnknownTopic { .. }), "{error}");
    }
}

async fn waits_for_records(owner: &dyn TailOwner, tail: &SharedTail, id: TopicId) {
    let (moved, ()) = tokio::join!(tail.moved(id, 10, LONG), async {
        tokio::task::yield_now().await;
        owner.append(id, 1, 2).await;
    });
    let moved = moved.unwrap();
    assert_eq!((moved.reach(), moved.partitions[1].end), (12, 2));
    assert_eq!(tail.topic(NAME).await.unwrap(), Some(moved));
    assert_eq!(tail.read(id, 1, 1, 1).await.unwrap().len(), 1);
}

async fn tells_what_is_too_old(owner: &dyn TailOwner, tail: &SharedTail, id: TopicId) {
    owner.ship().await;
    let position = tail.topic(NAME).await.unwrap().unwrap();
    assert_eq!(position.partitions[0].start, 9);
    let error = tail.read(id, 0, 8, 1).await.unwrap_err();
    assert!(matches!(error, TailError::TooOld { from: 8, start: 9 }), "{error}");
    owner.append(id, 0, 1).await;
    let batches = tail.read(id, 0, 9, 1).await.unwrap();
    assert_eq!(BatchHeader::parse(&batches[0]).unwrap().base_offset, 9);
}

#[async_trait]
impl TailOwner for MemoryTail {
    async fn create(&self, name: &str, partitions: i32) -> TopicId {
        self.change(|state| {
            let id = TopicId(Uuid::from_u128(state.topics.len() as u128 + 1));
            let partitions =
                (0..partitions).map(|partition| TailPartition { partition, log_start: 0, start: 0, end: 0 });
            let topic = TailTopic { id, search_enabled: true, index: SETTINGS, partitions: partitions.collect() };
            state.topics.insert(name.to_owned(), topic);
            id
        })
    }

    async fn append(&self, topic: TopicId, partition: PartitionId, records: usize) {
        self.change(|state| {
            let topics = state.topics.values_mut().filter(|known| known.id == topic);
            let mut partitions = topics.flat_map(|topic| &mut topic.partitions);
            let known = partitions.find(|known| known.partition == partition).unwrap();
            let batch = batch_at(known.end, records);
            known.end += records as i64;
            state.batches.entry((topic, partition)).or_default().push(batch);
        });
    }

    async fn ship(&self) {
        self.change(|state| {
            for partition in state.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
                partition.start = partition.end;
            }
            state.batches.clear();
        });
    }

    async fn delete(&self, name: &str) {
        self.change(|state| state.topics.remove(name));
    }
}

/// A batch of records of about 100 bytes, as a broker keeps it.
pub fn batch_at(offset: Offset, records: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for record in 0..records as i64 {
        let value = format!("{:090}", offset + record);
        builder.push(1000 + record, None, Some(value.as_bytes()), &[]);
    }
    let mut batch = BytesMut::from(&builder.finish()[..]);
    stamp(&mut batch, offset, 1);
    batch.freeze()
}
