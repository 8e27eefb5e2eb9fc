//! What a plan selects. Tantivy finds the documents of a term or a phrase; how they are combined is ours.

use tantivy::collector::{Collector, SegmentCollector};
use tantivy::query::PhraseQuery;
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocId, DocSet, Score, Searcher, SegmentOrdinal, SegmentReader, TERMINATED, Term};

use super::documents::DocumentSet;
use super::query_plan::TermSelection;
use super::spelling::SpellingAutomaton;

/// The selected documents of an index of at most one segment. Blocks while the store is read.
pub(super) fn select(selection: &TermSelection, searcher: &Searcher, count: u32) -> tantivy::Result<DocumentSet> {
    match selection {
        TermSelection::All => Ok(DocumentSet::all(count)),
        TermSelection::Nothing => Ok(DocumentSet::none(count)),
        TermSelection::Term(term) => with_term(term, searcher, count),
        TermSelection::Spelled(field, spelling) => spelled(*field, spelling, searcher, count),
        TermSelection::Phrase(terms) => searcher.search(&PhraseQuery::new(terms.clone()), &Collected { count }),
        TermSelection::Not(part) => Ok(select(part, searcher, count)?.complement()),
        TermSelection::AllOf(parts) => {
            let mut documents = DocumentSet::all(count);
            for part in parts {
                documents.intersect(&select(part, searcher, count)?);
                if documents.is_empty() {
                    break;
                }
            }
            Ok(documents)
        }
        TermSelection::AnyOf(parts) => {
            let mut documents = DocumentSet::none(count);
            for part in parts {
                documents.unite(&select(part, searcher, count)?);
            }
            Ok(documents)
        }
    }
}

fn with_term(term: &Term, searcher: &Searcher, count: u32) -> tantivy::Result<DocumentSet> {
    let mut documents = DocumentSet::none(count);
    for segment in searcher.segment_readers() {
        let index = segment.inverted_index(term.field())?;
        if let Some(mut postings) = index.read_postings(term, IndexRecordOption::Basic)? {
            while postings.doc() != TERMINATED {
                documents.insert(postings.doc());
                postings.advance();
            }
        }
    }
    Ok(documents)
}

fn spelled(
    field: Field,
    spelling: &SpellingAutomaton,
    searcher: &Searcher,
    count: u32,
) -> tantivy::Result<DocumentSet> {
    let mut documents = DocumentSet::none(count);
    for segment in searcher.segment_readers() {
        let index = segment.inverted_index(field)?;
        let mut terms = index.terms().search(spelling).into_stream()?;
        while terms.advance() {
            let mut postings = index.read_postings_from_terminfo(terms.value(), IndexRecordOption::Basic)?;
            while postings.doc() != TERMINATED {
                documents.insert(postings.doc());
                postings.advance();
            }
        }
    }
    Ok(documents)
}

/// The documents that Tantivy itself finds.
struct Collected {
    count: u32,
}

struct SegmentCollected(DocumentSet);

impl Collector for Collected {
    type Fruit = DocumentSet;
    type Child = SegmentCollected;

    fn for_segment(&self, _: SegmentOrdinal, _: &SegmentReader) -> tantivy::Result<SegmentCollected> {
        Ok(SegmentCollected(DocumentSet::none(self.count)))
    }

    fn requires_scoring(&self) -> bool {
        false
    }

    fn merge_fruits(&self, segments: Vec<DocumentSet>) -> tantivy::Result<DocumentSet> {
        Ok(segments.into_iter().next().unwrap_or(DocumentSet::none(self.count)))
    }
}

impl SegmentCollector for SegmentCollected {
    type Fruit = DocumentSet;

    fn collect(&mut self, document: DocId, _: Score) {
        self.0.insert(document);
    }

    fn harvest(self) -> DocumentSet {
        self.0
    }
}
