//! A run's bytes: every batch checked and decoded once, before any record goes into an index, because Tantivy takes
//! nothing back.

use bytes::Bytes;
use chronik_format::archive::{REASON_BYTES_MAX, RunBatch, UNDECODABLE_MAX, UndecodableBatches};
use chronik_format::batch::{
    BatchError, BatchHeader, DECOMPRESSED_BYTES_MAX, Record, check_unpacks, records, split, verify,
};
use chronik_format::ids::Offset;
use chronik_format::job::{JobRun, UnreadableRun};

/// A run that can be indexed.
#[derive(Debug)]
pub(crate) struct DecodedRun {
    pub segment: String,
    pub place: JobRun,
    /// The batches that have records, with what the archive says about them.
    pub batches: Vec<(Bytes, RunBatch)>,
    pub documents: u64,
    /// What no program can decode; at most [`UNDECODABLE_MAX`].
    pub undecodable: Vec<UndecodableBatches>,
}

/// What a run may take once it is decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunLimits {
    /// Bytes that one batch may have, decompressed.
    pub batch_bytes: usize,
    /// Records of a run.
    pub documents: u64,
}

impl DecodedRun {
    /// Surveys the bytes of a run in a segment, or says why it can't be indexed.
    pub(crate) fn survey(segment: &str, place: JobRun, bytes: Bytes, limits: RunLimits) -> Result<Self, UnreadableRun> {
        let mut run =
            Self { segment: segment.to_owned(), place, batches: Vec::new(), documents: 0, undecodable: Vec::new() };
        match run.take(bytes, limits) {
            Ok(()) => Ok(run),
            Err(reason) => Err(unreadable(segment, place, reason)),
        }
    }

    /// Bytes of the run, as long as it is held.
    pub(crate) fn weight(&self) -> usize {
        let undecodable = self.undecodable.len() * (size_of::<UndecodableBatches>() + REASON_BYTES_MAX);
        let deltas =
            |batch: &RunBatch| batch.offset_deltas.as_ref().map_or(0, |deltas| deltas.len() * size_of::<u32>());
        let batches: usize = self.batches.iter().map(|(_, batch)| size_of::<(Bytes, RunBatch)>() + deltas(batch)).sum();
        self.place.bytes.length as usize + batches + undecodable
    }

    fn take(&mut self, bytes: Bytes, limits: RunLimits) -> Result<(), String> {
        let place = self.place;
        let (mut position, mut next) = (place.bytes.position, place.offsets.first);
        for batch in split(bytes) {
            let batch = batch.map_err(|error| error.to_string())?;
            let header = verify(&batch).map_err(|error| at(position, error))?;
            let length = batch.len() as u64;
            if header.base_offset < next || header.last_offset_delta < 0 || header.last_offset() > place.offsets.last {
                return Err(format!("the batch at byte {position} has offsets of another run"));
            }
            next = header.last_offset() + 1;
            if !header.is_control() {
                match row(&header, position, &batch, limits.batch_bytes) {
                    Ok(None) => {}
                    Ok(Some(row)) => {
                        self.documents += u64::from(row.documents);
                        self.batches.push((batch, row));
                    }
                    Err(error) => {
                        let error = for_all_programs(&batch, error).map_err(|error| at(position, error))?;
                        self.note(&header, &error);
                    }
                }
            }
            if self.documents > limits.documents {
                return Err(format!("it has more records than fit into memory, which are {}", limits.documents));
            }
            if self.undecodable.len() > UNDECODABLE_MAX {
                return Err(format!("it has more than {UNDECODABLE_MAX} places that can't be decoded"));
            }
            position += length;
        }
        match next == place.offsets.last + 1 {
            true => Ok(()),
            false => Err(format!("its batches end before offset {next}, not at {}", place.offsets.last)),
        }
    }

    /// Adds a batch that can't be decoded, to those right before it if there is nothing else to say about it.
    fn note(&mut self, header: &BatchHeader, error: &BatchError) {
        let mut reason = error.to_string();
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        let span = header.time_span();
        let noted = UndecodableBatches {
            partition: self.place.partition,
            first: header.base_offset,
            last: header.last_offset(),
            min_timestamp: span.earliest,
            max_timestamp: span.latest,
            reason,
        };
        let about =
            |batches: &UndecodableBatches| (batches.min_timestamp, batches.max_timestamp, batches.reason.clone());
        match self.undecodable.last_mut() {
            Some(before) if before.last + 1 == noted.first && about(before) == about(&noted) => {
                before.last = noted.last
            }
            _ => self.undecodable.push(noted),
        }
    }
}

/// A run that stays without an archive.
pub(crate) fn unreadable(segment: &str, place: JobRun, reason: impl Into<String>) -> UnreadableRun {
    UnreadableRun {
        segment: segment.to_owned(),
        partition: place.partition,
        first: place.offsets.first,
        last: place.offsets.last,
        reason: reason.into(),
    }
}

fn at(position: u64, error: BatchError) -> String {
    format!("the batch at byte {position}: {error}")
}

/// Why no program can decode a batch whose checksum fits; an error if that is only so with this memory.
fn for_all_programs(batch: &[u8], error: BatchError) -> Result<BatchError, BatchError> {
    match error {
        BatchError::Inflates { limit } if limit < DECOMPRESSED_BYTES_MAX => match check_unpacks(batch) {
            Ok(()) => Err(error),
            Err(error) => Ok(error),
        },
        error => Ok(error),
    }
}

/// What the archive says about a batch; `None` if it has no records.
fn row(header: &BatchHeader, position: u64, batch: &Bytes, batch_bytes: usize) -> Result<Option<RunBatch>, BatchError> {
    let mut row: Option<RunBatch> = None;
    let mut deltas = Vec::new();
    for record in records(batch, batch_bytes)? {
        let Record { offset, timestamp, .. } = record?;
        let delta = offset - header.base_offset;
        deltas.push(delta as u32);
        match &mut row {
            None => {
                row = Some(RunBatch {
                    base_offset: header.base_offset,
                    position,
                    length: batch.len() as u32,
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
    Ok(row.map(|row| RunBatch { offset_deltas: (!dense).then(|| deltas.into()), ..row }))
}

/// Whether a job's run is one at all.
pub(crate) fn is_possible(place: &JobRun) -> bool {
    place.offsets.is_possible()
        && place.offsets.last < Offset::MAX
        && place.bytes.position.checked_add(place.bytes.length).is_some()
}
