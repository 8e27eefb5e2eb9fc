//! The write-ahead log of one lane: its frames, in order, in local files.
//!
//! The lane [reserves](WalHandle::reserve) space and [appends](WalHandle::append); one thread writes everything that
//! queued up meanwhile with one vectored write and one sync, reports it, and goes on at once. Reports come in order,
//! and a frame is in none before it is durable. Files are allocated ahead and used again, so a full disk shows as
//! back-pressure before a frame is taken, never as a failed write.
//!
//! Before a file's header is written, every frame in the files before it is durable; before its first frame is
//! written, the header is, and a mark outside of the log's directory names the file. So after a power cut only the
//! newest file can be torn. [`open`] cuts it there, and refuses everything that no power cut leaves behind, a log
//! without its end among it: within a second, the mark says of every frame that it was durable.
//!
//! What can be read need not be on disk: after a failed sync the system may hold pages as clean that it never wrote.
//! So [`open`] writes whatever is not known to have been durable anew, into a file of its own, before it is trusted.

mod directory;
mod error;
mod files;
mod frame;
mod handle;
mod header;
mod log;
mod mark;
mod reader;
mod recovery;
mod renewal;
mod scan;
mod space;
#[cfg(test)]
mod tests;
mod torn_check;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chronik_format::ids::{Incarnation, LaneId, LogIndex};

pub use error::{FrameDamage, WalError};
pub use frame::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES};
pub use handle::{WalHandle, WalStats};
pub use log::WalLog;
pub use reader::{WalFrames, WalReader};
pub use recovery::TornEnd;
pub use scan::wal_scan;
pub use writer::WalWriter;

use crate::disk::Disk;
use crate::log::{Frame, FramePlace};
use directory::WalDirectory;
use handle::WalShared;
use header::FRAMES_START;
use mark::LogMark;
use space::LogSpace;

/// What one sync made durable.
#[derive(Clone, Debug)]
pub struct WrittenFrames {
    /// The last durable index.
    pub durable: LogIndex,
    /// Where each frame lies that became durable, in order.
    pub places: Vec<FramePlace>,
    /// How long the sync took.
    pub fsync: Duration,
}

/// What a log is opened with.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// `{data directory}/wal/{lane}`; created if it is not there.
    pub directory: PathBuf,
    /// The file that says how far the log had come; not in the log's own directory, so that it outlives that.
    pub mark: PathBuf,
    /// Whose log it is.
    pub lane: LaneId,
    /// Who writes it; files of another incarnation are refused.
    pub incarnation: Incarnation,
    /// The size of one file, at least 8 KiB. A frame that needs more gets a file of its own length.
    pub file_bytes: u64,
    /// The most that all files together take, at least three files. Bookkeeping may exceed it by one.
    pub max_bytes: u64,
    /// The most that waits in memory to be written, before appends find no space.
    pub queue_bytes: u64,
    /// How long after a sync the mark says at the latest that its frames are durable; it is not written more often.
    pub mark_after: Duration,
    /// Where salts come from.
    pub salt: fn() -> u32,
}

impl WalOptions {
    /// Files of 64 MiB, 16 of them, 96 MiB in memory, and a mark each second.
    pub fn new(
        directory: impl Into<PathBuf>,
        mark: impl Into<PathBuf>,
        lane: LaneId,
        incarnation: Incarnation,
    ) -> Self {
        Self {
            directory: directory.into(),
            mark: mark.into(),
            lane,
            incarnation,
            file_bytes: 64 << 20,
            max_bytes: 1 << 30,
            queue_bytes: 96 << 20,
            mark_after: Duration::from_secs(1),
            salt: rand::random,
        }
    }

    fn check(&self) -> Result<(), WalError> {
        if self.file_bytes < 2 * FRAMES_START || self.max_bytes / 3 < self.file_bytes {
            return Err(WalError::Sizes { file_bytes: self.file_bytes, max_bytes: self.max_bytes });
        }
        Ok(())
    }
}

/// What is known to have been durable by other means: a bad frame at or below either is damage, not a torn end.
#[derive(Clone, Copy, Debug, Default)]
pub struct DurableFloor {
    /// The index of the newest local checkpoint, upon which the log is replayed; 0 if there is none.
    pub checkpoint: LogIndex,
    /// The last index in a registered segment; 0 if there is none.
    pub shipped: LogIndex,
}

/// An open log.
pub struct OpenWal {
    /// Appends, once started.
    pub writer: WalWriter,
    /// Reads what is durable.
    pub reader: WalReader,
    /// The last good frame; where the log begins if it has none.
    pub last: LogIndex,
    /// What was cut off, if a write was under way when the log was last left.
    pub torn: Option<TornEnd>,
}

/// Begins a log without frames that continues from `base`. What a start that was cut off before left of one is
/// replaced.
pub fn create(disk: &dyn Disk, options: &WalOptions, base: LogIndex) -> Result<(), WalError> {
    disk.create_directory(&options.directory).map_err(WalError::io("create", &options.directory))?;
    LogMark::create(disk, options, base)
}

/// Opens a lane's log: calls `replay` with every frame in it, in order, cuts a torn end, and makes what remains
/// durable. Frames at or below the checkpoint may be among them. New frames go to a new file.
pub fn open(
    disk: Arc<dyn Disk>,
    options: WalOptions,
    floor: DurableFloor,
    replay: &mut dyn FnMut(Frame, FramePlace) -> Result<(), WalError>,
) -> Result<OpenWal, WalError> {
    options.check()?;
    let directory = WalDirectory::open(disk, options.directory.clone())?;
    let mark = LogMark::open(&*directory.disk, &options)?;
    let recovered = recovery::recover(&directory, &options, mark, floor, replay)?;
    let room = LogSpace::new(&options, recovered.spares, recovered.allocated);
    let shared = Arc::new(WalShared::new(directory, options, recovered.files, room, recovered.mark));
    Ok(OpenWal {
        writer: WalWriter::new(shared.clone(), recovered.sequence, recovered.last),
        reader: WalReader::new(shared),
        last: recovered.last,
        torn: recovered.torn,
    })
}
