use std::sync::Arc;

use bytes::Bytes;
use chronik_core::batch::BatchHeader;
use chronik_core::ids::Offset;
use chronik_wire::{EpochEndOffset, FetchPartition, PartitionData};

use super::budget::Budget;
use crate::api::epochs::{self, Agreement};
use crate::api::error::ApiError;
use crate::api::place::Place;
use crate::lane::tail::{BatchBytes, PartitionTail};
use crate::reading::{ReadError, RecordReader};

/// Clients know KAFKA_STORAGE_ERROR from this version on.
const STORAGE_ERROR_FROM: i16 = 6;

/// What is read of one partition, in as many steps as the partition grows while the request waits.
pub struct PartitionRead {
    partition: i32,
    place: Result<Place, ApiError>,
    diverging: Option<EpochEndOffset>,
    next_offset: Offset,
    bytes_left: usize,
    chunks: Vec<Bytes>,
    /// More is there than fits into the answer.
    is_full: bool,
}

impl PartitionRead {
    /// Checks what is asked for; nothing is read yet.
    pub fn begin(place: Result<Place, ApiError>, asked: &FetchPartition) -> Self {
        let checked = place.and_then(|place| check(&place, asked).map(|diverging| (place, diverging)));
        let (place, diverging) = match checked {
            Ok((place, diverging)) => (Ok(place), diverging),
            Err(error) => (Err(error), None),
        };
        Self {
            partition: asked.partition,
            place,
            diverging,
            next_offset: asked.fetch_offset,
            bytes_left: usize::try_from(asked.partition_max_bytes).unwrap_or(0),
            chunks: Vec::new(),
            is_full: false,
        }
    }

    /// The partition, if it is worth waiting for.
    pub fn tail(&self) -> Option<Arc<PartitionTail>> {
        self.place.as_ref().ok().map(|place| place.tail.clone())
    }

    /// Whether waiting can bring nothing that the client needs more than what it can be told now.
    pub fn is_urgent(&self) -> bool {
        self.place.is_err() || self.diverging.is_some() || self.is_full
    }

    /// Reads what there is since the last time, as far as it fits.
    pub async fn read(&mut self, reader: &RecordReader, budget: &mut Budget) {
        let Ok(place) = &self.place else { return };
        if self.is_urgent() || self.next_offset >= place.tail.bounds().end {
            return;
        }
        let Some(room) = budget.room(self.bytes_left) else {
            self.is_full = true;
            return;
        };
        match reader
            .read(&place.topic, place.partition, self.next_offset, room)
            .await
            .and_then(|batches| {
                let batches = budget.take(batches, room);
                Ok((end_of(&batches)?, batches))
            }) {
            Ok((end, batches)) => self.take(end, batches),
            Err(error) => self.fail(error),
        }
    }

    fn take(&mut self, end: Option<Offset>, batches: Vec<BatchBytes>) {
        self.next_offset = end.unwrap_or(self.next_offset);
        for BatchBytes { head, body } in batches {
            self.bytes_left = self.bytes_left.saturating_sub(head.len() + body.len());
            self.chunks.extend([head, body]);
        }
        self.is_full = self
            .place
            .as_ref()
            .is_ok_and(|place| self.next_offset < place.tail.bounds().end);
    }

    /// What was read before the error is worth answering with; the client comes back to the rest.
    fn fail(&mut self, error: ReadError) {
        if let Ok(Place { topic, partition, .. }) = &self.place {
            let offset = self.next_offset;
            tracing::warn!(
                topic = topic.name,
                partition,
                offset,
                "records can't be read now: {error}"
            );
        }
        match self.chunks.is_empty() {
            true => self.place = Err(error.into()),
            false => self.is_full = true,
        }
    }

    /// What the client is told of the partition.
    pub fn into_response(self, version: i16, read_committed: bool) -> PartitionData {
        let mut response = PartitionData {
            partition_index: self.partition,
            high_watermark: -1,
            aborted_transactions: read_committed.then(Vec::new),
            ..Default::default()
        };
        match self.place {
            Ok(place) => {
                let bounds = place.tail.bounds();
                response.high_watermark = bounds.end;
                response.last_stable_offset = bounds.end;
                response.log_start_offset = bounds.log_start;
                response.diverging_epoch = self.diverging.unwrap_or_default();
                response.records = self.chunks.into();
            }
            Err(error) => {
                response.error_code = error.code_in(version, STORAGE_ERROR_FROM);
                if let ApiError::OffsetOutOfRange { log_start, end, .. } = error {
                    response.high_watermark = end;
                    response.last_stable_offset = end;
                    response.log_start_offset = log_start;
                }
            }
        }
        response
    }
}

/// Whether the reader's past is that of the partition, and its next offset lies within; or where the two part.
fn check(place: &Place, asked: &FetchPartition) -> Result<Option<EpochEndOffset>, ApiError> {
    place.check_leader_epoch(asked.current_leader_epoch)?;
    let bounds = place.tail.bounds();
    let offset = asked.fetch_offset;
    let out_of_range = ApiError::OffsetOutOfRange {
        offset,
        log_start: bounds.log_start,
        end: bounds.end,
    };
    if asked.last_fetched_epoch >= 0 {
        match epochs::compare(&place.tail.epochs(), bounds.end, asked.last_fetched_epoch, offset) {
            Agreement::Agreed => {}
            Agreement::Diverged(epoch, end_offset) => return Ok(Some(EpochEndOffset { epoch, end_offset })),
            Agreement::Unknown => return Err(out_of_range),
        }
    }
    if (bounds.log_start..=bounds.end).contains(&offset) {
        Ok(None)
    } else {
        Err(out_of_range)
    }
}

/// The offset after the last of these batches.
fn end_of(batches: &[BatchBytes]) -> Result<Option<Offset>, ReadError> {
    let Some(last) = batches.last() else { return Ok(None) };
    let header = BatchHeader::parse(&last.head).map_err(|error| ReadError::Damaged {
        offset: -1,
        reason: error.to_string(),
    })?;
    Ok(Some(header.last_offset().saturating_add(1)))
}
