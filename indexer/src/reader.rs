//! From the runs that a job names to runs that can be indexed. The partitions of a topic lie side by side in a segment,
//! so that a job's runs are few reads, however many partitions there are.

use std::ops::Range;

use bytes::Bytes;
use chronik_format::job::{JobRun, UnreadableRun};
use chronik_store::{SharedStore, StoreError};
use prometheus::IntCounter;

use crate::decode::{DecodedRun, RunLimits, is_possible, unreadable};
use crate::error::IndexError;
use crate::patience::patiently;
use crate::work_thread::WorkThread;

/// Bytes that are read at a time, unless a run alone has more.
const READ_BYTES: u64 = 8 << 20;

/// A run that can be indexed, or why it can't.
pub(crate) type SurveyedRun = Result<DecodedRun, UnreadableRun>;

/// Why the bytes of runs were not read.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("{length} bytes can't be held in memory, which is {limit} bytes for runs")]
    TooLong { length: u64, limit: usize },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads the runs of jobs.
#[derive(Debug)]
pub(crate) struct RunReader {
    pub store: SharedStore,
    pub thread: WorkThread,
    /// Bytes of runs that are held at a time.
    pub held_bytes_max: usize,
    /// What a run may take.
    pub limits: RunLimits,
    pub bytes_read: IntCounter,
}

impl RunReader {
    /// Divides the runs of one segment into those that are [read](Self::read) at a time.
    pub(crate) fn neighbours<'a>(&self, runs: &'a [JobRun]) -> impl Iterator<Item = &'a [JobRun]> + use<'a> {
        neighbours(runs, self.held_bytes_max as u64)
    }

    /// Reads runs that lie side by side, and surveys each.
    pub(crate) async fn read(&self, segment: &str, places: &[JobRun]) -> Result<Vec<SurveyedRun>, IndexError> {
        match self.bytes(segment, places).await {
            Ok(bytes) => self.survey(segment, places, bytes).await,
            Err(Unread::Store(error @ StoreError::Unavailable { .. })) => Err(error.into()),
            // What is wrong with one of them is not the others' fault.
            Err(_) if places.len() > 1 => {
                let mut surveyed = Vec::with_capacity(places.len());
                for place in places.chunks(1) {
                    surveyed.extend(Box::pin(self.read(segment, place)).await?);
                }
                Ok(surveyed)
            }
            Err(unread) => {
                let unread = |place: &JobRun| Err(unreadable(segment, *place, unread.to_string()));
                Ok(places.iter().map(unread).collect())
            }
        }
    }

    async fn bytes(&self, segment: &str, places: &[JobRun]) -> Result<Bytes, Unread> {
        let limit = self.held_bytes_max;
        let is_too_long = |place: &&JobRun| !is_possible(place) || place.bytes.length > limit as u64;
        if let Some(place) = places.iter().find(is_too_long) {
            let length = place.bytes.length;
            return Err(Unread::TooLong { length, limit });
        }
        let range = bytes_of(places);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        Ok(patiently(|| self.store.read(segment, Some(range.clone()))).await?)
    }

    async fn survey(&self, segment: &str, places: &[JobRun], bytes: Bytes) -> Result<Vec<SurveyedRun>, IndexError> {
        self.bytes_read.inc_by(bytes.len() as u64);
        let (segment, places, limits) = (segment.to_owned(), places.to_vec(), self.limits);
        let surveyed = self.thread.run(move |_| {
            let start = bytes_of(&places).start;
            let survey = |place: &JobRun| {
                let at = (place.bytes.position - start) as usize;
                DecodedRun::survey(&segment, *place, bytes.slice(at..at + place.bytes.length as usize), limits)
            };
            places.iter().map(survey).collect()
        });
        surveyed.await
    }
}

/// Divides the runs of one segment into those that lie side by side, none empty; within `bytes_max` and [`READ_BYTES`],
/// unless a run alone has more.
fn neighbours(mut runs: &[JobRun], bytes_max: u64) -> impl Iterator<Item = &[JobRun]> {
    let bytes_max = bytes_max.min(READ_BYTES);
    std::iter::from_fn(move || {
        let first = runs.first()?;
        let mut end = first.bytes.position.checked_add(first.bytes.length);
        let follows = |run: &&JobRun| {
            let begins = end;
            end = run.bytes.position.checked_add(run.bytes.length);
            begins == Some(run.bytes.position) && end.is_some_and(|end| end - first.bytes.position <= bytes_max)
        };
        let count = 1 + runs[1..].iter().take_while(follows).count();
        let (together, others) = runs.split_at(count);
        runs = others;
        Some(together)
    })
}

/// How many bytes runs have together.
pub(crate) fn length_of(runs: &[JobRun]) -> u64 {
    runs.iter().fold(0, |all, run| all.saturating_add(run.bytes.length))
}

/// The bytes of runs that lie side by side.
fn bytes_of(runs: &[JobRun]) -> Range<u64> {
    let start = runs.first().map_or(0, |run| run.bytes.position);
    start..runs.last().map_or(start, |run| run.bytes.end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_format::span::{ByteSpan, OffsetSpan};

    fn run((position, length): (u64, u64)) -> JobRun {
        JobRun { partition: 0, offsets: OffsetSpan { first: 0, last: 0 }, bytes: ByteSpan { position, length } }
    }

    fn divided(runs: &[(u64, u64)], bytes_max: u64) -> Vec<Range<u64>> {
        let runs: Vec<_> = runs.iter().copied().map(run).collect();
        let parts: Vec<_> = neighbours(&runs, bytes_max).collect();
        assert_eq!(parts.concat(), runs);
        parts.into_iter().map(bytes_of).collect()
    }

    #[test]
    fn what_lies_side_by_side_is_read_together_within_the_limit() {
        assert_eq!(divided(&[], 10), []);
        assert_eq!(divided(&[(0, 4), (4, 0), (4, 6), (10, 1)], 10), [0..10, 10..11]);
        assert_eq!(divided(&[(0, 4), (5, 4), (4, 1)], 10), [0..4, 5..9, 4..5]);
        assert_eq!(divided(&[(0, 40), (40, 1)], 10), [0..40, 40..41]);
        assert_eq!(divided(&[(0, READ_BYTES), (READ_BYTES, 1)], u64::MAX).len(), 2);
    }

    #[test]
    fn places_that_can_not_be_are_not_followed() {
        let runs = [run((u64::MAX, 1)), run((0, 1)), run((1, u64::MAX))];
        assert_eq!(neighbours(&runs, 10).count(), 3);
    }
}
