use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use chronik_format::ids::{Incarnation, LaneId, LogIndex};

use crate::disk::remedy;

/// What ends the log, or keeps it from opening. Each names the file, and says what can be done where something can.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The disk refused an operation. A failed write or sync is never tried again: what it left behind is unknown.
    #[error("the write-ahead log could not {operation} {}: {source}{}", file.display(), remedy(source))]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file or directory.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A frame that was durable can't be read any more.
    #[error(
        "the write-ahead log is damaged in {} at byte {position}, frame {index}: {damage}; it was durable up to frame \
         {durable}. Restore the file from a copy, or start with an empty data directory to recover from the bucket, \
         which loses what was not shipped", file.display()
    )]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where the first bad frame begins.
        position: u64,
        /// The index it should have.
        index: LogIndex,
        /// The last index that is known to have been durable.
        durable: LogIndex,
        /// What is wrong with it.
        damage: FrameDamage,
    },
    /// The log begins behind the checkpoint that it should be replayed upon, or behind what was shipped.
    #[error(
        "the write-ahead log begins with frame {first} in {}, but everything behind frame {needed} is needed: its older \
         files are missing, or the local checkpoints are older copies. Put back what is missing, or move the data directory \
         away and start with an empty one to recover from the bucket, which loses what was not shipped", file.display()
    )]
    Hole {
        /// The oldest file.
        file: PathBuf,
        first: LogIndex,
        /// The last index that is not needed.
        needed: LogIndex,
    },
    /// The log ends before what it is known to have held.
    #[error(
        "the write-ahead log in {} ends with frame {end}, {}: put the missing files back, \
         or move the data directory away and start with an empty one to recover from the bucket, which loses what was not \
         shipped. --accept-loss does not help here: going on would give out offsets a second time",
        directory.display(), what_lacks(*end, *reached, newest.as_deref())
    )]
    Behind {
        /// The log's directory.
        directory: PathBuf,
        /// The last frame of the files that are there.
        end: LogIndex,
        /// What it is known to have come to, at least.
        reached: LogIndex,
        /// The file that is missing, if that is known.
        newest: Option<PathBuf>,
    },
    /// Nothing says how far the log had come.
    #[error(
        "{}, which says how far the write-ahead log had come, {reason}: put it back from a copy, or move the data directory \
         away and start with an empty one to recover from the bucket, which loses what was not shipped", file.display()
    )]
    Unmarked {
        /// The mark's file.
        file: PathBuf,
        /// What is the matter with it.
        reason: &'static str,
    },
    /// A file of a format that this program does not know.
    #[error("{} has format version {version}; this program reads version 0: start the one that wrote it", file.display())]
    Version { file: PathBuf, version: u32 },
    /// A file of another lane or incarnation, or under another's name.
    #[error(
        "{} belongs to lane {lane}, incarnation {incarnation}, sequence {sequence}, and is not part of this log: \
         move it out of the directory", file.display()
    )]
    Foreign {
        file: PathBuf,
        /// The lane it names.
        lane: LaneId,
        /// The incarnation it names.
        incarnation: Incarnation,
        /// The sequence it names.
        sequence: u64,
    },
    /// Sizes that no log can work with.
    #[error(
        "a write-ahead log of {max_bytes} bytes in files of {file_bytes}: files hold at least 8 KiB, and the log three of them"
    )]
    Sizes {
        /// The size of one file.
        file_bytes: u64,
        /// The size of all.
        max_bytes: u64,
    },
    /// The frame is not in the log: recycled, or not written yet.
    #[error("the write-ahead log does not hold frame {index}")]
    Absent {
        /// The frame.
        index: LogIndex,
    },
    /// A frame that does not follow the one before; a fault of the caller.
    #[error("frame {found} was appended where {expected} is next")]
    Order {
        /// The next index.
        expected: LogIndex,
        /// The frame's.
        found: LogIndex,
    },
    /// A frame that no reader would take, and for which no space was reserved; a fault of the caller.
    #[error("a frame of {bytes} bytes was appended, which is larger than {max} bytes")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The largest size.
        max: u64,
    },
    /// What replay calls could not use a frame.
    #[error("frame {index} of the write-ahead log can't be replayed: {source}")]
    Replay {
        /// The frame.
        index: LogIndex,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl WalError {
    /// For `map_err` on an operation of the disk.
    pub(super) fn io(operation: &'static str, file: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |source| Self::Io { operation, file, source }
    }
}

/// What a log lacks that ends too early.
fn what_lacks(end: LogIndex, reached: LogIndex, newest: Option<&Path>) -> String {
    let newest = newest.map(|file| format!("its newest file {} is missing", file.display()));
    let frames = (reached > end).then(|| format!("but had come to frame {reached}"));
    let lacks: Vec<String> = frames.into_iter().chain(newest).collect();
    lacks.join(", and ")
}

/// What is wrong with a frame or a file's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameDamage {
    /// No header, or one whose checksum does not match.
    #[error("the file's header is damaged")]
    Header,
    /// No frame begins here.
    #[error("no frame begins here")]
    Magic,
    /// Lengths that can't be.
    #[error("the frame's length is impossible")]
    Length,
    /// The checksum does not match the frame.
    #[error("the frame's checksum does not match")]
    Checksum,
    /// A whole frame, but not the one that comes next.
    #[error("a frame of another place in the log stands here")]
    Index,
}
