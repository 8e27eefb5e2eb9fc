//! Merging: the archives of a page, of which each job of indexing has made some, become few. No record is read:
//! Tantivy puts the documents of its indexes one behind the other, and so are the tables that lead to the records.

mod groups;
mod part;
#[cfg(test)]
mod tests;

use chronik_format::archive::{ArchiveDescription, ArchiveError, BuiltArchive, RunTable, build};
use chronik_format::catalog::{ArchiveEntry, CatalogError};
use chronik_format::job::{MergeJob, MergeResult, MergedArchive};
use chronik_format::names::ArchiveName;
use chronik_service::failpoint;
use chronik_store::{SharedStore, StoreError};
use futures::{StreamExt, TryStreamExt, stream};
use prometheus::{IntCounter, IntGauge};
use tantivy::directory::RamDirectory;
use tantivy::indexer::merge_indices;
use tokio::time::Instant;
use ulid::Ulid;

use self::part::ArchivePart;
use crate::error::IndexError;
use crate::fields::IndexFields;
use crate::files;
use crate::job::{Merged, merge_result};
use crate::leaf::leaf;
use crate::patience::{patiently, patiently_if};
use crate::work_thread::WorkThread;

/// Archives that are read at the same time.
const READS_AT_ONCE: usize = 8;

/// What an archive has at the most that is made of others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MergeLimits {
    /// Bytes of those others. While they are merged they are in memory, with what becomes of them.
    pub bytes: u64,
    /// A search has the offsets of all that it finds in an archive in memory, and opens all of it for the newest.
    pub records: u64,
    /// Bytes that the tables take in memory; packed they have 64 MiB at the most.
    pub table_bytes: usize,
}

impl MergeLimits {
    /// For jobs that may take so much memory.
    pub fn within(memory: usize) -> Self {
        Self { bytes: (memory as u64 / 4).min(256 << 20), records: 1 << 22, table_bytes: (memory / 16).min(32 << 20) }
    }
}

/// Merges archives within a limit of memory.
#[derive(Debug)]
pub(crate) struct Merger {
    pub store: SharedStore,
    pub thread: WorkThread,
    pub limits: MergeLimits,
    /// Archives in whose place others came.
    pub merged: IntCounter,
    /// Bytes of archives that were made.
    pub bytes_written: IntCounter,
    /// Of the newest archive.
    pub archive_size: IntGauge,
}

/// Why archives were not merged.
#[derive(Debug, thiserror::Error)]
enum MergeError {
    /// The inputs are not what they should be.
    #[error("{0}")]
    Input(String),
    /// Not this time.
    #[error(transparent)]
    Interrupted(#[from] IndexError),
}

impl From<StoreError> for MergeError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => Self::Interrupted(error.into()),
            gone => Self::Input(gone.to_string()),
        }
    }
}

impl From<CatalogError> for MergeError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Store(error) => error.into(),
            damage => Self::Input(damage.to_string()),
        }
    }
}

impl From<ArchiveError> for MergeError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Store { .. } => Self::Interrupted(error.into()),
            damage => Self::Input(damage.to_string()),
        }
    }
}

impl Merger {
    /// Does a job: the archives are in the store when it returns, the result is not. From `enough` on no further
    /// archive is begun if there is anything to show: the lane asks for the rest again.
    pub(crate) async fn merge(&self, job: &MergeJob, enough: Option<Instant>) -> Result<MergeResult, IndexError> {
        match self.attempt(job, enough).await {
            Ok(merged) => Ok(merge_result(job, Ok(merged))),
            Err(MergeError::Input(reason)) => Ok(merge_result(job, Err(reason))),
            Err(MergeError::Interrupted(error)) => Err(error),
        }
    }

    async fn attempt(&self, job: &MergeJob, enough: Option<Instant>) -> Result<Merged, MergeError> {
        let (_, runs) = leaf(&self.store, job.topic_id, &job.page).await?;
        let mut merged = Merged::default();
        for group in groups::by_time(runs.mergeable(), self.limits) {
            let is_late = enough.is_some_and(|enough| Instant::now() >= enough);
            if is_late && !(merged.archives.is_empty() && merged.alone.is_empty()) {
                break;
            }
            match &group[..] {
                [alone] => merged.alone.push(alone.key.clone()),
                group => self.merge_group(job, group, &mut merged).await?,
            }
        }
        Ok(merged)
    }

    /// Makes one archive of some, or more where they don't go together.
    async fn merge_group(
        &self,
        job: &MergeJob,
        group: &[&ArchiveEntry],
        merged: &mut Merged,
    ) -> Result<(), MergeError> {
        let reads: Vec<_> = group.iter().map(|archive| self.read(job, archive)).collect();
        let parts = stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
        failpoint!("merger-read");
        for parts in groups::alike(parts, self.limits) {
            let of: Vec<String> = parts.iter().map(|part| part.key.clone()).collect();
            if let [alone] = &of[..] {
                merged.alone.push(alone.clone());
                continue;
            }
            let job_again = job.clone();
            let made = self.thread.run(move |_| put_together(&job_again, parts)).await??;
            merged.archives.push(self.create(job, made, of).await?);
        }
        Ok(())
    }

    async fn read(&self, job: &MergeJob, archive: &ArchiveEntry) -> Result<ArchivePart, MergeError> {
        let may_pass = |error: &ArchiveError| matches!(error, ArchiveError::Store { .. });
        let part = patiently_if(|| ArchivePart::read(&self.store, archive), may_pass).await?;
        if part.description.topic_id != job.topic_id {
            return Err(MergeError::Input(format!("{} is of another topic", archive.key)));
        }
        Ok(part)
    }

    async fn create(
        &self,
        job: &MergeJob,
        (archive, records): (BuiltArchive, u64),
        of: Vec<String>,
    ) -> Result<MergedArchive, MergeError> {
        let name = ArchiveName { topic: job.topic_id, incarnation: job.incarnation, ulid: Ulid::new() };
        let (key, size, crc) = (name.to_string(), archive.size, archive.toc_crc);
        patiently(|| self.store.create(&key, archive.parts.clone())).await?;
        failpoint!("merger-archived");
        tracing::info!(job = job.id, archive = key, bytes = size, records, of = of.len(), "archives are merged");
        self.merged.inc_by(of.len() as u64);
        self.bytes_written.inc_by(size);
        self.archive_size.set(size as i64);
        Ok(MergedArchive { key, size, crc, records, of })
    }
}

/// The archive of parts that go together, and how many records it has. It takes the CPU until it is done.
fn put_together(job: &MergeJob, parts: Vec<ArchivePart>) -> Result<(BuiltArchive, u64), MergeError> {
    let first = parts.first().ok_or_else(|| MergeError::Input("there is nothing to be merged".to_owned()))?;
    let description = ArchiveDescription {
        incarnation: job.incarnation,
        lane: job.lane,
        topic: job.topic.clone(),
        ..first.description.clone()
    };
    let (mut table, mut indexes) = (RunTable::default(), Vec::with_capacity(parts.len()));
    for part in parts {
        indexes.push(part.index);
        table.push_all(part.table)?;
    }
    let directory = RamDirectory::create();
    let index = merge_indices(&indexes, directory.clone()).map_err(IndexError::from)?;
    drop(indexes);
    let fields = IndexFields::new(description.settings);
    let members = files::of(&index, &directory, &fields)?;
    let records = u64::from(table.documents());
    let archive = build(ArchiveDescription { records, ..description }, members, &table)?;
    Ok((archive, records))
}
