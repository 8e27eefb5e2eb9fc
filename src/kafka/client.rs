//! Topics, appends and reads over as many connections as there are leaders.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chronik_format::batch::{self, BatchError, BatchHeader, Record};
use chronik_format::ids::{Offset, PartitionId, Timestamp};
use chronik_wire::{
    CreatableTopic, CreatableTopicConfig, CreatePartitionsRequest, CreatePartitionsTopic, CreateTopicsRequest,
    ErrorCode, FetchPartition, FetchRequest, FetchTopic, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
    Message, MetadataRequest, MetadataRequestTopic, MetadataResponse, PartitionProduceData, ProduceRequest,
    TopicProduceData,
};
use uuid::Uuid;

use super::KafkaError;
use super::connection::{BrokerConnection, is_passing};

/// With record batches. From 13 on a topic has its id, so that its successor of the same name is not read for it.
const FETCH_VERSIONS: RangeInclusive<i16> = 4..=*FetchRequest::VERSIONS.end();
/// With record batches.
const PRODUCE_VERSIONS: RangeInclusive<i16> = 3..=11;
/// With one offset a partition.
const LIST_OFFSETS_VERSIONS: RangeInclusive<i16> = 1..=9;
/// Tries until a topic that was just created has its leaders, or a group its coordinator.
pub(super) const LEADER_TRIES: usize = 50;
pub(super) const LEADER_PAUSE: Duration = Duration::from_millis(100);
/// How long a broker may take to add partitions.
const CREATION_TIME: Duration = Duration::from_secs(30);
const FETCH_WAIT: Duration = Duration::from_millis(500);
const FETCH_BYTES_MAX: i32 = 8 << 20;
/// More than any batch that a broker of ours accepts holds after decompression.
const BATCH_BYTES_MAX: usize = 512 << 20;

/// A topic and who leads its partitions.
#[derive(Clone, Debug)]
pub struct TopicLeaders {
    pub name: String,
    /// Nil from a broker that knows topics by their names alone.
    pub id: Uuid,
    /// By partition number: the leader's address.
    pub leaders: Vec<String>,
}

/// What a fetch of one partition brought.
#[derive(Debug)]
pub struct FetchedRecords {
    pub partition: PartitionId,
    /// From the offset asked for onward.
    pub records: Vec<Record>,
    /// Where the next fetch goes on.
    pub next: Offset,
    /// Why it can't go on there.
    pub failure: Option<KafkaError>,
}

/// A client of one cluster.
#[derive(Debug)]
pub struct KafkaClient {
    bootstrap: String,
    connections: HashMap<String, BrokerConnection>,
}

impl KafkaClient {
    /// Connects to any broker of the cluster.
    pub async fn connect(bootstrap: &str) -> Result<Self, KafkaError> {
        let connection = BrokerConnection::open(bootstrap).await?;
        Ok(Self { bootstrap: bootstrap.to_owned(), connections: HashMap::from([(bootstrap.to_owned(), connection)]) })
    }

    pub(super) async fn at(&mut self, address: &str) -> Result<&mut BrokerConnection, KafkaError> {
        if !self.connections.contains_key(address) {
            let opened = BrokerConnection::open(address).await;
            let connection = opened.map_err(|error| error.of_advertised(&self.bootstrap))?;
            self.connections.insert(address.to_owned(), connection);
        }
        self.connections.get_mut(address).ok_or_else(|| KafkaError::Unreachable {
            address: address.to_owned(),
            source: std::io::ErrorKind::NotConnected.into(),
        })
    }

    /// Closes all connections; the next call opens new ones.
    pub fn disconnect(&mut self) {
        self.connections.clear();
    }

    pub(super) async fn home(&mut self) -> Result<&mut BrokerConnection, KafkaError> {
        let bootstrap = self.bootstrap.clone();
        self.at(&bootstrap).await
    }

    /// A topic by name; `create` lets the broker create it if it does that for clients.
    pub async fn topic(&mut self, name: &str, create: bool) -> Result<TopicLeaders, KafkaError> {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic { name: Some(name.to_owned()), ..Default::default() }]),
            allow_auto_topic_creation: create,
            ..Default::default()
        };
        let mut tries = if create { LEADER_TRIES } else { 1 };
        loop {
            let answer = self.home().await?.call(MetadataRequest::VERSIONS, &request).await?;
            let code = answer.topics.first().map_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, first_error);
            tries -= 1;
            if tries == 0 || !is_passing(code) {
                if code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
                    return Err(KafkaError::UnknownTopic { name: name.to_owned() });
                }
                KafkaError::check(code, None, || format!("topic {name}"))?;
                return Ok(topics_of(answer).swap_remove(0));
            }
            tokio::time::sleep(LEADER_PAUSE).await;
        }
    }

    /// All topics, by name.
    pub async fn topics(&mut self) -> Result<Vec<TopicLeaders>, KafkaError> {
        let request = MetadataRequest { topics: None, ..Default::default() };
        let mut topics = topics_of(self.home().await?.call(MetadataRequest::VERSIONS, &request).await?);
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// Creates a topic; without a number of partitions it gets the broker's default. Returns how many it has.
    pub async fn create_topic(
        &mut self,
        name: &str,
        partitions: Option<i32>,
        configs: &[(String, String)],
    ) -> Result<i32, KafkaError> {
        let configs =
            configs.iter().map(|(name, value)| CreatableTopicConfig { name: name.clone(), value: Some(value.clone()) });
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: name.to_owned(),
                num_partitions: partitions.unwrap_or(-1),
                replication_factor: -1,
                configs: configs.collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = self.home().await?.call(CreateTopicsRequest::VERSIONS, &request).await?;
        let mut made = 0;
        for topic in answer.topics {
            KafkaError::check(topic.error_code, topic.error_message, || format!("creating topic {name}"))?;
            made = topic.num_partitions;
        }
        Ok(made)
    }

    /// Adds partitions to a topic until it has so many.
    pub async fn add_partitions(&mut self, topic: &str, count: i32) -> Result<(), KafkaError> {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic { name: topic.to_owned(), count, assignments: None }],
            timeout_ms: CREATION_TIME.as_millis() as i32,
            ..Default::default()
        };
        let answer = self.home().await?.call(CreatePartitionsRequest::VERSIONS, &request).await?;
        for grown in answer.results {
            KafkaError::check(grown.error_code, grown.error_message, || format!("adding partitions to topic {topic}"))?;
        }
        Ok(())
    }

    /// Appends a batch, durably; returns the offset of its first record.
    pub async fn append(
        &mut self,
        topic: &TopicLeaders,
        partition: PartitionId,
        batch: Bytes,
    ) -> Result<Offset, KafkaError> {
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: topic.name.clone(),
                partition_data: vec![PartitionProduceData { index: partition, records: Some(batch) }],
            }],
            ..Default::default()
        };
        let connection = self.at(topic.leader(partition)?).await?;
        let answer = connection.call(PRODUCE_VERSIONS, &request).await?;
        let mut answers = answer.responses.into_iter().flat_map(|topic| topic.partition_responses);
        let what = || format!("appending to partition {partition} of {}", topic.name);
        let Some(appended) = answers.next() else {
            return Err(KafkaError::Refused {
                what: what(),
                code: ErrorCode::UNKNOWN_SERVER_ERROR,
                message: Some("the answer names no partition".to_owned()),
            });
        };
        KafkaError::check(appended.error_code, appended.error_message, what)?;
        Ok(appended.base_offset)
    }

    /// For each partition the offset at `time`: a timestamp in ms, or one of the constants of ListOffsets. A
    /// partition without a record that young gets -1.
    pub async fn offsets(
        &mut self,
        topic: &TopicLeaders,
        partitions: &[PartitionId],
        time: Timestamp,
    ) -> Result<HashMap<PartitionId, Offset>, KafkaError> {
        let mut offsets = HashMap::new();
        for (leader, partitions) in topic.by_leader(partitions)? {
            let partitions = partitions.into_iter().map(|partition| ListOffsetsPartition {
                partition_index: partition,
                timestamp: time,
                ..Default::default()
            });
            let request = ListOffsetsRequest {
                topics: vec![ListOffsetsTopic { name: topic.name.clone(), partitions: partitions.collect() }],
                ..Default::default()
            };
            let answer = self.at(&leader).await?.call(LIST_OFFSETS_VERSIONS, &request).await?;
            for found in answer.topics.into_iter().flat_map(|topic| topic.partitions) {
                KafkaError::check(found.error_code, None, || {
                    format!("asking for offsets of partition {} of {}", found.partition_index, topic.name)
                })?;
                offsets.insert(found.partition_index, found.offset);
            }
        }
        Ok(offsets)
    }

    /// Records of some partitions, each from its offset onward up to what can't be read; waits a moment if there are
    /// none.
    pub async fn fetch(
        &mut self,
        topic: &TopicLeaders,
        from: &HashMap<PartitionId, Offset>,
    ) -> Result<Vec<FetchedRecords>, KafkaError> {
        let mut wanted: Vec<_> = from.keys().copied().collect();
        wanted.sort_unstable();
        let mut reads = Vec::new();
        for (leader, partitions) in topic.by_leader(&wanted)? {
            let partitions = partitions.into_iter().map(|partition| FetchPartition {
                partition,
                fetch_offset: from[&partition],
                partition_max_bytes: FETCH_BYTES_MAX,
                ..Default::default()
            });
            let request = FetchRequest {
                max_wait_ms: FETCH_WAIT.as_millis() as i32,
                min_bytes: 1,
                max_bytes: FETCH_BYTES_MAX,
                topics: vec![FetchTopic {
                    topic: topic.name.clone(),
                    topic_id: topic.id,
                    partitions: partitions.collect(),
                }],
                ..Default::default()
            };
            let answer = self.at(&leader).await?.call(FETCH_VERSIONS, &request).await?;
            KafkaError::check(answer.error_code, None, || format!("reading {}", topic.name))?;
            for data in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
                let partition = data.partition_index;
                let start = from.get(&partition).copied().unwrap_or(0);
                let what = || format!("reading partition {partition} of {} at offset {start}", topic.name);
                let message = (data.error_code == ErrorCode::UNKNOWN_TOPIC_ID).then(|| "it was deleted".to_owned());
                reads.push(match KafkaError::check(data.error_code, message, what) {
                    Ok(()) => open(&topic.name, partition, start, joined(data.records.0)),
                    Err(error) => FetchedRecords { partition, records: Vec::new(), next: start, failure: Some(error) },
                });
            }
        }
        Ok(reads)
    }
}

impl TopicLeaders {
    pub(super) fn leader(&self, partition: PartitionId) -> Result<&str, KafkaError> {
        let leader = usize::try_from(partition).ok().and_then(|number| self.leaders.get(number));
        leader.map(String::as_str).ok_or_else(|| KafkaError::Refused {
            what: format!("partition {partition} of {}", self.name),
            code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            message: Some(format!("it has {} partitions", self.leaders.len())),
        })
    }

    pub(super) fn by_leader(&self, partitions: &[PartitionId]) -> Result<Vec<(String, Vec<PartitionId>)>, KafkaError> {
        let mut groups: Vec<(String, Vec<PartitionId>)> = Vec::new();
        for partition in partitions {
            let leader = self.leader(*partition)?;
            match groups.iter_mut().find(|(address, _)| address == leader) {
                Some((_, group)) => group.push(*partition),
                None => groups.push((leader.to_owned(), vec![*partition])),
            }
        }
        Ok(groups)
    }
}

fn first_error(topic: &chronik_wire::MetadataResponseTopic) -> ErrorCode {
    let of_partitions = topic.partitions.iter().map(|partition| partition.error_code);
    std::iter::once(topic.error_code).chain(of_partitions).find(|code| !code.is_none()).unwrap_or(ErrorCode::NONE)
}

/// HOST:PORT
pub(super) fn address(host: &str, port: i32) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

fn topics_of(answer: MetadataResponse) -> Vec<TopicLeaders> {
    let brokers: HashMap<i32, String> =
        answer.brokers.iter().map(|broker| (broker.node_id, address(&broker.host, broker.port))).collect();
    answer
        .topics
        .into_iter()
        .map(|mut topic| {
            topic.partitions.sort_by_key(|partition| partition.partition_index);
            let leaders = topic.partitions.iter().map(|p| brokers.get(&p.leader_id).cloned().unwrap_or_default());
            TopicLeaders { leaders: leaders.collect(), name: topic.name.unwrap_or_default(), id: topic.topic_id }
        })
        .collect()
}

fn joined(mut chunks: Vec<Bytes>) -> Bytes {
    if chunks.len() == 1 {
        return chunks.swap_remove(0);
    }
    chunks.iter().flatten().copied().collect::<BytesMut>().freeze()
}

/// The records of consecutive batches from `start` on, up to the first that can't be read. The last batch may be cut
/// off, as Kafka allows.
fn open(topic: &str, partition: PartitionId, start: Offset, bytes: Bytes) -> FetchedRecords {
    let mut read = FetchedRecords { partition, records: Vec::new(), next: start, failure: None };
    for batch in batch::split(bytes) {
        let (after, records) = match batch {
            Err(_) if read.next > start => break,
            Err(error) => (read.next + 1, Err(error)),
            Ok(batch) => (end_of(&batch, read.next), records_of(&batch)),
        };
        match records {
            Ok(records) => read.records.extend(records.into_iter().filter(|record| record.offset >= start)),
            Err(source) => {
                let (topic, offset) = (topic.to_owned(), read.next);
                read.failure = Some(KafkaError::Batch { topic, partition, offset, next: after, source });
                break;
            }
        }
        read.next = after;
    }
    read
}

/// Where a batch that is whole ends, as far as its header can be believed.
fn end_of(batch: &[u8], next: Offset) -> Offset {
    BatchHeader::parse(batch).map_or(next, |header| header.last_offset().saturating_add(1).max(next))
}

fn records_of(batch: &Bytes) -> Result<Vec<Record>, BatchError> {
    let header = batch::verify(batch)?;
    if header.is_control() { Ok(Vec::new()) } else { batch::records(batch, BATCH_BYTES_MAX)?.collect() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use chronik_format::batch::{BatchBuilder, Codec, stamp};

    use super::*;

    fn batch(base: Offset, values: &[&[u8]]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::Zstd);
        values.iter().for_each(|value| builder.push(0, None, Some(value), &[]));
        let mut bytes = builder.finish().to_vec();
        stamp(&mut bytes, base, 0);
        bytes
    }

    #[test]
    fn reading_starts_at_the_offset_inside_of_a_batch() {
        let bytes = [batch(10, &[b"a", b"b", b"c"]), batch(13, &[b"d"])].concat();
        let read = open("t", 0, 11, bytes.into());
        assert_eq!(read.records.iter().map(|record| record.offset).collect::<Vec<_>>(), [11, 12, 13]);
        assert_eq!(read.next, 14);
    }

    #[test]
    fn a_last_batch_that_is_cut_off_is_left_for_the_next_fetch() {
        let mut bytes = [batch(0, &[b"a"]), batch(1, &[b"b"])].concat();
        bytes.pop();
        let read = open("t", 0, 0, bytes.into());
        assert_eq!((read.records.len(), read.next), (1, 1));
    }

    #[test]
    fn what_lies_before_a_batch_that_can_not_be_read_is_read() {
        let mut bytes = [batch(0, &[b"a"]), batch(1, &[b"b", b"c"])].concat();
        let damaged = bytes.len() - 1;
        bytes.extend(batch(3, &[b"d"]));
        bytes[damaged] ^= 1;
        for (start, records) in [(0, 1), (1, 0), (2, 0)] {
            let from = if start == 0 { 0 } else { batch(0, &[b"a"]).len() };
            let read = open("t", 0, start, bytes[from..].to_vec().into());
            assert_eq!((read.records.len(), read.next), (records, start.max(1)));
            let told = read.failure.unwrap().to_string();
            let place = format!("partition 0 of t holds a batch at offset {}", start.max(1));
            assert!(told.starts_with(&place) && told.ends_with("--partition 0 --from 3"), "{told}");
        }
    }

    #[test]
    fn partitions_are_grouped_by_their_leaders() {
        let leaders = ["a:1", "b:1", "a:1"].map(String::from).to_vec();
        let topic = TopicLeaders { name: "t".to_owned(), id: Uuid::nil(), leaders };
        let groups = topic.by_leader(&[0, 1, 2]).unwrap();
        assert_eq!(groups, [("a:1".to_owned(), vec![0, 2]), ("b:1".to_owned(), vec![1])]);
        assert!(topic.by_leader(&[3]).unwrap_err().to_string().contains("it has 3 partitions"));
    }
}
