//! A disk in memory that forgets like a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::io::Errno;

use super::{Disk, DiskFile, ReadAt};

const SECTOR_BYTES: usize = 512;

/// Keeps what was synced; of the rest, [`MemoryDisk::crash`] keeps any part in any order. Fails where a test asks for
/// it. After a failed sync of a file, what it should have written is read back as if it were there, no later sync
/// writes it, and a crash takes it.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
    /// A held allocation may go on.
    allocating: Arc<Condvar>,
}

/// What changes the disk. Each is counted, and may be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOperation {
    /// A file's creation, or growth.
    Create,
    /// Another name for a file.
    Rename,
    /// A name's removal.
    Remove,
    /// A directory's sync.
    SyncDirectory,
    /// One write, however many parts it has.
    Write,
    /// A file's sync.
    Sync,
    /// A file's cut.
    Truncate,
}

#[derive(Clone, Default)]
struct State {
    files: Vec<Contents>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    unsynced_names: Vec<NameChange>,
    operations: u64,
    cut_at: Option<u64>,
    /// The operation, how many of its kind still go well, and what it then says.
    fault: Option<(DiskOperation, u32, Errno)>,
    capacity: Option<u64>,
    most_per_write: Option<usize>,
    /// Files are not created for now.
    holds_allocations: bool,
}

/// A file's bytes; it outlives its name.
#[derive(Clone, Default)]
struct Contents {
    current: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { position: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone)]
enum NameChange {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf),
}

impl MemoryDisk {
    /// Changes so far.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// The power goes with the operation of this number, counted from 1; it may or may not reach the disk.
    pub fn cut_power_at(&self, operation: u64) {
        self.lock().cut_at = Some(operation);
    }

    /// After `well` more operations of a kind, the next one fails.
    pub fn fail(&self, operation: DiskOperation, well: u32, errno: Errno) {
        self.lock().fault = Some((operation, well, errno));
    }

    /// Limits what all files together may take.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = Some(bytes);
    }

    /// Writes take at most this much, and every other one is interrupted.
    pub fn set_most_per_write(&self, bytes: usize) {
        self.lock().most_per_write = Some(bytes);
    }

    /// Has every creation of a file wait, from now on or no longer.
    pub fn hold_allocations(&self, hold: bool) {
        self.lock().holds_allocations = hold;
        self.allocating.notify_all();
    }

    /// What the next process finds if this one is killed: everything, but nothing more is durable for it.
    pub fn kill(&self) -> Self {
        let State { files, names, durable_names, unsynced_names, .. } = self.lock().clone();
        Self::from(State { files, names, durable_names, unsynced_names, ..State::default() })
    }

    /// What the next process may find after a power cut.
    pub fn crash(&self, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let State { mut files, durable_names: mut names, unsynced_names, .. } = self.lock().clone();
        // Now and then everything is there, or nothing: extremes that chance alone would hardly hit.
        let kept = [0.0, 0.5, 0.5, 0.9, 1.0][random.random_range(0..5)];
        for change in unsynced_names {
            if random.random_bool(kept) {
                change.apply(&mut names);
            }
        }
        for file in &mut files {
            let mut bytes = std::mem::take(&mut file.durable);
            for change in std::mem::take(&mut file.unsynced) {
                change.apply_partly(&mut bytes, kept, &mut random);
            }
            *file = Contents { current: bytes.clone(), durable: bytes, unsynced: Vec::new() };
        }
        Self::from(State { files, durable_names: names.clone(), names, ..State::default() })
    }

    /// A file's bytes as they are.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        state.names.get(path).map(|id| state.files[*id].current.clone())
    }

    /// Puts a file there, durably; for damage that no crash does.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.lock();
        let id = state.files.len();
        state.files.push(Contents { current: bytes.clone(), durable: bytes, unsynced: Vec::new() });
        state.names.insert(path.to_owned(), id);
        state.durable_names.insert(path.to_owned(), id);
    }

    /// Flips a bit of a file, also for who has it open.
    pub fn flip(&self, path: &Path, position: u64) {
        let mut state = self.lock();
        let id = state.names[path];
        state.files[id].current[position as usize] ^= 0x10;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<State> for MemoryDisk {
    fn from(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)), allocating: Arc::default() }
    }
}

impl State {
    fn powered(&self) -> io::Result<()> {
        match self.cut_at {
            Some(at) if self.operations >= at => Err(io::Error::other("the power is cut")),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, operation: DiskOperation) -> io::Result<()> {
        self.powered()?;
        self.operations += 1;
        match &mut self.fault {
            Some((kind, 0, errno)) if *kind == operation => {
                let errno = *errno;
                self.fault = None;
                Err(errno.into())
            }
            Some((kind, well, _)) if *kind == operation => {
                *well -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn change_names(&mut self, change: NameChange) -> io::Result<()> {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
        self.powered()
    }

    fn used(&self) -> u64 {
        let linked: BTreeSet<usize> = self.names.values().copied().collect();
        linked.into_iter().map(|id| self.files[id].current.len() as u64).sum()
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Contents {
    /// Everything that waits for it reaches the disk.
    fn write_back(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            change.apply(&mut self.durable);
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Create(path, id) => {
                names.insert(path.clone(), *id);
            }
            Self::Rename(from, to, id) => {
                names.remove(from);
                names.insert(to.clone(), *id);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Length(length) => bytes.resize(*length, 0),
            Self::Write { position, bytes: written } => {
                let end = position + written.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*position..end].copy_from_slice(written);
            }
        }
    }

    /// Sector by sector, and some sectors torn in the middle.
    fn apply_partly(&self, bytes: &mut Vec<u8>, kept: f64, random: &mut StdRng) {
        let Self::Write { position, bytes: written } = self else {
            if random.random_bool(kept) {
                self.apply(bytes);
            }
            return;
        };
        let mut start = 0;
        while start < written.len() {
            let sector_end = (position + start) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES;
            let end = written.len().min(sector_end - position);
            let torn = if random.random_bool(0.05) { random.random_range(start..=end) } else { end };
            if random.random_bool(kept) {
                let part = written[start..torn].to_vec();
                Self::Write { position: position + start, bytes: part }.apply(bytes);
            }
            start = end;
        }
    }
}

impl Disk for MemoryDisk {
    fn create_directory(&self, _: &Path) -> io::Result<()> {
        self.lock().powered()
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        state.powered()?;
        let here = state.names.keys().filter(|path| path.parent() == Some(directory));
        Ok(here.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create(&self, path: &Path, length: u64) -> io::Result<Arc<dyn DiskFile>> {
        let held = self.allocating.wait_while(self.lock(), |state| state.holds_allocations);
        let mut state = held.unwrap_or_else(PoisonError::into_inner);
        state.begin(DiskOperation::Create)?;
        if state.names.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if state.capacity.is_some_and(|capacity| state.used() + length > capacity) {
            return Err(Errno::NOSPC.into());
        }
        let id = state.files.len();
        let allocated = Change::Length(length as usize);
        let current = vec![0; length as usize];
        state.files.push(Contents { current, durable: Vec::new(), unsynced: vec![allocated] });
        state.change_names(NameChange::Create(path.to_owned(), id))?;
        Ok(Arc::new(MemoryFile { id, disk: self.clone() }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.lock();
        state.powered()?;
        Ok(Arc::new(MemoryFile { id: state.find(path)?, disk: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.begin(DiskOperation::Rename)?;
        let id = state.find(from)?;
        state.change_names(NameChange::Rename(from.to_owned(), to.to_owned(), id))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.begin(DiskOperation::Remove)?;
        state.find(path)?;
        state.change_names(NameChange::Remove(path.to_owned()))
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.begin(DiskOperation::SyncDirectory)?;
        state.powered()?;
        state.durable_names = state.names.clone();
        state.unsynced_names.clear();
        Ok(())
    }
}

struct MemoryFile {
    id: usize,
    disk: MemoryDisk,
}

impl ReadAt for MemoryFile {
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.lock();
        state.powered()?;
        state.files[self.id].current.read_at(position, buffer)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files[self.id].current.len() as u64)
    }
}

impl DiskFile for MemoryFile {
    fn write_at(&self, position: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.disk.lock();
        state.begin(DiskOperation::Write)?;
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        if let Some(most) = state.most_per_write {
            if state.operations.is_multiple_of(2) {
                return Err(ErrorKind::Interrupted.into());
            }
            bytes.truncate(most);
        }
        let written = bytes.len();
        let change = Change::Write { position: position as usize, bytes };
        let file = &mut state.files[self.id];
        change.apply(&mut file.current);
        file.unsynced.push(change);
        state.powered().map(|()| written)
    }

    fn extend(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.begin(DiskOperation::Create)?;
        let more = length.saturating_sub(state.files[self.id].current.len() as u64);
        if state.capacity.is_some_and(|capacity| state.used() + more > capacity) {
            return Err(Errno::NOSPC.into());
        }
        let change = Change::Length(length as usize);
        let file = &mut state.files[self.id];
        change.apply(&mut file.current);
        file.unsynced.push(change);
        state.powered()
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.powered()?;
        if let Err(error) = state.begin(DiskOperation::Sync) {
            state.files[self.id].unsynced.clear();
            return Err(error);
        }
        state.powered()?;
        state.files[self.id].write_back();
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.begin(DiskOperation::Truncate)?;
        let change = Change::Length(length as usize);
        let file = &mut state.files[self.id];
        change.apply(&mut file.current);
        file.unsynced.push(change);
        state.powered()?;
        state.files[self.id].write_back();
        Ok(())
    }
}
