//! A lane's local checkpoints: two places of which each holds the newest state, so that one may be damaged, and one is
//! whole while the other is written.
//!
//! A place is a [head](PlaceHead), zeros up to 4096, and the checkpoint. The head's fields are the checkpoint's index,
//! its length and its CRC-32C. A place is allocated for twice of what it holds, so that a full disk does not keep a
//! checkpoint from being written.

use std::io::{ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use chronik_format::ids::{Incarnation, LaneId, LogIndex};

use super::{DataDirError, io_error};
use crate::disk::{Disk, DiskFile, PlaceHead, UnknownVersion, read_full_at, write_all_at};

const PLACES: [&str; 2] = ["0.ckpt", "1.ckpt"];
const MAGIC: [u8; 8] = *b"ChronikL";
const CHECKPOINT_START: u64 = 4096;
/// Places grow by as much at a time.
const GROWTH_BYTES: u64 = 1 << 20;

/// The places of one lane.
pub struct LocalCheckpoints {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    lane: LaneId,
}

/// A whole checkpoint.
#[derive(Clone, Debug)]
pub struct StoredCheckpoint {
    /// Where it stands.
    pub path: PathBuf,
    /// Of the owner that wrote it.
    pub incarnation: Incarnation,
    /// The last index applied.
    pub index: LogIndex,
    /// The checkpoint itself.
    pub bytes: Bytes,
    number: u64,
}

/// What stands in a place.
enum Place {
    Missing,
    Damaged,
    Whole(StoredCheckpoint),
}

impl LocalCheckpoints {
    pub(super) fn new(disk: Arc<dyn Disk>, directory: PathBuf, lane: LaneId) -> Self {
        Self { disk, directory, lane }
    }

    /// Writes a checkpoint into both places, durably. If that fails, one that was there stays, and it may be tried
    /// again.
    pub fn put(&self, incarnation: Incarnation, index: LogIndex, checkpoint: &[u8]) -> Result<(), DataDirError> {
        let created = self.disk.create_directory(&self.directory);
        created.map_err(io_error("create", &self.directory))?;
        let mut number = 0;
        let mut places = Vec::new();
        for path in self.paths() {
            let written = match self.read(&path)? {
                Place::Whole(stored) => stored.number,
                Place::Missing | Place::Damaged => u64::MAX,
            };
            if written < u64::MAX {
                number = number.max(written);
            }
            places.push((written, self.open(&path, checkpoint.len() as u64)?, path));
        }
        // A place that is damaged, or else the one written last, comes first: only that one may not have reached the
        // disk, and the other one stays until it has.
        places.sort_by_key(|(written, ..)| std::cmp::Reverse(*written));
        for ((_, file, path), number) in places.into_iter().zip(number + 1..) {
            let fields = [index, checkpoint.len() as u64, crc32c::crc32c(checkpoint).into()];
            let head = PlaceHead { lane: self.lane, incarnation, number, fields };
            let written = write_all_at(&*file, CHECKPOINT_START, &mut [IoSlice::new(checkpoint)])
                .and_then(|()| write_all_at(&*file, 0, &mut [IoSlice::new(&head.encode(&MAGIC))]))
                .and_then(|()| file.sync_data());
            written.map_err(io_error("write", &path))?;
        }
        Ok(())
    }

    /// The whole checkpoints of an incarnation, newest first, and the places where one is missing or damaged.
    pub fn of(&self, incarnation: Incarnation) -> Result<(Vec<StoredCheckpoint>, Vec<PathBuf>), DataDirError> {
        let (mut whole, mut lost) = (Vec::new(), Vec::new());
        for path in self.paths() {
            match self.read(&path)? {
                Place::Whole(stored) if stored.incarnation == incarnation => whole.push(stored),
                Place::Whole(_) | Place::Missing | Place::Damaged => lost.push(path),
            }
        }
        whole.sort_by_key(|stored| std::cmp::Reverse((stored.index, stored.number)));
        Ok((whole, lost))
    }

    /// Checkpoints by other names, which are never read.
    pub fn strays(&self) -> Result<Vec<PathBuf>, DataDirError> {
        let names = match self.disk.list(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            names => names.map_err(io_error("list", &self.directory))?,
        };
        let strays = names.iter().filter(|name| name.ends_with(".ckpt") && !PLACES.contains(&name.as_str()));
        Ok(strays.map(|name| self.directory.join(name)).collect())
    }

    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        PLACES.into_iter().map(|name| self.directory.join(name))
    }

    /// A place with space for `length` bytes, and if the disk allows, for twice as much.
    fn open(&self, path: &Path, length: u64) -> Result<Arc<dyn DiskFile>, DataDirError> {
        let needed = CHECKPOINT_START + length;
        let ample = CHECKPOINT_START + (2 * length).next_multiple_of(GROWTH_BYTES).max(GROWTH_BYTES);
        let file = match self.disk.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let file = self.disk.create(path, ample).map_err(io_error("allocate", path))?;
                let synced = self.disk.sync_directory(&self.directory);
                synced.map_err(io_error("sync", &self.directory))?;
                file
            }
            Err(error) => return Err(io_error("open", path)(error)),
        };
        let allocated = file.length().map_err(io_error("read", path))?;
        if allocated < ample {
            match file.extend(ample) {
                Err(error) if allocated < needed => return Err(io_error("allocate", path)(error)),
                _ => {}
            }
        }
        Ok(file)
    }

    fn read(&self, path: &Path) -> Result<Place, DataDirError> {
        let file = match self.disk.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Place::Missing),
            Err(error) => return Err(io_error("open", path)(error)),
        };
        let read = || io_error("read", path);
        let head = PlaceHead::read(&MAGIC, &*file, 0).map_err(read())?;
        let Some(head) = head.map_err(|UnknownVersion(version)| DataDirError::Unknown {
            path: path.to_owned(),
            reason: format!("it has format version {version}"),
        })?
        else {
            return Ok(Place::Damaged);
        };
        let [index, length, crc] = head.fields;
        let space = file.length().map_err(read())?.saturating_sub(CHECKPOINT_START);
        if length > space || head.lane != self.lane {
            return Ok(Place::Damaged);
        }
        let mut bytes = vec![0; length as usize];
        let filled = read_full_at(&*file, CHECKPOINT_START, &mut bytes).map_err(read())?;
        if filled < bytes.len() || u64::from(crc32c::crc32c(&bytes)) != crc {
            return Ok(Place::Damaged);
        }
        Ok(Place::Whole(StoredCheckpoint {
            path: path.to_owned(),
            incarnation: head.incarnation,
            index,
            bytes: bytes.into(),
            number: head.number,
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use rustix::io::Errno;

    use super::*;
    use crate::disk::memory::{DiskOperation, MemoryDisk};

    const OWN: Incarnation = Incarnation(3);

    fn places(disk: &MemoryDisk) -> LocalCheckpoints {
        LocalCheckpoints::new(Arc::new(disk.clone()), "/data/checkpoints/0".into(), LaneId(0))
    }

    /// A checkpoint whose bytes say which one it is.
    fn checkpoint(index: LogIndex) -> Vec<u8> {
        format!("{index} ").repeat(1 + (index as usize * 7919) % 3000).into_bytes()
    }

    fn newest(disk: &MemoryDisk) -> Option<LogIndex> {
        let (whole, _) = places(disk).of(OWN).unwrap();
        for stored in &whole {
            assert_eq!(stored.bytes, checkpoint(stored.index));
        }
        whole.first().map(|stored| stored.index)
    }

    #[test]
    fn each_place_alone_gives_the_newest_checkpoint_and_the_other_is_named() {
        let disk = MemoryDisk::default();
        for index in [7, 20, 30] {
            places(&disk).put(OWN, index, &checkpoint(index)).unwrap();
            for path in places(&disk).paths() {
                let whole = disk.bytes(&path).unwrap();
                for at in [0, 30, CHECKPOINT_START as usize] {
                    let damaged = disk.crash(0);
                    let mut bytes = whole.clone();
                    bytes[at] ^= 1;
                    damaged.put(&path, bytes);
                    let (stored, lost) = places(&damaged).of(OWN).unwrap();
                    assert_eq!((stored.len(), stored[0].index, &lost[..]), (1, index, &[path.clone()][..]));
                }
                let missing = disk.crash(0);
                missing.remove(&path).unwrap();
                assert_eq!(newest(&missing), Some(index));
                places(&missing).put(OWN, index + 1, &checkpoint(index + 1)).unwrap();
                assert!(places(&missing).of(OWN).unwrap().1.is_empty());
            }
        }
        assert!(places(&disk).of(Incarnation(4)).unwrap().0.is_empty());
    }

    #[test]
    fn a_checkpoint_by_another_name_is_named_and_counts_for_nothing() {
        let disk = MemoryDisk::default();
        assert!(places(&disk).strays().unwrap().is_empty());
        places(&disk).put(OWN, 7, &checkpoint(7)).unwrap();
        disk.put("/data/checkpoints/0/wal.mark".as_ref(), vec![1]);
        assert!(places(&disk).strays().unwrap().is_empty());
        let stray = PathBuf::from("/data/checkpoints/0/00000003-00000000000000ff.ckpt");
        disk.put(&stray, vec![b'x'; 500]);
        assert_eq!(places(&disk).strays().unwrap(), [stray]);
        let (whole, lost) = places(&disk).of(OWN).unwrap();
        assert_eq!((whole.len(), whole[0].index, lost.len()), (2, 7, 0));
    }

    #[test]
    fn a_full_disk_does_not_keep_a_checkpoint_from_being_written_until_it_has_doubled() {
        let disk = MemoryDisk::default();
        let sized = |bytes: usize| vec![7; bytes];
        places(&disk).put(OWN, 1, &sized(600 << 10)).unwrap();
        disk.set_capacity(0);
        for (index, bytes) in [(2, 700 << 10), (3, 1200 << 10)] {
            places(&disk).put(OWN, index, &sized(bytes)).unwrap();
        }
        let refused = places(&disk).put(OWN, 4, &sized(3 << 20)).unwrap_err();
        assert!(refused.to_string().contains("0.ckpt"), "{refused}");
        assert_eq!(places(&disk).of(OWN).unwrap().0[0].index, 3);
        disk.set_capacity(64 << 20);
        places(&disk).put(OWN, 5, &sized(3 << 20)).unwrap();
        assert_eq!(places(&disk).of(OWN).unwrap().0[0].bytes, sized(3 << 20));
    }

    #[test]
    fn a_checkpoint_that_was_stored_survives_power_cuts_and_failed_syncs_of_later_ones() {
        for seed in 0..300 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut disk = MemoryDisk::default();
            let (mut stored, mut index) = (None, 0);
            for _ in 0..8 {
                match random.random_range(0..3) {
                    0 => disk.cut_power_at(disk.operations() + random.random_range(1..12)),
                    1 => disk.fail(DiskOperation::Sync, random.random_range(0..3), Errno::IO),
                    _ => {}
                }
                for _ in 0..random.random_range(1..4) {
                    index += 1;
                    if places(&disk).put(OWN, index, &checkpoint(index)).is_ok() {
                        stored = Some(index);
                    }
                }
                disk = if random.random_bool(0.5) { disk.kill() } else { disk.crash(random.random()) };
                assert!(newest(&disk.crash(seed)) >= stored, "seed {seed}: {stored:?} was stored");
                assert!(newest(&disk) >= stored, "seed {seed}: {stored:?} was stored");
            }
        }
    }
}
