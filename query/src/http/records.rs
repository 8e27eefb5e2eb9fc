//! `GET /v1/topics/{topic}/partitions/{partition}/records?offset=&limit=`

use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use bytes::Bytes;
use chronik_format::batch::{BatchError, BatchHeader, DECOMPRESSED_BYTES_MAX, Record, records as records_of};
use chronik_format::ids::{Offset, PartitionId};
use chronik_peers::tail::TailError;
use chronik_service::problem::HttpProblem;
use serde::Serialize;

use super::render::{self, RecordDocument};
use crate::answer_room::HeldRoom;
use crate::record_copy::{bytes_of, copy_of};
use crate::search::{MissingCause, MissingRange, PartitionLayout, SearchError};
use crate::service::QueryService;

/// Records in an answer, if the request doesn't say, and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 10_000;
/// Bytes of records in an answer, or one record that is larger.
const ANSWER_BYTES: usize = 8 << 20;
/// Bytes of batches that are read at a time.
const READ_BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
struct Parameters {
    /// The first one that is there, by default.
    offset: Option<Offset>,
    limit: Option<usize>,
}

/// `{"records":[...],"next_offset"}`: records in offset order from `offset` on; the next page begins at `next_offset`.
/// Where what lies there can't be read, `"stopped_by":{"code","detail"}` says why: a page that begins there is refused
/// for the same reason.
pub(crate) async fn records(
    State(service): State<Arc<QueryService>>,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Response, HttpProblem> {
    let Path((topic, partition)) = path.map_err(|error| SearchError::parameter("path", error.body_text()))?;
    let partition = number("partition", &partition, PartitionId::MAX)?;
    let Query(given) = query.map_err(|error| SearchError::parameter("query string", error.body_text()))?;
    let parameters = Parameters::read(&given)?;
    let limit = parameters.limit.unwrap_or(LIMIT);
    let turn = service.searcher.turn().await?;
    let mut room = service.answers.answer();
    let page = read(&service, &topic, partition, parameters.offset, limit, &mut room).await?;
    let write = move || {
        let records = page.records.iter().map(|found| RecordDocument::new(&topic, partition, found)).collect();
        let stopped_by = page.failure.map(StoppedBy::from);
        render::answer(&RecordsDocument { records, next_offset: page.next, stopped_by }, room)
    };
    let written = service.searcher.scanner.cpu.run(write).await.map_err(SearchError::from)?;
    drop(turn);
    Ok(written?)
}

impl Parameters {
    fn read(given: &[(String, String)]) -> Result<Self, SearchError> {
        let mut parameters = Self::default();
        for (name, value) in given {
            let twice = match name.as_str() {
                "offset" => parameters.offset.replace(number(name, value, Offset::MAX)?).is_some(),
                "limit" => parameters.limit.replace(number(name, value, LIMIT_MAX)?).is_some(),
                _ => {
                    return Err(SearchError::parameter(name, "is no parameter of records; those are offset and limit"));
                }
            };
            if twice {
                return Err(SearchError::parameter(name, "may be given once only"));
            }
        }
        Ok(parameters)
    }
}

/// A number from 0 to `max`.
fn number<T: FromStr + PartialOrd + Default + Display>(name: &str, text: &str, max: T) -> Result<T, SearchError> {
    let fits = |number: &T| (&T::default()..=&max).contains(&number);
    let number = text.parse().ok().filter(fits);
    number.ok_or_else(|| SearchError::parameter(name, format!("{text:?} is not accepted; accepted are 0 to {max}")))
}

#[derive(Serialize)]
struct RecordsDocument<'a> {
    records: Vec<RecordDocument<'a>>,
    next_offset: Offset,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_by: Option<StoppedBy>,
}

/// A problem in short.
#[derive(Serialize)]
struct StoppedBy {
    code: &'static str,
    detail: String,
}

impl From<SearchError> for StoppedBy {
    fn from(error: SearchError) -> Self {
        let HttpProblem { code, detail, .. } = error.into();
        Self { code, detail }
    }
}

/// One record, of which a search knows that it is there.
pub(super) async fn record_at(
    service: &QueryService,
    topic: &str,
    partition: PartitionId,
    offset: Offset,
    room: &mut HeldRoom,
) -> Result<Record, SearchError> {
    let records = match read(service, topic, partition, Some(offset), 1, room).await {
        Ok(page) => page.records,
        Err(SearchError::OutOfRange { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    let found = records.into_iter().next().filter(|record| record.offset == offset);
    found.ok_or_else(|| {
        let (topic, reason) = (topic.into(), "its record was deleted during the search".to_owned());
        let gone =
            MissingRange { topic, partition, from: offset, to: Some(offset + 1), reason, cause: MissingCause::Stale };
        SearchError::Incomplete { missing: vec![gone] }
    })
}

/// What was read of a partition.
struct ReadPage {
    records: Vec<Record>,
    /// Where the next page begins.
    next: Offset,
    /// Why nothing can be read there; not without records.
    failure: Option<SearchError>,
}

/// Records from `offset` on. A first one that is larger than a page is read once it has `room`.
async fn read(
    service: &QueryService,
    topic: &str,
    partition: PartitionId,
    offset: Option<Offset>,
    limit: usize,
    room: &mut HeldRoom,
) -> Result<ReadPage, SearchError> {
    let unknown_topic = SearchError::UnknownTopic { topic: topic.to_owned() };
    let layout = service.searcher.sources.layout(topic).await?.ok_or(unknown_topic)?;
    let found = layout.partitions.iter().find(|layout| layout.partition == partition);
    let place = found.ok_or_else(|| SearchError::UnknownPartition { topic: topic.to_owned(), partition })?;
    let range = place.range();
    let mut next = offset.unwrap_or(range.start);
    if !(range.start..=range.end).contains(&next) {
        return Err(SearchError::OutOfRange { offset: next, from: range.start, to: range.end });
    }
    let mut page = RecordPage { records: Vec::new(), limit, bytes_left: ANSWER_BYTES, too_large: None };
    while next < range.end && !page.is_full() {
        if place.gap.is_none() && (place.bucket.end..place.tail.start).contains(&next) {
            next = place.tail.start;
            continue;
        }
        let held = service.searcher.scanner.memory.hold(READ_BYTES).await;
        let batches = match batches_at(service, &layout.id, place, next).await {
            Err(failure) if !page.records.is_empty() => {
                return Ok(ReadPage { records: page.records, next, failure: Some(failure) });
            }
            read => read?,
        };
        let wanted = next..range.end;
        let taken = service
            .searcher
            .scanner
            .cpu
            .run(move || {
                let _held = held;
                page.take(&batches, wanted)
            })
            .await?;
        page = taken.page;
        if page.records.is_empty()
            && let Some(bytes) = page.too_large.take()
        {
            room.resize(bytes)?;
            page.bytes_left = bytes;
            next = taken.next;
            continue;
        }
        next = taken.next;
        if let Some((last, source)) = taken.unreadable {
            let failure = SearchError::Batch { first: next, last, source };
            return match page.records.is_empty() {
                true => Err(failure),
                false => Ok(ReadPage { records: page.records, next, failure: Some(failure) }),
            };
        }
    }
    Ok(ReadPage { records: page.records, next, failure: None })
}

/// Whole batches from `offset` on: from the tail as long as it has them, else from the bucket.
async fn batches_at(
    service: &QueryService,
    topic: &chronik_format::ids::TopicId,
    place: &PartitionLayout,
    offset: Offset,
) -> Result<Vec<Bytes>, SearchError> {
    if let Some(tail) = &service.searcher.sources.tail
        && place.tail.contains(&offset)
    {
        match tail.read(*topic, place.partition, offset, READ_BYTES).await {
            Err(TailError::TooOld { .. }) => {}
            read => return Ok(read?),
        }
    }
    Ok(service.cold.fetch(*topic, place.partition, offset, READ_BYTES).await?)
}

struct RecordPage {
    records: Vec<Record>,
    limit: usize,
    bytes_left: usize,
    /// The page ends before a record of so many bytes, for which there are not enough left.
    too_large: Option<usize>,
}

/// What was taken from batches.
struct Taken {
    page: RecordPage,
    /// The offset behind the last record that was passed.
    next: Offset,
    /// The batch at `next` can't be read: its last offset, and why.
    unreadable: Option<(Offset, BatchError)>,
}

impl RecordPage {
    fn is_full(&self) -> bool {
        self.records.len() >= self.limit || self.too_large.is_some()
    }

    /// Takes wanted records until the page is full, or up to a batch that can't be read.
    fn take(mut self, batches: &[Bytes], wanted: Range<Offset>) -> Taken {
        let mut next = wanted.start;
        for batch in batches {
            if self.is_full() {
                break;
            }
            let mut last = next;
            if let Err(error) = self.take_batch(batch, &wanted, &mut next, &mut last) {
                let unreadable = Some((last, error));
                return Taken { page: self, next, unreadable };
            }
        }
        let nothing = BatchError::Corrupt { reason: "no records where some should be" };
        let unreadable = (next == wanted.start && !self.is_full()).then_some((next, nothing));
        Taken { page: self, next, unreadable }
    }

    fn take_batch(
        &mut self,
        batch: &Bytes,
        wanted: &Range<Offset>,
        next: &mut Offset,
        last: &mut Offset,
    ) -> Result<(), BatchError> {
        let header = BatchHeader::parse(batch)?;
        *last = header.last_offset();
        if !header.is_control() {
            // All of a batch or nothing of it, as in a search.
            let records: Vec<Record> = records_of(batch, DECOMPRESSED_BYTES_MAX)?.collect::<Result<_, _>>()?;
            for record in records {
                if !wanted.contains(&record.offset) {
                    continue;
                }
                if self.is_full() {
                    return Ok(());
                }
                let bytes = bytes_of(&record);
                if bytes > self.bytes_left {
                    *next = record.offset;
                    self.too_large = Some(bytes);
                    return Ok(());
                }
                *next = record.offset + 1;
                self.bytes_left -= bytes;
                self.records.push(copy_of(&record));
            }
        }
        *next = last.saturating_add(1).clamp(wanted.start, wanted.end);
        Ok(())
    }
}
