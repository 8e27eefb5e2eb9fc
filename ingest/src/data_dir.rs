//! The data directory: a lock, the identity of what lies in it, local checkpoints, and the write-ahead log.
//!
//! `lock`, `identity.json`, `checkpoints/{lane}/{incarnation}-{index}.ckpt`, `wal/{lane}/`. An identity is written once the
//! bucket is claimed and its checkpoint (if any) stored; without one the directory counts as empty.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use chronik_core::ids::{Incarnation, Lane, LogIndex};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The version of `identity.json`.
const VERSION: u32 = 0;
/// How many local checkpoints are kept.
const CHECKPOINTS_KEPT: usize = 2;

/// Why the data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// An operation failed.
    #[error("could not {operation} {}: {source}", path.display())]
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
}

/// Whose data lies in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    v: u32,
    /// The cluster.
    pub cluster: Uuid,
    /// The claim under which it was written.
    pub incarnation: Incarnation,
    /// Whether the last stop gave the bucket up: then nothing is served before the claims have been read.
    pub released: bool,
}

impl Identity {
    /// Of a running broker.
    pub fn held(cluster: Uuid, incarnation: Incarnation) -> Self {
        Self {
            v: VERSION,
            cluster,
            incarnation,
            released: false,
        }
    }

    /// Of a broker that stopped in good order and gave the bucket up.
    pub fn given_up(self) -> Self {
        Self { released: true, ..self }
    }
}

/// A locked data directory.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates the directory if need be, and locks it for as long as the value lives.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        fs::create_dir_all(path).map_err(io_error("create the data directory", path))?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).map_err(io_error("create", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(io_error("lock", &lock_path)(source)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of a lane's write-ahead log.
    pub fn wal(&self, lane: Lane) -> PathBuf {
        self.path.join("wal").join(lane.to_string())
    }

    /// Bytes that are free on its volume.
    pub fn free_bytes(&self) -> Result<u64, DataDirError> {
        let volume = rustix::fs::statvfs(&self.path).map_err(|errno| io_error("look at", &self.path)(errno.into()))?;
        Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
    }

    /// Whose data lies here; `None` if nobody's.
    pub fn identity(&self) -> Result<Option<Identity>, DataDirError> {
        let path = self.path.join("identity.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let unknown = |reason: String| DataDirError::Unknown {
            path: path.clone(),
            reason,
        };
        let identity: Identity = serde_json::from_slice(&bytes).map_err(|error| unknown(error.to_string()))?;
        match identity.v {
            VERSION => Ok(Some(identity)),
            other => Err(unknown(format!("version {other}, known is {VERSION}"))),
        }
    }

    /// Writes the identity, durably.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), DataDirError> {
        let bytes = serde_json::to_vec(identity).unwrap_or_default();
        write_durably(&self.path, "identity.json", &bytes)
    }

    /// Forgets what lies here from a start that did not get as far as an identity.
    pub fn clear(&self) -> Result<(), DataDirError> {
        for name in ["wal", "checkpoints"] {
            let path = self.path.join(name);
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", &path)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Stores a checkpoint, durably, and drops all but the newest ones.
    pub fn put_checkpoint(
        &self,
        lane: Lane,
        incarnation: Incarnation,
        index: LogIndex,
        bytes: &[u8],
    ) -> Result<(), DataDirError> {
        let directory = self.checkpoints(lane);
        fs::create_dir_all(&directory).map_err(io_error("create", &directory))?;
        write_durably(&directory, &format!("{incarnation}-{index:016x}.ckpt"), bytes)?;
        let names = self.checkpoint_names(lane)?;
        for (_, old) in names.iter().rev().skip(CHECKPOINTS_KEPT) {
            fs::remove_file(old).map_err(io_error("remove", old))?;
        }
        Ok(())
    }

    /// The newest checkpoint of an incarnation and its file, if there is one.
    pub fn newest_checkpoint(
        &self,
        lane: Lane,
        incarnation: Incarnation,
    ) -> Result<Option<(PathBuf, Bytes)>, DataDirError> {
        let prefix = format!("{incarnation}-");
        let names = self.checkpoint_names(lane)?;
        let Some((_, path)) = names.into_iter().rev().find(|(name, _)| name.starts_with(&prefix)) else {
            return Ok(None);
        };
        let bytes = fs::read(&path).map_err(io_error("read", &path))?;
        Ok(Some((path, Bytes::from(bytes))))
    }

    fn checkpoints(&self, lane: Lane) -> PathBuf {
        self.path.join("checkpoints").join(lane.to_string())
    }

    /// Names and paths, oldest first: fixed-width hex sorts as numbers do.
    fn checkpoint_names(&self, lane: Lane) -> Result<Vec<(String, PathBuf)>, DataDirError> {
        let directory = self.checkpoints(lane);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("list", &directory)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io_error("list", &directory))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".ckpt") {
                names.push((name, entry.path()));
            }
        }
        names.sort();
        Ok(names)
    }
}

/// Temporary file, fsync, rename, fsync of the directory: after a crash the name has the old bytes or the new ones.
fn write_durably(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), DataDirError> {
    let (temporary, target) = (directory.join(format!("{name}.tmp")), directory.join(name));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(io_error("write", &temporary))?;
    fs::rename(&temporary, &target).map_err(io_error("rename", &temporary))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io_error("sync", directory))
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io {
        operation,
        path,
        source,
    }
}
