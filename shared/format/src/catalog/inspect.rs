//! What a page holds, for people.

use std::collections::HashMap;
use std::sync::Arc;

use chronik_store::Store;
use serde::Serialize;

use super::page::{StoredPage, VERSION, decode_page};
use super::{
    ArchiveRun, CatalogError, OldestSegment, Page, PageBounds, PageEntry, PartitionBounds, TopicRuns, UncompactedPages,
    WaitingRuns,
};
use crate::batch::TimeSpan;
use crate::ids::{LogIndex, Offset, PartitionId, Timestamp};
use crate::span::{ByteSpan, OffsetSpan};

/// A page as `chronik page inspect` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct PageInspection {
    /// The object's name.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// CRC-32C, as it stands at the object's end.
    pub crc: u32,
    /// Of the format.
    pub version: u16,
    /// The cluster's id.
    pub cluster: String,
    /// Of the owner that wrote it.
    pub incarnation: u32,
    pub lane: u32,
    /// The topic's id.
    pub topic: String,
    /// 0 of a leaf.
    pub height: u8,
    /// Last index of the log that lies in it; of a leaf only what names it knows that.
    pub last_index: Option<LogIndex>,
    /// How often all of it was compacted, at the least.
    pub level: u8,
    pub run_count: u32,
    /// Bytes of the batches.
    pub batch_bytes: u64,
    /// How many archives there are over its runs.
    pub archive_count: u32,
    /// What may still get one.
    pub waiting: WaitingRuns,
    /// The oldest level 0 segment that is needed for it.
    pub oldest_segment: Option<OldestSegment>,
    /// What was never compacted.
    pub uncompacted: UncompactedPages,
    pub partitions: Vec<BoundsInspection>,
    /// Those below it.
    pub pages: Vec<EntryInspection>,
    /// A leaf's.
    pub runs: Vec<RunInspection>,
    /// A leaf's.
    pub archives: Vec<ArchiveInspection>,
}

/// What a page, and all below it, has of a partition.
#[derive(Clone, Debug, Serialize)]
pub struct BoundsInspection {
    /// The partition's number.
    pub partition: PartitionId,
    #[serde(flatten)]
    pub offsets: OffsetSpan,
    #[serde(flatten)]
    pub times: TimesInspection,
    /// First offset that no archive covers.
    pub scanned_from: Option<Offset>,
    /// Bytes of the batches.
    pub batch_bytes: u64,
}

/// Bounds of records' timestamps, ms; `None` if not all records can be read.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TimesInspection {
    pub min_timestamp: Option<Timestamp>,
    pub max_timestamp: Option<Timestamp>,
}

/// A page below another one.
#[derive(Clone, Debug, Serialize)]
pub struct EntryInspection {
    /// The object's name.
    pub object: String,
    /// Bytes.
    pub size: u64,
    pub crc: u32,
    /// When it was written, ms since the epoch.
    pub written_at: Timestamp,
    /// When the newest of what lies below was closed, ms since the epoch.
    pub closed_at: Timestamp,
    /// How often all of it was compacted, at the least.
    pub level: u8,
    pub run_count: u32,
    pub height: u8,
    /// Last index of the log that lies in it.
    pub last_index: LogIndex,
    /// Bytes of the batches.
    pub batch_bytes: u64,
    pub archive_count: u32,
    /// What may still get an archive.
    pub waiting: WaitingRuns,
    /// The oldest level 0 segment that is needed for it.
    pub oldest_segment: Option<OldestSegment>,
    /// What was never compacted.
    pub uncompacted: UncompactedPages,
    pub partitions: Vec<BoundsInspection>,
}

/// A run in a leaf.
#[derive(Clone, Debug, Serialize)]
pub struct RunInspection {
    /// The partition's number.
    pub partition: PartitionId,
    #[serde(flatten)]
    pub offsets: OffsetSpan,
    #[serde(flatten)]
    pub times: TimesInspection,
    /// The segment's object name.
    pub segment: String,
    /// Where the batches are in the segment.
    #[serde(flatten)]
    pub bytes: ByteSpan,
    /// The object names of the archives that cover it.
    pub archives: Vec<String>,
    /// Why it never gets one.
    pub unreadable: Option<String>,
}

/// An archive over runs in a leaf.
#[derive(Clone, Debug, Serialize)]
pub struct ArchiveInspection {
    /// The object's name.
    pub object: String,
    /// Bytes.
    pub size: u64,
    pub records: u64,
    /// How many runs it covers.
    pub runs: usize,
}

/// Reads a page, checks it, and describes it.
pub async fn inspect(store: &dyn Store, key: &str) -> Result<PageInspection, CatalogError> {
    let bytes = store.read(key, None).await?;
    let StoredPage { origin, topic, height, page } = decode_page(key, &bytes)?;
    let crc = bytes.last_chunk().map_or(0, |crc| u32::from_le_bytes(*crc));
    let bounds = page.bounds(0).map_err(|reason| CatalogError::damaged(key, reason))?;
    let mut inspection = PageInspection {
        key: key.to_owned(),
        size: bytes.len() as u64,
        crc,
        version: VERSION,
        cluster: origin.cluster.to_string(),
        incarnation: origin.incarnation.0,
        lane: origin.lane.0,
        topic: topic.to_string(),
        height,
        last_index: (height > 0).then_some(bounds.last),
        level: bounds.level,
        run_count: bounds.runs,
        batch_bytes: bounds.bytes,
        archive_count: bounds.archives,
        waiting: bounds.waiting,
        oldest_segment: bounds.oldest_segment,
        uncompacted: bounds.uncompacted,
        partitions: partitions_of(&bounds),
        pages: Vec::new(),
        runs: Vec::new(),
        archives: Vec::new(),
    };
    match page {
        Page::Pages(below) => inspection.pages = below.iter().map(entry).collect(),
        Page::Runs(runs) => {
            inspection.runs = runs_of(&runs);
            inspection.archives = archives_of(&runs);
        }
    }
    Ok(inspection)
}

fn partitions_of(bounds: &PageBounds) -> Vec<BoundsInspection> {
    let inspected = |bounds: &PartitionBounds| BoundsInspection {
        partition: bounds.partition,
        offsets: bounds.offsets,
        times: bounds.times.into(),
        scanned_from: bounds.scanned_from,
        batch_bytes: bounds.bytes,
    };
    bounds.partitions.iter().map(inspected).collect()
}

fn entry(page: &Arc<PageEntry>) -> EntryInspection {
    let PageEntry { object, size, crc, written_at, closed_at, height, bounds } = &**page;
    EntryInspection {
        object: object.clone(),
        size: *size,
        crc: *crc,
        written_at: *written_at,
        closed_at: *closed_at,
        level: bounds.level,
        run_count: bounds.runs,
        height: *height,
        last_index: bounds.last,
        batch_bytes: bounds.bytes,
        archive_count: bounds.archives,
        waiting: bounds.waiting,
        oldest_segment: bounds.oldest_segment,
        uncompacted: bounds.uncompacted,
        partitions: partitions_of(bounds),
    }
}

fn runs_of(runs: &TopicRuns) -> Vec<RunInspection> {
    let mut archives: HashMap<PartitionId, Vec<(&ArchiveRun, &String)>> = HashMap::new();
    for archive in &runs.archives {
        archive.runs.iter().for_each(|run| archives.entry(run.partition).or_default().push((run, &archive.key)));
    }
    let covering = |partition: PartitionId, offsets: OffsetSpan| {
        let archives = archives.get(&partition).map_or(&[][..], Vec::as_slice).iter();
        let covering = archives.filter(move |(run, _)| run.first <= offsets.last && offsets.first <= run.last);
        covering.map(|(_, key)| (*key).clone()).collect()
    };
    let all = runs.partitions.iter().flat_map(|of| of.runs.iter().map(move |run| (of.partition, run)));
    let inspected = all.map(|(partition, run)| RunInspection {
        partition,
        offsets: run.offsets,
        times: run.times.into(),
        segment: runs.segment_of(run).map(|segment| segment.key.clone()).unwrap_or_default(),
        bytes: run.bytes,
        archives: covering(partition, run.offsets),
        unreadable: run.unreadable.clone(),
    });
    inspected.collect()
}

fn archives_of(runs: &TopicRuns) -> Vec<ArchiveInspection> {
    let inspected = runs.archives.iter().map(|archive| ArchiveInspection {
        object: archive.key.clone(),
        size: archive.size,
        records: archive.records,
        runs: archive.runs.len(),
    });
    inspected.collect()
}

impl From<TimeSpan> for TimesInspection {
    fn from(times: TimeSpan) -> Self {
        let known = |bound: Timestamp| (times != TimeSpan::ANY).then_some(bound);
        Self { min_timestamp: known(times.earliest), max_timestamp: known(times.latest) }
    }
}
