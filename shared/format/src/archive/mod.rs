//! Archives `.ckx`: a Tantivy index over runs of records of one topic, and the tables that lead from a document
//! of it to a record in a segment. An archive holds no record bytes.
//!
//! The container is an uncompressed ustar file, so that any tar tool opens it and every byte of it can be read by
//! range. Nothing in it depends on when or by whom it was built: the same inputs give the same bytes.
//!
//! ```text
//! metadata.json      the description, the runs and what can't be decoded in them, for people and tools
//! index/...          Tantivy's files; the term dictionaries last
//! chronik/runs       packed: segments and runs, in document order; batches that can't be decoded  (`RunTable`)
//! chronik/batches    packed: the batches of the runs, in document order  (`RunTable`)
//! chronik/toc        packed: description, and per member its name, position, length and checksums (`Toc`)
//! chronik/trailer    512 bytes (`ArchiveTrailer`)
//! 1024 zero bytes    the end of a tar file
//! ```
//!
//! *Packed* is bincode 2 (standard configuration) within one zstd frame. Positions count from the start of the file
//! and point at a member's data, behind its tar header. Checksums are CRC-32C, one per 64 KiB block of a member, so
//! that what is read by range can be checked too. How a record becomes terms is part of the format: see [`terms`].

mod inspect;
mod open;
mod packed;
mod runs;
pub mod terms;
#[cfg(test)]
mod tests;
mod toc;
mod trailer;
mod ustar;
mod write;

use serde::{Deserialize, Serialize};

use crate::ids::{Incarnation, LaneId, TopicId};
use crate::job::IndexSettings;
use chronik_store::StoreError;

pub use inspect::{ArchiveInspection, SectionInspection, inspect};
pub use open::{OpenedArchive, open};
pub use runs::{IndexedRun, LocatedRecord, REASON_BYTES_MAX, RunBatch, RunTable, UNDECODABLE_MAX, UndecodableBatches};
pub use toc::{BLOCK_BYTES, Toc, TocSection};
pub use trailer::{ArchiveTrailer, TRAILER_BYTES};
pub use write::{BuiltArchive, IndexFile, build};

/// The version that this program writes and reads.
pub const VERSION: u32 = 0;

/// Where Tantivy's files lie among the members.
pub const INDEX_FOLDER: &str = "index/";

/// What an archive is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveDescription {
    /// [`VERSION`].
    pub v: u32,
    /// Of the lane's owner when it asked for the archive.
    pub incarnation: Incarnation,
    /// The lane whose segments were indexed.
    pub lane: LaneId,
    /// The topic's name.
    pub topic: String,
    /// The topic's identity.
    pub topic_id: TopicId,
    /// The id of the text analysis that made the terms.
    pub analysis: String,
    /// How the records were indexed.
    pub settings: IndexSettings,
    /// Documents in the index: one a record.
    pub records: u64,
}

/// Why an archive could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes are not those that were written.
    #[error("archive {archive} is damaged: {reason}")]
    Damaged {
        /// The object's name.
        archive: String,
        /// What does not fit.
        reason: String,
    },
    /// A newer program wrote it.
    #[error("archive {archive} has format version {version}; this program reads version {VERSION}")]
    Unsupported {
        /// The object's name.
        archive: String,
        /// The version found.
        version: u32,
    },
    /// The parts do not make an archive.
    #[error("the archive can't be written: {reason}")]
    Unwritable {
        /// What does not fit.
        reason: String,
    },
    /// No object of this name.
    #[error("archive {archive} does not exist")]
    NotFound {
        /// The object's name.
        archive: String,
    },
    /// The store could not be reached, or failed; trying again may help.
    #[error("{message}")]
    Store {
        /// The store's own words.
        message: String,
    },
}

impl ArchiveError {
    pub(crate) fn damaged(archive: &str, reason: impl Into<String>) -> Self {
        Self::Damaged { archive: archive.to_owned(), reason: reason.into() }
    }

    pub(crate) fn unwritable(reason: impl Into<String>) -> Self {
        Self::Unwritable { reason: reason.into() }
    }
}

impl From<StoreError> for ArchiveError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { key } => Self::NotFound { archive: key },
            StoreError::BeyondEnd { ref key, .. } => Self::damaged(key, error.to_string()),
            other => Self::Store { message: other.to_string() },
        }
    }
}

/// Reads any bytes as every table of an archive, for fuzzing; whatever comes out, nothing panics.
pub fn fuzz_archive(bytes: &[u8]) {
    let _ = packed::unpack::<Toc>(bytes);
    if let Some((from, rest)) = bytes.split_first() {
        let (one, other) = rest.split_at(rest.len().min(usize::from(*from)));
        runs::fuzz_runs(one, other);
    }
    if let Ok(toc) = packed::decode::<Toc>(bytes) {
        let _ = toc.check("fuzz", u64::MAX);
    }
    let mut trailer = [0; TRAILER_BYTES];
    let length = bytes.len().min(TRAILER_BYTES);
    trailer[..length].copy_from_slice(&bytes[..length]);
    let _ = ArchiveTrailer::parse("fuzz", &trailer);
}
