//! The best hits so far.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use chronik_format::batch::Record;

use super::order::{HitOrder, SortKey, Span};
use crate::record_copy::{self, copy_of};

/// A record that the matcher has confirmed.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) record: Record,
    pub(crate) highlights: Vec<Range<usize>>,
    /// A record that is larger than a page stays where it lies until there is room for an answer with it: it has no
    /// key, value and headers here, but so many bytes of them.
    pub(crate) left_out: Option<usize>,
}

/// The hits that come first after a cursor: at most `limit`, and at most about `bytes_max` bytes but at least one hit.
/// What does not fit is dropped from the end and nothing behind it gets in, so that what is here is always the
/// beginning of what was offered.
#[derive(Clone, Debug)]
pub(crate) struct TopHits {
    sort: HitOrder,
    limit: usize,
    bytes_max: usize,
    after: Option<SortKey>,
    hits: BTreeMap<Ranked, Hit>,
    bytes: usize,
    /// For want of bytes the page ends before this.
    cut: Option<SortKey>,
    /// The page that this one will be merged into has no room from here on.
    fence: Option<SortKey>,
    matched: u64,
}

#[derive(Clone, Debug)]
struct Ranked {
    sort: HitOrder,
    place: SortKey,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.sort.compare(&self.place, &other.place)
    }
}
impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Ranked {}

impl TopHits {
    pub(crate) fn new(sort: HitOrder, limit: usize, bytes_max: usize, after: Option<SortKey>) -> Self {
        Self { sort, limit, bytes_max, after, hits: BTreeMap::new(), bytes: 0, cut: None, fence: None, matched: 0 }
    }

    /// An empty page that takes only what this one would: for another thread, to be merged later.
    pub(crate) fn fork(&self) -> Self {
        let fence = if self.is_full() { self.last().cloned() } else { self.cut.clone() };
        Self { fence, ..Self::new(self.sort, self.limit, self.bytes_max, self.after.clone()) }
    }

    /// Counts a matching record unless it lies at or before the cursor; `hit` is made, for a page of so many
    /// bytes, only if it gets in.
    pub(crate) fn offer(&mut self, place: SortKey, hit: impl FnOnce(usize) -> Hit) {
        if self.after.as_ref().is_some_and(|after| !self.sort.is_before(after, &place)) {
            return;
        }
        self.matched += 1;
        let behind = |end: &SortKey| !self.sort.is_before(&place, end);
        let ends = [self.cut.as_ref(), self.fence.as_ref()];
        if ends.into_iter().flatten().any(behind) || (self.is_full() && self.last().is_none_or(behind)) {
            return;
        }
        let hit = hit(self.bytes_max);
        self.insert(Ranked { sort: self.sort, place }, hit);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.matched += other.matched;
        self.cut_at(other.cut);
        for (ranked, hit) in other.hits {
            if self.cut.as_ref().is_none_or(|cut| self.sort.is_before(&ranked.place, cut)) {
                self.insert(ranked, hit);
            }
        }
    }

    /// Whether nothing of `span` can get in any more.
    pub(crate) fn is_closed_to(&self, span: Span) -> bool {
        let full = self.is_full().then(|| self.last()).flatten();
        self.limit == 0
            || [full, self.cut.as_ref()].into_iter().flatten().any(|end| self.sort.is_behind(span, end.timestamp))
    }

    /// Whether all of `span` lies before the cursor.
    pub(crate) fn has_passed(&self, span: Span) -> bool {
        self.after.as_ref().is_some_and(|after| self.sort.is_ahead(span, after.timestamp))
    }

    /// Whether all of `span` lies behind the cursor.
    pub(crate) fn is_all_ahead(&self, span: Span) -> bool {
        self.after.as_ref().is_none_or(|after| self.sort.is_behind(span, after.timestamp))
    }

    /// Counts matching records that are known not to get in.
    pub(crate) fn count(&mut self, matched: u64) {
        self.matched += matched;
    }

    /// Matching records behind the cursor that were offered or counted.
    pub(crate) fn matched(&self) -> u64 {
        self.matched
    }

    pub(crate) fn len(&self) -> usize {
        self.hits.len()
    }

    pub(crate) fn last(&self) -> Option<&SortKey> {
        self.hits.last_key_value().map(|(ranked, _)| &ranked.place)
    }

    pub(crate) fn into_hits(self) -> impl Iterator<Item = Hit> {
        self.hits.into_values()
    }

    fn is_full(&self) -> bool {
        self.hits.len() >= self.limit
    }

    fn insert(&mut self, ranked: Ranked, hit: Hit) {
        self.bytes += bytes_of(&hit);
        if let Some(twice) = self.hits.insert(ranked, hit) {
            self.bytes -= bytes_of(&twice);
        }
        while self.hits.len() > self.limit {
            self.drop_last();
        }
        while self.bytes > self.bytes_max && self.hits.len() > 1 {
            let dropped = self.drop_last();
            self.cut_at(dropped);
        }
    }

    fn drop_last(&mut self) -> Option<SortKey> {
        let (ranked, hit) = self.hits.pop_last()?;
        self.bytes -= bytes_of(&hit);
        Some(ranked.place)
    }

    fn cut_at(&mut self, place: Option<SortKey>) {
        let Some(place) = place else { return };
        if self.cut.as_ref().is_none_or(|cut| self.sort.is_before(&place, cut)) {
            while self.last().is_some_and(|last| !self.sort.is_before(last, &place)) {
                self.drop_last();
            }
            self.cut = Some(place);
        }
    }
}

impl Hit {
    /// Copies the record, which else would keep all of its batch in memory, unless it has more than `bytes_max`.
    pub(crate) fn new(
        topic: &Arc<str>,
        partition: i32,
        record: &Record,
        highlights: Vec<Range<usize>>,
        bytes_max: usize,
    ) -> Self {
        let left_out = Some(record_copy::bytes_of(record)).filter(|bytes| *bytes > bytes_max);
        let record = match left_out {
            None => copy_of(record),
            Some(_) => Record { key: None, value: None, headers: Vec::new(), ..*record },
        };
        Self { topic: Arc::clone(topic), partition, record, highlights, left_out }
    }
}

fn bytes_of(hit: &Hit) -> usize {
    256 + hit.left_out.unwrap_or_else(|| record_copy::bytes_of(&hit.record)) + 16 * hit.highlights.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(timestamp: i64, offset: i64) -> SortKey {
        SortKey { timestamp, partition: 0, offset, topic: "t".into() }
    }

    fn offer(page: &mut TopHits, place: &SortKey, bytes: usize) {
        let record = Record {
            offset: place.offset,
            timestamp: place.timestamp,
            key: None,
            value: Some(vec![0; bytes].into()),
            headers: Vec::new(),
        };
        page.offer(place.clone(), |bytes_max| Hit::new(&place.topic, 0, &record, Vec::new(), bytes_max));
    }

    proptest! {
        /// Pages cut by bytes, forks and cursors: each record comes once, in order.
        #[test]
        fn following_cursors_gives_every_record_once_in_order(
            records in prop::collection::vec((0i64..6, 0usize..2_000), 0..40),
            limit in 1usize..8,
            bytes_max in 256usize..6_000,
            pieces in 1usize..5,
            newest: bool,
        ) {
            let sort = if newest { HitOrder::Newest } else { HitOrder::Oldest };
            let records: Vec<_> = records.into_iter().enumerate().map(|(offset, (time, bytes))| (place(time, offset as i64), bytes)).collect();
            let mut expected: Vec<_> = records.iter().map(|(place, _)| place.clone()).collect();
            expected.sort_by(|a, b| sort.compare(a, b));
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let mut page = TopHits::new(sort, limit, bytes_max, after.clone());
                for piece in records.chunks(records.len().div_ceil(pieces).max(1)) {
                    let mut fork = page.fork();
                    piece.iter().for_each(|(place, bytes)| offer(&mut fork, place, *bytes));
                    page.merge(fork);
                }
                prop_assert_eq!(page.matched() as usize, records.len() - seen.len());
                prop_assert!(page.len() <= limit && (page.len() == 1 || page.bytes <= bytes_max));
                let Some(last) = page.last().cloned() else { break };
                after = Some(last);
                seen.extend(page.into_hits().map(|hit| place(hit.record.timestamp, hit.record.offset)));
            }
            prop_assert_eq!(seen, expected);
        }
    }

    #[test]
    fn a_record_larger_than_a_page_is_named_and_left_where_it_lies() {
        let mut page = TopHits::new(HitOrder::Oldest, 10, 1_000, None);
        offer(&mut page, &place(1, 0), 5_000);
        offer(&mut page, &place(2, 1), 10);
        let hits: Vec<_> = page.into_hits().collect();
        assert_eq!(hits.len(), 1);
        assert!(hits[0].record.value.is_none() && hits[0].left_out.is_some_and(|bytes| bytes >= 5_000));
    }

    #[test]
    fn a_full_page_is_closed_to_what_comes_later_only() {
        let mut page = TopHits::new(HitOrder::Newest, 1, 1_000, Some(place(9, 0)));
        assert!(!page.is_closed_to(Span { earliest: 0, latest: 0 }));
        offer(&mut page, &place(9, 5), 0);
        assert_eq!((page.len(), page.matched()), (0, 0), "the cursor is at an earlier place");
        offer(&mut page, &place(7, 5), 0);
        assert!(page.is_closed_to(Span { earliest: 0, latest: 6 }));
        assert!(!page.is_closed_to(Span { earliest: 0, latest: 7 }));
        assert!(page.has_passed(Span { earliest: 10, latest: 12 }));
        assert!(!page.has_passed(Span { earliest: 9, latest: 12 }));
    }
}
