use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::{Disk, DiskFile, ReadAt, write_all_at};

/// A file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        if directory.is_dir() {
            return Ok(());
        }
        let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_directory(parent)?;
        }
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.sync_directory(parent.unwrap_or(Path::new(".")))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, path: &Path, length: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        match allocate(&file, 0, length) {
            Ok(()) => Ok(Arc::new(file)),
            Err(error) => {
                drop(file);
                fs::remove_file(path)?;
                Err(error)
            }
        }
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }
}

/// Reserves the file's blocks from `start` up to `length`. Where the file system can't, zeros do it, so that no later
/// write finds the disk full.
fn allocate(file: &File, start: u64, length: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), start, length.saturating_sub(start)) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP) => return write_zeros(file, start, length),
            result => return Ok(result?),
        }
    }
}

fn write_zeros(file: &File, start: u64, length: u64) -> io::Result<()> {
    let zeros = [0; 64 << 10];
    for position in (start..length).step_by(zeros.len()) {
        let part = zeros.len().min((length - position) as usize);
        write_all_at(file, position, &mut [IoSlice::new(&zeros[..part])])?;
    }
    Ok(())
}

impl ReadAt for File {
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, buffer, position)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl DiskFile for File {
    fn write_at(&self, position: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::pwritev(self, parts, position)?)
    }

    fn extend(&self, length: u64) -> io::Result<()> {
        allocate(self, self.length()?, length)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)?;
        self.sync_all()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::disk::read_full_at;

    #[test]
    fn a_created_file_has_its_length_and_blocks_and_takes_many_parts() {
        let directory = tempfile::tempdir().unwrap();
        let nested = directory.path().join("wal/00000000");
        LocalDisk.create_directory(&nested).unwrap();
        LocalDisk.create_directory(&nested).unwrap();
        let path = nested.join("a");
        let file = LocalDisk.create(&path, 1 << 20).unwrap();
        assert_eq!(file.length().unwrap(), 1 << 20);
        assert!(LocalDisk.create(&path, 1).is_err(), "an existing file is never taken over");

        let bytes: Vec<u8> = (0..3000u32).map(|i| i as u8).collect();
        let mut parts: Vec<IoSlice<'_>> = bytes.chunks(1).map(IoSlice::new).collect();
        write_all_at(&*file, 7, &mut parts).unwrap();
        file.sync_data().unwrap();
        let mut read = vec![0; 3000];
        assert_eq!(read_full_at(&*file, 7, &mut read).unwrap(), 3000);
        assert_eq!(read, bytes);

        LocalDisk.rename(&path, &nested.join("b")).unwrap();
        LocalDisk.sync_directory(&nested).unwrap();
        assert_eq!(LocalDisk.list(&nested).unwrap(), ["b"]);
        let again = LocalDisk.open(&nested.join("b")).unwrap();
        again.truncate(10).unwrap();
        assert_eq!(file.length().unwrap(), 10);
        LocalDisk.remove(&nested.join("b")).unwrap();
        assert_eq!(read_full_at(&*file, 7, &mut read).unwrap(), 3, "an open file outlives its name");
    }

    #[test]
    fn zeros_allocate_where_the_file_system_cannot() {
        let directory = tempfile::tempdir().unwrap();
        let file = File::options().read(true).write(true).create_new(true).open(directory.path().join("a")).unwrap();
        write_zeros(&file, 0, (64 << 10) + 5).unwrap();
        assert_eq!(file.length().unwrap(), (64 << 10) + 5);
        file.extend(1 << 20).unwrap();
        assert_eq!(file.length().unwrap(), 1 << 20);
    }
}
