//! The writer.

use bytes::Bytes;
use serde::Serialize;

use super::runs::{BATCHES, RUNS};
use super::ustar::{END_BYTES, RECORD_BYTES, header, padding};
use super::{
    ArchiveDescription, ArchiveError, ArchiveTrailer, INDEX_FOLDER, RunTable, Toc, TocSection, UndecodableBatches,
};
use crate::job::CoveredRun;

pub(super) const METADATA: &str = "metadata.json";
pub(super) const TOC: &str = "chronik/toc";
pub(super) const TRAILER: &str = "chronik/trailer";

/// One of Tantivy's files.
#[derive(Clone, Debug)]
pub struct IndexFile {
    /// The file's name.
    pub name: String,
    /// The file.
    pub data: Bytes,
}

/// An archive ready to be stored.
#[derive(Clone, Debug)]
pub struct BuiltArchive {
    /// The archive's bytes, in order.
    pub parts: Vec<Bytes>,
    /// Bytes of all parts.
    pub size: u64,
    /// CRC-32C of the table of contents, by which the catalog knows the archive.
    pub toc_crc: u32,
}

#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(flatten)]
    description: &'a ArchiveDescription,
    runs: Vec<CoveredRun>,
    undecodable: &'a [UndecodableBatches],
}

/// Puts an archive together; Tantivy's files keep the order they come in.
pub fn build(
    description: ArchiveDescription,
    index: Vec<IndexFile>,
    runs: &RunTable,
) -> Result<BuiltArchive, ArchiveError> {
    if description.records != u64::from(runs.documents()) {
        return Err(ArchiveError::unwritable("the run table is about other records than the description"));
    }
    let metadata = Metadata { description: &description, runs: runs.covered(), undecodable: runs.undecodable() };
    let metadata = serde_json::to_vec_pretty(&metadata).map_err(|error| ArchiveError::unwritable(error.to_string()))?;
    let mut file = Tar::default();
    file.section(METADATA, metadata.into())?;
    for member in index {
        file.section(&format!("{INDEX_FOLDER}{}", member.name), member.data)?;
    }
    file.section(RUNS, runs.encode_runs()?.into())?;
    file.section(BATCHES, runs.encode_batches()?.into())?;

    let (incarnation, lane) = (description.incarnation, description.lane);
    let toc = Toc { description, sections: std::mem::take(&mut file.sections) }.encode()?;
    let toc_crc = crc32c::crc32c(&toc);
    let toc_length = u32::try_from(toc.len()).map_err(|error| ArchiveError::unwritable(error.to_string()))?;
    let toc_position = file.member(TOC, toc.into())?;
    let trailer = ArchiveTrailer { incarnation, lane, toc_position, toc_length, toc_crc };
    file.member(TRAILER, Bytes::copy_from_slice(&trailer.encode()))?;
    file.push(Bytes::from_static(&[0; END_BYTES]));
    Ok(BuiltArchive { parts: file.parts, size: file.size, toc_crc })
}

#[derive(Default)]
struct Tar {
    parts: Vec<Bytes>,
    size: u64,
    sections: Vec<TocSection>,
}

impl Tar {
    fn push(&mut self, part: Bytes) {
        self.size += part.len() as u64;
        self.parts.push(part);
    }

    /// Appends a member and says where its data starts.
    fn member(&mut self, name: &str, data: Bytes) -> Result<u64, ArchiveError> {
        static ZEROS: [u8; RECORD_BYTES] = [0; RECORD_BYTES];
        let length = data.len() as u64;
        self.push(Bytes::copy_from_slice(&header(name, length)?));
        let position = self.size;
        self.push(data);
        self.push(Bytes::from_static(&ZEROS[..padding(length)]));
        Ok(position)
    }

    /// Appends a member that the table of contents names.
    fn section(&mut self, name: &str, data: Bytes) -> Result<(), ArchiveError> {
        let position = self.member(name, data.clone())?;
        self.sections.push(TocSection::new(name, position, &data));
        Ok(())
    }
}
