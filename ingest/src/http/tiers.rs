//! Where the records of history lie: on the broker's disk alone, in segments as they were shipped, or in compacted ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_format::catalog::PageEntry;
use chronik_format::ids::Timestamp;
use serde::Serialize;

use crate::state::partition::PartitionState;
use crate::state::topic::TopicState;

/// Closed history that was compacted so often, or oftener what lies below a page with some that was not.
#[derive(Debug, Default, Serialize)]
pub struct LevelStatus {
    level: u8,
    runs: u64,
    records: u64,
    bytes: u64,
    archives: u64,
    /// Since the oldest of it was closed.
    oldest_ms: Timestamp,
}

/// By level, ascending; only those that there are.
pub fn levels_of<'a>(pages: impl IntoIterator<Item = &'a Arc<PageEntry>>, now: Timestamp) -> Vec<LevelStatus> {
    let mut levels: BTreeMap<u8, LevelStatus> = BTreeMap::new();
    for page in pages {
        let (bounds, never) = (&page.bounds, page.bounds.uncompacted);
        let mut archives = u64::from(bounds.archives);
        let compacted = (
            u64::from(bounds.runs).saturating_sub(never.runs),
            bounds.records.saturating_sub(never.records),
            bounds.bytes.saturating_sub(never.bytes),
        );
        let as_shipped = (never.runs, never.records, never.bytes);
        for (level, (runs, records, bytes)) in [(bounds.level.max(1), compacted), (0, as_shipped)] {
            if runs == 0 {
                continue;
            }
            let status = levels.entry(level).or_insert(LevelStatus { level, ..LevelStatus::default() });
            status.runs += runs;
            status.records = status.records.saturating_add(records);
            status.bytes = status.bytes.saturating_add(bytes);
            status.archives += std::mem::take(&mut archives);
            status.oldest_ms = status.oldest_ms.max(now - page.closed_at);
        }
    }
    levels.into_values().collect()
}

/// What of a topic lies in one place. Old records that are being deleted count until their pages are trimmed.
#[derive(Debug, Serialize)]
pub struct TierStatus {
    tier: String,
    records: u64,
    /// Of the batches; not counted in the log, which all topics share.
    bytes: Option<u64>,
    runs: Option<u64>,
    archives: Option<u64>,
}

/// From the newest records to the oldest: what is in the broker's log alone, in segments that the catalog names run by
/// run, and in those that pages name, by level.
pub fn tiers_of(topic: &TopicState, now: Timestamp) -> Vec<TierStatus> {
    let unshipped = |partition: &Arc<PartitionState>| {
        let from = partition.shipped_to.max(partition.log_start);
        u64::try_from(partition.next_offset - from).unwrap_or(0)
    };
    let log = TierStatus {
        tier: "log".to_owned(),
        records: topic.partitions.iter().map(unshipped).sum(),
        bytes: None,
        runs: None,
        archives: None,
    };
    let open_runs = || topic.partitions.iter().flat_map(|partition| &partition.runs);
    let open = TierStatus {
        tier: "open".to_owned(),
        records: open_runs().map(|run| run.offsets.count()).sum(),
        bytes: Some(open_runs().map(|run| run.bytes.length).sum()),
        runs: Some(topic.open_runs() as u64),
        archives: Some(topic.archives.len() as u64),
    };
    let closed = levels_of(&topic.pages, now).into_iter().map(|level| TierStatus {
        tier: format!("level {}", level.level),
        records: level.records,
        bytes: Some(level.bytes),
        runs: Some(level.runs),
        archives: Some(level.archives),
    });
    [log, open].into_iter().chain(closed).collect()
}
