//! The table of contents: what the archive is about, and where each member is.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{ArchiveDescription, ArchiveError, packed};

/// Bytes of a member that one checksum covers; the last block of a member is shorter.
pub const BLOCK_BYTES: u64 = 64 << 10;

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TocSection {
    /// The member's name.
    pub name: String,
    /// Where its data starts in the archive, bytes.
    pub position: u64,
    /// Bytes of its data.
    pub length: u64,
    /// CRC-32C of each block of [`BLOCK_BYTES`], in order.
    pub crcs: Vec<u32>,
}

impl TocSection {
    pub(super) fn new(name: &str, position: u64, data: &[u8]) -> Self {
        let crcs = data.chunks(BLOCK_BYTES as usize).map(crc32c::crc32c).collect();
        Self { name: name.to_owned(), position, length: data.len() as u64, crcs }
    }

    /// Where the section lies in the archive, bytes.
    pub fn range(&self) -> Range<u64> {
        self.position..self.position + self.length
    }

    /// The blocks that the bytes `range` of the section touch.
    pub fn blocks(&self, range: Range<u64>) -> Range<u64> {
        if range.is_empty() {
            return 0..0;
        }
        range.start / BLOCK_BYTES..range.end.min(self.length).div_ceil(BLOCK_BYTES)
    }

    /// Where consecutive blocks lie in the archive, bytes.
    pub fn block_range(&self, blocks: Range<u64>) -> Range<u64> {
        let end = (blocks.end * BLOCK_BYTES).min(self.length);
        self.position + blocks.start * BLOCK_BYTES..self.position + end
    }

    /// Checks bytes that start with block `first` and end at the end of a block.
    pub fn verify(&self, archive: &str, first: u64, bytes: &[u8]) -> Result<(), ArchiveError> {
        let crcs = self.crcs.get(first as usize..).unwrap_or_default();
        let chunks = bytes.chunks(BLOCK_BYTES as usize);
        if chunks.len() > crcs.len() || chunks.zip(crcs).any(|(chunk, crc)| crc32c::crc32c(chunk) != *crc) {
            return Err(ArchiveError::damaged(archive, format!("a checksum of {} does not fit", self.name)));
        }
        Ok(())
    }
}

/// The table of contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toc {
    /// What the archive is about.
    pub description: ArchiveDescription,
    /// All members before the table itself, in file order.
    pub sections: Vec<TocSection>,
}

impl Toc {
    pub(super) fn encode(&self) -> Result<Vec<u8>, ArchiveError> {
        packed::pack(self).map_err(ArchiveError::unwritable)
    }

    /// Reads a table of contents that ends at `end` in the archive at the latest.
    pub(super) fn parse(archive: &str, bytes: &[u8], end: u64) -> Result<Self, ArchiveError> {
        let damaged = |reason: String| ArchiveError::damaged(archive, format!("table of contents: {reason}"));
        let toc: Self = packed::unpack(bytes).map_err(damaged)?;
        toc.check(archive, end)?;
        Ok(toc)
    }

    /// Whether all members end at `end` at the latest, and have as many checksums as blocks.
    pub(super) fn check(&self, archive: &str, end: u64) -> Result<(), ArchiveError> {
        for section in &self.sections {
            let fits = section.position.checked_add(section.length).is_some_and(|to| to <= end);
            if !fits || section.crcs.len() as u64 != section.length.div_ceil(BLOCK_BYTES) {
                return Err(ArchiveError::damaged(archive, format!("the place of {} does not fit", section.name)));
            }
        }
        Ok(())
    }

    /// The member of this name.
    pub fn section(&self, archive: &str, name: &str) -> Result<&TocSection, ArchiveError> {
        self.sections
            .iter()
            .find(|section| section.name == name)
            .ok_or_else(|| ArchiveError::damaged(archive, format!("there is no {name}")))
    }

    /// Tantivy's files: name within [`super::INDEX_FOLDER`], and place.
    pub fn index_files(&self) -> impl Iterator<Item = (&str, &TocSection)> {
        self.sections
            .iter()
            .filter_map(|section| section.name.strip_prefix(super::INDEX_FOLDER).map(|name| (name, section)))
    }
}
