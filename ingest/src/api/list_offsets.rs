//! ListOffsets (2): a partition's ends, and the offset at a time.
//!
//! Version 0 asks for offsets at or before which segments begin, the largest first. A partition here has no segments
//! that a client could see: it gets the offset that later versions give, or the end where they have none, and if it
//! wants more than one, the log's start.

use std::ops::Range;
use std::sync::Arc;

use chronik_format::batch::TimeSpan;
use chronik_format::catalog::{Page, PageEntry};
use chronik_format::ids::{Offset, PartitionId, Timestamp};
use chronik_format::span::OffsetSpan;
use chronik_net::{KafkaRequest, RequestOutcome};
use chronik_wire::{
    EARLIEST_LOCAL_TIMESTAMP, EARLIEST_TIMESTAMP, LATEST_TIERED_TIMESTAMP, LATEST_TIMESTAMP, ListOffsetsPartition,
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse, MAX_TIMESTAMP,
};
use futures::future::BoxFuture;

use super::error::ApiError;
use super::live_partition::LivePartition;
use super::{BrokerContext, answer, epochs};
use crate::lane::LaneError;
use crate::reading::ReadError;
use crate::state::partition::PartitionState;
use crate::state::topic::TopicState;

/// An end has no timestamp of its own.
const NO_TIMESTAMP: Timestamp = -1;

/// See [`ApiHandler`](chronik_net::ApiHandler).
pub fn handle(broker: &Arc<BrokerContext>, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome> {
    let (broker, version) = (broker.clone(), request.version());
    answer(&request, move |asked| async move { list(&broker, asked, version).await })
}

async fn list(broker: &BrokerContext, asked: ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in asked.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            partitions.push(partition_response(broker, &topic.name, &asked, version).await);
        }
        topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
    }
    ListOffsetsResponse { topics, ..Default::default() }
}

async fn partition_response(
    broker: &BrokerContext,
    topic: &str,
    asked: &ListOffsetsPartition,
    version: i16,
) -> ListOffsetsPartitionResponse {
    let partition_index = asked.partition_index;
    let nothing = ListOffsetsPartitionResponse { partition_index, ..Default::default() };
    let found = async {
        let place = broker.place(topic, partition_index)?;
        place.check_leader_epoch(asked.current_leader_epoch)?;
        let found = find(broker, &place, asked.timestamp, version).await?;
        Ok::<_, ApiError>((place, found))
    };
    match found.await {
        Ok((place, found)) if version == 0 => {
            let old_style_offsets = old_style(&place, found, asked.max_num_offsets);
            ListOffsetsPartitionResponse { old_style_offsets, ..nothing }
        }
        Ok((place, Some((offset, timestamp)))) => {
            let leader_epoch = epochs::epoch_at(&place.tail.epochs(), offset).unwrap_or(-1);
            ListOffsetsPartitionResponse { offset, timestamp, leader_epoch, ..nothing }
        }
        Ok((_, None)) => nothing,
        Err(error) => {
            if let ApiError::Read(error) = &error {
                tracing::warn!(topic, partition = partition_index, "an offset can't be looked up now: {error}");
            }
            ListOffsetsPartitionResponse { error_code: error.code(), ..nothing }
        }
    }
}

/// The offsets of version 0, at most `max_num_offsets`.
fn old_style(place: &LivePartition, found: Option<(Offset, Timestamp)>, max_num_offsets: i32) -> Vec<Offset> {
    let bounds = place.tail.bounds();
    let first = found.map_or(bounds.end, |(offset, _)| offset);
    let start = Some(bounds.log_start).filter(|start| *start < first);
    [first].into_iter().chain(start).take(usize::try_from(max_num_offsets).unwrap_or(0)).collect()
}

/// The offset asked for and its record's timestamp; `None` if there is no such record.
async fn find(
    broker: &BrokerContext,
    place: &LivePartition,
    timestamp: Timestamp,
    version: i16,
) -> Result<Option<(Offset, Timestamp)>, ApiError> {
    let bounds = place.tail.bounds();
    match (timestamp, version) {
        (LATEST_TIMESTAMP, _) => Ok(Some((bounds.end, NO_TIMESTAMP))),
        (EARLIEST_TIMESTAMP, _) => Ok(Some((bounds.log_start, NO_TIMESTAMP))),
        (MAX_TIMESTAMP, 7..) => youngest(broker, place).await,
        (EARLIEST_LOCAL_TIMESTAMP, 8..) => Ok(Some((bounds.tail_start.max(bounds.log_start), NO_TIMESTAMP))),
        (LATEST_TIERED_TIMESTAMP, 9..) => {
            let shipped_to = of_state(broker, place, |partition| partition.shipped_to).await?;
            Ok(shipped_to.filter(|to| *to > bounds.log_start).map(|to| (to - 1, NO_TIMESTAMP)))
        }
        (0.., _) => Ok(broker.reader.offset_for_time(&place.topic, place.partition, timestamp).await?),
        _ => Err(ApiError::UnknownTimestamp { timestamp }),
    }
}

/// The first record that has the latest timestamp.
async fn youngest(broker: &BrokerContext, place: &LivePartition) -> Result<Option<(Offset, Timestamp)>, ApiError> {
    let log_start = place.tail.bounds().log_start;
    let state = broker.lane.snapshot().await.map_err(LaneError::from)?;
    let Some(topic) = state.topics.get(&place.topic.id) else {
        return Ok(None);
    };
    let times = shipped_times(broker, topic, place.partition, log_start).await?;
    let mut latest = times.latest;
    for offsets in times.unknown {
        let (topic, partition) = (&place.topic, place.partition);
        latest = latest.max(broker.reader.latest_timestamp(topic, partition, offsets).await?);
    }
    match latest {
        Some(latest) if latest > NO_TIMESTAMP => {
            Ok(broker.reader.offset_for_time(&place.topic, place.partition, latest).await?)
        }
        _ => Ok(None),
    }
}

/// What is known of a partition's times without asking its records.
struct KnownTimes {
    log_start: Offset,
    latest: Option<Timestamp>,
    /// The offsets whose records have to be asked.
    unknown: Vec<Range<Offset>>,
}

impl KnownTimes {
    /// Of consecutive records: unknown if some can't be read, or lie before the log.
    fn add(&mut self, offsets: OffsetSpan, times: TimeSpan) {
        if offsets.last < self.log_start {
            return;
        }
        if offsets.first < self.log_start || times.latest == Timestamp::MAX {
            self.unknown.push(offsets.first.max(self.log_start)..offsets.end());
        } else {
            self.latest = self.latest.max(Some(times.latest));
        }
    }
}

/// By pages, by the runs of those that can't tell, by open runs; what is not in the bucket yet is unknown.
async fn shipped_times(
    broker: &BrokerContext,
    topic: &TopicState,
    number: PartitionId,
    log_start: Offset,
) -> Result<KnownTimes, ApiError> {
    let mut times = KnownTimes { log_start, latest: None, unknown: Vec::new() };
    let Some(partition) = topic.partition(number) else {
        return Ok(times);
    };
    let mut ahead: Vec<Arc<PageEntry>> = topic.pages.iter().cloned().collect();
    while let Some(page) = ahead.pop() {
        let Some(bounds) = page.bounds.of(number).filter(|bounds| bounds.offsets.last >= log_start) else {
            continue;
        };
        if bounds.offsets.first >= log_start && bounds.times.latest < Timestamp::MAX {
            times.add(bounds.offsets, bounds.times);
            continue;
        }
        match broker.catalog.page(topic.id, &page).await.map_err(|error| ReadError::Cold(error.into()))? {
            Page::Runs(runs) => runs.of(number).iter().for_each(|run| times.add(run.offsets, run.times)),
            Page::Pages(below) => ahead.extend(below.iter().cloned()),
        }
    }
    partition.runs.iter().for_each(|run| times.add(run.offsets, run.times));
    times.unknown.push(partition.shipped_to.max(log_start)..partition.next_offset);
    Ok(times)
}

/// Something that only the lane's state knows of a partition; `None` if the topic was deleted meanwhile.
async fn of_state<T>(
    broker: &BrokerContext,
    place: &LivePartition,
    look: impl FnOnce(&PartitionState) -> T,
) -> Result<Option<T>, ApiError> {
    let state = broker.lane.snapshot().await.map_err(LaneError::from)?;
    let topic = state.topics.get(&place.topic.id);
    Ok(topic.and_then(|topic| topic.partition(place.partition)).map(|partition| look(partition)))
}
