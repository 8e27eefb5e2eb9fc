//! The documents that a search selects, ascending.

use tantivy::collector::{Collector, SegmentCollector};
use tantivy::{DocId, Score, SegmentOrdinal, SegmentReader};

pub(super) struct Documents;

pub(super) struct SegmentDocuments(Vec<DocId>);

impl Collector for Documents {
    type Fruit = Vec<DocId>;
    type Child = SegmentDocuments;

    fn for_segment(&self, _: SegmentOrdinal, _: &SegmentReader) -> tantivy::Result<SegmentDocuments> {
        Ok(SegmentDocuments(Vec::new()))
    }

    fn requires_scoring(&self) -> bool {
        false
    }

    /// An archive has one segment.
    fn merge_fruits(&self, segments: Vec<Vec<DocId>>) -> tantivy::Result<Vec<DocId>> {
        Ok(segments.into_iter().flatten().collect())
    }
}

impl SegmentCollector for SegmentDocuments {
    type Fruit = Vec<DocId>;

    fn collect(&mut self, document: DocId, _: Score) {
        self.0.push(document);
    }

    fn collect_block(&mut self, documents: &[DocId]) {
        self.0.extend_from_slice(documents);
    }

    fn harvest(self) -> Vec<DocId> {
        self.0
    }
}
