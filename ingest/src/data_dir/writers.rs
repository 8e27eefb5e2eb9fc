//! Which processes have written to the bucket from this data directory: by their names a start distinguishes its
//! predecessor from a process with a copy of the directory.
//!
//! JSON, then blanks up to 4096 bytes: allocated ahead and written in place, so that a full disk keeps no start from
//! noting its name. If it is torn or missing no name is known, and the next start waits until the last writer is
//! silent.

use std::io::{self, ErrorKind, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{DataDirError, io_error};
use crate::disk::{Disk, read_full_at, write_all_at};

const VERSION: u32 = 0;
const FILE_BYTES: usize = 4096;
/// How many names are kept. Starts that can't reach the bucket add one each.
const NAMES_MAX: usize = 64;

/// The file with the names.
pub struct WriterNames {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Document {
    v: u32,
    writers: Vec<String>,
}

impl WriterNames {
    pub(super) fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        Self { disk, path }
    }

    /// The names; none if they can't be read.
    pub fn known(&self) -> Vec<String> {
        let read = || {
            let file = self.disk.open(&self.path)?;
            let mut bytes = vec![0; FILE_BYTES];
            let filled = read_full_at(&*file, 0, &mut bytes)?;
            io::Result::Ok(decode(&bytes[..filled]))
        };
        match read() {
            Ok(Some(writers)) => writers,
            Ok(None) => {
                tracing::warn!("{} is damaged, or of another version: its names are not used", self.path.display());
                Vec::new()
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!("could not read {}: {error}", self.path.display());
                Vec::new()
            }
        }
    }

    /// Puts these names, and `own`, into the place of those that are there, durably. Of too many, the first stays: it
    /// is the last one that was seen in the bucket.
    pub fn note(&self, mut names: Vec<String>, own: &str) -> Result<(), DataDirError> {
        names.push(own.to_owned());
        if names.len() > NAMES_MAX {
            names.drain(1..=names.len() - NAMES_MAX);
        }
        let mut bytes = serde_json::to_vec(&Document { v: VERSION, writers: names }).unwrap_or_default();
        bytes.resize(FILE_BYTES.max(bytes.len()), b' ');
        let file = match self.disk.open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let file = self.disk.create(&self.path, FILE_BYTES as u64).map_err(io_error("create", &self.path))?;
                let directory = self.path.parent().unwrap_or(&self.path);
                self.disk.sync_directory(directory).map_err(io_error("sync", directory))?;
                file
            }
            file => file.map_err(io_error("open", &self.path))?,
        };
        write_all_at(&*file, 0, &mut [IoSlice::new(&bytes)])
            .and_then(|()| file.sync_data())
            .map_err(io_error("write", &self.path))
    }
}

fn decode(bytes: &[u8]) -> Option<Vec<String>> {
    let document: Document = serde_json::from_slice(bytes).ok()?;
    (document.v == VERSION).then_some(document.writers)
}

/// Reads any bytes as the names, for fuzzing; whatever comes out, nothing panics.
pub fn fuzz_writers(bytes: &[u8]) {
    let _ = decode(bytes);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use ulid::Ulid;

    use super::*;
    use crate::disk::memory::MemoryDisk;

    #[test]
    fn names_are_kept_on_a_full_disk_and_what_is_torn_names_none() {
        let disk = MemoryDisk::default();
        let path = PathBuf::from("/data/writers");
        let writers = WriterNames::new(Arc::new(disk.clone()), path.clone());
        assert!(writers.known().is_empty());
        writers.note(Vec::new(), "a").unwrap();
        disk.set_capacity(0);
        writers.note(writers.known(), "b").unwrap();
        assert_eq!(writers.known(), ["a", "b"]);
        let mut torn = disk.bytes(&path).unwrap();
        torn[..10].fill(0);
        disk.put(&path, torn);
        assert!(writers.known().is_empty());
        writers.note(writers.known(), "c").unwrap();
        assert_eq!(writers.known(), ["c"]);
    }

    #[test]
    fn the_first_of_too_many_stays() {
        let writers = WriterNames::new(Arc::new(MemoryDisk::default()), "/data/writers".into());
        let names: Vec<String> = (0..200).map(|_| Ulid::new().to_string()).collect();
        for name in &names {
            writers.note(writers.known(), name).unwrap();
        }
        let known = writers.known();
        assert_eq!((known.len(), &known[0], &known[1..]), (NAMES_MAX, &names[0], &names[201 - NAMES_MAX..]));
    }
}
