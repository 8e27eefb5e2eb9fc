//! A run's bytes: every batch checked and decoded once, before any record goes into an index, because Tantivy takes
//! nothing back.

use bytes::Bytes;
use chronik_core::archive::Batch;
use chronik_core::batch::{BatchError, BatchHeader, Record, records, split, verify};
use chronik_core::ids::Offset;
use chronik_core::job::{JobRun, UnreadableRun};

/// A run whose batches can all be decoded.
#[derive(Debug)]
pub(crate) struct Run {
    pub segment: String,
    pub place: JobRun,
    /// The batches that have records, with what the archive says about them.
    pub batches: Vec<(Bytes, Batch)>,
    pub documents: u64,
}

/// What a run may take once it is decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes that one batch may have, decompressed.
    pub batch_bytes: usize,
    /// Records of a run.
    pub documents: u64,
}

impl Run {
    /// Surveys the bytes of a run in a segment, or says why it can't be indexed.
    pub(crate) fn survey(segment: &str, place: JobRun, bytes: Bytes, limits: Limits) -> Result<Self, UnreadableRun> {
        survey(place, bytes, limits)
            .map(|batches| Self {
                segment: segment.to_owned(),
                place,
                documents: batches.iter().map(|(_, batch)| u64::from(batch.documents)).sum(),
                batches,
            })
            .map_err(|reason| unreadable(segment, place, reason))
    }

    /// Bytes of the run, as long as it is held.
    pub(crate) fn weight(&self) -> usize {
        let deltas = |batch: &Batch| batch.offset_deltas.as_ref().map_or(0, |deltas| deltas.len() * size_of::<u32>());
        let batches: usize = self.batches.iter().map(|(_, batch)| size_of::<(Bytes, Batch)>() + deltas(batch)).sum();
        self.place.length as usize + batches
    }
}

/// A run that stays without an archive.
pub(crate) fn unreadable(segment: &str, place: JobRun, reason: impl Into<String>) -> UnreadableRun {
    UnreadableRun {
        segment: segment.to_owned(),
        partition: place.partition,
        first: place.first,
        last: place.last,
        reason: reason.into(),
    }
}

fn survey(place: JobRun, bytes: Bytes, limits: Limits) -> Result<Vec<(Bytes, Batch)>, String> {
    let mut batches = Vec::new();
    let mut position = place.position;
    let mut documents = 0;
    let mut next = place.first;
    for batch in split(bytes) {
        let batch = batch.map_err(|error| error.to_string())?;
        let header = verify(&batch).map_err(|error| at(position, error))?;
        let length = batch.len() as u32;
        if header.base_offset < next || header.last_offset() > place.last {
            return Err(format!("the batch at byte {position} has offsets of another run"));
        }
        next = header.last_offset() + 1;
        if !header.is_control() {
            let read = records(&batch, limits.batch_bytes).map_err(|error| at(position, error))?;
            if let Some(row) = row(&header, position, length, read).map_err(|error| at(position, error))? {
                documents += u64::from(row.documents);
                batches.push((batch, row));
            }
        }
        if documents > limits.documents {
            return Err(format!("it has more records than fit into memory, which are {}", limits.documents));
        }
        position += u64::from(length);
    }
    match next == place.last + 1 {
        true => Ok(batches),
        false => Err(format!("its batches end before offset {next}, not at {}", place.last)),
    }
}

fn at(position: u64, error: BatchError) -> String {
    format!("the batch at byte {position}: {error}")
}

/// What the archive says about a batch; `None` if it has no records.
fn row(
    header: &BatchHeader,
    position: u64,
    length: u32,
    records: impl Iterator<Item = Result<Record, BatchError>>,
) -> Result<Option<Batch>, BatchError> {
    let mut row: Option<Batch> = None;
    let mut deltas = Vec::new();
    for record in records {
        let Record { offset, timestamp, .. } = record?;
        let delta = offset - header.base_offset;
        deltas.push(delta as u32);
        match &mut row {
            None => {
                row = Some(Batch {
                    base_offset: header.base_offset,
                    position,
                    length,
                    min_timestamp: timestamp,
                    max_timestamp: timestamp,
                    documents: 1,
                    offset_deltas: None,
                });
            }
            Some(row) => {
                row.min_timestamp = row.min_timestamp.min(timestamp);
                row.max_timestamp = row.max_timestamp.max(timestamp);
                row.documents += 1;
            }
        }
    }
    let dense = (0..).zip(&deltas).all(|(n, delta)| n == *delta);
    Ok(row.map(|row| Batch { offset_deltas: (!dense).then(|| deltas.into()), ..row }))
}

/// Whether a job's run is one at all.
pub(crate) fn is_possible(place: &JobRun) -> bool {
    place.first >= 0
        && place.first <= place.last
        && place.last < Offset::MAX
        && place.position.checked_add(place.length).is_some()
}
