//! Tantivy's files within an archive: in memory, or read by checked blocks as they are asked for.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chronik_format::archive::{ArchiveError, BLOCK_BYTES, OpenedArchive, TocSection};
use chronik_store::SharedStore;
use futures::future::try_join_all;
use moka::future::Cache;
use tantivy::HasLen;
use tantivy::directory::{FileHandle, OwnedBytes};
use tokio::runtime::Handle;

/// Blocks by archive and position in it.
pub(super) type BlockCache = Cache<(Arc<str>, u64), Bytes>;

/// A file that stays in the bucket.
pub(super) struct RangedFile {
    store: SharedStore,
    key: Arc<str>,
    archive: Arc<OpenedArchive>,
    section: TocSection,
    cache: BlockCache,
    runtime: Handle,
}

impl RangedFile {
    pub(super) fn new(store: SharedStore, archive: Arc<OpenedArchive>, section: TocSection, cache: BlockCache) -> Self {
        let key = archive.key.as_str().into();
        Self { store, key, archive, section, cache, runtime: Handle::current() }
    }

    /// The bytes `range` of the file. Blocks that are not cached are read at once, neighbours together.
    async fn read(&self, range: Range<u64>) -> Result<Vec<u8>, ArchiveError> {
        let wanted = self.section.blocks(range.clone());
        let mut blocks = Vec::with_capacity((wanted.end - wanted.start) as usize);
        for number in wanted.clone() {
            blocks.push(self.cache.get(&self.name_of(number)).await);
        }
        let missing = spans(&blocks, wanted.start);
        for (start, block) in
            try_join_all(missing.into_iter().map(|span| self.fetch(span))).await?.into_iter().flatten()
        {
            blocks[(start - wanted.start) as usize] = Some(block);
        }
        let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
        for (number, block) in wanted.zip(blocks) {
            let block = block.unwrap_or_default();
            let start = number * BLOCK_BYTES;
            let (from, to) = (range.start.max(start) - start, (range.end - start).min(block.len() as u64));
            bytes.extend_from_slice(&block[from as usize..to as usize]);
        }
        Ok(bytes)
    }

    /// Reads, checks and caches consecutive blocks.
    async fn fetch(&self, span: Range<u64>) -> Result<Vec<(u64, Bytes)>, ArchiveError> {
        let bytes = self.archive.blocks(self.store.as_ref(), &self.section, span.clone()).await?;
        let mut blocks = Vec::new();
        for (number, block) in span.zip(bytes.chunks(BLOCK_BYTES as usize)) {
            let block = Bytes::copy_from_slice(block);
            self.cache.insert(self.name_of(number), block.clone()).await;
            blocks.push((number, block));
        }
        Ok(blocks)
    }

    fn name_of(&self, block: u64) -> (Arc<str>, u64) {
        (Arc::clone(&self.key), self.section.position + block * BLOCK_BYTES)
    }

    fn checked(&self, range: Range<usize>) -> io::Result<Range<u64>> {
        if range.start > range.end || range.end as u64 > self.section.length {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a range beyond the end of the file"));
        }
        Ok(range.start as u64..range.end as u64)
    }
}

/// Runs of neighbouring blocks that are not there; the first one is number `first`.
fn spans(blocks: &[Option<Bytes>], first: u64) -> Vec<Range<u64>> {
    let mut spans: Vec<Range<u64>> = Vec::new();
    for (number, _) in (first..).zip(blocks).filter(|(_, block)| block.is_none()) {
        match spans.last_mut() {
            Some(span) if span.end == number => span.end += 1,
            _ => spans.push(number..number + 1),
        }
    }
    spans
}

#[async_trait]
impl FileHandle for RangedFile {
    /// Waits for the store: only for threads that may block.
    fn read_bytes(&self, range: Range<usize>) -> io::Result<OwnedBytes> {
        self.runtime.block_on(self.read_bytes_async(range))
    }

    async fn read_bytes_async(&self, range: Range<usize>) -> io::Result<OwnedBytes> {
        let range = self.checked(range)?;
        let bytes = self.read(range).await.map_err(io::Error::other)?;
        Ok(OwnedBytes::new(bytes))
    }
}

impl HasLen for RangedFile {
    fn len(&self) -> usize {
        self.section.length as usize
    }
}

impl fmt::Debug for RangedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.section.name, self.key)
    }
}
