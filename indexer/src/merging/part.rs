//! An archive that is to be merged with others, in memory as a whole.

use std::io::Write;
use std::path::Path;

use chronik_format::archive::{ArchiveDescription, ArchiveError, OpenedArchive, RunTable, open};
use chronik_format::catalog::ArchiveEntry;
use chronik_store::SharedStore;
use tantivy::directory::{Directory, RamDirectory, TerminatingWrite};
use tantivy::{Index, TantivyError};

use crate::files::META;

/// What is in an archive.
pub(super) struct ArchivePart {
    /// The object's name.
    pub key: String,
    pub description: ArchiveDescription,
    pub table: RunTable,
    /// Of one segment with all documents of the table.
    pub index: Index,
}

impl ArchivePart {
    /// Reads an archive at once, and checks every byte of it.
    pub(super) async fn read(store: &SharedStore, archive: &ArchiveEntry) -> Result<Self, ArchiveError> {
        let ArchiveEntry { key, size, crc, .. } = archive;
        let opened = open(store.as_ref(), key, *size, Some(*crc), *size).await?;
        let table = opened.runs(store.as_ref()).await?;
        let damaged = |error: TantivyError| ArchiveError::Damaged { archive: key.clone(), reason: error.to_string() };
        let index = Index::open(directory(store, &opened).await?).map_err(damaged)?;
        let segments = index.searchable_segment_metas().map_err(damaged)?;
        let is_of_table = match &segments[..] {
            [segment] => segment.max_doc() == table.documents() && !segment.has_deletes(),
            _ => false,
        };
        if !is_of_table {
            let reason = "its index is not about the records of its tables".to_owned();
            return Err(ArchiveError::Damaged { archive: key.clone(), reason });
        }
        Ok(Self { key: key.clone(), description: opened.toc.description, table, index })
    }

    /// Whether the documents of another mean the same.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let kind = |part: &Self| (part.description.settings, part.description.lane);
        kind(self) == kind(other) && self.description.analysis == other.description.analysis
    }
}

async fn directory(store: &SharedStore, archive: &OpenedArchive) -> Result<RamDirectory, ArchiveError> {
    let directory = RamDirectory::create();
    for (name, section) in archive.toc.index_files() {
        let bytes = archive.section(store.as_ref(), section).await?;
        let written = match name {
            META => directory.atomic_write(Path::new(name), &bytes),
            name => write(&directory, Path::new(name), &bytes),
        };
        written.map_err(|error| ArchiveError::Damaged { archive: archive.key.clone(), reason: error.to_string() })?;
    }
    Ok(directory)
}

fn write(directory: &RamDirectory, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = directory.open_write(path).map_err(std::io::Error::other)?;
    file.write_all(bytes)?;
    file.terminate()
}
