//! Reads batches in bounded chunks and asks the matcher of every record.

use std::fmt::Display;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use chronik_format::batch::{BatchError, BatchHeader, DECOMPRESSED_BYTES_MAX, records, split, verify};
use chronik_format::ids::{Offset, PartitionId};
use chronik_peers::tail::{SharedTail, TailError};
use chronik_store::{SharedStore, StoreError};
use tokio::sync::OwnedSemaphorePermit;

use super::order::SortKey;
use super::runs::{READ_BYTES, RunGroup, RunWork};
use super::top_hits::{Hit, TopHits};
use super::unreadable::{BatchName, UnreadableBatches};
use super::work_plan::{BatchGroup, TopicScope};
use super::{MissingCause, MissingRange, SearchError};
use crate::archive::CandidateBatch;
use crate::cpu::CpuPool;
use crate::memory::ScanMemory;
use crate::metrics::SearchMetrics;

/// Bytes of the tail that are asked for at a time.
const TAIL_BYTES: usize = 1 << 20;
/// Bytes that a batch may have, compressed, to be believed. `max.message.bytes` is at most 32 MiB.
pub(crate) const BATCH_BYTES_MAX: u64 = 40 << 20;

/// What the units of a search read with.
#[derive(Clone)]
pub(crate) struct RecordScanner {
    pub(crate) store: SharedStore,
    pub(crate) tail: Option<SharedTail>,
    pub(crate) cpu: CpuPool,
    pub(crate) memory: ScanMemory,
    pub(crate) unreadable: UnreadableBatches,
    pub(crate) metrics: SearchMetrics,
}

/// Hits of a unit, and what could not be looked at.
pub(crate) struct UnitHits {
    pub(crate) page: TopHits,
    pub(crate) missing: Vec<MissingRange>,
}

impl UnitHits {
    pub(crate) fn nothing(page: TopHits) -> Self {
        Self { page, missing: Vec::new() }
    }
}

/// Consecutive batches of a partition, being looked through.
struct Sweep {
    scope: Arc<TopicScope>,
    unreadable: UnreadableBatches,
    partition: PartitionId,
    /// Records outside are not wanted.
    offsets: Range<Offset>,
    /// No batch goes beyond this, inclusive.
    last: Offset,
    /// One past the last batch. The first one may begin before what is wanted; between two may lie offsets that no
    /// record has.
    next: Offset,
    found: UnitHits,
    records: u64,
}

impl RecordScanner {
    /// All records of runs that no archive covers: by one read, or one alone in pieces.
    pub(crate) async fn runs(
        &self,
        scope: Arc<TopicScope>,
        group: RunGroup,
        page: TopHits,
    ) -> Result<UnitHits, SearchError> {
        let mut found = UnitHits::nothing(page);
        if group.runs.len() > 1 {
            let length = group.range.end - group.range.start;
            let held = self.memory.hold(length as usize).await;
            match self.store.read(&group.segment, Some(group.range.clone())).await {
                Ok(bytes) => {
                    self.metrics.read_bytes.inc_by(length);
                    let segment = group.segment.clone();
                    let found = self.neighbours(scope, group, bytes, held, found).await?;
                    return Ok(self.distrusting(&segment, found));
                }
                Err(error @ StoreError::Unavailable { .. }) => {
                    let missing = group
                        .runs
                        .into_iter()
                        .map(|run| scope.missing(run.partition, run.offsets, &error, MissingCause::Failure));
                    found.missing.extend(missing);
                    return Ok(found);
                }
                // What is wrong with one of them is not the others' fault.
                Err(_) => {}
            }
        }
        for run in group.runs {
            let missing = found.missing;
            found = self.run(Arc::clone(&scope), run, found.page).await?;
            found.missing.extend(missing);
        }
        Ok(found)
    }

    /// Looks through runs that were read together.
    async fn neighbours(
        &self,
        scope: Arc<TopicScope>,
        group: RunGroup,
        bytes: Bytes,
        held: Option<OwnedSemaphorePermit>,
        mut found: UnitHits,
    ) -> Result<UnitHits, SearchError> {
        let (metrics, unreadable) = (self.metrics.clone(), self.unreadable.clone());
        let look = move || {
            let _held = held;
            for run in &group.runs {
                let at = |position: u64| (position - group.range.start) as usize;
                let batches = split(bytes.slice(at(run.range.start)..at(run.range.end)));
                let mut sweep = Sweep::new(
                    Arc::clone(&scope),
                    unreadable.clone(),
                    run.partition,
                    run.offsets.clone(),
                    run.last,
                    found.page,
                );
                if sweep.all(batches) {
                    sweep.end_of_run();
                }
                metrics.records.inc_by(sweep.records);
                found.missing.extend(sweep.found.missing);
                found.page = sweep.found.page;
            }
            found
        };
        Ok(self.cpu.run(look).await?)
    }

    /// All records of one run, however large.
    async fn run(&self, scope: Arc<TopicScope>, run: RunWork, page: TopHits) -> Result<UnitHits, SearchError> {
        let mut sweep = Sweep::new(scope, self.unreadable.clone(), run.partition, run.offsets.clone(), run.last, page);
        let mut position = run.range.start;
        while position < run.range.end && sweep.from() < run.offsets.end {
            let (chunk, held) = match self.chunk(&run.segment, position..run.range.end).await {
                Ok(chunk) => chunk,
                Err(error) => {
                    sweep.give_up(&error, cause_of(&error));
                    return Ok(sweep.found);
                }
            };
            position += chunk.len() as u64;
            let whole;
            (sweep, whole) = self.sweep(sweep, split(chunk), held).await?;
            if !whole {
                return Ok(self.distrusting(&run.segment, sweep.found));
            }
        }
        sweep.end_of_run();
        Ok(self.distrusting(&run.segment, sweep.found))
    }

    /// What was found in a segment; of one that is damaged nothing that is kept is used again.
    fn distrusting(&self, segment: &str, found: UnitHits) -> UnitHits {
        if found.missing.iter().any(|missing| missing.cause == MissingCause::Failure) {
            self.store.distrust(segment);
        }
        found
    }

    /// The broker's tail.
    pub(crate) async fn tail(
        &self,
        scope: Arc<TopicScope>,
        partition: PartitionId,
        offsets: Range<Offset>,
        page: TopHits,
    ) -> Result<UnitHits, SearchError> {
        let topic = scope.id;
        let mut sweep = Sweep::new(scope, self.unreadable.clone(), partition, offsets.clone(), Offset::MAX, page);
        let Some(tail) = &self.tail else { return Ok(sweep.found) };
        while sweep.from() < offsets.end {
            let held = self.memory.hold(TAIL_BYTES).await;
            let from = sweep.from();
            let batches = match tail.read(topic, partition, from, TAIL_BYTES).await {
                Ok(batches) if batches.is_empty() => {
                    sweep.give_up("the tail ended before the position that the broker told", MissingCause::Stale);
                    return Ok(sweep.found);
                }
                Ok(batches) => batches,
                Err(error) => {
                    let failure = matches!(error, TailError::Unavailable { .. });
                    sweep.give_up(&error, if failure { MissingCause::Failure } else { MissingCause::Stale });
                    return Ok(sweep.found);
                }
            };
            let whole;
            (sweep, whole) = self.sweep(sweep, batches.into_iter().map(Ok), held).await?;
            if !whole {
                return Ok(sweep.found);
            }
            if sweep.from() <= from {
                sweep.give_up("the tail answered with other offsets than were asked for", MissingCause::Failure);
                return Ok(sweep.found);
            }
        }
        Ok(sweep.found)
    }

    /// Candidates of an archive.
    pub(crate) async fn batches(
        &self,
        scope: Arc<TopicScope>,
        group: BatchGroup,
        page: TopHits,
    ) -> Result<UnitHits, SearchError> {
        let length = group.range.end - group.range.start;
        let held = self.memory.hold(length as usize).await;
        let bytes = match self.store.read(&group.segment, Some(group.range.clone())).await {
            Ok(bytes) => bytes,
            Err(error) => {
                let missing = group
                    .batches
                    .iter()
                    .filter_map(|batch| missing_batch(&scope, batch, &error, cause_of(&error)))
                    .collect();
                return Ok(UnitHits { page, missing });
            }
        };
        self.metrics.read_bytes.inc_by(length);
        let (metrics, known) = (self.metrics.clone(), self.unreadable.clone());
        let look = move || {
            let _held = held;
            let mut found = UnitHits::nothing(page);
            for batch in &group.batches {
                match look_at_candidates(&known, &scope, &bytes, group.range.start, batch, &mut found.page) {
                    Ok(records) => metrics.records.inc_by(records),
                    Err(unsearched) => {
                        found.missing.extend(missing_batch(&scope, batch, &unsearched.reason, unsearched.cause));
                    }
                }
            }
            (group.segment, found)
        };
        let (segment, found) = self.cpu.run(look).await?;
        Ok(self.distrusting(&segment, found))
    }

    /// Whole batches from the start of `range`, about [`READ_BYTES`] but at least one batch.
    async fn chunk(
        &self,
        segment: &str,
        range: Range<u64>,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), StoreError> {
        let mut end = range.end.min(range.start + READ_BYTES);
        loop {
            let held = self.memory.hold((end - range.start) as usize).await;
            let bytes = self.store.read(segment, Some(range.start..end)).await?;
            self.metrics.read_bytes.inc_by(bytes.len() as u64);
            let whole = whole_batches(&bytes);
            if whole > 0 || end == range.end {
                // Nothing whole up to the end of the run: splitting it finds the damage.
                return Ok((if whole > 0 { bytes.slice(..whole) } else { bytes }, held));
            }
            let length = BatchHeader::parse(&bytes).map_or(0, |header| header.total_length() as u64);
            if length <= end - range.start || length > BATCH_BYTES_MAX {
                return Ok((bytes, held));
            }
            end = range.end.min(range.start + length);
        }
    }

    /// Looks through batches on the CPU pool; false if it had to give up.
    async fn sweep(
        &self,
        mut sweep: Sweep,
        batches: impl Iterator<Item = Result<Bytes, BatchError>> + Send + 'static,
        held: Option<OwnedSemaphorePermit>,
    ) -> Result<(Sweep, bool), SearchError> {
        let (sweep, whole) = self
            .cpu
            .run(move || {
                let _held = held;
                let whole = sweep.all(batches);
                (sweep, whole)
            })
            .await?;
        self.metrics.records.inc_by(sweep.records);
        Ok((Sweep { records: 0, ..sweep }, whole))
    }
}

impl Sweep {
    fn new(
        scope: Arc<TopicScope>,
        unreadable: UnreadableBatches,
        partition: PartitionId,
        offsets: Range<Offset>,
        last: Offset,
        page: TopHits,
    ) -> Self {
        Self {
            scope,
            unreadable,
            partition,
            offsets,
            last,
            next: Offset::MIN,
            found: UnitHits::nothing(page),
            records: 0,
        }
    }

    /// Looks at batches; false if it had to give up.
    fn all(&mut self, mut batches: impl Iterator<Item = Result<Bytes, BatchError>>) -> bool {
        let looked = batches.try_for_each(|batch| self.batch(&batch?));
        if let Err(error) = &looked {
            self.give_up(error, MissingCause::Failure);
        }
        looked.is_ok()
    }

    /// Looks at one batch. An error means that what follows can't be trusted either; records that can't be decoded only
    /// mean that this batch is missing.
    fn batch(&mut self, batch: &Bytes) -> Result<(), BatchError> {
        let header = verify(batch)?;
        if header.base_offset < self.next || header.last_offset_delta < 0 || header.last_offset() > self.last {
            return Err(BatchError::Corrupt { reason: "it has other offsets than expected" });
        }
        self.next = header.last_offset().saturating_add(1);
        if header.is_control() || self.next <= self.offsets.start || !self.scope.may_admit(header.time_span()) {
            return Ok(());
        }
        let wanted = |offset: &Offset| self.offsets.contains(offset);
        let name = BatchName::new(self.scope.id, self.partition, &header);
        let read =
            self.unreadable.read(name, || look_at(&self.scope, self.partition, batch, wanted, &mut self.found.page));
        match read {
            Ok(records) => self.records += records,
            Err(error) => {
                let offsets = header.base_offset.max(self.offsets.start)..self.next.min(self.offsets.end);
                self.found.missing.push(self.scope.missing(
                    self.partition,
                    offsets,
                    unreadable(&error),
                    MissingCause::Unreadable,
                ));
            }
        }
        Ok(())
    }

    /// The first wanted offset that was not passed yet.
    fn from(&self) -> Offset {
        self.next.max(self.offsets.start)
    }

    /// Everything from the next batch on is missing.
    fn give_up(&mut self, reason: impl ToString, cause: MissingCause) {
        let offsets = self.from()..self.offsets.end;
        if !offsets.is_empty() {
            self.found.missing.push(self.scope.missing(self.partition, offsets, reason, cause));
        }
    }

    /// Nothing follows; what has not come by now is missing.
    fn end_of_run(&mut self) {
        self.give_up("the run ends before its last offset", MissingCause::Failure);
    }
}

/// Why a batch was not searched.
struct Unsearched {
    reason: String,
    cause: MissingCause,
}

impl From<BatchError> for Unsearched {
    /// Something happened to the bytes since they were acknowledged: a good copy may be put back.
    fn from(error: BatchError) -> Self {
        Self { reason: error.to_string(), cause: MissingCause::Failure }
    }
}

/// Of a batch that is whole, by its checksum, and gives no records.
pub(super) fn unreadable(error: impl Display) -> String {
    format!("its batch is as the producer sent it and can't be decoded: {error}")
}

pub(super) fn cause_of(error: &StoreError) -> MissingCause {
    match error {
        StoreError::NotFound { .. } => MissingCause::Stale,
        _ => MissingCause::Failure,
    }
}

/// Offers the records of a checked batch that are wanted and match. All of them are decoded first: a batch that turns
/// out to be damaged in the middle gives no hits, for it is reported as not searched.
fn look_at(
    scope: &TopicScope,
    partition: PartitionId,
    batch: &Bytes,
    wanted: impl Fn(&Offset) -> bool,
    page: &mut TopHits,
) -> Result<u64, BatchError> {
    let mut compared = 0;
    let mut matching = Vec::new();
    for record in records(batch, DECOMPRESSED_BYTES_MAX)? {
        let record = record?;
        if !wanted(&record.offset) || !scope.admits(record.timestamp) {
            continue;
        }
        compared += 1;
        if scope.matcher.matches(&record) {
            matching.push(record);
        }
    }
    for record in matching {
        let place =
            SortKey { timestamp: record.timestamp, partition, offset: record.offset, topic: Arc::clone(&scope.topic) };
        page.offer(place, |bytes_max| {
            Hit::new(&scope.topic, partition, &record, scope.matcher.highlights(&record), bytes_max)
        });
    }
    Ok(compared)
}

fn look_at_candidates(
    known: &UnreadableBatches,
    scope: &TopicScope,
    bytes: &Bytes,
    start: u64,
    batch: &CandidateBatch,
    page: &mut TopHits,
) -> Result<u64, Unsearched> {
    let cut_off = BatchError::Corrupt { reason: "it does not lie where the archive says" };
    let from = batch.position.checked_sub(start).ok_or(cut_off.clone())? as usize;
    let to = from.checked_add(batch.length as usize).filter(|to| *to <= bytes.len()).ok_or(cut_off)?;
    let (bytes, header) = batch_at(bytes.slice(from..to), batch.base_offset)?;
    let wanted = |offset: &Offset| batch.offsets.binary_search(offset).is_ok();
    let name = BatchName::new(scope.id, batch.partition, &header);
    let read = known.read(name, || look_at(scope, batch.partition, &bytes, wanted, page));
    read.map_err(|error| Unsearched { reason: unreadable(&error), cause: MissingCause::Unreadable })
}

/// The batch of a base offset among whole ones, checked.
fn batch_at(bytes: Bytes, base_offset: Offset) -> Result<(Bytes, BatchHeader), BatchError> {
    for batch in split(bytes) {
        let batch = batch?;
        if BatchHeader::parse(&batch)?.base_offset == base_offset {
            let header = verify(&batch)?;
            return Ok((batch, header));
        }
    }
    Err(BatchError::Corrupt { reason: "it has other offsets than expected" })
}

/// The candidates of a batch as a range.
fn missing_batch(
    scope: &TopicScope,
    batch: &CandidateBatch,
    reason: &impl ToString,
    cause: MissingCause,
) -> Option<MissingRange> {
    let (first, last) = (batch.offsets.first()?, batch.offsets.last()?);
    Some(scope.missing(batch.partition, *first..last + 1, reason.to_string(), cause))
}

/// Bytes of the whole batches at the start.
fn whole_batches(bytes: &[u8]) -> usize {
    let mut whole = 0;
    while let Ok(header) = BatchHeader::parse(&bytes[whole..])
        && header.total_length() <= bytes.len() - whole
    {
        whole += header.total_length();
    }
    whole
}
