//! The log that a lane is built on, as the lane sees it: frames go in, and come back committed, in order.
//!
//! [`Log`] is the side of the lane's owner, [`LogReader`] that of all who read what is committed. The write-ahead log
//! ([`crate::wal`]) implements both: a frame that is durable here is committed.
//!
//! A log that several brokers hold would wait for a majority of them before it answers the owner, and would have to do
//! what a log with one writer need not: save votes, tell durable from committed, hand over frames that another leader
//! appended, and cut a suffix that was never committed. Here that last one is recovery's alone, before there is an
//! owner.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chronik_format::ids::{Incarnation, LogIndex};

/// Orders frames and keeps them. Dropping it closes it without waiting.
pub trait Log: Send + 'static {
    /// What ends the log. Nothing that was appended and not committed before is known to be in it.
    type Error: Error + Send + Sync + 'static;

    /// Counts `bytes` to the next append, if there is space; never waits. After [`NoSpace::Allocating`] one
    /// [`LogEvent::Space`] says what came of it.
    fn reserve(&mut self, bytes: u64, purpose: FramePurpose) -> Result<(), NoSpace>;

    /// Appends a frame, whose index must follow the last one's; never waits, and uses up what was reserved. A
    /// [`LogEvent::Committed`] has its place; after a failure it goes nowhere.
    fn append(&mut self, frame: Frame);

    /// Waits for what happens next; `None` once the log has ended. May be dropped and asked again.
    fn event(&mut self) -> impl Future<Output = Option<Result<LogEvent, Self::Error>>> + Send;

    /// Frames at or below `up_to` are not needed any more: the log may remove them, whenever it suits it.
    fn purge(&mut self, up_to: LogIndex);

    /// Reads what is committed.
    fn reader(&self) -> SharedLogReader;

    /// Writes what was appended, and ends.
    fn close(self);
}

/// What a log reports to its owner.
#[derive(Debug)]
pub enum LogEvent {
    /// Frames will be in the log for good, and may be applied.
    Committed {
        /// Where each lies, in order, following those of the event before.
        places: Vec<FramePlace>,
        /// How long it took to make them durable.
        fsync: Duration,
    },
    /// There may be space for what found none, or there will be none.
    Space(Result<(), NoSpace>),
}

/// A [`LogReader`] of any log.
pub type SharedLogReader = Arc<dyn LogReader>;

/// Reads what is committed, beside the owner. Every read blocks on the disk.
pub trait LogReader: Send + Sync {
    /// The frames from `from` to `to`, both included, verified, one in memory at a time. If `position` says where the
    /// first one starts ([`FramePlace::position`]), what lies before it is not looked at.
    fn frames(&self, from: LogIndex, position: Option<u64>, to: LogIndex) -> Box<dyn LogFrames>;
}

/// Frames of a log, in order.
pub trait LogFrames {
    /// The next one; `None` behind the last, and behind an error.
    fn next_frame(&mut self) -> Option<Result<Frame, FrameError>>;

    /// After damage: goes on with the next frame that is whole. False if there is none.
    fn go_on(&mut self) -> Result<bool, FrameError>;
}

/// Why a frame can't be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It was purged, or is not committed yet.
    #[error("the log does not hold frame {index}")]
    Absent {
        /// The frame.
        index: LogIndex,
    },
    /// It can't be read any more; others behind it may be.
    #[error(transparent)]
    Damaged(Box<dyn Error + Send + Sync>),
    /// The disk does not give it.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

/// Commands written together, under one index: an entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its place in the lane's log.
    pub index: LogIndex,
    /// The incarnation that wrote it.
    pub incarnation: Incarnation,
    /// The lane's epoch when it was written.
    pub epoch: u64,
    /// What the commands are; the log does not look at it.
    pub kind: u16,
    /// The log does not look at these either.
    pub flags: u16,
    /// The encoded commands.
    pub commands: Bytes,
    /// The batches that the commands speak of, side by side on disk. As read back they are one part, or none.
    pub batches: Vec<Bytes>,
}

/// Where a frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramePlace {
    /// The frame's index.
    pub index: LogIndex,
    /// The sequence of its file.
    pub file: u64,
    /// Where it starts in that file, bytes.
    pub position: u64,
    /// Bytes it takes there.
    pub length: u64,
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramePurpose {
    /// Records, and all else that can wait: it leaves one whole file for bookkeeping.
    Append,
    /// What makes room: registering segments, deleting.
    Bookkeeping,
}

/// Why no frame may be appended now. All but [`NoSpace::Frame`] pass: try again later.
#[derive(Debug, thiserror::Error)]
pub enum NoSpace {
    /// The log has reached its limit; shipping makes room.
    #[error("the write-ahead log has reached its limit of {max_bytes} bytes")]
    Limit {
        /// The limit.
        max_bytes: u64,
    },
    /// There will be room once a file is allocated, which is under way.
    #[error("a file of {bytes} bytes is being allocated for the write-ahead log")]
    Allocating {
        /// Its size.
        bytes: u64,
    },
    /// The disk takes too long to allocate a file.
    #[error("no file was allocated for the write-ahead log in time")]
    Late,
    /// The disk is full, or refuses to preallocate for another reason.
    #[error("the write-ahead log could not preallocate {bytes} bytes in {}: {source}", directory.display())]
    Disk {
        /// The size of the file that was not allocated.
        bytes: u64,
        /// The log's directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// More is waiting for the disk than may wait.
    #[error("{bytes} bytes are waiting to be written to the write-ahead log")]
    Queue {
        /// How many.
        bytes: u64,
    },
    /// No frame may be this large.
    #[error("a frame of {bytes} bytes is larger than {max} bytes")]
    Frame {
        /// Its size.
        bytes: u64,
        /// The largest size.
        max: u64,
    },
    /// The log has failed or was closed.
    #[error("the write-ahead log is closed")]
    Closed,
}
