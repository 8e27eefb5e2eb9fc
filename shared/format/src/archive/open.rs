//! The reader: the end of an archive first, which says where everything else is.

use std::ops::Range;

use bytes::Bytes;

use super::runs::{BATCHES, RUNS};
use super::ustar::END_BYTES;
use super::{ArchiveError, ArchiveTrailer, IndexedRun, RunTable, TRAILER_BYTES, Toc, TocSection};
use chronik_store::Store;

/// Bytes behind the table of contents: at most one padding, the trailer's header, the trailer, the tar file's end.
const BEHIND_TOC_BYTES: u64 = (TRAILER_BYTES + END_BYTES) as u64;

/// An archive whose end has been read and checked.
#[derive(Clone, Debug)]
pub struct OpenedArchive {
    /// The object's name.
    pub key: String,
    /// Bytes of the object.
    pub size: u64,
    /// The table of contents.
    pub toc: Toc,
    /// CRC-32C of the table of contents.
    pub toc_crc: u32,
    /// The last bytes of the archive, as many as were read.
    end: Bytes,
}

/// Opens an archive of `size` bytes with one read of the last `end_bytes` (or of all, if it is smaller), and a
/// second one if the table of contents is larger than that. `toc_crc` is what the catalog says, where it is asked.
pub async fn open(
    store: &dyn Store,
    key: &str,
    size: u64,
    toc_crc: Option<u32>,
    end_bytes: u64,
) -> Result<OpenedArchive, ArchiveError> {
    if size < BEHIND_TOC_BYTES {
        return Err(ArchiveError::damaged(key, format!("{size} bytes are too few for an archive")));
    }
    let mut end = read(store, key, size - size.min(end_bytes.max(BEHIND_TOC_BYTES))..size).await?;
    let trailer = trailer(key, &end)?;
    if toc_crc.is_some_and(|crc| crc != trailer.toc_crc) {
        return Err(ArchiveError::damaged(key, "it is not the archive that the catalog names"));
    }
    let toc_end = trailer
        .toc_position
        .checked_add(u64::from(trailer.toc_length))
        .filter(|end| *end <= size - BEHIND_TOC_BYTES)
        .ok_or_else(|| ArchiveError::damaged(key, "the table of contents lies beyond the end"))?;
    if trailer.toc_position < size - end.len() as u64 {
        end = read(store, key, trailer.toc_position..size).await?;
    }
    let toc = slice(&end, size, trailer.toc_position..toc_end)
        .filter(|toc| crc32c::crc32c(toc) == trailer.toc_crc)
        .ok_or_else(|| ArchiveError::damaged(key, "the checksum of the table of contents does not fit"))?;
    let toc = Toc::parse(key, &toc, trailer.toc_position)?;
    Ok(OpenedArchive { key: key.to_owned(), size, toc, toc_crc: trailer.toc_crc, end })
}

fn trailer(key: &str, end: &[u8]) -> Result<ArchiveTrailer, ArchiveError> {
    let at = end.len() - BEHIND_TOC_BYTES as usize;
    ArchiveTrailer::parse(key, &end[at..at + TRAILER_BYTES])
}

/// The bytes `range` of an archive of `size` bytes, if `end`, its end, has them.
fn slice(end: &Bytes, size: u64, range: Range<u64>) -> Option<Bytes> {
    let start = size - end.len() as u64;
    (range.start >= start && range.end <= size && range.start <= range.end)
        .then(|| end.slice((range.start - start) as usize..(range.end - start) as usize))
}

async fn read(store: &dyn Store, key: &str, range: Range<u64>) -> Result<Bytes, ArchiveError> {
    let length = range.end - range.start;
    let bytes = store.read(key, Some(range)).await?;
    if bytes.len() as u64 != length {
        return Err(ArchiveError::damaged(key, format!("{} bytes came instead of {length}", bytes.len())));
    }
    Ok(bytes)
}

impl OpenedArchive {
    /// Consecutive blocks of a section, checked; read from the store unless they came with the end.
    pub async fn blocks(
        &self,
        store: &dyn Store,
        section: &TocSection,
        blocks: Range<u64>,
    ) -> Result<Bytes, ArchiveError> {
        let range = section.block_range(blocks.clone());
        let bytes = match slice(&self.end, self.size, range.clone()) {
            Some(bytes) => bytes,
            None => read(store, &self.key, range).await?,
        };
        section.verify(&self.key, blocks.start, &bytes)?;
        Ok(bytes)
    }

    /// A whole section, checked.
    pub async fn section(&self, store: &dyn Store, section: &TocSection) -> Result<Bytes, ArchiveError> {
        if section.length == 0 {
            return Ok(Bytes::new());
        }
        self.blocks(store, section, section.blocks(0..section.length)).await
    }

    /// The run table and the batch table.
    pub async fn runs(&self, store: &dyn Store) -> Result<RunTable, ArchiveError> {
        let runs = self.section(store, self.toc.section(&self.key, RUNS)?).await?;
        let batches = self.section(store, self.toc.section(&self.key, BATCHES)?).await?;
        let table = RunTable::parse(&self.key, &runs, &batches)?;
        if u64::from(table.documents()) != self.toc.description.records {
            return Err(ArchiveError::damaged(&self.key, "the tables are about other records than the description"));
        }
        Ok(table)
    }

    /// The runs alone, without their batches.
    pub async fn indexed_runs(&self, store: &dyn Store) -> Result<Vec<IndexedRun>, ArchiveError> {
        let runs = self.section(store, self.toc.section(&self.key, RUNS)?).await?;
        RunTable::parse_runs(&self.key, &runs)
    }

    /// The same without the end's bytes, which need not be kept once the tables are read.
    pub fn without_end(self) -> Self {
        Self { end: Bytes::new(), ..self }
    }

    /// Whether a section came with the end, so that it takes no further read.
    pub fn is_at_hand(&self, section: &TocSection) -> bool {
        section.position >= self.size - self.end.len() as u64
    }
}
