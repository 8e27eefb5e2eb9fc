//! How far the log had come, written down outside of its directory. A log that ends before its mark has lost its end,
//! which the log's own files can't tell.
//!
//! Two blocks of [`BLOCK_BYTES`], each a [head](PlaceHead), written in turn, so that a write that was cut off leaves
//! the other. The head's fields are base, sequence and end, as [`MarkedEnd`] says. The mark is written when a file is
//! begun, when the log is opened, and when it is closed; and for frames, a while after they became durable, by a thread
//! of its own.

use std::io::{ErrorKind, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use chronik_format::ids::LogIndex;

use super::WalOptions;
use super::error::WalError;
use crate::disk::{Disk, DiskFile, PlaceHead, UnknownVersion, write_all_at};

const BLOCK_BYTES: u64 = 4096;
const BLOCKS: u64 = 2;
const MAGIC: [u8; 8] = *b"ChronikM";

/// What was durable when it was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MarkedEnd {
    /// The log continues from here: its first frame is the next one.
    pub base: LogIndex,
    /// The newest file that may hold acknowledged frames; 0 if none was begun.
    pub sequence: u64,
    /// The last frame that was durable.
    pub end: LogIndex,
}

/// The open mark of a log.
pub(super) struct LogMark {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// As last written.
    head: PlaceHead,
    /// Where the next write goes. After opening it is the block that was written last: only that one may not have
    /// reached the disk.
    block: u64,
}

impl From<[u64; 3]> for MarkedEnd {
    fn from([base, sequence, end]: [u64; 3]) -> Self {
        Self { base, sequence, end }
    }
}

impl LogMark {
    /// Writes the mark of a log without files that continues from `base`. One of a start that was cut off is replaced.
    pub(super) fn create(disk: &dyn Disk, options: &WalOptions, base: LogIndex) -> Result<(), WalError> {
        let path = options.mark.clone();
        let directory = path.parent().map(PathBuf::from).unwrap_or_default();
        disk.create_directory(&directory).map_err(WalError::io("create", &directory))?;
        match disk.remove(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(WalError::io("remove", path)(error)),
            _ => {}
        }
        let file = disk.create(&path, BLOCKS * BLOCK_BYTES).map_err(WalError::io("create", &path))?;
        let head =
            PlaceHead { lane: options.lane, incarnation: options.incarnation, number: 0, fields: [base, 0, base] };
        let mut mark = Self { path, file, head, block: 0 };
        // Both blocks, so that from the first write on there is another one.
        for _ in 0..BLOCKS {
            mark.reach(0, base)?;
        }
        disk.sync_directory(&directory).map_err(WalError::io("sync", &directory))
    }

    pub(super) fn open(disk: &dyn Disk, options: &WalOptions) -> Result<Self, WalError> {
        let path = options.mark.clone();
        let unmarked = |path: &PathBuf, reason| WalError::Unmarked { file: path.clone(), reason };
        let file = match disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(unmarked(&path, "is missing")),
            Err(error) => return Err(WalError::io("open", path)(error)),
        };
        let mut newest: Option<Self> = None;
        for block in 0..BLOCKS {
            let head = PlaceHead::read(&MAGIC, &*file, block * BLOCK_BYTES).map_err(WalError::io("read", &path))?;
            let head = head.map_err(|UnknownVersion(version)| WalError::Version { file: path.clone(), version })?;
            if let Some(head) = head
                && newest.as_ref().is_none_or(|newest| newest.head.number < head.number)
            {
                newest = Some(Self { path: path.clone(), file: file.clone(), head, block });
            }
        }
        let mark = newest.ok_or_else(|| unmarked(&path, "is damaged"))?;
        let PlaceHead { lane, incarnation, .. } = mark.head;
        if (lane, incarnation) != (options.lane, options.incarnation) {
            return Err(WalError::Foreign { file: path, lane, incarnation, sequence: mark.reached().sequence });
        }
        Ok(mark)
    }

    pub(super) fn reached(&self) -> MarkedEnd {
        self.head.fields.into()
    }

    /// Writes down, durably, that the log has come so far. Both may be lower than before only where a file without any
    /// frame is about to be dropped.
    pub(super) fn reach(&mut self, sequence: u64, end: LogIndex) -> Result<(), WalError> {
        self.head.number += 1;
        self.head.fields = [self.reached().base, sequence, end];
        let position = self.block * BLOCK_BYTES;
        write_all_at(&*self.file, position, &mut [IoSlice::new(&self.head.encode(&MAGIC))])
            .map_err(WalError::io("write", &self.path))?;
        self.file.sync_data().map_err(WalError::io("sync", &self.path))?;
        self.block = (self.block + 1) % BLOCKS;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use chronik_format::ids::{Incarnation, LaneId};

    use super::*;
    use crate::disk::memory::MemoryDisk;

    fn options() -> WalOptions {
        WalOptions::new("/data/wal/0", "/data/checkpoints/0/wal.mark", LaneId(0), Incarnation(3))
    }

    #[test]
    fn the_newest_whole_block_counts_and_one_that_is_cut_off_leaves_the_other() {
        let (disk, options) = (MemoryDisk::default(), options());
        LogMark::create(&disk, &options, 7).unwrap();
        for (sequence, end) in [(1, 7), (2, 20), (3, 30), (2, 30), (4, 30)] {
            let before = LogMark::open(&disk, &options).unwrap().reached();
            let mut mark = LogMark::open(&disk, &options).unwrap();
            mark.reach(sequence, end).unwrap();
            let after = MarkedEnd { base: 7, sequence, end };
            assert_eq!(LogMark::open(&disk, &options).unwrap().reached(), after);
            // The next write is cut off anywhere.
            let bytes = disk.bytes(&options.mark).unwrap();
            for cut in [0, 30, 55] {
                let mut torn = bytes.clone();
                let block = (mark.block * BLOCK_BYTES) as usize;
                torn[block..block + cut].fill(0xA5);
                torn[block + cut] ^= 1;
                let disk = disk.crash(0);
                disk.put(&options.mark, torn);
                assert_eq!(LogMark::open(&disk, &options).unwrap().reached(), after, "not {before:?}");
            }
        }
    }
}
