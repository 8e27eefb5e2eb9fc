//! An archive ready to be searched.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use chronik_format::archive::terms::{HEADERS, KEY, VALUE};
use chronik_format::archive::{OpenedArchive, RunTable, open};
use chronik_format::catalog::ArchiveEntry;
use chronik_format::job::IndexSettings;
use chronik_format::search::{ANALYSIS, ANALYSIS_LOWER_CASED, Query};
use chronik_store::SharedStore;
use futures::future::try_join_all;
use tantivy::directory::{FileHandle, OwnedBytes};
use tantivy::{Index, ReloadPolicy, Searcher, TantivyError};

use super::directory::ArchiveDirectory;
use super::documents::DocumentSet;
use super::file::{BlockCache, RangedFile};
use super::query_plan::{ArchiveAnalysis, IndexFields, QueryPlan};
use super::select::select;
use super::{CandidateBatch, CandidateRecords, LeafError, at_work};

/// How much of an archive is read before it is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadAhead {
    /// An archive up to this size is read whole, bytes.
    pub whole_bytes: u64,
    /// Of a larger one this much of the end is read first, bytes: in it are the tables, and often the dictionaries.
    pub end_bytes: u64,
    /// A file up to this size is kept whole, bytes.
    pub file_bytes: u64,
}

/// What Tantivy keeps of an open index beside its files, about.
const INDEX_BYTES: usize = 32 << 10;

pub(super) struct SearchableArchive {
    pub key: String,
    built: ArchiveAnalysis,
    runs: RunTable,
    /// Bytes of files in memory.
    loaded: usize,
    fields: IndexFields,
    searcher: Searcher,
    /// Whether some files are still in the bucket.
    ranged: bool,
}

impl SearchableArchive {
    pub(super) async fn open(
        store: &SharedStore,
        cache: &BlockCache,
        ahead: ReadAhead,
        entry: &ArchiveEntry,
    ) -> Result<Self, LeafError> {
        let failed = |error| LeafError::of_archive(&entry.key, error);
        let first = if entry.size <= ahead.whole_bytes { entry.size } else { ahead.end_bytes };
        let archive = open(store.as_ref(), &entry.key, entry.size, Some(entry.crc), first).await.map_err(failed)?;
        let description = &archive.toc.description;
        let built = ArchiveAnalysis {
            settings: description.settings,
            folded: match description.analysis.as_str() {
                ANALYSIS => true,
                ANALYSIS_LOWER_CASED => false,
                analysis => {
                    let reason = format!("its text was analysed as {analysis:?}, which a newer program knows");
                    return Err(LeafError::Unsupported { archive: entry.key.clone(), reason });
                }
            },
        };
        let records = description.records;
        let runs = archive.runs(store.as_ref()).await.map_err(failed)?;
        let files = Files::new(store, cache, ahead, archive).await?;
        let (loaded, ranged) = (files.loaded, files.ranged);
        let key = entry.key.clone();
        let (fields, searcher) = at_work(&entry.key, move || files.searcher(&key, records)).await??;
        Ok(Self { key: entry.key.clone(), built, runs, loaded, fields, searcher, ranged })
    }

    /// Bytes of memory, about.
    pub(super) fn weight(&self) -> usize {
        self.loaded + self.runs.weight() + INDEX_BYTES
    }

    pub(super) fn plan(&self, query: &Query, settings: IndexSettings) -> QueryPlan {
        QueryPlan::new(query, self.fields, settings, self.built)
    }

    /// Reads what the plan will ask for, all at once, into the cache.
    pub(super) async fn warm_up(&self, plan: &QueryPlan) -> Result<(), LeafError> {
        if !self.ranged {
            return Ok(());
        }
        let tantivy_failed = |error| LeafError::of_tantivy(&self.key, error);
        let Some(segment) = self.searcher.segment_readers().first() else {
            return Ok(());
        };
        try_join_all(plan.selection.terms().into_iter().map(|(term, positions)| async move {
            let index = segment.inverted_index(term.field()).map_err(tantivy_failed)?;
            index.warm_postings(term, positions).await.map_err(|error| LeafError::of_io(&self.key, &error))
        }))
        .await?;
        Ok(())
    }

    /// The records that the plan selects. Blocks while the store is read.
    pub(super) fn search(&self, plan: &QueryPlan) -> Result<CandidateRecords, LeafError> {
        let failed = |error| LeafError::of_tantivy(&self.key, error);
        let documents = select(&plan.selection, &self.searcher, self.runs.documents()).map_err(failed)?;
        let undecodable = self.runs.undecodable().to_vec();
        Ok(CandidateRecords { batches: self.batches(&documents)?, exact: plan.exact, undecodable })
    }

    /// Leads from documents to the records.
    fn batches(&self, documents: &DocumentSet) -> Result<Vec<CandidateBatch>, LeafError> {
        let mut batches: Vec<CandidateBatch> = Vec::new();
        let mut current = None;
        for document in documents.iter() {
            let found = self.runs.locate(document).ok_or_else(|| LeafError::Damaged {
                archive: self.key.clone(),
                reason: format!("document {document} is in no run"),
            })?;
            if let Some(batch) = batches.last_mut().filter(|_| current == Some(found.batch_number)) {
                batch.offsets.push(found.offset);
                continue;
            }
            current = Some(found.batch_number);
            batches.push(CandidateBatch {
                partition: found.run.partition,
                segment_key: self.runs.segments()[found.run.segment as usize].clone(),
                position: found.batch.position,
                length: found.batch.length.into(),
                min_timestamp: found.batch.min_timestamp,
                max_timestamp: found.batch.max_timestamp,
                base_offset: found.batch.base_offset,
                offsets: vec![found.offset],
            });
        }
        Ok(batches)
    }
}

/// Tantivy's files of an archive.
struct Files {
    by_path: HashMap<PathBuf, Arc<dyn FileHandle>>,
    loaded: usize,
    ranged: bool,
}

impl Files {
    /// Loads the small files and those that came with the end.
    async fn new(
        store: &SharedStore,
        cache: &BlockCache,
        ahead: ReadAhead,
        archive: OpenedArchive,
    ) -> Result<Self, LeafError> {
        let small = |section: &&_| archive.is_at_hand(section) || section.length <= ahead.file_bytes;
        let loads = archive.toc.index_files().map(|(_, section)| section).filter(small).map(|section| async {
            let bytes = archive.section(store.as_ref(), section).await;
            bytes.map(|bytes| (section.position, bytes)).map_err(|error| LeafError::of_archive(&archive.key, error))
        });
        let mut loaded: HashMap<_, _> = try_join_all(loads).await?.into_iter().collect();
        let sum = loaded.values().map(|bytes| bytes.len()).sum();

        let archive = Arc::new(archive.without_end());
        let mut files = Self { by_path: HashMap::new(), loaded: sum, ranged: false };
        for (name, section) in archive.toc.index_files() {
            let file: Arc<dyn FileHandle> = match loaded.remove(&section.position) {
                Some(bytes) => Arc::new(OwnedBytes::new(bytes.to_vec())),
                None => {
                    files.ranged = true;
                    Arc::new(RangedFile::new(store.clone(), archive.clone(), section.clone(), cache.clone()))
                }
            };
            files.by_path.insert(name.into(), file);
        }
        Ok(files)
    }

    /// Opens the index. Blocks while the store is read.
    fn searcher(self, archive: &str, records: u64) -> Result<(IndexFields, Searcher), LeafError> {
        let failed = |error| LeafError::of_tantivy(archive, error);
        let index = Index::open(ArchiveDirectory::new(self.by_path)).map_err(failed)?;
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).doc_store_cache_num_blocks(0);
        let reader: Result<tantivy::IndexReader, TantivyError> = reader.try_into();
        let searcher = reader.map_err(failed)?.searcher();
        let one_segment_of_all = match searcher.segment_readers() {
            [] => records == 0,
            [segment] => u64::from(segment.max_doc()) == records && !segment.has_deletes(),
            _ => false,
        };
        if !one_segment_of_all {
            let reason = format!("its index is not about the {records} records of its tables");
            return Err(LeafError::Damaged { archive: archive.to_owned(), reason });
        }
        let field = |name| index.schema().get_field(name).map_err(failed);
        let fields = IndexFields { key: field(KEY)?, value: field(VALUE)?, headers: field(HEADERS)? };
        for segment in searcher.segment_readers() {
            for field in [fields.key, fields.value, fields.headers] {
                segment.inverted_index(field).map_err(failed)?;
            }
        }
        Ok((fields, searcher))
    }
}
