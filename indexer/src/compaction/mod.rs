//! Compaction: the runs of adjacent pages, which lie in many segments, go into segments of level 1, batches byte for
//! byte, in order of partition and offset.
//!
//! A small run is read with its neighbours and checked by itself: checksums, offsets without a gap, the leader epoch
//! that the job names. What is large, or not certain by itself, is read piece by piece and checked by its segment's
//! directory. Nothing is left out but oldest runs that are deleted: an input that is damaged or gone fails the job, and
//! the pages stay as they are.

mod output;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use bytes::Bytes;
use chronik_format::batch::BatchHeader;
use chronik_format::catalog::{CatalogError, SegmentEntry};
use chronik_format::ids::Offset;
use chronik_format::job::{CompactJob, CompactResult, SegmentMade};
use chronik_format::origin::Origin;
use chronik_format::segment::{SegmentError, SegmentReader, TopicSegmentWriter, certain};
use chronik_format::span::OffsetSpan;
use chronik_service::failpoint;
use chronik_store::{SharedStore, StoreError};
use futures::{StreamExt, TryStreamExt, stream};
use prometheus::IntCounter;

use self::output::SegmentOutput;
use self::sources::{CompactSources, SourceRead, SourceRun};
use crate::error::IndexError;
use crate::job::compact_result;
use crate::leaf::leaf;
use crate::patience::{patiently, patiently_if};
use crate::work_thread::WorkThread;

/// Bytes of runs that are checked and listed in one go.
const LISTED_BYTES: u64 = 8 << 20;
/// Reads at the same time.
const READS_AT_ONCE: usize = 8;
/// Memory for directories of segments that runs are checked by.
const DIRECTORY_BYTES: usize = 16 << 20;

/// How much is held, read and written at a time, bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompactLimits {
    /// Of runs that are read together. What is being uploaded has 32 MiB of its own.
    pub held: u64,
    /// A run that is larger is read in pieces of about so many.
    pub piece: u64,
    /// A segment that is larger goes to the store in parts.
    pub whole: u64,
    /// Of a segment, unless one run alone has more.
    pub segment: u64,
}

impl CompactLimits {
    /// For jobs that may take so much memory.
    pub fn within(memory: usize) -> Self {
        let memory = memory as u64;
        Self { held: memory / 8 * 3, piece: 8 << 20, whole: (memory / 8).min(64 << 20), segment: 1 << 30 }
    }
}

/// Rewrites runs within a limit of memory.
#[derive(Debug)]
pub(crate) struct Compactor {
    pub store: SharedStore,
    pub thread: WorkThread,
    pub limits: CompactLimits,
    /// Reads of segments.
    pub reads: IntCounter,
    /// Bytes of the runs that were rewritten.
    pub bytes: IntCounter,
}

/// Why runs were not rewritten.
#[derive(Debug, thiserror::Error)]
enum CompactError {
    /// The inputs are not what they should be.
    #[error("{0}")]
    Input(String),
    /// An upload was cut off, and begins anew.
    #[error(transparent)]
    Upload(StoreError),
    /// Not this time.
    #[error(transparent)]
    Interrupted(#[from] IndexError),
}

impl From<StoreError> for CompactError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => Self::Interrupted(error.into()),
            gone => Self::Input(gone.to_string()),
        }
    }
}

impl From<SegmentError> for CompactError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Store(error) => error.into(),
            damage => Self::Input(damage.to_string()),
        }
    }
}

impl From<CatalogError> for CompactError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Store(error) => error.into(),
            damage => Self::Input(damage.to_string()),
        }
    }
}

/// Bytes of a run, or of a part of it.
#[derive(Debug)]
struct RunPiece {
    run: SourceRun,
    parts: Vec<Bytes>,
    /// Whether the parts are batches that a directory vouches for.
    checked: bool,
}

impl Compactor {
    /// Does a job: the segments are in the store when it returns, the result is not. An upload that fails because the
    /// store can't be reached is begun anew.
    pub(crate) async fn compact(&self, job: &CompactJob) -> Result<CompactResult, IndexError> {
        let may_pass = |error: &CompactError| matches!(error, CompactError::Upload(_));
        match patiently_if(|| self.attempt(job), may_pass).await {
            Ok(segments) => Ok(compact_result(job, Ok(segments))),
            Err(CompactError::Input(reason)) => Ok(compact_result(job, Err(reason))),
            Err(CompactError::Upload(error)) => Err(error.into()),
            Err(CompactError::Interrupted(error)) => Err(error),
        }
    }

    async fn attempt(&self, job: &CompactJob) -> Result<Vec<SegmentMade>, CompactError> {
        let (origin, sources) = self.sources(job).await?;
        let mut output = SegmentOutput::new(self.store.clone(), origin, job.clone(), sources.bytes(), self.limits);
        let mut rewriting = Rewriting { compactor: self, job, sources: &sources, readers: HashMap::new() };
        match rewriting.run(&mut output).await {
            Ok(()) => output.finish().await,
            Err(error) => {
                output.abort().await;
                Err(error)
            }
        }
    }

    async fn sources(&self, job: &CompactJob) -> Result<(Origin, CompactSources), CompactError> {
        let mut pages = Vec::with_capacity(job.pages.len());
        let mut origin = None;
        for page in &job.pages {
            let (of, runs) = leaf(&self.store, job.topic_id, page).await?;
            origin = Some(Origin { incarnation: job.incarnation, ..of });
            pages.push(runs);
        }
        let sources = CompactSources::of(&pages, &job.log_starts).map_err(CompactError::Input)?;
        Ok((origin.ok_or_else(|| CompactError::Input("the job names no pages".to_owned()))?, sources))
    }
}

/// A job at work.
struct Rewriting<'a> {
    compactor: &'a Compactor,
    job: &'a CompactJob,
    sources: &'a CompactSources,
    /// Opened segments, by number; within [`DIRECTORY_BYTES`].
    readers: HashMap<usize, SegmentReader>,
}

impl Rewriting<'_> {
    async fn run(&mut self, output: &mut SegmentOutput) -> Result<(), CompactError> {
        let (sources, limits) = (self.sources, self.compactor.limits);
        let may_be_certain = self.job.epoch.is_some();
        let is_held = move |run: &SourceRun| may_be_certain && run.bytes.length <= limits.piece;
        for window in sources.windows(limits.held, is_held) {
            let held = self.read(window.clone().filter(|at| is_held(&sources.runs[*at]))).await?;
            failpoint!("compactor-read");
            self.write(&sources.runs[window.clone()], window.start, held, output).await?;
        }
        Ok(())
    }

    /// Reads runs, by their numbers.
    async fn read(&self, runs: impl Iterator<Item = usize>) -> Result<HashMap<usize, Bytes>, CompactError> {
        let reads = stream::iter(self.sources.reads(runs)).map(|read| self.read_one(read));
        let mut reads = reads.buffer_unordered(READS_AT_ONCE);
        let mut held = HashMap::new();
        while let Some(runs) = reads.try_next().await? {
            held.extend(runs);
        }
        Ok(held)
    }

    async fn read_one(&self, read: SourceRead) -> Result<Vec<(usize, Bytes)>, CompactError> {
        let segment = &self.sources.segments[read.segment].key;
        let bytes = patiently(|| self.compactor.store.read(segment, Some(read.range.clone()))).await?;
        self.compactor.reads.inc();
        let part = |at: usize| {
            let place = self.sources.runs[at].bytes;
            let start = (place.position - read.range.start) as usize;
            (at, bytes.slice(start..start + place.length as usize))
        };
        Ok(read.runs.into_iter().map(part).collect())
    }

    /// Writes runs, the first of which has the number `first`: those that are held, as many in one go as go into one
    /// segment, and the others piece by piece.
    async fn write(
        &mut self,
        runs: &[SourceRun],
        first: usize,
        mut held: HashMap<usize, Bytes>,
        output: &mut SegmentOutput,
    ) -> Result<(), CompactError> {
        let mut together: Vec<RunPiece> = Vec::new();
        let mut bytes = 0;
        for (at, run) in (first..).zip(runs) {
            let length = run.bytes.length;
            let piece = held.remove(&at).map(|bytes| RunPiece { run: *run, parts: vec![bytes], checked: false });
            if piece.is_none() || bytes + length > LISTED_BYTES || !output.has_room(bytes + length) {
                self.write_held(std::mem::take(&mut together), output).await?;
                output.begin_run(length).await?;
                bytes = 0;
            }
            match piece {
                Some(piece) => {
                    bytes += length;
                    together.push(piece);
                }
                None => self.write_large(*run, output).await?,
            }
        }
        self.write_held(together, output).await
    }

    /// Writes runs that were read by their place; one that is not certain by itself is read again by its directory.
    async fn write_held(&mut self, mut pieces: Vec<RunPiece>, output: &mut SegmentOutput) -> Result<(), CompactError> {
        while !pieces.is_empty() {
            let (listed, mut left) = self.list(pieces, output).await?;
            for piece in listed {
                self.add(piece, output).await?;
            }
            if !left.is_empty() {
                let uncertain = left.remove(0);
                self.write_large(uncertain.run, output).await?;
            }
            pieces = left;
        }
        Ok(())
    }

    /// Writes one run piece by piece, checked by its segment's directory.
    async fn write_large(&mut self, run: SourceRun, output: &mut SegmentOutput) -> Result<(), CompactError> {
        let (mut from, mut length) = (run.offsets.first, 0);
        while from <= run.offsets.last {
            let batches = self.batches(run, from).await?;
            let last =
                batches.last().and_then(|batch| BatchHeader::parse(batch).ok()).map(|header| header.last_offset());
            length += batches.iter().map(|batch| batch.len() as u64).sum::<u64>();
            let Some(last) = last.filter(|last| *last >= from) else { break };
            from = last + 1;
            let (listed, _) = self.list(vec![RunPiece { run, parts: batches, checked: true }], output).await?;
            for piece in listed {
                self.add(piece, output).await?;
            }
        }
        if from == run.offsets.end() && length == run.bytes.length {
            return Ok(());
        }
        let (SourceRun { partition, offsets, .. }, segment) = (run, &self.sources.segments[run.segment].key);
        Err(CompactError::Input(format!(
            "{segment} does not hold the run {}..={} of partition {partition}",
            offsets.first, offsets.last
        )))
    }

    /// Some batches of a run from an offset on, at least one.
    async fn batches(&mut self, run: SourceRun, from: Offset) -> Result<Vec<Bytes>, CompactError> {
        let reader = self.reader(run.segment).await?;
        let (topic, partition) = (self.job.topic_id, run.partition);
        let piece = self.compactor.limits.piece as usize;
        let mut batches = patiently_if(|| reader.batches(topic, partition, from, piece), may_pass).await?;
        self.compactor.reads.inc();
        let is_of_run =
            |batch: &Bytes| BatchHeader::parse(batch).is_ok_and(|header| header.last_offset() <= run.offsets.last);
        let count = batches.iter().take_while(|batch| is_of_run(batch)).count();
        batches.truncate(count);
        Ok(batches)
    }

    async fn reader(&mut self, segment: usize) -> Result<SegmentReader, CompactError> {
        if let Some(reader) = self.readers.get(&segment) {
            return Ok(reader.clone());
        }
        let SegmentEntry { key, size, crc, directory_position, .. } = &self.sources.segments[segment];
        let open = || SegmentReader::open_known(self.compactor.store.clone(), key, *size, *directory_position, *crc);
        let reader = patiently_if(open, may_pass).await?;
        self.compactor.reads.inc();
        if self.readers.values().map(SegmentReader::memory_bytes).sum::<usize>() > DIRECTORY_BYTES {
            self.readers.clear();
        }
        self.readers.insert(segment, reader.clone());
        Ok(reader)
    }

    /// Has the batches of pieces listed by the segment's writer, up to the first piece that is not certain: those
    /// before it, and the others.
    async fn list(
        &self,
        pieces: Vec<RunPiece>,
        output: &mut SegmentOutput,
    ) -> Result<(Vec<RunPiece>, Vec<RunPiece>), CompactError> {
        let Some(writer) = output.lend() else {
            return Err(CompactError::Input("no segment is open".to_owned()));
        };
        let epoch = self.job.epoch;
        let listed = self.compactor.thread.run(move |_| list(writer, pieces, epoch)).await?;
        let (writer, listed, left) = listed?;
        output.give_back(writer);
        Ok((listed, left))
    }

    async fn add(&self, piece: RunPiece, output: &mut SegmentOutput) -> Result<(), CompactError> {
        for part in piece.parts {
            self.compactor.bytes.inc_by(part.len() as u64);
            output.add_batches(part).await?;
        }
        Ok(())
    }
}

fn may_pass(error: &SegmentError) -> bool {
    matches!(error, SegmentError::Store(StoreError::Unavailable { .. }))
}

/// What [`Rewriting::list`] does on a thread of its own: it unpacks every batch.
fn list(
    mut writer: TopicSegmentWriter,
    mut pieces: Vec<RunPiece>,
    epoch: Option<i32>,
) -> Result<(TopicSegmentWriter, Vec<RunPiece>, Vec<RunPiece>), SegmentError> {
    let mut listed = 0;
    for piece in &pieces {
        let certain;
        let batches = match (piece.checked, epoch) {
            (true, _) => &piece.parts,
            (false, Some(epoch)) => match certain_run(piece, epoch) {
                Some(batches) => {
                    certain = batches;
                    &certain
                }
                None => break,
            },
            (false, None) => break,
        };
        for batch in batches {
            writer.add(piece.run.partition, batch)?;
        }
        listed += 1;
    }
    let left = pieces.split_off(listed);
    Ok((writer, pieces, left))
}

/// The batches of a whole run, if they are certain by themselves to be those that were written.
fn certain_run(piece: &RunPiece, epoch: i32) -> Option<Vec<Bytes>> {
    let OffsetSpan { first, .. } = piece.run.offsets;
    let mut batches = Vec::new();
    let (mut next, mut length) = (first, 0);
    for (header, batch) in piece.parts.iter().flat_map(|part| certain(part.clone(), first, |_, of| of == epoch)) {
        next = header.last_offset() + 1;
        length += batch.len() as u64;
        batches.push(batch);
    }
    (next == piece.run.offsets.end() && length == piece.run.bytes.length).then_some(batches)
}
