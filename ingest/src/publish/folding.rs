//! Folding: of pages that have become too many at the top of a topic's history the oldest go below one of their own, so
//! that the top grows with the logarithm of the history.

use std::sync::Arc;

use chronik_format::catalog::PageEntry;
use chronik_format::ids::TopicId;

use super::pages::{PAGES_AT_ONCE, PageLimits};
use crate::state::LaneState;
use crate::state::topic::TopicState;

/// Fewer pages are never folded, however many partitions they have, or however many topics there are.
const FAN_OUT_MIN: usize = 4;
/// Bounds of partitions, some 30 bytes each, in a page above others, unless [`FAN_OUT_MIN`] pages have more.
const FOLDED_BOUNDS: usize = 4096;

/// Pages of one height that follow one another at the top of a topic's history, and go below another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldablePages {
    pub topic: TopicId,
    /// From the oldest to the newest.
    pub pages: Vec<Arc<PageEntry>>,
}

impl PageLimits {
    /// How many pages with bounds of so many partitions go below one. Twice as many are at the top, at each height.
    pub fn fan_out_of(&self, partitions: usize, topics: usize) -> usize {
        let fitting = FOLDED_BOUNDS / partitions.max(1);
        let share = self.top_pages / topics.max(1) / 2;
        fitting.min(share).max(FAN_OUT_MIN).min(self.fan_out)
    }
}

/// What there is to fold; of each topic what goes below one page.
pub fn foldable(state: &LaneState, limits: PageLimits) -> Vec<FoldablePages> {
    let topics = state.topics.len();
    let foldable = state.topics.values().filter_map(|topic| {
        let pages = foldable_of(topic, |partitions| limits.fan_out_of(partitions, topics))?;
        Some(FoldablePages { topic: topic.id, pages })
    });
    foldable.take(PAGES_AT_ONCE).collect()
}

fn foldable_of(topic: &TopicState, fan_out: impl Fn(usize) -> usize) -> Option<Vec<Arc<PageEntry>>> {
    let pages: Vec<&Arc<PageEntry>> = topic.pages.iter().collect();
    let mut levels = pages.chunk_by(|a, b| a.height == b.height);
    levels.find_map(|level| {
        let widest = level.iter().map(|page| page.bounds.partitions.len()).max()?;
        let fan_out = fan_out(widest);
        (level.len() >= 2 * fan_out).then(|| level[..fan_out].iter().copied().cloned().collect())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use chronik_format::batch::TimeSpan;
    use chronik_format::catalog::page::PageBuilder;
    use chronik_format::catalog::{PageBounds, PartitionBounds};
    use chronik_format::ids::{Incarnation, LaneId, LogIndex};
    use chronik_format::origin::Origin;
    use chronik_format::span::OffsetSpan;
    use uuid::Uuid;

    use super::*;
    use crate::state::command::{Command, CreateTopic, ReplacePages};
    use crate::state::topic_config::TopicConfig;

    const TOPIC: TopicId = TopicId(Uuid::from_u128(1));

    fn one_topic(partitions: i32) -> LaneState {
        let mut state = LaneState::new(Incarnation(1));
        let create = CreateTopic { id: TOPIC, name: "t".into(), partitions, config: TopicConfig::default() };
        state.apply_frame(1, &[Command::CreateTopic(create)])[0].as_ref().unwrap();
        state
    }

    fn heights(state: &LaneState) -> Vec<u8> {
        state.topics[&TOPIC].pages.iter().map(|page| page.height).collect()
    }

    /// Leaf number `last` of a topic, with ten records of every partition.
    fn push_leaf(state: &mut LaneState, last: LogIndex) {
        let topic = Arc::make_mut(state.topics.get_mut(&TOPIC).unwrap());
        let first = 10 * (last as i64 - 1);
        let bounds = |partition| PartitionBounds {
            partition,
            offsets: OffsetSpan { first, last: first + 9 },
            times: TimeSpan { earliest: 1_700_000_000_000 + first, latest: 1_700_000_000_009 + first },
            bytes: 1,
            scanned_from: None,
        };
        let partitions = (0..topic.partitions.len() as i32).map(bounds).collect();
        let bounds = PageBounds { last, bytes: 1, archives: 1, partitions, ..PageBounds::default() };
        let entry = PageEntry { object: format!("leaf-{last}"), bounds, ..PageEntry::default() };
        topic.pages.push_back(entry.into());
    }

    fn fold_once(state: &mut LaneState, limits: PageLimits) {
        for FoldablePages { topic, pages } in foldable(state, limits) {
            let origin = Origin { cluster: Uuid::nil(), incarnation: Incarnation(1), lane: LaneId(0) };
            let (first, last) = (&pages[0].object, &pages[pages.len() - 1].object);
            let page =
                PageBuilder { origin, topic, written_at: 0 }.inner(format!("({first}..{last})"), &pages).unwrap();
            assert!(page.bytes.len() < 200 << 10, "{} bytes", page.bytes.len());
            let old = pages.iter().map(|page| page.object.clone()).collect();
            let replace = ReplacePages { topic, old, new: vec![page.entry], gone: vec![], deleted: vec![], at: 0 };
            state.apply_frame(state.applied + 1, &[Command::ReplacePages(replace)])[0].as_ref().unwrap();
        }
    }

    #[test]
    fn the_oldest_of_one_height_go_below_a_page_once_there_are_twice_as_many_as_it_takes() {
        let limits = PageLimits { fan_out: 3, ..PageLimits::default() };
        let mut state = one_topic(2);
        for last in 1..=5 {
            push_leaf(&mut state, last);
            assert_eq!(foldable(&state, limits), [], "{last}");
        }
        push_leaf(&mut state, 6);
        let names = |pages: &[Arc<PageEntry>]| pages.iter().map(|page| page.object.clone()).collect::<Vec<_>>();
        assert_eq!(names(&foldable(&state, limits)[0].pages), ["leaf-1", "leaf-2", "leaf-3"]);
        fold_once(&mut state, limits);
        assert_eq!(heights(&state), [1, 0, 0, 0]);
        for last in 7..=27 {
            push_leaf(&mut state, last);
            fold_once(&mut state, limits);
        }
        assert_eq!(heights(&state), [2, 1, 1, 1, 1, 1, 0, 0, 0]);
    }

    #[test]
    fn fewer_pages_go_below_one_where_they_are_wide_or_topics_are_many() {
        let limits = PageLimits::default();
        let fan_outs =
            |topics: usize| [0, 1, 64, 100, 1000, 10_000].map(|partitions| limits.fan_out_of(partitions, topics));
        assert_eq!(fan_outs(1), [64, 64, 64, 40, 4, 4]);
        assert_eq!(fan_outs(1000), [32, 32, 32, 32, 4, 4]);
        assert_eq!(fan_outs(1_000_000), [4; 6]);
    }

    /// How many pages are at the top at the most while leaves come, and how high the highest is in the end.
    fn grown(partitions: i32, leaves: LogIndex, limits: PageLimits) -> (usize, u8) {
        let mut state = one_topic(partitions);
        let mut most = 0;
        for last in 1..=leaves {
            push_leaf(&mut state, last);
            fold_once(&mut state, limits);
            most = most.max(state.topics[&TOPIC].pages.len());
        }
        let pages = &state.topics[&TOPIC].pages;
        let closed = PageBounds::of_pages(pages.iter().map(Arc::as_ref)).unwrap();
        assert_eq!((closed.last, closed.bytes, closed.archives), (leaves, leaves, leaves as u32));
        assert_eq!(closed.of(0).unwrap().offsets, OffsetSpan { first: 0, last: 10 * leaves as i64 - 1 });
        (most, pages[0].height)
    }

    /// A topic of 100 partitions and segments of ten seconds has 210 leaves a day.
    #[test]
    fn the_top_grows_with_the_logarithm_of_the_history() {
        let of_a_hundred = PageLimits { fan_out: 40, ..PageLimits::default() };
        assert_eq!(grown(1, 210 * 365, of_a_hundred), (203, 2), "a year, at the fan-out of a hundred partitions");
        assert_eq!(grown(100, 210 * 14, PageLimits::default()), (150, 1), "two weeks");
        assert_eq!(
            grown(1, 100_000, PageLimits { top_pages: 1, ..PageLimits::default() }),
            (52, 7),
            "of very many topics"
        );
    }
}
