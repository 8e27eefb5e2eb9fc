//! What a list of segments holds, for people.

use chronik_store::Store;
use serde::Serialize;

use super::{SegmentList, SegmentListError, VERSION};
use crate::ids::{LogIndex, Timestamp};

/// A list of segments as `chronik segment-list inspect` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentListDescription {
    /// The object's name.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Of the format.
    pub version: u16,
    /// The cluster's id.
    pub cluster: String,
    /// Of the owner that wrote it.
    pub incarnation: u32,
    pub lane: u32,
    pub segments: Vec<ListedDescription>,
}

/// A segment in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedDescription {
    /// The object's name.
    pub object: String,
    pub first_index: LogIndex,
    /// Last index of the log, inclusive.
    pub last_index: LogIndex,
    /// Bytes.
    pub size: u64,
    /// Where the directory starts.
    pub directory_position: u64,
    /// CRC-32C of the directory.
    pub directory_crc: u32,
    /// When it was registered, ms since the epoch.
    pub registered_at: Timestamp,
}

/// Reads a list, and checks it.
pub async fn inspect(store: &dyn Store, key: &str) -> Result<SegmentListDescription, SegmentListError> {
    let bytes = store.read(key, None).await?;
    let SegmentList { origin, segments } = SegmentList::decode(key, &bytes)?;
    let segments = segments.into_iter().map(|segment| ListedDescription {
        object: segment.name.to_string(),
        first_index: segment.name.first,
        last_index: segment.name.last,
        size: segment.size,
        directory_position: segment.directory_position,
        directory_crc: segment.crc,
        registered_at: segment.registered_at,
    });
    Ok(SegmentListDescription {
        key: key.to_owned(),
        size: bytes.len() as u64,
        version: VERSION,
        cluster: origin.cluster.to_string(),
        incarnation: origin.incarnation.0,
        lane: origin.lane.0,
        segments: segments.collect(),
    })
}
