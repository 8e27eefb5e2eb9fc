//! How far the log had come, written down outside of its directory. A log that ends before its mark has lost its end,
//! which the log's own files can't tell.
//!
//! Two blocks of [`BLOCK_BYTES`], written in turn, so that a write that was cut off leaves the other. All integers
//! little-endian:
//!
//! ```text
//! magic [8] | version u32 | lane u32 | incarnation u32 | number u64 | base u64 | sequence u64 | end u64 | crc u32
//! ```
//! `number` counts the writes: the highest is the newest. `crc` is CRC-32C over everything before it. The mark is
//! written when a file is begun, when the log is opened, and when it is closed; and for frames, a while after they
//! became durable, by a thread of its own.

use std::io::{ErrorKind, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use chronik_core::ids::{Incarnation, Lane, LogIndex};

use super::WalOptions;
use super::error::WalError;
use crate::disk::{Disk, DiskFile, read_full_at, write_all_at};

const BLOCK_BYTES: u64 = 4096;
const BLOCKS: u64 = 2;
const MARK_BYTES: usize = 56;
const VERSION: u32 = 0;
const MAGIC: [u8; 8] = *b"ChronikM";

/// What was durable when it was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    /// The log continues from here: its first frame is the next one.
    pub base: LogIndex,
    /// The newest file that may hold acknowledged frames; 0 if none was begun.
    pub sequence: u64,
    /// The last frame that was durable.
    pub end: LogIndex,
}

/// The open mark of a log.
pub(super) struct Mark {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    lane: Lane,
    incarnation: Incarnation,
    number: u64,
    /// Where the next write goes. After opening it is the block that was written last: only that one may not have
    /// reached the disk.
    block: u64,
    reached: Reached,
}

impl Mark {
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
        let reached = Reached { base, sequence: 0, end: base };
        let mut mark =
            Self { path, file, lane: options.lane, incarnation: options.incarnation, number: 0, block: 0, reached };
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
            let mut bytes = [0; MARK_BYTES];
            let read = read_full_at(&*file, block * BLOCK_BYTES, &mut bytes).map_err(WalError::io("read", &path))?;
            let Some(fields) = (read == MARK_BYTES).then(|| Fields::decode(&bytes)).flatten() else {
                continue;
            };
            if fields.version != VERSION {
                return Err(WalError::Version { file: path, version: fields.version });
            }
            if newest.as_ref().is_none_or(|newest| newest.number < fields.number) {
                newest = Some(Self {
                    path: path.clone(),
                    file: file.clone(),
                    lane: fields.lane,
                    incarnation: fields.incarnation,
                    number: fields.number,
                    block,
                    reached: fields.reached,
                });
            }
        }
        let mark = newest.ok_or_else(|| unmarked(&path, "is damaged"))?;
        if (mark.lane, mark.incarnation) != (options.lane, options.incarnation) {
            return Err(WalError::Foreign {
                file: path,
                lane: mark.lane,
                incarnation: mark.incarnation,
                sequence: mark.reached.sequence,
            });
        }
        Ok(mark)
    }

    pub(super) fn reached(&self) -> Reached {
        self.reached
    }

    /// Writes down, durably, that the log has come so far. Both may be lower than before only where a file without any
    /// frame is about to be dropped.
    pub(super) fn reach(&mut self, sequence: u64, end: LogIndex) -> Result<(), WalError> {
        self.number += 1;
        self.reached = Reached { sequence, end, ..self.reached };
        let fields = Fields {
            version: VERSION,
            lane: self.lane,
            incarnation: self.incarnation,
            number: self.number,
            reached: self.reached,
        };
        let position = self.block * BLOCK_BYTES;
        write_all_at(&*self.file, position, &mut [IoSlice::new(&fields.encode())])
            .map_err(WalError::io("write", &self.path))?;
        self.file.sync_data().map_err(WalError::io("sync", &self.path))?;
        self.block = (self.block + 1) % BLOCKS;
        Ok(())
    }
}

/// A block as it stands on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fields {
    version: u32,
    lane: Lane,
    incarnation: Incarnation,
    number: u64,
    reached: Reached,
}

impl Fields {
    fn encode(&self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.lane.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.incarnation.0.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.number.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.reached.base.to_le_bytes());
        bytes[36..44].copy_from_slice(&self.reached.sequence.to_le_bytes());
        bytes[44..52].copy_from_slice(&self.reached.end.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..52]);
        bytes[52..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// None if these bytes are not a whole block.
    fn decode(bytes: &[u8; MARK_BYTES]) -> Option<Self> {
        fn field<const N: usize>(bytes: &[u8; MARK_BYTES], at: usize) -> [u8; N] {
            std::array::from_fn(|i| bytes[at + i])
        }
        let crc = u32::from_le_bytes(field(bytes, 52));
        if bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..52]) != crc {
            return None;
        }
        Some(Self {
            version: u32::from_le_bytes(field(bytes, 8)),
            lane: Lane(u32::from_le_bytes(field(bytes, 12))),
            incarnation: Incarnation(u32::from_le_bytes(field(bytes, 16))),
            number: u64::from_le_bytes(field(bytes, 20)),
            reached: Reached {
                base: u64::from_le_bytes(field(bytes, 28)),
                sequence: u64::from_le_bytes(field(bytes, 36)),
                end: u64::from_le_bytes(field(bytes, 44)),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::disk::memory::MemoryDisk;

    fn options() -> WalOptions {
        WalOptions::new("/data/wal/0", "/data/checkpoints/0/wal.mark", Lane(0), Incarnation(3))
    }

    proptest! {
        #[test]
        fn a_block_is_read_back_and_any_flipped_bit_is_noticed(
            lane: u32, incarnation: u32, number: u64, base: u64, sequence: u64, end: u64, bit in 0..MARK_BYTES * 8,
        ) {
            let (lane, incarnation) = (Lane(lane), Incarnation(incarnation));
            let reached = Reached { base, sequence, end };
            let fields = Fields { version: VERSION, lane, incarnation, number, reached };
            let mut bytes = fields.encode();
            prop_assert_eq!(Fields::decode(&bytes), Some(fields));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Fields::decode(&bytes), None);
        }
    }

    #[test]
    fn the_newest_whole_block_counts_and_one_that_is_cut_off_leaves_the_other() {
        let (disk, options) = (MemoryDisk::default(), options());
        Mark::create(&disk, &options, 7).unwrap();
        for (sequence, end) in [(1, 7), (2, 20), (3, 30), (2, 30), (4, 30)] {
            let before = Mark::open(&disk, &options).unwrap().reached();
            let mut mark = Mark::open(&disk, &options).unwrap();
            mark.reach(sequence, end).unwrap();
            let after = Reached { base: 7, sequence, end };
            assert_eq!(Mark::open(&disk, &options).unwrap().reached(), after);
            // The next write is cut off anywhere.
            let bytes = disk.bytes(&options.mark).unwrap();
            for cut in [0, 30, MARK_BYTES - 1] {
                let mut torn = bytes.clone();
                let block = (mark.block * BLOCK_BYTES) as usize;
                torn[block..block + cut].fill(0xA5);
                torn[block + cut] ^= 1;
                let disk = disk.crash(0);
                disk.put(&options.mark, torn);
                assert_eq!(Mark::open(&disk, &options).unwrap().reached(), after, "not {before:?}");
            }
        }
    }
}
