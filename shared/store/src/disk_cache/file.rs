//! A range of an object as a file of its own.
//!
//! ```text
//! head    magic "CHRNKRNG" | version u16 | key length u16 | start u64 | end u64 | key
//!         | crc u32 of each 64 KiB of the bytes | crc u32 of what precedes
//! bytes   of the object, from start to end
//! ```
//!
//! Integers are little-endian, checksums CRC-32C. The file's name says what it holds, too: its object's, with `!` for
//! `/`, then `@`, start, `-`, and end, both in hex.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, Bytes};

use chronik_service::failpoint;

const MAGIC: [u8; 8] = *b"CHRNKRNG";
/// The format version that this program writes and reads; 0 is unreleased.
const VERSION: u16 = 0;
/// What is checked at once.
const BLOCK_BYTES: u64 = 64 << 10;
/// Bytes of a file's name that file systems take.
const NAME_BYTES_MAX: usize = 255;
/// File systems give room in pages of so many bytes.
const PAGE_BYTES: u64 = 4096;

/// A range of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectRange {
    pub key: Arc<str>,
    pub bytes: Range<u64>,
}

/// Why a file does not give its bytes.
#[derive(Debug, thiserror::Error)]
pub(super) enum RangeFileError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it does not hold what was written")]
    Damaged,
}

impl ObjectRange {
    /// The range that a file of this name holds.
    pub(super) fn of_file(name: &str) -> Option<Self> {
        let (key, bytes) = name.rsplit_once('@')?;
        let (start, end) = bytes.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let range = Self { key: key.replace('!', "/").into(), bytes: number(start)?..number(end)? };
        (range.file_name().as_deref() == Some(name)).then_some(range)
    }

    /// None if no file can have its name.
    fn file_name(&self) -> Option<String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/.-_".contains(&byte);
        let name = format!("{}@{:x}-{:x}", self.key.replace('/', "!"), self.bytes.start, self.bytes.end);
        (self.key.bytes().all(is_plain) && !self.bytes.is_empty() && name.len() <= NAME_BYTES_MAX).then_some(name)
    }

    /// Where its file is: in one of 256 folders.
    pub(super) fn path(&self, directory: &Path) -> Option<PathBuf> {
        let folder = crc32c::crc32c(self.key.as_bytes()) & 0xff;
        Some(directory.join(format!("{folder:02x}")).join(self.file_name()?))
    }

    /// Bytes of its file.
    pub(super) fn file_bytes(&self) -> u64 {
        self.head_bytes() + self.length()
    }

    /// What its file takes of the disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.file_bytes().next_multiple_of(PAGE_BYTES)
    }

    fn length(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }

    fn head_bytes(&self) -> u64 {
        32 + self.key.len() as u64 + 4 * self.length().div_ceil(BLOCK_BYTES)
    }

    fn head(&self, block_crcs: impl Iterator<Item = u32>) -> Vec<u8> {
        let mut head = Vec::with_capacity(self.head_bytes() as usize);
        head.put_slice(&MAGIC);
        head.put_u16_le(VERSION);
        head.put_u16_le(self.key.len() as u16);
        head.put_u64_le(self.bytes.start);
        head.put_u64_le(self.bytes.end);
        head.put_slice(self.key.as_bytes());
        block_crcs.for_each(|crc| head.put_u32_le(crc));
        head.put_u32_le(crc32c::crc32c(&head));
        head
    }

    /// Writes its file, whole or not at all. Not durably: what a power cut leaves of it is told by its checksums.
    pub(super) fn write(&self, path: &Path, begun: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let written = File::create(begun).and_then(|mut file| {
            file.write_all(&self.head(bytes.chunks(BLOCK_BYTES as usize).map(crc32c::crc32c)))?;
            file.write_all(bytes)
        });
        failpoint!("range-begun");
        written.and_then(|()| fs::rename(begun, path)).inspect_err(|_| drop(fs::remove_file(begun)))
    }

    /// The bytes `wanted` of the object, which it holds, checked.
    pub(super) fn read(&self, path: &Path, wanted: Range<u64>) -> Result<Bytes, RangeFileError> {
        let file = File::open(path)?;
        let mut head = vec![0; self.head_bytes() as usize];
        read_exact(&file, &mut head, 0)?;
        let crcs = head[28 + self.key.len()..head.len() - 4].chunks_exact(4);
        let crcs = crcs.map(|crc| u32::from_le_bytes([crc[0], crc[1], crc[2], crc[3]]));
        if head != self.head(crcs.clone()) {
            return Err(RangeFileError::Damaged);
        }
        let blocks =
            (wanted.start - self.bytes.start) / BLOCK_BYTES..(wanted.end - self.bytes.start).div_ceil(BLOCK_BYTES);
        let start = blocks.start * BLOCK_BYTES;
        let mut bytes = vec![0; ((blocks.end * BLOCK_BYTES).min(self.length()) - start) as usize];
        read_exact(&file, &mut bytes, self.head_bytes() + start)?;
        let found = bytes.chunks(BLOCK_BYTES as usize).map(crc32c::crc32c);
        if !found.eq(crcs.skip(blocks.start as usize).take((blocks.end - blocks.start) as usize)) {
            return Err(RangeFileError::Damaged);
        }
        let from = (wanted.start - self.bytes.start - start) as usize;
        Ok(Bytes::from(bytes).slice(from..from + (wanted.end - wanted.start) as usize))
    }
}

/// A file that is too short is damaged.
fn read_exact(file: &File, bytes: &mut [u8], position: u64) -> Result<(), RangeFileError> {
    file.read_exact_at(bytes, position).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => RangeFileError::Damaged,
        _ => error.into(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn range(key: &str, bytes: Range<u64>) -> ObjectRange {
        ObjectRange { key: key.into(), bytes }
    }

    fn content(length: u64) -> Vec<u8> {
        (0..length).map(|at| ((at * at) >> 7) as u8).collect()
    }

    #[test]
    fn a_file_is_as_its_layout_says() {
        let folder = tempfile::tempdir().unwrap();
        let range = range("a/b", 258..261);
        let path = range.path(folder.path()).unwrap();
        range.write(&path, &folder.path().join("begun"), b"xyz").unwrap();
        assert_eq!(path.strip_prefix(folder.path()).unwrap(), Path::new("a3/a!b@102-105"));
        let golden = b"CHRNKRNG\0\0\x03\0\x02\x01\0\0\0\0\0\0\x05\x01\0\0\0\0\0\0a/b\
              \x85\x68\x23\x25\xda\xe1\x96\xd2xyz";
        assert_eq!(fs::read(path).unwrap().escape_ascii().to_string(), golden.escape_ascii().to_string());
    }

    #[test]
    fn a_file_gives_any_part_of_its_range() {
        let folder = tempfile::tempdir().unwrap();
        for length in [1, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES + 5] {
            let range = range("lanes/0/x.seg", 100..100 + length);
            let path = range.path(folder.path()).unwrap();
            range.write(&path, &folder.path().join("begun"), &content(length)).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().len(), range.file_bytes());
            let edges = [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, length - 1, length];
            for (from, to) in edges.iter().flat_map(|from| edges.map(|to| (*from, to))) {
                if from < to && to <= length {
                    let read = range.read(&path, 100 + from..100 + to).unwrap();
                    assert!(read == content(length)[from as usize..to as usize], "{from}..{to} of {length}");
                }
            }
        }
    }

    #[test]
    fn a_flipped_bit_and_a_lost_byte_are_damage() {
        let folder = tempfile::tempdir().unwrap();
        let range = range("k", 7..107);
        let path = range.path(folder.path()).unwrap();
        range.write(&path, &folder.path().join("begun"), &content(100)).unwrap();
        let whole = fs::read(&path).unwrap();
        let is_damaged = || matches!(range.read(&path, 8..9), Err(RangeFileError::Damaged));
        assert!(!is_damaged());
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&path, &flipped).unwrap();
            assert!(is_damaged(), "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(is_damaged(), "cut at {at}");
        }
    }

    #[test]
    fn another_range_is_not_taken_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        range("a", 0..10).write(&path, &folder.path().join("begun"), &content(10)).unwrap();
        for other in [range("b", 0..10), range("a", 1..11)] {
            assert!(matches!(other.read(&path, 5..6), Err(RangeFileError::Damaged)));
        }
    }

    #[test]
    fn a_range_is_found_by_the_name_of_its_file() {
        for range in [range("lanes/0/a.seg", 0..1), range("a!b", 0..1), range("a@b", 3..4), range("a", 0x1f..u64::MAX)]
        {
            let name = range.path(Path::new("d")).map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
            assert_eq!(name.is_some(), !range.key.contains(['!', '@']));
            assert!(name.is_none_or(|name| ObjectRange::of_file(&name) == Some(range)));
        }
        assert_eq!(range(&"k".repeat(300), 0..1).path(Path::new("d")), None);
        for name in ["", "begun-1", "a@1", "a@2-1", "a@01-2", "a@1-2x", "../a@1-2/b"] {
            assert_eq!(ObjectRange::of_file(name), None, "{name}");
        }
    }
}
