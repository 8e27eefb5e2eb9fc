//! The data directory: a lock, the identity of what lies in it, local checkpoints, and the write-ahead log.
//!
//! `lock`, `identity.json`, `writers`, `checkpoints/{lane}/{0,1}.ckpt`, `wal/{lane}/`
//! and its mark, `checkpoints/{lane}/wal.mark`. The identity comes first: it is
//! written when the bucket is claimed, marked as complete once all else is there, and only then is anything served. So
//! a start that was cut off is known by its identity, and a directory with a log or checkpoints but without an identity
//! is damaged. It is never taken for an empty one.

mod checkpoints;
mod identity;
mod writers;

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronik_format::ids::LaneId;

use crate::disk::{Disk, LocalDisk, remedy};
pub use checkpoints::{LocalCheckpoints, StoredCheckpoint};
pub use identity::{DirectoryIdentity, fuzz_identity};
pub use writers::{WriterNames, fuzz_writers};

const IDENTITY: &str = "identity.json";

/// Why the data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// An operation failed.
    #[error("could not {operation} {}: {source}{}", path.display(), remedy(source))]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
    /// Another process uses it.
    #[error(
        "the data directory {} is used by another process: stop that one, or choose another directory with --data-dir \
         (CHRONIK_DATA_DIR)", path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Written by another version.
    #[error("{} can't be read by this version of Chronik: {reason}", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The identity can't be read.
    #[error(
        "{} is damaged ({reason}): put it back from a copy, or move the data directory away and start with an empty one \
         to recover from the bucket, which loses what was not shipped", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There are data in it, and nothing says whose.
    #[error(
        "the data directory {} holds {}, but {reason}: put identity.json back from a copy, or move the directory away and \
         start with an empty one to recover from the bucket, which loses what was not shipped; nothing in it was changed",
         directory.display(), found.display()
    )]
    Orphaned {
        directory: PathBuf,
        /// The first file that an owner wrote.
        found: PathBuf,
        /// What the identity says.
        reason: &'static str,
    },
}

/// A locked data directory.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates the directory if need be, durably, locks it for as long as the value lives, and removes what a killed
    /// write left half done.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let created = LocalDisk.create_directory(path);
        created.map_err(io_error("create the data directory", path))?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).map_err(io_error("create", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataDirError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(io_error("lock", &lock_path)(source)),
        }
        let unfinished = temporary(&path.join(IDENTITY));
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &unfinished)(error)),
            _ => Ok(Self { path: path.to_owned(), _lock: lock }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of a lane's write-ahead log.
    pub fn wal(&self, lane: LaneId) -> PathBuf {
        self.path.join("wal").join(lane.to_string())
    }

    /// The file that says how far a lane's write-ahead log had come. It is not with the log: a volume that holds that
    /// one may not be mounted.
    pub fn wal_mark(&self, lane: LaneId) -> PathBuf {
        self.checkpoint_directory(lane).join("wal.mark")
    }

    /// Bytes that a lane's log may take of its volume: what is free, and what the log has taken already.
    pub fn log_bytes_max(&self, lane: LaneId) -> Result<u64, DataDirError> {
        let volume = rustix::fs::statvfs(&self.path).map_err(|errno| io_error("look at", &self.path)(errno.into()))?;
        let mut bytes = volume.f_bavail.saturating_mul(volume.f_frsize);
        for file in files_in(&self.wal(lane))? {
            let taken = fs::metadata(&file).map_err(io_error("look at", &file))?;
            bytes = bytes.saturating_add(taken.len());
        }
        Ok(bytes)
    }

    /// Whose data lies here; `None` if it is empty, or was left before anything was served from it.
    pub fn identity(&self) -> Result<Option<DirectoryIdentity>, DataDirError> {
        match self.read_identity()? {
            Some(identity) if identity.complete => Ok(Some(identity)),
            // Its log would have been begun after it was complete.
            Some(_) => self.without(&["wal"], "identity.json says that nothing was served from it"),
            None => self.without(&["wal", "checkpoints"], "identity.json is missing"),
        }
    }

    fn read_identity(&self) -> Result<Option<DirectoryIdentity>, DataDirError> {
        let path = self.path.join(IDENTITY);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        DirectoryIdentity::decode(&path, &bytes).map(Some)
    }

    /// None, unless a lane has left data in one of these directories.
    fn without(&self, directories: &[&str], reason: &'static str) -> Result<Option<DirectoryIdentity>, DataDirError> {
        for directory in directories {
            for lane in files_in(&self.path.join(directory))? {
                let mut files = files_in(&lane)?.into_iter();
                if let Some(found) = files.find(|file| holds_data(file)) {
                    return Err(DataDirError::Orphaned { directory: self.path.clone(), found, reason });
                }
            }
        }
        Ok(None)
    }

    /// Writes the identity, durably, if it is another one than before.
    pub fn set_identity(&self, identity: &DirectoryIdentity) -> Result<(), DataDirError> {
        if self.read_identity()? == Some(*identity) {
            return Ok(());
        }
        let bytes = serde_json::to_vec(identity).unwrap_or_default();
        write_durably(&self.path, IDENTITY, &bytes)
    }

    /// The names of the processes that have written to the bucket from here.
    pub fn writers(&self) -> WriterNames {
        WriterNames::new(Arc::new(LocalDisk), self.path.join("writers"))
    }

    /// A lane's local checkpoints.
    pub fn checkpoints(&self, lane: LaneId) -> LocalCheckpoints {
        LocalCheckpoints::new(Arc::new(LocalDisk), self.checkpoint_directory(lane), lane)
    }

    fn checkpoint_directory(&self, lane: LaneId) -> PathBuf {
        self.path.join("checkpoints").join(lane.to_string())
    }
}

/// Temporary file, fsync, rename, fsync of the directory: after a crash the name has the old bytes or the new ones.
fn write_durably(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), DataDirError> {
    let target = directory.join(name);
    let temporary = temporary(&target);
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(io_error("write", &temporary))?;
    fs::rename(&temporary, &target).map_err(io_error("rename", &temporary))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io_error("sync", directory))
}

/// Where a file's bytes are until they are whole.
fn temporary(target: &Path) -> PathBuf {
    target.with_added_extension("tmp")
}

/// What lies in a directory; nothing if it is not there, or no directory.
fn files_in(directory: &Path) -> Result<Vec<PathBuf>, DataDirError> {
    let listed = fs::read_dir(directory).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    match listed {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        listed => listed.map_err(io_error("list", directory)),
    }
}

/// Whether a file holds frames or a state. Spare log files mean nothing.
fn holds_data(file: &Path) -> bool {
    let extension = file.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("wal" | "ckpt" | "mark"))
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io { operation, path, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::os::unix::fs::MetadataExt;

    use chronik_format::ids::Incarnation;
    use uuid::Uuid;

    use super::*;

    const LANE: LaneId = LaneId(0);

    fn opened() -> (tempfile::TempDir, DataDir) {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(folder.path()).unwrap();
        (folder, data_dir)
    }

    fn held() -> DirectoryIdentity {
        DirectoryIdentity::held(Uuid::nil(), Incarnation(3))
    }

    fn put(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "data").unwrap();
        path
    }

    #[test]
    fn data_without_an_identity_are_never_an_empty_directory() {
        for name in ["wal/00000000/00000003-0000000000000001.wal", "checkpoints/00000000/0.ckpt"] {
            let (folder, data_dir) = opened();
            let file = put(folder.path(), name);
            let error = data_dir.identity().unwrap_err();
            assert!(matches!(&error, DataDirError::Orphaned { found, .. } if *found == file), "{error}");
            for part in [folder.path().to_str().unwrap(), name, "identity.json is missing", "recover"] {
                assert!(error.to_string().contains(part), "{part} is not in: {error}");
            }
            assert!(file.exists());
        }
    }

    #[test]
    fn what_holds_no_data_does_not_stand_in_the_way_of_a_first_start() {
        let (folder, data_dir) = opened();
        put(folder.path(), "wal/lost+found/note");
        put(folder.path(), "wal/00000000/0000000000000000.spare");
        fs::create_dir_all(folder.path().join("checkpoints/00000000")).unwrap();
        assert_eq!(data_dir.identity().unwrap(), None);
    }

    #[test]
    fn a_start_that_was_cut_off_counts_as_none_unless_there_is_a_log() {
        let (folder, data_dir) = opened();
        data_dir.set_identity(&DirectoryIdentity::begun(Uuid::nil(), Incarnation(3))).unwrap();
        put(folder.path(), "checkpoints/00000000/0.ckpt");
        assert_eq!(data_dir.identity().unwrap(), None);
        put(folder.path(), "wal/00000000/00000003-0000000000000001.wal");
        let error = data_dir.identity().unwrap_err();
        assert!(error.to_string().contains("nothing was served from it"), "{error}");
    }

    #[test]
    fn a_damaged_identity_is_named_with_the_way_out_and_another_version_is_something_else() {
        let (folder, data_dir) = opened();
        data_dir.set_identity(&held()).unwrap();
        let path = folder.path().join(IDENTITY);
        let whole = fs::read(&path).unwrap();
        for bytes in [&whole[..0], &whole[..whole.len() / 2], b"{}", b"\0\0\0"] {
            fs::write(&path, bytes).unwrap();
            let error = data_dir.identity().unwrap_err();
            assert!(matches!(error, DataDirError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains("recover from the bucket"), "{error}");
        }
        fs::write(&path, r#"{"v":9}"#).unwrap();
        assert!(matches!(data_dir.identity(), Err(DataDirError::Unknown { .. })));
        fs::write(&path, whole).unwrap();
        assert_eq!(data_dir.identity().unwrap(), Some(held()));
    }

    #[test]
    fn an_identity_is_written_only_when_it_changes() {
        let (folder, data_dir) = opened();
        let file_number = || fs::metadata(folder.path().join(IDENTITY)).unwrap().ino();
        data_dir.set_identity(&held()).unwrap();
        let before = file_number();
        // Where nothing can be written: a directory stands in the way of the temporary file.
        let in_the_way = folder.path().join("identity.json.tmp");
        fs::create_dir(&in_the_way).unwrap();
        data_dir.set_identity(&held()).unwrap();
        assert_eq!(file_number(), before);
        data_dir.set_identity(&held().given_up()).unwrap_err();
        fs::remove_dir(&in_the_way).unwrap();
        data_dir.set_identity(&held().given_up()).unwrap();
        assert!(data_dir.identity().unwrap().unwrap().released);
    }

    #[test]
    fn what_a_killed_write_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let left = put(folder.path(), "identity.json.tmp");
        DataDir::open(folder.path()).unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn the_log_may_take_what_is_free_and_what_it_has() {
        let (_folder, data_dir) = opened();
        let without = data_dir.log_bytes_max(LANE).unwrap();
        let log = data_dir.wal(LANE);
        fs::create_dir_all(&log).unwrap();
        // A sparse file takes nothing of what is free, so all of it is what the log has.
        let held = 1 << 40;
        File::create(log.join("00000003-0000000000000001.wal")).and_then(|file| file.set_len(held)).unwrap();
        let with = data_dir.log_bytes_max(LANE).unwrap();
        assert!(with > held && with.abs_diff(without + held) < held / 100, "{without} {with}");
    }
}
