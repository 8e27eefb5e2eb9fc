//! The index that is being filled.

use std::sync::Arc;

use chronik_format::archive::{
    ArchiveDescription, ArchiveError, BuiltArchive, RunTable, UNDECODABLE_MAX, UndecodableBatches, VERSION, build,
};
use chronik_format::batch::records;
use chronik_format::job::{CoveredRun, Job, JobRun};
use chronik_format::search::ANALYSIS;
use chronik_format::span::OffsetSpan;
use chronik_service::failpoint;
use tantivy::directory::RamDirectory;
use tantivy::indexer::SingleSegmentIndexWriter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::decode::DecodedRun;
use crate::error::IndexError;
use crate::fields::IndexFields;
use crate::files;

/// Only sizes Tantivy's first hash table; how much a writer takes is measured, and limited by [`IndexBudget`].
const FIRST_TABLE_BYTES: usize = 32 << 20;
/// What a document takes beside what Tantivy accounts for: its own log of documents, the offset.
const DOCUMENT_BYTES: usize = 24;
/// How many records are added between two looks at the memory.
const LOOK_EVERY: u32 = 256;
/// Documents that one Tantivy segment may have, with some to spare.
const DOCUMENTS_MAX: u64 = 1 << 30;

/// Memory and time that an index may take while it is filled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexBudget {
    /// From here on no further run is begun, bytes.
    pub full: usize,
    /// A run that leads beyond this is not indexed together with those before, bytes.
    pub most: usize,
    /// Bytes that one batch may have, decompressed.
    pub batch_bytes: usize,
    /// From here on no further run is begun.
    pub enough: Option<Instant>,
}

impl IndexBudget {
    /// Records that fit in, whatever they are.
    pub(crate) fn documents(&self) -> u64 {
        (self.most / DOCUMENT_BYTES) as u64
    }
}

/// An archive that has no name yet.
pub(crate) struct UnnamedArchive {
    pub archive: BuiltArchive,
    pub records: u64,
    pub runs: Vec<CoveredRun>,
    pub undecodable: Vec<UndecodableBatches>,
}

/// What became of the first of some runs.
pub(crate) enum FillOutcome {
    /// So many of them are in an archive.
    Archive(Box<UnnamedArchive>, usize),
    /// The very first does not fit, even alone.
    TooLarge,
}

/// Makes one archive of as many of the first runs as fit, unless `abandoned` before.
pub(crate) fn fill(
    job: &Arc<Job>,
    runs: &[DecodedRun],
    budget: IndexBudget,
    abandoned: &CancellationToken,
) -> Result<FillOutcome, IndexError> {
    let mut runs = runs;
    loop {
        let mut draft = Draft::new(job)?;
        let fitting = draft.add_all(runs, budget, abandoned)?;
        match fitting {
            Fitting::All(count) => return Ok(FillOutcome::Archive(Box::new(draft.finish(job)?), count)),
            Fitting::Overflow(0) => return Ok(FillOutcome::TooLarge),
            // What was added can't be taken out again: another draft ends before the run that was too much.
            Fitting::Overflow(before) => runs = &runs[..before],
        }
    }
}

enum Fitting {
    /// So many runs are in the draft, whole.
    All(usize),
    /// So many would have fitted, but a part of the next is in the draft too.
    Overflow(usize),
}

struct Draft {
    fields: IndexFields,
    directory: RamDirectory,
    writer: SingleSegmentIndexWriter,
    table: RunTable,
    documents: u64,
}

impl Draft {
    fn new(job: &Job) -> Result<Self, IndexError> {
        let fields = IndexFields::new(job.settings);
        let directory = RamDirectory::create();
        let writer = fields.index().single_segment_index_writer(directory.clone(), FIRST_TABLE_BYTES)?;
        Ok(Self { fields, directory, writer, table: RunTable::default(), documents: 0 })
    }

    fn memory(&self) -> usize {
        self.writer.mem_usage() + self.documents as usize * DOCUMENT_BYTES
    }

    fn add_all(
        &mut self,
        runs: &[DecodedRun],
        budget: IndexBudget,
        abandoned: &CancellationToken,
    ) -> Result<Fitting, IndexError> {
        for (before, run) in runs.iter().enumerate() {
            let full = self.memory() >= budget.full
                || self.documents + run.documents > DOCUMENTS_MAX
                || self.table.undecodable().len() + run.undecodable.len() > UNDECODABLE_MAX;
            let late = budget.enough.is_some_and(|enough| Instant::now() >= enough);
            if before > 0 && (full || late) {
                return Ok(Fitting::All(before));
            }
            if !self.add(run, budget, abandoned)? {
                return Ok(Fitting::Overflow(before));
            }
        }
        Ok(Fitting::All(runs.len()))
    }

    /// Adds a run; false if it is too much.
    fn add(
        &mut self,
        run: &DecodedRun,
        budget: IndexBudget,
        abandoned: &CancellationToken,
    ) -> Result<bool, IndexError> {
        for (batch, _) in &run.batches {
            let undecodable = |error| ArchiveError::Unwritable { reason: format!("a batch that was decoded: {error}") };
            for (n, record) in (0..).zip(records(batch, budget.batch_bytes).map_err(undecodable)?) {
                let record = record.map_err(undecodable)?;
                self.writer.add_document(self.fields.document(&record))?;
                self.documents += 1;
                if n % LOOK_EVERY == 0 {
                    if abandoned.is_cancelled() {
                        return Err(IndexError::Abandoned);
                    }
                    if self.memory() > budget.most {
                        return Ok(false);
                    }
                }
            }
        }
        let rows = run.batches.iter().map(|(_, row)| row.clone()).collect();
        let JobRun { partition, offsets: OffsetSpan { first, last }, .. } = run.place;
        self.table.push(&run.segment, partition, first, last, rows, run.undecodable.clone())?;
        Ok(true)
    }

    fn finish(self, job: &Job) -> Result<UnnamedArchive, IndexError> {
        failpoint!("indexer-building");
        let index = self.writer.finalize()?;
        let members = files::of(&index, &self.directory, &self.fields)?;
        let description = ArchiveDescription {
            v: VERSION,
            incarnation: job.incarnation,
            lane: job.lane,
            topic: job.topic.clone(),
            topic_id: job.topic_id,
            analysis: ANALYSIS.to_owned(),
            settings: job.settings,
            records: self.documents,
        };
        let archive = build(description, members, &self.table)?;
        Ok(UnnamedArchive {
            archive,
            records: self.documents,
            runs: self.table.covered(),
            undecodable: self.table.undecodable().to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use bytes::Bytes;
    use chronik_format::batch::{BatchBuilder, Codec};
    use chronik_format::job::{IndexSettings, JobKind};
    use chronik_format::span::ByteSpan;

    use super::*;
    use crate::decode::RunLimits;

    /// A run of records that have nothing in common, so that its index takes a known amount of memory at least.
    fn run(partition: i32, records: usize) -> DecodedRun {
        let mut builder = BatchBuilder::new(Codec::None);
        for n in 0..records {
            builder.push(0, None, Some(format!("{partition}x{n:x} {n:x}y{partition}").as_bytes()), &[]);
        }
        let bytes: Bytes = builder.finish();
        let length = bytes.len() as u64;
        let offsets = OffsetSpan { first: 0, last: records as i64 - 1 };
        let place = JobRun { partition, offsets, bytes: ByteSpan { position: 0, length } };
        DecodedRun::survey("s", place, bytes, RunLimits { batch_bytes: 1 << 20, documents: 1 << 20 }).unwrap()
    }

    fn job() -> Arc<Job> {
        Arc::new(Job {
            v: 0,
            kind: JobKind::Index,
            cluster: String::new(),
            incarnation: Default::default(),
            lane: Default::default(),
            id: String::new(),
            topic: String::new(),
            topic_id: Default::default(),
            index_epoch: 0,
            inputs: vec![],
            settings: IndexSettings::default(),
        })
    }

    /// How many runs each archive has; 0 for a run that fits into none.
    fn counts(mut runs: Vec<DecodedRun>, budget: IndexBudget) -> Vec<usize> {
        let mut counts = Vec::new();
        while !runs.is_empty() {
            match fill(&job(), &runs, budget, &CancellationToken::new()).unwrap() {
                FillOutcome::Archive(made, count) => {
                    let expected: u64 = runs[..count].iter().map(|run| run.documents).sum();
                    assert_eq!((made.records, made.runs.len()), (expected, count));
                    runs.drain(..count);
                    counts.push(count);
                }
                FillOutcome::TooLarge => {
                    runs.remove(0);
                    counts.push(0);
                }
            }
        }
        counts
    }

    fn memory_with(runs: &[DecodedRun]) -> usize {
        let mut draft = Draft::new(&job()).unwrap();
        draft.add_all(runs, ROOMY, &CancellationToken::new()).unwrap();
        draft.memory()
    }

    const ROOMY: IndexBudget = IndexBudget { full: usize::MAX, most: usize::MAX, batch_bytes: 1 << 20, enough: None };

    #[test]
    fn archives_end_between_runs_when_the_memory_is_full() {
        let runs = || (0..4).map(|partition| run(partition, 1000)).collect::<Vec<_>>();
        assert_eq!(counts(runs(), ROOMY), [4]);
        for (full_with, expected) in [(0, vec![1, 1, 1, 1]), (1, vec![1, 1, 1, 1]), (2, vec![2, 2]), (3, vec![3, 1])] {
            let full = memory_with(&runs()[..full_with]);
            assert_eq!(counts(runs(), IndexBudget { full, ..ROOMY }), expected);
        }
    }

    #[test]
    fn archives_end_between_runs_when_the_time_is_up() {
        let late = IndexBudget { enough: Some(Instant::now()), ..ROOMY };
        assert_eq!(counts((0..3).map(|partition| run(partition, 10)).collect(), late), [1, 1, 1]);
    }

    #[test]
    fn work_without_a_caller_is_left() {
        let abandoned = CancellationToken::new();
        abandoned.cancel();
        let left = fill(&job(), &[run(0, 1000)], ROOMY, &abandoned);
        assert!(matches!(left, Err(IndexError::Abandoned)));
    }

    #[test]
    fn a_run_that_is_too_much_goes_into_the_next_archive_or_into_none() {
        let tight = IndexBudget { most: memory_with(&[run(0, 3000)]), ..ROOMY };
        assert_eq!(counts(vec![run(0, 3000), run(1, 3000), run(2, 30_000), run(3, 10)], tight), [1, 1, 0, 1]);
    }
}
