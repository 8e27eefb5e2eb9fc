//! A page: a closed part of a topic's history as an immutable object. Integers little-endian, checksums CRC-32C.
//!
//! ```text
//! header  50  magic "CHRNKPAG" | version u16 | cluster 16 | incarnation u32 | lane u32 | topic id 16
//! runs        TopicRuns as bincode, standard configuration
//! crc      4  of what precedes
//! ```
//!
//! What is open in a topic's head and what its pages hold have one shape. A page is written before the command that
//! takes its runs out of the lane's state and names it.

use std::collections::HashSet;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::coding::{decode, encode};
use super::{CatalogError, PartitionRuns, TopicRuns};
use crate::batch::TimeSpan;
use crate::ids::{LogIndex, Offset, PartitionId, Timestamp, TopicId};
use crate::origin::Origin;
use crate::span::OffsetSpan;

/// The format version that this program writes and reads; 0 is unreleased.
pub const VERSION: u16 = 0;

const MAGIC: [u8; 8] = *b"CHRNKPAG";
const HEADER_LENGTH: usize = 50;

/// A page as a topic's head names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageEntry {
    /// The object's name.
    pub object: String,
    /// Bytes of the object.
    pub size: u64,
    /// CRC-32C of all before it, as it stands at the object's end.
    pub crc: u32,
    /// When it was written, ms since the epoch; its archives were named before.
    pub written_at: Timestamp,
    pub bounds: PageBounds,
}

/// What a page holds, as far as readers need it to decide whether they read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageBounds {
    /// Last log index of its segments; all of the topic up to there lies in it or in pages before it.
    pub last: LogIndex,
    /// Bytes of the batches.
    pub bytes: u64,
    /// How many archives are over its runs.
    pub archives: u32,
    /// Ascending by number; only those that have runs.
    pub partitions: Vec<PartitionBounds>,
}

/// What a page holds of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionBounds {
    /// The partition's number.
    pub partition: PartitionId,
    pub offsets: OffsetSpan,
    /// Of the records; [`TimeSpan::ANY`] if not all can be read.
    pub times: TimeSpan,
    /// First offset that no archive covers.
    pub scanned_from: Option<Offset>,
}

/// A page, ready to be created as an object.
#[derive(Clone, Debug)]
pub struct BuiltPage {
    pub bytes: Bytes,
    /// What names it.
    pub entry: PageEntry,
}

impl PageBounds {
    /// Those of runs in segments up to a log index.
    pub fn of_runs(runs: &TopicRuns, last: LogIndex) -> Self {
        let covered = runs.archives.iter().flat_map(|archive| &archive.runs);
        let archived: HashSet<(PartitionId, Offset)> = covered.map(|run| (run.partition, run.first)).collect();
        let all = || runs.partitions.iter().flat_map(|partition| &partition.runs);
        Self {
            last,
            bytes: all().map(|run| run.bytes.length).sum(),
            archives: runs.archives.len() as u32,
            partitions: runs.partitions.iter().filter_map(|runs| PartitionBounds::of_runs(runs, &archived)).collect(),
        }
    }

    /// What it holds of a partition.
    pub fn of(&self, partition: PartitionId) -> Option<&PartitionBounds> {
        let at = self.partitions.binary_search_by_key(&partition, |bounds| bounds.partition).ok()?;
        self.partitions.get(at)
    }

    /// Whether it is what [`Self::of_runs`] may give.
    pub(super) fn is_possible(&self) -> bool {
        self.partitions.is_sorted_by(|a, b| a.partition < b.partition)
            && self.partitions.iter().all(|bounds| bounds.offsets.is_possible())
    }
}

impl PartitionBounds {
    fn of_runs(runs: &PartitionRuns, archived: &HashSet<(PartitionId, Offset)>) -> Option<Self> {
        let PartitionRuns { partition, runs } = runs;
        let (first, last) = (runs.first()?.offsets.first, runs.last()?.offsets.last);
        let is_scanned = |first: &Offset| !archived.contains(&(*partition, *first));
        Some(Self {
            partition: *partition,
            offsets: OffsetSpan { first, last },
            times: runs.iter().map(|run| run.times).fold(TimeSpan::NONE, TimeSpan::union),
            scanned_from: runs.iter().map(|run| run.offsets.first).find(is_scanned),
        })
    }
}

/// What a page is made of.
#[derive(Clone, Debug)]
pub struct PageParts {
    pub origin: Origin,
    pub topic: TopicId,
    pub runs: TopicRuns,
    /// Last log index of the runs' segments.
    pub last: LogIndex,
    /// Now, ms since the epoch.
    pub written_at: Timestamp,
}

impl PageParts {
    /// The page that is to be named `object`.
    pub fn build(&self, object: String) -> Result<BuiltPage, CatalogError> {
        let Self { origin, topic, runs, last, written_at } = self;
        runs.check().map_err(|reason| CatalogError::Unbuildable { reason: format!("{object}: {reason}") })?;
        let mut bytes = BytesMut::new();
        bytes.put_slice(&MAGIC);
        bytes.put_u16_le(VERSION);
        origin.encode(&mut bytes);
        bytes.put_slice(topic.0.as_bytes());
        bytes.put_slice(&encode(runs)?);
        let crc = crc32c::crc32c(&bytes);
        bytes.put_u32_le(crc);
        let bounds = PageBounds::of_runs(runs, *last);
        let entry = PageEntry { object, size: bytes.len() as u64, crc, written_at: *written_at, bounds };
        Ok(BuiltPage { bytes: bytes.freeze(), entry })
    }
}

/// Reads the page `object`, which is the whole of `bytes`, as it stands: whose it is, and the runs.
pub fn decode_page(object: &str, bytes: &[u8]) -> Result<(Origin, TopicId, TopicRuns), CatalogError> {
    let damaged = |reason: &str| CatalogError::damaged(object, reason);
    let Some((content, crc)) = bytes.split_last_chunk::<4>().filter(|(content, _)| content.len() >= HEADER_LENGTH)
    else {
        return Err(damaged("it is cut off"));
    };
    let (mut header, runs) = content.split_at(HEADER_LENGTH);
    let mut magic = [0; 8];
    header.copy_to_slice(&mut magic);
    if magic != MAGIC {
        return Err(damaged("it does not begin as a page does"));
    }
    let version = header.get_u16_le();
    if version != VERSION {
        return Err(CatalogError::UnknownVersion { object: object.to_owned(), version: version.into() });
    }
    if u32::from_le_bytes(*crc) != crc32c::crc32c(content) {
        return Err(damaged("its checksum does not fit"));
    }
    let origin = Origin::decode(&mut header);
    let mut id = [0; 16];
    header.copy_to_slice(&mut id);
    let runs: TopicRuns = decode(object, runs)?;
    runs.check().map_err(|reason| damaged(&reason))?;
    Ok((origin, TopicId(Uuid::from_bytes(id)), runs))
}

/// Reads the page of a topic that `entry` names.
pub(super) fn decode_named(topic: TopicId, entry: &PageEntry, bytes: &[u8]) -> Result<TopicRuns, CatalogError> {
    let (_, id, runs) = decode_page(&entry.object, bytes)?;
    let is_named = bytes.len() as u64 == entry.size && bytes.ends_with(&entry.crc.to_le_bytes());
    if !is_named || id != topic || PageBounds::of_runs(&runs, entry.bounds.last) != entry.bounds {
        return Err(CatalogError::damaged(&entry.object, "it is another page than the catalog names"));
    }
    Ok(runs)
}

/// Reads any bytes as a page, for fuzzing; whatever comes out, nothing panics.
pub(super) fn fuzz_page(bytes: &[u8]) {
    let _ = decode_page("fuzz", bytes);
    if let Ok(runs) = decode::<TopicRuns>("fuzz", bytes) {
        let _ = runs.check();
        let _ = PageBounds::of_runs(&runs, 1);
    }
}
