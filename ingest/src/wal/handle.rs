use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use chronik_format::ids::LogIndex;
use tokio::sync::Notify;

use super::WalOptions;
use super::directory::WalDirectory;
use super::error::WalError;
use super::files::{LogFile, WalFiles};
use super::frame::FRAME_BYTES_MAX;
use super::header::FileName;
use super::mark::LogMark;
use super::space::{FrameTarget, LogSpace, SpareFile};
use crate::log::{Frame, FramePurpose, NoSpace};

/// What handle, writer and readers have in common.
pub(super) struct WalShared {
    pub directory: WalDirectory,
    pub options: WalOptions,
    pub files: WalFiles,
    queue: Mutex<WriteQueue>,
    wake: Condvar,
    /// A file may have to be allocated.
    wanting: Condvar,
    /// There may be space for what found none, or there will be none.
    decided: Notify,
    /// Written with what is durable, also by others than the writer. Taken before the queue, never after it.
    mark: Mutex<LogMark>,
    /// There is something to mark.
    unmarked: Condvar,
}

/// What waits for the writer's thread. The lock is never held over an operation of the disk.
pub(super) struct WriteQueue {
    pub room: LogSpace,
    /// Why the file was not allocated that a frame waited for.
    refusal: Option<NoSpace>,
    pub fsyncs: u64,
    pub last_fsync: Duration,
    frames: Vec<QueuedFrame>,
    /// Bytes of the frames that are queued or being written.
    bytes: u64,
    recycle: Option<LogIndex>,
    /// The last durable index.
    durable: LogIndex,
    /// The last index of which the mark says so.
    marked: LogIndex,
    stage: Stage,
    /// The last file that was wanted could not be allocated.
    is_disk_full: bool,
    /// The owner closed the log and waits for its end.
    closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// What is queued is still written.
    Closing,
    /// The writer has ended.
    Over,
}

pub(super) struct QueuedFrame {
    pub frame: Frame,
    pub place: FrameTarget,
}

/// What the writer takes from the queue in one go.
#[derive(Default)]
pub(super) struct QueuedWork {
    pub frames: Vec<QueuedFrame>,
    /// The bytes of these frames.
    pub bytes: u64,
    pub recycle: Option<LogIndex>,
}

impl WalShared {
    pub(super) fn new(
        directory: WalDirectory,
        options: WalOptions,
        files: Vec<LogFile>,
        room: LogSpace,
        mark: LogMark,
    ) -> Self {
        let durable = mark.reached().end;
        let queue = WriteQueue {
            room,
            refusal: None,
            fsyncs: 0,
            last_fsync: Duration::ZERO,
            frames: Vec::new(),
            bytes: 0,
            recycle: None,
            durable,
            marked: durable,
            stage: Stage::Open,
            is_disk_full: false,
            closed: false,
        };
        Self {
            directory,
            options,
            files: WalFiles::new(files),
            queue: Mutex::new(queue),
            wake: Condvar::new(),
            wanting: Condvar::new(),
            decided: Notify::new(),
            mark: Mutex::new(mark),
            unmarked: Condvar::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, WriteQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work; None once the log is closing and nothing is left.
    pub(super) fn wait(&self) -> Option<QueuedWork> {
        let idle = |queue: &mut WriteQueue| !queue.has_work() && queue.stage == Stage::Open;
        let mut queue = self.wake.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        queue.has_work().then(|| queue.take())
    }

    /// Waits until something may have freed space, or a moment; false once the log is closing.
    pub(super) fn wait_for_room(&self) -> bool {
        let moment = Duration::from_millis(100);
        let idle = |queue: &mut WriteQueue| queue.recycle.is_none() && queue.stage == Stage::Open;
        let waited = self.wake.wait_timeout_while(self.lock(), moment, idle);
        waited.unwrap_or_else(PoisonError::into_inner).0.stage == Stage::Open
    }

    /// Everything up to `durable` is on disk.
    pub(super) fn wrote(&self, durable: LogIndex, fsync: Duration) {
        let mut queue = self.lock();
        queue.fsyncs += 1;
        queue.last_fsync = fsync;
        let first = queue.durable == queue.marked;
        queue.durable = durable;
        drop(queue);
        if first {
            self.unmarked.notify_one();
        }
    }

    /// Marks that a file was begun, and what is durable before it.
    pub(super) fn mark_file(&self, sequence: u64) -> Result<(), WalError> {
        self.write_mark(Some(sequence))
    }

    /// Marks what is durable: a start that does not find it there knows that it was lost.
    pub(super) fn mark_durable(&self) -> Result<(), WalError> {
        self.write_mark(None)
    }

    fn write_mark(&self, file: Option<u64>) -> Result<(), WalError> {
        let mut mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        let durable = self.lock().durable;
        let sequence = file.unwrap_or(mark.reached().sequence);
        mark.reach(sequence, durable)?;
        self.lock().marked = durable;
        Ok(())
    }

    /// Marks what became durable, a while later, for as long as the log is open: the writer does not wait for it.
    pub(super) fn mark_behind(&self) {
        let wait = self.options.mark_after;
        loop {
            let nothing = |queue: &mut WriteQueue| queue.stage == Stage::Open && queue.durable == queue.marked;
            let waited = self.unmarked.wait_while(self.lock(), nothing);
            let queue = waited.unwrap_or_else(PoisonError::into_inner);
            let waited = self.unmarked.wait_timeout_while(queue, wait, |queue| queue.stage == Stage::Open);
            let (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if queue.stage != Stage::Open {
                return;
            }
            drop(queue);
            // Whole blocks are written, in turn: trying again is no gamble on what a failed sync left behind.
            if let Err(error) = self.mark_durable() {
                tracing::warn!(%error, "the end of the write-ahead log could not be marked; it is tried again");
            }
        }
    }

    /// Frames of a [`QueuedWork`] were written.
    pub(super) fn done(&self, bytes: u64) {
        self.lock().bytes -= bytes;
    }

    /// The writer has ended: nothing is accepted any more, and nothing kept.
    pub(super) fn end(&self) {
        let mut queue = self.lock();
        queue.stage = Stage::Over;
        queue.take();
        drop(queue);
        self.wanting.notify_one();
        self.decided.notify_one();
        self.unmarked.notify_one();
    }

    /// A file was deleted.
    pub(super) fn release(&self, bytes: u64) {
        self.lock().room.release(bytes);
        self.wanting.notify_one();
        self.decided.notify_one();
    }

    /// A file is spare from now on. Returns one that is not needed any more.
    pub(super) fn add(&self, spare: SpareFile) -> Option<SpareFile> {
        let outgrown = self.lock().room.add(spare);
        self.decided.notify_one();
        outgrown
    }

    /// Allocates the files that frames wait for, and keeps some ahead for as long as the log is open, so that neither
    /// the lane nor the writer waits for one. A full disk is not an error here: what waits for a file gets the reason.
    pub(super) fn allocate_ahead(&self) {
        let content = |queue: &mut WriteQueue| queue.stage == Stage::Open && queue.room.next_file().is_none();
        loop {
            let waited = self.wanting.wait_while(self.lock(), content);
            let queue = waited.unwrap_or_else(PoisonError::into_inner);
            let Some(bytes) = queue.room.next_file().filter(|_| queue.stage == Stage::Open) else {
                return;
            };
            drop(queue);
            self.allocate(bytes);
        }
    }

    /// Allocates a spare file of `bytes` bytes.
    pub(super) fn allocate(&self, bytes: u64) {
        let number = self.lock().room.begin(bytes);
        let path = self.directory.path(FileName::Spare { number });
        match self.directory.disk.create(&path, bytes) {
            Ok(file) => {
                if std::mem::take(&mut self.lock().is_disk_full) {
                    tracing::info!("files can be allocated in {} again", self.directory.path.display());
                }
                let outgrown = self.add(SpareFile { number, file, allocated: bytes, former_salt: None });
                if let Some(SpareFile { number, .. }) = outgrown
                    && let Err(error) = self.directory.remove(FileName::Spare { number })
                {
                    tracing::warn!(%error, "a spare file stays until the next start");
                }
            }
            Err(source) => {
                let mut queue = self.lock();
                if !std::mem::replace(&mut queue.is_disk_full, true) {
                    let directory = self.directory.path.display();
                    tracing::warn!(
                        "no file of {bytes} bytes could be allocated in {directory}, and producers are refused once the log's \
                         files are full: {source}"
                    );
                }
                queue.room.refuse(bytes);
                if queue.room.give_up() {
                    queue.refusal = Some(NoSpace::Disk { bytes, directory: self.directory.path.clone(), source });
                    self.decided.notify_one();
                }
            }
        }
    }
}

impl WriteQueue {
    pub(super) fn has_work(&self) -> bool {
        !self.frames.is_empty() || self.recycle.is_some()
    }

    fn take(&mut self) -> QueuedWork {
        let frames = std::mem::take(&mut self.frames);
        let bytes = frames.iter().map(|queued| queued.frame.length()).sum();
        QueuedWork { frames, bytes, recycle: self.recycle.take() }
    }

    pub(super) fn take_recycle(&mut self) -> Option<LogIndex> {
        self.recycle.take()
    }

    /// Whether the end was asked for and nothing failed.
    pub(super) fn ends_well(&self) -> bool {
        self.closed && self.stage == Stage::Closing
    }
}

/// The log's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalStats {
    /// Files with durable frames.
    pub files: usize,
    /// Bytes of the durable frames in them.
    pub bytes: u64,
    /// Bytes on disk, spare and preallocated ones included.
    pub allocated: u64,
    /// Files allocated and not in use.
    pub spares: usize,
    /// Bytes queued or being written.
    pub queued: u64,
    /// Syncs of frames since the start.
    pub fsyncs: u64,
    /// How long the last of them took; each is in its [`WrittenFrames`](super::WrittenFrames).
    pub last_fsync: Duration,
}

/// The lane's side of a started log. Dropping it closes the log without waiting.
pub struct WalHandle {
    pub(super) shared: Arc<WalShared>,
    pub(super) threads: Vec<JoinHandle<()>>,
}

impl WalHandle {
    /// Whether a frame of `bytes` ([`Frame::length`]) may be appended. Reservations add up until the next append, which
    /// uses them up: batches that go into one frame may be reserved one by one. Never touches the disk: files are
    /// allocated by a thread of their own, ahead of what comes. Where that one fell behind, was refused the last time,
    /// or has to allocate one for a frame that is larger than a file, this is [`NoSpace::Allocating`], and
    /// [`Self::decided`] says what came of it.
    pub fn reserve(&self, bytes: u64, purpose: FramePurpose) -> Result<(), NoSpace> {
        let mut queue = self.shared.lock();
        let (frame, max) = (queue.room.reserved() + bytes, FRAME_BYTES_MAX as u64);
        if frame > max {
            return Err(NoSpace::Frame { bytes: frame, max });
        }
        if queue.stage != Stage::Open {
            return Err(NoSpace::Closed);
        }
        if purpose == FramePurpose::Append && queue.bytes + bytes > self.shared.options.queue_bytes {
            return Err(NoSpace::Queue { bytes: queue.bytes });
        }
        let reserved = queue.room.reserve(bytes, purpose);
        if matches!(reserved, Err(NoSpace::Allocating { .. })) {
            queue.refusal = None;
            self.shared.wanting.notify_one();
        }
        reserved
    }

    /// Waits until there may be space for what found none; fails if the file could not be allocated. May be dropped and
    /// asked again.
    pub async fn decided(&self) -> Result<(), NoSpace> {
        self.shared.decided.notified().await;
        self.shared.lock().refusal.take().map_or(Ok(()), Err)
    }

    /// Queues a frame; never waits. Its index must follow the last one's. After a failure it goes nowhere.
    pub fn append(&self, frame: Frame) {
        let mut queue = self.shared.lock();
        if queue.stage == Stage::Open {
            let place = queue.room.place(frame.length());
            let opens_file = !matches!(place, FrameTarget::OpenFile);
            queue.bytes += frame.length();
            queue.frames.push(QueuedFrame { frame, place });
            drop(queue);
            self.shared.wake.notify_one();
            if opens_file {
                self.shared.wanting.notify_one();
            }
        }
    }

    /// Recycles files that end at or before `up_to`. The newest file stays; one that is being read is only deleted
    /// when its readers have finished.
    pub fn recycle(&self, up_to: LogIndex) {
        let mut queue = self.shared.lock();
        queue.recycle = queue.recycle.max(Some(up_to));
        drop(queue);
        self.shared.wake.notify_one();
    }

    /// The log's numbers.
    pub fn stats(&self) -> WalStats {
        let (files, bytes) = self.shared.files.size();
        let queue = self.shared.lock();
        WalStats {
            files,
            bytes,
            allocated: queue.room.allocated(),
            spares: queue.room.spares(),
            queued: queue.bytes,
            fsyncs: queue.fsyncs,
            last_fsync: queue.last_fsync,
        }
    }

    /// Writes and reports what is queued, writes down where the log ends, and ends the thread.
    pub fn close(mut self) {
        self.shared.lock().closed = true;
        self.join();
    }

    /// Ends the thread once what is queued is written.
    pub(super) fn join(&mut self) {
        self.shut();
        for thread in self.threads.drain(..) {
            // If the caller's callback panicked, its message is out already.
            let _ = thread.join();
        }
    }

    fn shut(&self) {
        let mut queue = self.shared.lock();
        if queue.stage == Stage::Open {
            queue.stage = Stage::Closing;
        }
        drop(queue);
        self.shared.wake.notify_one();
        self.shared.wanting.notify_one();
        self.shared.unmarked.notify_one();
    }
}

impl Drop for WalHandle {
    fn drop(&mut self) {
        self.shut();
    }
}
