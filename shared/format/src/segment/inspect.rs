//! What a segment holds, for people.

use serde::Serialize;

use super::layout::SegmentTrailer;
use super::{DirectoryRow, SegmentError, SegmentReader, VERSION};
use crate::ids::{PartitionId, Timestamp};
use crate::span::{ByteSpan, OffsetSpan};
use chronik_store::SharedStore;

/// A segment as `chronik segment inspect` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentDescription {
    /// The object's name.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Of the format.
    pub version: u16,
    /// 0: a part of a lane's log; 1: of one topic, written by compaction.
    pub level: u16,
    /// The cluster's id.
    pub cluster: String,
    /// Of the owner that wrote it.
    pub incarnation: u32,
    pub lane: u32,
    /// First index of the log; 0 at level 1.
    pub first_index: u64,
    /// Last index of the log, inclusive; 0 at level 1.
    pub last_index: u64,
    /// Bytes of the command log.
    pub log_bytes: u64,
    /// Where the directory starts.
    pub directory_position: u64,
    /// CRC-32C of the directory.
    pub directory_crc: u32,
    /// What is in it.
    pub topics: Vec<TopicDescription>,
    /// What a full read found wrong; empty if every byte is as it was written.
    pub damage: Vec<String>,
}

/// A topic in a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopicDescription {
    /// The topic's id.
    pub id: String,
    pub partitions: Vec<PartitionDescription>,
}

/// A partition in a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionDescription {
    /// The partition's number.
    pub partition: PartitionId,
    #[serde(flatten)]
    pub offsets: OffsetSpan,
    /// How many batches.
    pub batches: u32,
    /// Where they are.
    #[serde(flatten)]
    pub bytes: ByteSpan,
    /// Earliest timestamp of the records, ms.
    pub min_timestamp: Timestamp,
    /// Latest timestamp of the records, ms.
    pub max_timestamp: Timestamp,
    /// Leader epoch of the first batch.
    pub first_epoch: i32,
    /// Leader epoch of the last batch.
    pub last_epoch: i32,
}

/// Opens a segment and reads every byte of it, chunk by chunk.
pub async fn inspect(store: SharedStore, key: &str) -> Result<SegmentDescription, SegmentError> {
    let reader = SegmentReader::open(store, key).await?;
    let damage = find_damage(&reader).await?;
    let SegmentTrailer { header, log_length, directory_position, directory_crc, .. } = *reader.trailer();
    let topics = reader.directory().rows.chunk_by(|a, b| a.topic == b.topic);
    Ok(SegmentDescription {
        key: key.to_owned(),
        size: reader.size(),
        version: VERSION,
        level: header.level(),
        cluster: header.origin.cluster.to_string(),
        incarnation: header.origin.incarnation.0,
        lane: header.origin.lane.0,
        first_index: header.first,
        last_index: header.last,
        log_bytes: log_length,
        directory_position,
        directory_crc,
        topics: topics
            .map(|rows| TopicDescription {
                id: rows[0].topic.to_string(),
                partitions: rows.iter().map(describe).collect(),
            })
            .collect(),
        damage,
    })
}

async fn find_damage(reader: &SegmentReader) -> Result<Vec<String>, SegmentError> {
    let mut damage = Vec::new();
    let mut note = |error| match error {
        SegmentError::Store(error) => Err(SegmentError::Store(error)),
        error => {
            damage.push(error.to_string());
            Ok(())
        }
    };
    match reader.stored_header().await {
        Ok(header) if header == *reader.header() => {}
        Ok(_) => note(SegmentError::damaged(reader.key(), "its header and its trailer contradict each other"))?,
        Err(error) => note(error)?,
    }
    for row in &reader.directory().rows {
        for chunk in 0..row.chunks as usize {
            if let Err(error) = reader.chunk_batches(row, chunk..chunk + 1).await {
                note(error)?;
            }
        }
    }
    if let Err(error) = reader.log().await {
        note(error)?;
    }
    Ok(damage)
}

fn describe(row: &DirectoryRow) -> PartitionDescription {
    PartitionDescription {
        partition: row.partition,
        offsets: row.offsets,
        batches: row.batches,
        bytes: row.bytes,
        min_timestamp: row.times.earliest,
        max_timestamp: row.times.latest,
        first_epoch: row.first_epoch,
        last_epoch: row.last_epoch,
    }
}
