//! The run table and the batch table: from a document to the record it was made of.
//!
//! Documents are numbered from 0 in the order of runs, batches and records; control batches and batches without
//! records have none.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{ArchiveError, packed};
use crate::ids::{Offset, PartitionId, Timestamp};
use crate::job::CoveredRun;
use crate::span::OffsetSpan;

/// Names of the members.
pub(super) const RUNS: &str = "chronik/runs";
pub(super) const BATCHES: &str = "chronik/batches";

/// How many [`UndecodableBatches`]s an archive may have. Of a run that alone has more, there is no archive.
pub const UNDECODABLE_MAX: usize = 1024;
/// Bytes that the reason of an [`UndecodableBatches`] may have.
pub const REASON_BYTES_MAX: usize = 256;

/// Consecutive batches of one partition in one segment, all of which were indexed, but for the [`UndecodableBatches`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedRun {
    /// Index into [`RunTable::segments`].
    pub segment: u32,
    /// The partition's number.
    pub partition: PartitionId,
    pub first: Offset,
    /// Last offset, inclusive.
    pub last: Offset,
    /// How many batches with records the run has.
    pub batches: u32,
}

impl IndexedRun {
    pub fn offsets(&self) -> OffsetSpan {
        OffsetSpan { first: self.first, last: self.last }
    }
}

/// A batch with records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunBatch {
    /// The batch's own base offset.
    pub base_offset: Offset,
    /// Where the batch starts in the segment, bytes.
    pub position: u64,
    /// Bytes of the batch.
    pub length: u32,
    /// Earliest record timestamp, ms.
    pub min_timestamp: Timestamp,
    /// Latest record timestamp, ms.
    pub max_timestamp: Timestamp,
    /// Records, at least 1.
    pub documents: u32,
    /// What to add to the base offset for each record; `None` if that is 0, 1, 2, ...
    pub offset_deltas: Option<Box<[u32]>>,
}

impl RunBatch {
    /// The offset of the batch's n-th record.
    fn offset(&self, n: u32) -> Offset {
        let delta = match &self.offset_deltas {
            None => n,
            Some(deltas) => deltas[n as usize],
        };
        self.base_offset + Offset::from(delta)
    }
}

/// Batches of a run, one behind the other, that are as their producer sent them and of which no program can make
/// records, all for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndecodableBatches {
    /// The partition's number.
    pub partition: PartitionId,
    pub first: Offset,
    /// Last offset, inclusive.
    pub last: Offset,
    /// No earlier record can be in them, ms.
    pub min_timestamp: Timestamp,
    /// No later record can be in them, ms.
    pub max_timestamp: Timestamp,
    /// Why they can't be decoded, at most [`REASON_BYTES_MAX`].
    pub reason: String,
}

impl UndecodableBatches {
    fn lies_in(&self, run: &IndexedRun) -> bool {
        self.partition == run.partition && run.first <= self.first && self.last <= run.last
    }

    fn is_possible(&self) -> bool {
        self.first <= self.last && self.min_timestamp <= self.max_timestamp && self.reason.len() <= REASON_BYTES_MAX
    }
}

/// Where a document's record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocatedRecord<'a> {
    pub run: &'a IndexedRun,
    pub batch: &'a RunBatch,
    /// Number of the batch in the archive.
    pub batch_number: usize,
    /// The record's offset.
    pub offset: Offset,
}

/// All runs of an archive and their batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunTable {
    segments: Vec<String>,
    runs: Vec<IndexedRun>,
    batches: Vec<RunBatch>,
    /// Per run, the number of its first batch.
    run_starts: Vec<usize>,
    /// Per batch, its first document.
    batch_starts: Vec<u32>,
    documents: u32,
    /// In the order of the runs.
    undecodable: Vec<UndecodableBatches>,
}

impl RunTable {
    /// Object names of the segments.
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// The runs in document order.
    pub fn runs(&self) -> &[IndexedRun] {
        &self.runs
    }

    /// How many documents there are.
    pub fn documents(&self) -> u32 {
        self.documents
    }

    /// What is in the runs and in no document, in the order of the runs; at most [`UNDECODABLE_MAX`].
    pub fn undecodable(&self) -> &[UndecodableBatches] {
        &self.undecodable
    }

    /// About how many bytes of memory the table takes.
    pub fn weight(&self) -> usize {
        let undecodable: usize =
            self.undecodable.iter().map(|batches| size_of::<UndecodableBatches>() + batches.reason.len()).sum();
        let deltas: usize = self.batches.iter().filter_map(|batch| batch.offset_deltas.as_ref()).map(|d| d.len()).sum();
        self.segments.iter().map(String::len).sum::<usize>()
            + self.runs.len() * (size_of::<IndexedRun>() + size_of::<usize>())
            + self.batches.len() * (size_of::<RunBatch>() + size_of::<u32>())
            + deltas * size_of::<u32>()
            + undecodable
    }

    /// Adds a run, whose documents follow those of the runs before. Says what does not fit together.
    pub fn push(
        &mut self,
        segment: &str,
        partition: PartitionId,
        first: Offset,
        last: Offset,
        batches: Vec<RunBatch>,
        undecodable: Vec<UndecodableBatches>,
    ) -> Result<(), ArchiveError> {
        let segment = match self.segments.iter().rposition(|known| known == segment) {
            Some(at) => at,
            None => {
                self.segments.push(segment.to_owned());
                self.segments.len() - 1
            }
        };
        let run = IndexedRun { segment: segment as u32, partition, first, last, batches: batches.len() as u32 };
        self.append(run, batches).and_then(|()| self.append_undecodable(undecodable)).map_err(ArchiveError::unwritable)
    }

    /// Adds all runs of another table, whose documents follow those of this one. Says what does not fit together.
    pub fn push_all(&mut self, other: Self) -> Result<(), ArchiveError> {
        let mut known: HashMap<String, u32> = self.segments.iter().cloned().zip(0..).collect();
        let number_of = |segment: String| {
            *known.entry(segment).or_insert_with_key(|segment| {
                self.segments.push(segment.clone());
                (self.segments.len() - 1) as u32
            })
        };
        let numbers: Vec<u32> = other.segments.into_iter().map(number_of).collect();
        let mut batches = other.batches.into_iter();
        for run in other.runs {
            let segment = numbers.get(run.segment as usize).copied();
            let segment = segment.ok_or_else(|| ArchiveError::unwritable(format!("{run:?} is in no segment")))?;
            let own = batches.by_ref().take(run.batches as usize).collect();
            self.append(IndexedRun { segment, ..run }, own).map_err(ArchiveError::unwritable)?;
        }
        self.append_undecodable(other.undecodable).map_err(ArchiveError::unwritable)
    }

    fn append(&mut self, run: IndexedRun, batches: Vec<RunBatch>) -> Result<(), String> {
        let mut next = (run.first, 0);
        let mut documents = self.documents;
        let start = self.batches.len();
        self.run_starts.push(start);
        self.runs.push(run);
        for batch in batches {
            next = fits(&run, &batch, next)
                .ok_or_else(|| format!("the batch at {} of {run:?} does not fit into it", batch.base_offset))?;
            self.batch_starts.push(documents);
            documents = documents.checked_add(batch.documents).ok_or("there are too many documents")?;
            self.batches.push(batch);
        }
        self.documents = documents;
        Ok(())
    }

    /// Adds what can't be decoded of runs that are there.
    fn append_undecodable(&mut self, undecodable: Vec<UndecodableBatches>) -> Result<(), String> {
        for batches in undecodable {
            if !batches.is_possible() || !self.runs.iter().any(|run| batches.lies_in(run)) {
                return Err(format!("{batches:?} fits into no run"));
            }
            if self.undecodable.len() == UNDECODABLE_MAX {
                return Err(format!("more than {UNDECODABLE_MAX} batches can't be decoded"));
            }
            self.undecodable.push(batches);
        }
        Ok(())
    }

    /// Where the record of a document is; `None` if there is no such document.
    pub fn locate(&self, document: u32) -> Option<LocatedRecord<'_>> {
        if document >= self.documents {
            return None;
        }
        let batch_number = self.batch_starts.partition_point(|start| *start <= document) - 1;
        let run = self.run_starts.partition_point(|start| *start <= batch_number) - 1;
        let batch = &self.batches[batch_number];
        let offset = batch.offset(document - self.batch_starts[batch_number]);
        Some(LocatedRecord { run: &self.runs[run], batch, batch_number, offset })
    }

    /// The runs as a job's result names them.
    pub fn covered(&self) -> Vec<CoveredRun> {
        let times = |n: usize| {
            let batches = &self.batches[self.run_starts[n]..][..self.runs[n].batches as usize];
            let undecodable = self.undecodable.iter().filter(move |batches| batches.lies_in(&self.runs[n]));
            let of_undecodable = undecodable.map(|batches| (batches.min_timestamp, batches.max_timestamp));
            batches.iter().map(|batch| (batch.min_timestamp, batch.max_timestamp)).chain(of_undecodable)
        };
        let covered = |(n, run): (usize, &IndexedRun)| CoveredRun {
            segment: self.segments[run.segment as usize].clone(),
            partition: run.partition,
            first: run.first,
            last: run.last,
            min_timestamp: times(n).map(|(earliest, _)| earliest).min(),
            max_timestamp: times(n).map(|(_, latest)| latest).max(),
        };
        self.runs.iter().enumerate().map(covered).collect()
    }

    pub(super) fn encode_runs(&self) -> Result<Vec<u8>, ArchiveError> {
        packed::pack(&StoredRuns {
            segments: self.segments.clone(),
            runs: self.runs.clone(),
            undecodable: self.undecodable.clone(),
        })
        .map_err(ArchiveError::unwritable)
    }

    pub(super) fn encode_batches(&self) -> Result<Vec<u8>, ArchiveError> {
        packed::pack(&StoredBatches::from_batches(&self.batches)).map_err(ArchiveError::unwritable)
    }

    /// Reads the runs of the run table alone; `archive` is the object's name, for errors.
    pub(super) fn parse_runs(archive: &str, runs: &[u8]) -> Result<Vec<IndexedRun>, ArchiveError> {
        let runs: Result<StoredRuns, String> = packed::unpack(runs);
        runs.map(|stored| stored.runs).map_err(|reason| ArchiveError::damaged(archive, format!("{RUNS}: {reason}")))
    }

    /// Reads both tables; `archive` is the object's name, for errors.
    pub(super) fn parse(archive: &str, runs: &[u8], batches: &[u8]) -> Result<Self, ArchiveError> {
        let damaged = |reason: String| ArchiveError::damaged(archive, reason);
        let runs: StoredRuns = packed::unpack(runs).map_err(|reason| damaged(format!("{RUNS}: {reason}")))?;
        let batches: StoredBatches =
            packed::unpack(batches).map_err(|reason| damaged(format!("{BATCHES}: {reason}")))?;
        Self::of_stored(archive, runs, batches)
    }

    fn of_stored(archive: &str, runs: StoredRuns, batches: StoredBatches) -> Result<Self, ArchiveError> {
        let damaged = |reason: String| ArchiveError::damaged(archive, reason);
        let mut batches = batches.into_batches().map_err(damaged)?.into_iter();
        let mut table = Self { segments: runs.segments, ..Self::default() };
        for run in runs.runs {
            let own: Vec<_> = batches.by_ref().take(run.batches as usize).collect();
            if own.len() != run.batches as usize || run.segment as usize >= table.segments.len() {
                return Err(damaged(format!("{run:?} points beyond the tables")));
            }
            table.append(run, own).map_err(damaged)?;
        }
        if batches.next().is_some() {
            return Err(damaged("there are batches without a run".to_owned()));
        }
        table.append_undecodable(runs.undecodable).map_err(damaged)?;
        Ok(table)
    }
}

/// Whether a batch lies in its run behind offset and position `from`; then where the next one may start.
fn fits(run: &IndexedRun, batch: &RunBatch, from: (Offset, u64)) -> Option<(Offset, u64)> {
    let last = batch.documents.checked_sub(1)?;
    let ordered = match &batch.offset_deltas {
        None => true,
        Some(deltas) => deltas.len() == batch.documents as usize && deltas.windows(2).all(|pair| pair[0] < pair[1]),
    };
    let last_delta = match &batch.offset_deltas {
        None => last,
        Some(deltas) => *deltas.last()?,
    };
    let last_offset = batch.base_offset.checked_add(Offset::from(last_delta))?;
    let end = batch.position.checked_add(u64::from(batch.length))?;
    let fits = ordered
        && batch.base_offset >= from.0
        && batch.position >= from.1
        && last_offset <= run.last
        && batch.min_timestamp <= batch.max_timestamp;
    fits.then(|| (last_offset.saturating_add(1), end))
}

#[derive(Serialize, Deserialize)]
struct StoredRuns {
    segments: Vec<String>,
    runs: Vec<IndexedRun>,
    undecodable: Vec<UndecodableBatches>,
}

/// Batches by column, as steps from the batch before, which is what compresses best.
#[derive(Serialize, Deserialize)]
struct StoredBatches {
    base_offset_steps: Vec<i64>,
    position_steps: Vec<i64>,
    lengths: Vec<u32>,
    min_timestamp_steps: Vec<i64>,
    timestamp_spans: Vec<u64>,
    documents: Vec<u32>,
    /// By number of the batch, ascending.
    offset_deltas: Vec<(u32, Vec<u32>)>,
}

impl StoredBatches {
    fn from_batches(batches: &[RunBatch]) -> Self {
        let steps = |value: fn(&RunBatch) -> i64| {
            let mut before = 0_i64;
            batches
                .iter()
                .map(|batch| value(batch).wrapping_sub(std::mem::replace(&mut before, value(batch))))
                .collect()
        };
        Self {
            base_offset_steps: steps(|batch| batch.base_offset),
            position_steps: steps(|batch| batch.position as i64),
            lengths: batches.iter().map(|batch| batch.length).collect(),
            min_timestamp_steps: steps(|batch| batch.min_timestamp),
            timestamp_spans: batches.iter().map(|b| b.max_timestamp.wrapping_sub(b.min_timestamp) as u64).collect(),
            documents: batches.iter().map(|batch| batch.documents).collect(),
            offset_deltas: (0..)
                .zip(batches)
                .filter_map(|(n, batch)| batch.offset_deltas.as_ref().map(|deltas| (n, deltas.to_vec())))
                .collect(),
        }
    }

    fn into_batches(self) -> Result<Vec<RunBatch>, String> {
        let count = self.documents.len();
        let lengths = [
            self.base_offset_steps.len(),
            self.position_steps.len(),
            self.lengths.len(),
            self.min_timestamp_steps.len(),
            self.timestamp_spans.len(),
        ];
        if lengths.iter().any(|length| *length != count) {
            return Err(format!("{BATCHES}: the columns differ in length"));
        }
        let mut deltas = self.offset_deltas.into_iter().peekable();
        let (mut base_offset, mut position, mut min_timestamp) = (0_i64, 0_i64, 0_i64);
        let batches = (0..count)
            .map(|n| {
                base_offset = base_offset.wrapping_add(self.base_offset_steps[n]);
                position = position.wrapping_add(self.position_steps[n]);
                min_timestamp = min_timestamp.wrapping_add(self.min_timestamp_steps[n]);
                RunBatch {
                    base_offset,
                    position: position as u64,
                    length: self.lengths[n],
                    min_timestamp,
                    max_timestamp: min_timestamp.wrapping_add(self.timestamp_spans[n] as i64),
                    documents: self.documents[n],
                    offset_deltas: deltas.next_if(|(at, _)| *at as usize == n).map(|(_, deltas)| deltas.into()),
                }
            })
            .collect();
        if deltas.next().is_some() {
            return Err(format!("{BATCHES}: offsets without a batch"));
        }
        Ok(batches)
    }
}

/// Reads any bytes as both tables, before they were compressed, and finds each document; for fuzzing.
pub(super) fn fuzz_runs(runs: &[u8], batches: &[u8]) {
    if let (Ok(runs), Ok(batches)) = (packed::decode(runs), packed::decode(batches))
        && let Ok(table) = RunTable::of_stored("fuzz", runs, batches)
    {
        let _ = (table.weight(), table.covered());
        let documents = table.documents();
        for document in (0..documents.min(1000)).chain(documents.saturating_sub(1000)..documents) {
            assert!(table.locate(document).is_some());
        }
    }
}
