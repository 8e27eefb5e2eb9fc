//! Produce (0): checks batches on the connection's task and hands them to the lane.
//!
//! Before version 3 a partition has a message set of magic 0 or 1, which becomes a batch.

use std::sync::Arc;

use bytes::Bytes;
use chronik_format::batch::{Codec, batch_of_messages, check_produced, magic};
use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};

use super::BrokerContext;
use super::error::ApiError;
use super::live_partition::LivePartition;
use crate::lane::tail::TopicView;
use crate::lane::{AppendedBatch, ProducedBatch};
use crate::state::topic_config::TimestampType;

/// Nothing but batches may be sent from this version on.
const BATCHES_FROM: i16 = 3;
/// Clients know KAFKA_STORAGE_ERROR from this version on.
const STORAGE_ERROR_FROM: i16 = 4;
/// Clients may send zstd from this version on (KIP-110).
const ZSTD_FROM: i16 = 7;

/// A partition of the request, its batch checked.
struct Checked {
    partition: i32,
    batch: Result<ProducedBatch, ApiError>,
}

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let version = request.version();
    let asked = match request.decode::<ProduceRequest>() {
        Ok(asked) => asked,
        Err(error) => return ready(error.into()).boxed(),
    };
    let acks = asked.acks;
    let mut topics = check(broker, asked, version);
    own_memory(&mut topics, request.frame_bytes);
    // Here and not in the future: what arrives first on a connection is appended first.
    let append = |checked: Checked| (checked.partition, checked.batch.map(|batch| broker.lane.append(batch)));
    let append_all = |(name, partitions): (String, Vec<Checked>)| {
        let appending: Vec<_> = partitions.into_iter().map(append).collect();
        (name, appending)
    };
    let appending: Vec<_> = topics.into_iter().map(append_all).collect();
    async move {
        let mut response = ProduceResponse::default();
        for (name, partitions) in appending {
            let mut partition_responses = Vec::with_capacity(partitions.len());
            for (index, appending) in partitions {
                let appended = match appending {
                    Ok(appending) => appending.await.map_err(ApiError::from),
                    Err(error) => Err(error),
                };
                partition_responses.push(partition_response(index, appended, version));
            }
            response.responses.push(TopicProduceResponse { name, partition_responses });
        }
        if acks == 0 { without_answer(&response) } else { RequestOutcome::answer(&response, version) }
    }
    .boxed()
}

/// Each topic's partitions, in the request's order.
fn check(broker: &BrokerContext, asked: ProduceRequest, version: i16) -> Vec<(String, Vec<Checked>)> {
    let topics = broker.lane.topics();
    let ProduceRequest { acks, transactional_id, topic_data, .. } = asked;
    let check_request = || match acks {
        _ if transactional_id.is_some() => Err(ApiError::Transactional),
        -1..=1 => Ok(()),
        _ => Err(ApiError::RequiredAcks { acks }),
    };
    let each_topic = topic_data.into_iter().map(|topic| {
        let view = topics.named(&topic.name);
        let each_partition = topic.partition_data.into_iter().map(|data| Checked {
            partition: data.index,
            batch: check_request().and_then(|()| check_batch(view, data, version)),
        });
        let checked = each_partition.collect();
        (topic.name, checked)
    });
    each_topic.collect()
}

fn check_batch(
    topic: Option<&Arc<TopicView>>,
    data: PartitionProduceData,
    version: i16,
) -> Result<ProducedBatch, ApiError> {
    let LivePartition { topic, partition, .. } = LivePartition::of(topic.ok_or(ApiError::UnknownTopic)?, data.index)?;
    let bytes = data.records.filter(|records| !records.is_empty()).ok_or(ApiError::NoBatch)?;
    let bytes_max = topic.config.message_bytes_max();
    let bytes = match magic(&bytes) {
        Some(0 | 1) if version < BATCHES_FROM => batch_of_messages(&bytes, bytes_max)?,
        _ => bytes,
    };
    let header = check_produced(&bytes, bytes_max)?;
    if header.is_transactional() {
        return Err(ApiError::Transactional);
    }
    if version < ZSTD_FROM && header.codec()? == Codec::Zstd {
        return Err(ApiError::ZstdTooEarly);
    }
    let log_append_time = topic.config.timestamp_type() == TimestampType::LogAppendTime;
    Ok(ProducedBatch { topic: topic.id, partition, header, bytes, log_append_time })
}

/// Batches are slices of the request's frame and keep all of it in memory as long as one of them is kept. Where they
/// are the lesser part of it, they are copied out.
fn own_memory(topics: &mut [(String, Vec<Checked>)], frame_bytes: usize) {
    let batches =
        || topics.iter().flat_map(|(_, partitions)| partitions).filter_map(|checked| checked.batch.as_ref().ok());
    let kept: usize = batches().map(|batch| batch.bytes.len()).sum();
    if kept > frame_bytes / 2 {
        return;
    }
    for checked in topics.iter_mut().flat_map(|(_, partitions)| partitions) {
        if let Ok(batch) = &mut checked.batch {
            batch.bytes = Bytes::copy_from_slice(&batch.bytes);
        }
    }
}

fn partition_response(index: i32, appended: Result<AppendedBatch, ApiError>, version: i16) -> PartitionProduceResponse {
    match appended {
        Ok(appended) => PartitionProduceResponse {
            index,
            base_offset: appended.base_offset,
            log_append_time_ms: appended.log_append_time.unwrap_or(-1),
            log_start_offset: appended.log_start,
            ..Default::default()
        },
        Err(error) => PartitionProduceResponse {
            index,
            error_code: error.code_in(version, STORAGE_ERROR_FROM),
            base_offset: -1,
            error_message: Some(error.to_string()),
            ..Default::default()
        },
    }
}

/// A producer that wants no answer learns of an error by the end of its connection.
fn without_answer(response: &ProduceResponse) -> RequestOutcome {
    let mut partitions = response
        .responses
        .iter()
        .flat_map(|topic| topic.partition_responses.iter().map(move |partition| (&topic.name, partition)));
    match partitions.find(|(_, partition)| !partition.error_code.is_none()) {
        None => RequestOutcome::NoAnswer,
        Some((topic, PartitionProduceResponse { index, error_code, .. })) => {
            RequestOutcome::close(format!("Produce without acks to {topic:?}, partition {index}: {error_code}"))
        }
    }
}
