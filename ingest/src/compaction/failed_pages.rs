//! Pages whose compaction has failed: each is tried once more, alone, and then left as it is until the next start.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::planner::PageTurn;

/// A page that has failed so often is left alone.
const FAILURES_MAX: u32 = 2;
/// Pages that are remembered, some 150 bytes each. What fails beside them is tried again and again.
const REMEMBERED_MAX: usize = 16 * 1024;

/// How often pages have failed, by object name. Those that no round of looks has met are forgotten: they are not there
/// any more.
#[derive(Debug, Default)]
pub(super) struct FailedPages {
    failures: HashMap<Arc<str>, u32>,
    /// Names that this round has not met yet.
    unmet: HashSet<Arc<str>>,
}

impl FailedPages {
    /// How a page may be compacted, as far as that depends on failures; it is met.
    pub fn turn(&mut self, page: &str) -> PageTurn {
        self.unmet.remove(page);
        match self.failures.get(page).copied().unwrap_or(0) {
            0 => PageTurn::Free,
            failures if failures < FAILURES_MAX => PageTurn::Alone,
            _ => PageTurn::Out,
        }
    }

    /// A job over pages has failed.
    pub fn failed(&mut self, pages: &[String]) {
        let more = if pages.len() > 1 { 1 } else { FAILURES_MAX };
        for page in pages {
            self.add(page.as_str().into(), more);
        }
    }

    /// A page is not to be tried again.
    pub fn give_up(&mut self, page: Arc<str>) {
        self.add(page, FAILURES_MAX);
    }

    fn add(&mut self, page: Arc<str>, failures: u32) {
        if self.failures.len() < REMEMBERED_MAX || self.failures.contains_key(&page) {
            *self.failures.entry(page).or_insert(0) += failures;
        }
    }

    /// Pages that are left as they are.
    pub fn left_alone(&self) -> usize {
        self.failures.values().filter(|failures| **failures >= FAILURES_MAX).count()
    }

    /// A round begins in which all pages are to be met, those of some other names too.
    pub fn begin_round(&mut self, others: impl Iterator<Item = Arc<str>>) {
        self.unmet = self.failures.keys().cloned().chain(others).collect();
    }

    /// Whether there is anything left to meet.
    pub fn has_unmet(&self) -> bool {
        !self.unmet.is_empty()
    }

    /// Not everything can be met in this round.
    pub fn forget_none(&mut self) {
        self.unmet.clear();
    }

    /// Forgets what the round has not met, and says what that is.
    pub fn end_round(&mut self) -> HashSet<Arc<str>> {
        let gone = std::mem::take(&mut self.unmet);
        self.failures.retain(|page, _| !gone.contains(page));
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_tried_once_more_alone_and_then_left() {
        let mut pages = FailedPages::default();
        pages.failed(&["a".into(), "b".into()]);
        assert_eq!(
            (pages.turn("a"), pages.turn("b"), pages.turn("c")),
            (PageTurn::Alone, PageTurn::Alone, PageTurn::Free)
        );
        assert_eq!(pages.left_alone(), 0);
        pages.failed(&["a".into()]);
        pages.give_up("d".into());
        assert_eq!(
            (pages.turn("a"), pages.turn("b"), pages.turn("d")),
            (PageTurn::Out, PageTurn::Alone, PageTurn::Out)
        );
        assert_eq!(pages.left_alone(), 2);
    }

    #[test]
    fn what_a_round_does_not_meet_is_forgotten_at_its_end() {
        let mut pages = FailedPages::default();
        pages.failed(&["met".into()]);
        pages.failed(&["gone".into()]);
        pages.begin_round(["lost".into()].into_iter());
        pages.failed(&["new".into()]);
        pages.turn("met");
        assert_eq!(pages.end_round(), HashSet::from(["gone".into(), "lost".into()]));
        assert_eq!(
            (pages.turn("met"), pages.turn("gone"), pages.turn("new")),
            (PageTurn::Out, PageTurn::Free, PageTurn::Out)
        );
        pages.begin_round(std::iter::empty());
        pages.forget_none();
        assert!(pages.end_round().is_empty());
        assert_eq!(pages.left_alone(), 2);
    }

    #[test]
    fn so_many_are_remembered() {
        let mut pages = FailedPages::default();
        for number in 0..2 * REMEMBERED_MAX {
            pages.give_up(number.to_string().into());
        }
        pages.give_up("0".into());
        assert_eq!(pages.left_alone(), REMEMBERED_MAX);
    }
}
