//! The disk, as far as the write-ahead log needs it: two narrow traits, so that one suite can run over a real
//! directory and over a disk in memory that loses and tears whatever was not synced.

mod local;
#[cfg(test)]
pub mod memory;
mod place_head;

use std::io::{self, ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;

pub use local::LocalDisk;
pub use place_head::{PlaceHead, UnknownVersion, fuzz_head};

/// The most parts that one vectored write takes; the system's own limit (`IOV_MAX`).
const WRITE_PARTS_MAX: usize = 1024;

/// Files by name. Changes to a directory (create, rename, remove) are durable once it was synced, not before.
pub trait Disk: Send + Sync + 'static {
    /// Creates a directory and its parents, durably. One that exists is left as it is.
    fn create_directory(&self, directory: &Path) -> io::Result<()>;
    /// The names of the files in a directory, in no order.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// Creates a file of `length` bytes whose blocks are allocated; leaves nothing behind if that fails.
    fn create(&self, path: &Path, length: u64) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name in the same directory. Open handles stay valid.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name. A reader that has it open goes on reading.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes all changes to a directory durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
}

/// Bytes by position.
pub trait ReadAt {
    /// Reads what one system call gives, 0 at the end of the file.
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Bytes in the file, preallocated ones included.
    fn length(&self) -> io::Result<u64>;
}

/// An open file. Dropping the last reference closes it.
pub trait DiskFile: ReadAt + Send + Sync {
    /// Writes what one system call takes of `parts`, one behind the other.
    fn write_at(&self, position: u64, parts: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Allocates blocks up to `length` bytes, all of it or nothing that shows.
    fn extend(&self, length: u64) -> io::Result<()>;
    /// Makes all bytes written so far durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts the file to `length` bytes, and makes that and its bytes durable.
    fn truncate(&self, length: u64) -> io::Result<()>;
}

/// What the operator can do about a failure, to be put behind the system's own words; empty if those say it.
pub fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::IsADirectory => {
            ". A directory stands where a file belongs: move it away, and put the file back if there was one"
        }
        _ => "",
    }
}

/// Writes all of `parts`, going on after short and interrupted writes, never after any other error.
pub fn write_all_at(file: &dyn DiskFile, mut position: u64, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        let run = parts.len().min(WRITE_PARTS_MAX);
        match file.write_at(position, &parts[..run]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                position += written as u64;
                IoSlice::advance_slices(&mut parts, written);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills as much of `buffer` as the file has from `position` on; the number of bytes read.
pub fn read_full_at(file: &dyn ReadAt, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(position + filled as u64, &mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl ReadAt for [u8] {
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(position).ok().and_then(|start| self.get(start..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.as_slice().read_at(position, buffer)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}
