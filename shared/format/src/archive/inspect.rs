//! What is in an archive, for the operator.

use serde::Serialize;

use super::{ArchiveDescription, ArchiveError, UndecodableBatches, open};
use crate::job::CoveredRun;
use chronik_store::Store;

const END_BYTES: u64 = 256 << 10;

/// An archive as `chronik archive inspect` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ArchiveInspection {
    /// The object's name.
    pub key: String,
    /// Bytes of the object.
    pub size: u64,
    /// CRC-32C of the table of contents.
    pub crc: u32,
    /// What the archive is about.
    #[serde(flatten)]
    pub description: ArchiveDescription,
    /// The members, in file order.
    pub sections: Vec<SectionInspection>,
    pub runs: Vec<CoveredRun>,
    /// What is in the runs and in no document.
    pub undecodable: Vec<UndecodableBatches>,
}

/// One member of an archive.
#[derive(Clone, Debug, Serialize)]
pub struct SectionInspection {
    /// The member's name.
    pub name: String,
    /// Where its data starts, bytes.
    pub position: u64,
    /// Bytes of its data.
    pub length: u64,
}

/// Reads all of an archive, checks every checksum, and describes it.
pub async fn inspect(store: &dyn Store, key: &str) -> Result<ArchiveInspection, ArchiveError> {
    let size = store.info(key).await?.size;
    let archive = open(store, key, size, None, END_BYTES).await?;
    for section in &archive.toc.sections {
        archive.section(store, section).await?;
    }
    let table = archive.runs(store).await?;
    let sections = archive
        .toc
        .sections
        .iter()
        .map(|section| SectionInspection {
            name: section.name.clone(),
            position: section.position,
            length: section.length,
        })
        .collect();
    Ok(ArchiveInspection {
        key: archive.key,
        size,
        crc: archive.toc_crc,
        description: archive.toc.description,
        sections,
        runs: table.covered(),
        undecodable: table.undecodable().to_vec(),
    })
}
