//! Segments of one owner that hold the same indices.
//!
//! A restart draws borders anew and uploads again what was not registered: then both hold the same. They differ only if
//! the owner's data directory was an older copy of itself. Whatever is chosen then, acknowledged records are lost, so
//! recovery stops unless the operator accepts that; then the newest catalog decides.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use chronik_format::catalog::{CatalogError, CatalogReader, TopicRuns};
use chronik_format::ids::{LogIndex, Offset, PartitionId, TopicId};
use chronik_format::names::SegmentName;
use chronik_format::segment::{LogEntry, SegmentReader};

use super::segments::SegmentChain;
use super::{Bucket, RecoverError, decode};
use crate::state::command::Command;

/// Bytes of batches that are compared at a time.
const COMPARED_BYTES: usize = 4 << 20;

impl Bucket<'_> {
    /// Leaves one segment for each index, as far as their content goes.
    pub(super) async fn resolve_forks(&self, segments: &mut SegmentChain) -> Result<(), RecoverError> {
        for (one, other) in segments.overlapping() {
            if segments.has_discarded(&one) || segments.has_discarded(&other) || self.agree(&one, &other).await? {
                continue;
            }
            let named = match self.named_by_the_catalog(one.first.min(other.first)).await {
                Err(RecoverError::Catalog(error @ CatalogError::Damaged { .. })) => {
                    tracing::warn!("{error}; it decides nothing");
                    HashSet::new()
                }
                named => named?,
            };
            let loser = match (named.contains(&one.to_string()), named.contains(&other.to_string())) {
                (true, false) => other,
                (false, true) => one,
                _ => {
                    return Err(forked(&one, &other, "The catalog does not decide between them: remove one".into()));
                }
            };
            if !self.accept_loss {
                let verdict = format!(
                    "The catalog does not name {loser}: to go on without it, accept the loss with --accept-loss \
                     (CHRONIK_ACCEPT_LOSS)"
                );
                return Err(forked(&one, &other, verdict));
            }
            tracing::warn!("segment {loser} is left out: {one} and {other} differ, and the catalog does not name it");
            segments.discard(&loser);
        }
        Ok(())
    }

    /// Whether two segments hold the same for the indices that both have. One that is damaged contradicts nothing.
    async fn agree(&self, one: &SegmentName, other: &SegmentName) -> Result<bool, RecoverError> {
        let (one, other) = match (self.open(one).await, self.open(other).await) {
            (Ok(one), Ok(other)) => (one, other),
            (Err(RecoverError::Segment(error)), _) | (_, Err(RecoverError::Segment(error))) if error.is_damage() => {
                return Ok(true);
            }
            (one, other) => (one?, other?),
        };
        let (log, other_log) = match (one.log().await, other.log().await) {
            (Ok(log), Ok(other_log)) => (log, other_log),
            (Err(error), _) | (_, Err(error)) if error.is_damage() => return Ok(true),
            (log, other_log) => (log?, other_log?),
        };
        let (first, last) = (one.header().first.max(other.header().first), one.header().last.min(other.header().last));
        let within = |entry: &&LogEntry| (first..=last).contains(&entry.index);
        let common: Vec<LogEntry> = log.iter().filter(within).cloned().collect();
        if !common.iter().eq(other_log.iter().filter(within)) {
            return Ok(false);
        }
        if one.header() == other.header() {
            return Ok(one.directory().lists_the_same(other.directory()));
        }
        for ((topic, partition), (from, to)) in appended(one.key(), &common)? {
            if !have_the_same_batches(&one, &other, (topic, partition), from, to).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The segments that the newest catalog names, of those that hold the log from an index on; perhaps others too.
    async fn named_by_the_catalog(&self, from: LogIndex) -> Result<HashSet<String>, RecoverError> {
        let reader = CatalogReader::new(self.store.clone(), self.lane, 0);
        let catalog = reader.refresh().await?;
        let mut named = HashSet::new();
        for (_, topic) in catalog.topics() {
            let Some(head) = catalog.topic_by_id(topic).await? else { continue };
            let mut add = |runs: &TopicRuns| named.extend(runs.segments.iter().map(|segment| segment.key.clone()));
            add(&head.open);
            let mut pages = reader.walk(topic, head.pages.iter().cloned(), |page| page.bounds.last >= from);
            while let Some((_, runs)) = pages.next_leaf().await? {
                add(&runs);
            }
        }
        Ok(named)
    }
}

fn forked(one: &SegmentName, other: &SegmentName, verdict: String) -> RecoverError {
    RecoverError::Forked { one: one.to_string(), other: other.to_string(), verdict }
}

type Appended = BTreeMap<(TopicId, PartitionId), (Offset, Offset)>;

/// First and last offset of what the entries append.
fn appended(key: &str, log: &[LogEntry]) -> Result<Appended, RecoverError> {
    let mut appended = Appended::new();
    for (_, commands) in decode(key, log)? {
        for command in commands {
            if let Command::Append(append) = command {
                let partition = (append.topic, append.partition);
                let range = appended.entry(partition).or_insert((append.base_offset, append.last_offset));
                range.1 = append.last_offset;
            }
        }
    }
    Ok(appended)
}

async fn have_the_same_batches(
    one: &SegmentReader,
    other: &SegmentReader,
    (topic, partition): (TopicId, PartitionId),
    from: Offset,
    to: Offset,
) -> Result<bool, RecoverError> {
    let mut next = from;
    while next <= to {
        let batches = one.batches(topic, partition, next, COMPARED_BYTES).await?;
        let mut others = other.batches(topic, partition, next, COMPARED_BYTES).await?;
        others.truncate(batches.len());
        let batches = &batches[..others.len()];
        let within = |batch: &&Bytes| base_offset(batch) <= to;
        if !batches.iter().filter(within).eq(others.iter().filter(within)) {
            return Ok(false);
        }
        match batches.last().and_then(|batch| chronik_format::batch::BatchHeader::parse(batch).ok()) {
            Some(header) => next = header.last_offset() + 1,
            None => return Ok(false),
        }
    }
    Ok(true)
}

fn base_offset(batch: &Bytes) -> Offset {
    batch.first_chunk().map_or(0, |bytes| Offset::from_be_bytes(*bytes))
}
