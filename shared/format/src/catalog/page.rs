//! A page: a closed part of a topic's history as an immutable object. Integers little-endian, checksums CRC-32C.
//!
//! ```text
//! header  51  magic "CHRNKPAG" | version u16 | cluster 16 | incarnation u32 | lane u32 | topic id 16 | height u8
//! content     of height 0 TopicRuns, else entries of pages of the height below, from the oldest to the newest; as
//!             bincode, standard configuration
//! crc      4  of what precedes
//! ```
//!
//! Pages are a tree, so that what names those at its top stays small however long the history is. The leaves hold what
//! was open in the topic's head once, in the same shape. A page is written before the command that takes what it holds
//! out of the lane's state and names it.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use uuid::Uuid;

use super::coding::{decode, encode, unbuildable};
use super::{CatalogError, PageBounds, PageEntry, TopicRuns};
use crate::ids::{LogIndex, Timestamp, TopicId};
use crate::origin::Origin;

/// The format version that this program writes and reads; 0 is unreleased.
pub const VERSION: u16 = 0;

const MAGIC: [u8; 8] = *b"CHRNKPAG";
const HEADER_LENGTH: usize = 51;

/// What a page holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    /// A leaf's.
    Runs(Arc<TopicRuns>),
    /// The pages below, from the oldest to the newest; at least one.
    Pages(Arc<[Arc<PageEntry>]>),
}

/// A page as its object tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPage {
    pub origin: Origin,
    pub topic: TopicId,
    /// 0 of a leaf, of others one more than of the pages below.
    pub height: u8,
    pub page: Page,
}

/// A page, ready to be created as an object.
#[derive(Clone, Debug)]
pub struct BuiltPage {
    pub bytes: Bytes,
    /// What names it.
    pub entry: PageEntry,
}

/// Builds pages of a topic.
#[derive(Clone, Copy, Debug)]
pub struct PageBuilder {
    pub origin: Origin,
    pub topic: TopicId,
    /// Now, ms since the epoch.
    pub written_at: Timestamp,
}

impl PageBuilder {
    /// The page of runs in segments up to a log index, which is to be named `object`.
    pub fn leaf(&self, object: String, runs: &TopicRuns, last: LogIndex) -> Result<BuiltPage, CatalogError> {
        runs.check().map_err(|reason| unbuildable(format!("{object}: {reason}")))?;
        self.build(object, 0, runs, self.written_at, PageBounds::of_runs(runs, last))
    }

    /// The page above pages that follow one another, which is to be named `object`.
    pub fn inner(&self, object: String, below: &[Arc<PageEntry>]) -> Result<BuiltPage, CatalogError> {
        let height = below.first().and_then(|page| page.height.checked_add(1)).unwrap_or_default();
        let bounds = check_below(height, below).map_err(|reason| unbuildable(format!("{object}: {reason}")))?;
        let closed_at = below.iter().map(|page| page.closed_at).max().unwrap_or(self.written_at);
        self.build(object, height, &below, closed_at, bounds)
    }

    fn build(
        &self,
        object: String,
        height: u8,
        content: &impl Serialize,
        closed_at: Timestamp,
        bounds: PageBounds,
    ) -> Result<BuiltPage, CatalogError> {
        let mut bytes = BytesMut::new();
        bytes.put_slice(&MAGIC);
        bytes.put_u16_le(VERSION);
        self.origin.encode(&mut bytes);
        bytes.put_slice(self.topic.0.as_bytes());
        bytes.put_u8(height);
        bytes.put_slice(&encode(content)?);
        let crc = crc32c::crc32c(&bytes);
        bytes.put_u32_le(crc);
        let size = bytes.len() as u64;
        let entry = PageEntry { object, size, crc, written_at: self.written_at, closed_at, height, bounds };
        Ok(BuiltPage { bytes: bytes.freeze(), entry })
    }
}

/// The bounds of the pages below one of a height, if there may be such a page.
fn check_below(height: u8, below: &[Arc<PageEntry>]) -> Result<PageBounds, String> {
    let fits = |page: &Arc<PageEntry>| page.height.checked_add(1) == Some(height);
    match below.iter().find(|page| !fits(page)) {
        Some(page) => Err(format!("{} has height {} below a page of height {height}", page.object, page.height)),
        None if below.is_empty() => Err("there is nothing below it".to_owned()),
        None => PageBounds::of_pages(below.iter().map(Arc::as_ref)),
    }
}

/// Reads the page `object`, which is the whole of `bytes`, as it stands.
pub fn decode_page(object: &str, bytes: &[u8]) -> Result<StoredPage, CatalogError> {
    let damaged = |reason: &str| CatalogError::damaged(object, reason);
    let Some((content, crc)) = bytes.split_last_chunk::<4>().filter(|(content, _)| content.len() >= HEADER_LENGTH)
    else {
        return Err(damaged("it is cut off"));
    };
    let (mut header, fields) = content.split_at(HEADER_LENGTH);
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
    let height = header.get_u8();
    let page = decode_content(object, height, fields)?;
    Ok(StoredPage { origin, topic: TopicId(Uuid::from_bytes(id)), height, page })
}

fn decode_content(object: &str, height: u8, fields: &[u8]) -> Result<Page, CatalogError> {
    let damaged = |reason: String| CatalogError::damaged(object, reason);
    if height == 0 {
        let runs: TopicRuns = decode(object, fields)?;
        runs.check().map_err(damaged)?;
        return Ok(Page::Runs(runs.into()));
    }
    let below: Vec<Arc<PageEntry>> = decode(object, fields)?;
    check_below(height, &below).map_err(damaged)?;
    Ok(Page::Pages(below.into()))
}

/// Reads the page of a topic that `entry` names.
pub(super) fn decode_named(topic: TopicId, entry: &PageEntry, bytes: &[u8]) -> Result<Page, CatalogError> {
    let StoredPage { topic: id, height, page, .. } = decode_page(&entry.object, bytes)?;
    let is_named = bytes.len() as u64 == entry.size && bytes.ends_with(&entry.crc.to_le_bytes());
    let bounds = page.bounds(entry.bounds.last);
    if !is_named || (id, height) != (topic, entry.height) || bounds.as_ref() != Ok(&entry.bounds) {
        return Err(CatalogError::damaged(&entry.object, "it is another page than the catalog names"));
    }
    Ok(page)
}

impl Page {
    /// `last`: the last log index of a leaf's segments.
    pub(super) fn bounds(&self, last: LogIndex) -> Result<PageBounds, String> {
        match self {
            Self::Runs(runs) => Ok(PageBounds::of_runs(runs, last)),
            Self::Pages(below) => PageBounds::of_pages(below.iter().map(Arc::as_ref)),
        }
    }

    /// About as many bytes of memory.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Runs(runs) => runs.memory_bytes(),
            Self::Pages(below) => below.iter().map(|page| page.memory_bytes()).sum(),
        }
    }
}

/// Reads any bytes as a page, for fuzzing, also if no checksum fits; whatever comes out, nothing panics.
pub(super) fn fuzz_page(bytes: &[u8]) {
    let _ = decode_page("fuzz", bytes);
    let fields = bytes.get(HEADER_LENGTH..bytes.len().saturating_sub(4)).unwrap_or(bytes);
    for height in [0, 1, 2, u8::MAX] {
        let _ = decode_content("fuzz", height, fields).map(|page| page.bounds(1));
    }
}
