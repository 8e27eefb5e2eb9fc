//! Ways down the tree of a topic's pages.

use std::sync::Arc;

use super::{CatalogError, CatalogReader, Page, PageEntry, TopicRuns};
use crate::ids::{Offset, PartitionId, TopicId};

/// Pages that are read one after the other, each before those below it, from the oldest to the newest. It remembers
/// the entries of one page at each height.
pub struct PageWalk<'a, F> {
    reader: &'a CatalogReader,
    topic: TopicId,
    admits: F,
    /// The next one last.
    ahead: Vec<Arc<PageEntry>>,
}

impl CatalogReader {
    /// The first leaf, at or below some of a topic's pages, that [reaches](PageEntry::reaching) an offset of a
    /// partition; reads a page at each height.
    pub async fn leaf_at(
        &self,
        topic: TopicId,
        pages: &[Arc<PageEntry>],
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<Arc<TopicRuns>>, CatalogError> {
        let leaf = self.named_leaf_at(topic, pages, partition, offset).await?;
        Ok(leaf.map(|(_, runs)| runs))
    }

    /// The same, with what names the leaf.
    pub async fn named_leaf_at(
        &self,
        topic: TopicId,
        pages: &[Arc<PageEntry>],
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<(Arc<PageEntry>, Arc<TopicRuns>)>, CatalogError> {
        let mut next = PageEntry::reaching(pages, partition, offset).cloned();
        while let Some(entry) = next {
            match self.page(topic, &entry).await? {
                Page::Runs(runs) => return Ok(Some((entry, runs))),
                Page::Pages(below) => next = PageEntry::reaching(&below, partition, offset).cloned(),
            }
        }
        Ok(None)
    }

    /// Walks through those of a topic's pages, and of what is below them, that `admits` lets in.
    pub fn walk<F>(&self, topic: TopicId, pages: impl IntoIterator<Item = Arc<PageEntry>>, admits: F) -> PageWalk<'_, F>
    where
        F: Fn(&PageEntry) -> bool,
    {
        let mut walk = PageWalk { reader: self, topic, admits, ahead: Vec::new() };
        walk.enter(pages.into_iter());
        walk
    }
}

impl<F: Fn(&PageEntry) -> bool> PageWalk<'_, F> {
    /// Reads the next page. After an error it goes on behind the page that can't be read.
    pub async fn next(&mut self) -> Result<Option<(Arc<PageEntry>, Page)>, CatalogError> {
        let Some(entry) = self.ahead.pop() else {
            return Ok(None);
        };
        let page = self.reader.page(self.topic, &entry).await?;
        if let Page::Pages(below) = &page {
            self.enter(below.iter().cloned());
        }
        Ok(Some((entry, page)))
    }

    /// Reads on to the next leaf.
    pub async fn next_leaf(&mut self) -> Result<Option<(Arc<PageEntry>, Arc<TopicRuns>)>, CatalogError> {
        while let Some((entry, page)) = self.next().await? {
            if let Page::Runs(runs) = page {
                return Ok(Some((entry, runs)));
            }
        }
        Ok(None)
    }

    fn enter(&mut self, pages: impl Iterator<Item = Arc<PageEntry>>) {
        let at = self.ahead.len();
        self.ahead.extend(pages.filter(|page| (self.admits)(page)));
        self.ahead[at..].reverse();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::collections::BTreeMap;
    use std::ops::Range;

    use chronik_store::{SharedStore, memory};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::batch::TimeSpan;
    use crate::catalog::page::{BuiltPage, PageBuilder};
    use crate::catalog::{PartitionRuns, RunEntry, SegmentEntry};
    use crate::ids::{Incarnation, LaneId, Timestamp};
    use crate::origin::Origin;
    use crate::span::{ByteSpan, OffsetSpan};

    const LANE: LaneId = LaneId(0);
    const TOPIC: TopicId = TopicId(Uuid::from_u128(1));

    /// A leaf's run of a partition: so many offsets, of one time.
    type Run = (PartitionId, Offset, Timestamp);

    /// A topic's closed history, flat and as a tree.
    struct History {
        store: SharedStore,
        leaves: Vec<Arc<PageEntry>>,
        top: Vec<Arc<PageEntry>>,
        built: u64,
    }

    impl History {
        fn new() -> Self {
            Self { store: memory(), leaves: Vec::new(), top: Vec::new(), built: 0 }
        }

        fn builder(&mut self) -> (PageBuilder, String) {
            self.built += 1;
            let origin = Origin { cluster: Uuid::nil(), incarnation: Incarnation(1), lane: LANE };
            (PageBuilder { origin, topic: TOPIC, written_at: 0 }, format!("page-{}", self.built))
        }

        async fn create(&self, page: BuiltPage) -> Arc<PageEntry> {
            self.store.create(&page.entry.object, vec![page.bytes]).await.unwrap();
            page.entry.into()
        }

        fn end(&self, partition: PartitionId) -> Offset {
            let newest = self.leaves.iter().rev().find_map(|page| page.bounds.of(partition));
            newest.map_or(0, |bounds| bounds.offsets.end())
        }

        async fn close(&mut self, runs: &[Run]) {
            let of: BTreeMap<PartitionId, &Run> = runs.iter().map(|run| (run.0, run)).collect();
            let partitions = of.into_iter().map(|(partition, (_, count, time))| {
                let first = self.end(partition);
                let run = RunEntry {
                    offsets: OffsetSpan { first, last: first + count - 1 },
                    segment: 0,
                    bytes: ByteSpan { position: 0, length: 1 },
                    times: TimeSpan::at(*time),
                    unreadable: None,
                };
                PartitionRuns { partition, runs: vec![run] }
            });
            let segment = SegmentEntry { key: "segment".into(), size: 1, crc: 0, directory_position: 0, level: 0 };
            let runs = TopicRuns { segments: vec![segment], partitions: partitions.collect(), archives: Vec::new() };
            let (builder, object) = self.builder();
            let page = builder.leaf(object, &runs, self.built).unwrap();
            let entry = self.create(page).await;
            self.leaves.push(entry.clone());
            self.top.push(entry);
        }

        /// Folds so many pages at the top, as far as they have one height.
        async fn fold(&mut self, Range { start, end }: Range<usize>) {
            let start = start % self.top.len().max(1);
            let level = self.top[start..].iter().take(end - start.min(end)).cloned();
            let below: Vec<_> = level.take_while(|page| page.height == self.top[start].height).collect();
            if below.is_empty() {
                return;
            }
            let (builder, object) = self.builder();
            let page = builder.inner(object, &below).unwrap();
            let entry = self.create(page).await;
            self.top.splice(start..start + below.len(), [entry]);
        }

        fn reader(&self) -> CatalogReader {
            CatalogReader::new(self.store.clone(), LANE, 0)
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Close(Vec<Run>),
        Fold(Range<usize>),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let runs = prop::collection::vec((0..3i32, 1..4i64, 0..9i64), 0..4);
        prop_oneof![
            3 => runs.prop_map(Step::Close),
            2 => (0..9usize, 1..5usize).prop_map(|(start, length)| Step::Fold(start..start + length)),
        ]
    }

    async fn history(steps: Vec<Step>) -> History {
        let mut history = History::new();
        for step in steps {
            match step {
                Step::Close(runs) => history.close(&runs).await,
                Step::Fold(pages) => history.fold(pages).await,
            }
        }
        history
    }

    /// Every offset, and every span of time, is found as in a flat list.
    async fn check(history: &History) {
        let reader = history.reader();
        for partition in 0..3 {
            for offset in -1..=history.end(partition) {
                let found = reader.leaf_at(TOPIC, &history.top, partition, offset).await.unwrap();
                let flat = PageEntry::reaching(&history.leaves, partition, offset);
                let expected = match flat {
                    Some(leaf) => Some(reader.page(TOPIC, leaf).await.unwrap()),
                    None => None,
                };
                assert_eq!(found.map(Page::Runs), expected, "{partition} {offset}");
            }
            for time in 0..9 {
                let admits = |page: &PageEntry| {
                    let times = page.bounds.of(partition).map(|bounds| bounds.times);
                    times.is_some_and(|times| (times.earliest..=times.latest).contains(&time))
                };
                let mut walk = reader.walk(TOPIC, history.top.clone(), admits);
                let mut found = Vec::new();
                while let Some((leaf, _)) = walk.next_leaf().await.unwrap() {
                    found.push(leaf);
                }
                let expected: Vec<_> = history.leaves.iter().filter(|leaf| admits(leaf)).cloned().collect();
                assert_eq!(found, expected, "{partition} at {time}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_tree_is_read_as_a_flat_list_would_be(steps in prop::collection::vec(any_step(), 0..24)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async { check(&history(steps).await).await });
        }
    }

    /// Sixteen leaves of four offsets below two pages of height 2.
    async fn folded() -> History {
        let mut history = History::new();
        for time in 0..16 {
            history.close(&[(0, 4, time)]).await;
        }
        for start in 0..4 {
            history.fold(start..start + 4).await;
        }
        for start in 0..2 {
            history.fold(start..start + 2).await;
        }
        assert_eq!(history.top.iter().map(|page| page.height).collect::<Vec<_>>(), [2, 2]);
        history
    }

    #[tokio::test]
    async fn a_lookup_reads_no_more_than_a_page_at_each_height() {
        let history = folded().await;
        let path = ["page-22", "page-19", "page-10"];
        for object in (1..=history.built).map(|number| format!("page-{number}")) {
            if !path.contains(&object.as_str()) {
                history.store.delete(&object).await.unwrap();
            }
        }
        let reader = history.reader();
        assert!(reader.leaf_at(TOPIC, &history.top, 0, 4 * 9 + 1).await.unwrap().is_some());
        assert!(reader.leaf_at(TOPIC, &history.top, 0, 4 * 10).await.unwrap_err().is_missing());
        let at_its_time = |page: &PageEntry| {
            let times = page.bounds.partitions[0].times;
            (times.earliest..=times.latest).contains(&9)
        };
        let mut walk = reader.walk(TOPIC, history.top.clone(), at_its_time);
        let mut read = Vec::new();
        while let Some((page, _)) = walk.next().await.unwrap() {
            read.push(page.object.clone());
        }
        assert_eq!(read, path);
    }

    #[tokio::test]
    async fn a_walk_goes_on_behind_a_page_that_is_gone() {
        let history = folded().await;
        history.store.delete("page-2").await.unwrap();
        let reader = history.reader();
        let mut walk = reader.walk(TOPIC, history.top.clone(), |_| true);
        let (mut leaves, mut missing) = (0, 0);
        loop {
            match walk.next_leaf().await {
                Ok(None) => break,
                Ok(Some(_)) => leaves += 1,
                Err(error) => missing += usize::from(error.is_missing()),
            }
        }
        assert_eq!((leaves, missing), (15, 1));
    }
}
