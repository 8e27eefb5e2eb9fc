//! The command log: the lane's frames of the segment's range, in order, without the batches.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{SegmentError, SegmentHeader};
use crate::ids::LogIndex;

/// Bytes of an entry besides its commands.
const ENTRY_OVERHEAD: usize = 20;

/// One frame of the lane's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place in the log.
    pub index: LogIndex,
    /// The epoch that it was written in.
    pub epoch: u64,
    /// The commands as in the lane's frame; appends refer to batches that are in the segment.
    pub commands: Bytes,
}

pub(super) fn encode(header: &SegmentHeader, log: &[LogEntry]) -> Result<Bytes, SegmentError> {
    if !log.iter().map(|entry| entry.index).eq(header.indices()) {
        let (first, last) = (header.first, header.last);
        return Err(SegmentError::unbuildable(format!("the log entries are not those of {first}..={last}")));
    }
    let mut out = BytesMut::with_capacity(log.iter().map(|entry| ENTRY_OVERHEAD + entry.commands.len()).sum());
    for entry in log {
        let length = u32::try_from(entry.commands.len())
            .map_err(|_| SegmentError::unbuildable(format!("the commands of index {} are too long", entry.index)))?;
        out.put_u64_le(entry.index);
        out.put_u64_le(entry.epoch);
        out.put_u32_le(length);
        out.put_slice(&entry.commands);
    }
    Ok(out.freeze())
}

/// Reads `entries` entries that fill `bytes`, whose checksum has been checked.
pub(super) fn decode(
    object: &str,
    header: &SegmentHeader,
    entries: u32,
    mut bytes: Bytes,
) -> Result<Vec<LogEntry>, SegmentError> {
    let unfit = || SegmentError::damaged(object, "its command log is not as long as its entries");
    let mut log = Vec::with_capacity((entries as usize).min(bytes.len() / ENTRY_OVERHEAD));
    for _ in 0..entries {
        if bytes.len() < ENTRY_OVERHEAD {
            return Err(unfit());
        }
        let (index, epoch, length) = (bytes.get_u64_le(), bytes.get_u64_le(), bytes.get_u32_le() as usize);
        if bytes.len() < length {
            return Err(unfit());
        }
        log.push(LogEntry { index, epoch, commands: bytes.split_to(length) });
    }
    if !bytes.is_empty() {
        return Err(unfit());
    }
    if !log.iter().map(|entry| entry.index).eq(header.indices()) {
        return Err(SegmentError::damaged(object, "its command log has other indices than its header"));
    }
    Ok(log)
}
