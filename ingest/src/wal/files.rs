use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use chronik_format::ids::LogIndex;

use super::header::{FRAMES_START, FileName};
use crate::disk::DiskFile;

/// A file with durable frames. A reader that holds one may read it to its end, recycled or not.
pub(super) struct LogFile {
    pub name: FileName,
    pub sequence: u64,
    pub path: PathBuf,
    pub file: Arc<dyn DiskFile>,
    pub salt: u32,
    pub first: LogIndex,
    /// Bytes it takes on disk.
    pub allocated: u64,
    last: AtomicU64,
    end: AtomicU64,
}

impl LogFile {
    pub(super) fn new(
        name: FileName,
        sequence: u64,
        path: PathBuf,
        file: Arc<dyn DiskFile>,
        salt: u32,
        first: LogIndex,
        allocated: u64,
    ) -> Self {
        let (last, end) = (AtomicU64::new(first.saturating_sub(1)), AtomicU64::new(FRAMES_START));
        Self { name, sequence, path, file, salt, first, allocated, last, end }
    }

    /// Everything up to this index and position is durable.
    pub(super) fn extend(&self, last: LogIndex, end: u64) {
        self.end.store(end, Ordering::Release);
        self.last.store(last, Ordering::Release);
    }

    /// The last durable frame.
    pub(super) fn last(&self) -> LogIndex {
        self.last.load(Ordering::Acquire)
    }

    /// The position behind the last durable frame.
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }
}

/// The files that hold durable frames, by sequence, which is also their order by index.
#[derive(Default)]
pub(super) struct WalFiles {
    files: RwLock<BTreeMap<u64, Arc<LogFile>>>,
}

impl WalFiles {
    pub(super) fn new(files: Vec<LogFile>) -> Self {
        Self { files: RwLock::new(files.into_iter().map(|file| (file.sequence, Arc::new(file))).collect()) }
    }

    pub(super) fn insert(&self, file: Arc<LogFile>) {
        self.files.write().unwrap_or_else(PoisonError::into_inner).insert(file.sequence, file);
    }

    /// The file that holds a frame.
    pub(super) fn holding(&self, index: LogIndex) -> Option<Arc<LogFile>> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let file = files.values().rev().find(|file| file.first <= index)?;
        (file.last() >= index).then(|| file.clone())
    }

    /// The index of the oldest frame.
    pub(super) fn oldest(&self) -> Option<LogIndex> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.first_key_value().map(|(_, file)| file.first)
    }

    /// Takes out the oldest file if it ends at or before `up_to`. The newest one always stays: it tells a log whose
    /// files are lost from one that never had any.
    pub(super) fn take_oldest(&self, up_to: LogIndex) -> Option<Arc<LogFile>> {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        if files.len() < 2 || files.first_key_value()?.1.last() > up_to {
            return None;
        }
        files.pop_first().map(|(_, file)| file)
    }

    /// How many, and the bytes of the frames in them.
    pub(super) fn size(&self) -> (usize, u64) {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        (files.len(), files.values().map(|file| file.end() - FRAMES_START).sum())
    }
}
