//! The segments above a state, by their names.

use chronik_format::ids::{Incarnation, LaneId, LogIndex};
use chronik_format::names::SegmentName;
use chronik_store::{SharedStore, StoreError};
use futures::{StreamExt, TryStreamExt, stream};

use super::chain::longest_chain;
use crate::state::command::Command;

/// Listings at the same time.
pub(super) const LISTINGS_AT_ONCE: usize = 16;

/// What there is of one incarnation from some index on, and of later ones.
pub struct SegmentChain {
    own: Vec<SegmentName>,
    later: Vec<SegmentName>,
    /// What is not used: damaged, or of a branch that was not chosen.
    passed_over: Vec<SegmentName>,
    /// What lost against another that holds the same indices.
    discarded: Vec<SegmentName>,
}

impl SegmentChain {
    /// Lists from `first` on. A store lists a page of 1,000 after the other: folders are listed side by side, each from
    /// there on, so that a long history costs nothing.
    pub async fn list(
        store: &SharedStore,
        lane: LaneId,
        own: Incarnation,
        first: LogIndex,
    ) -> Result<Self, StoreError> {
        let objects = if store.is_locked() {
            store.list(&SegmentName::prefix(lane)).await?
        } else {
            let folders = stream::iter(0..SegmentName::FOLDERS).map(|number| async move {
                let folder = SegmentName::folder(lane, number);
                store.list_after(&folder, &SegmentName::before(&folder, own, first)).await
            });
            folders.buffer_unordered(LISTINGS_AT_ONCE).try_concat().await?
        };
        let names = objects.iter().filter_map(|object| object.key.parse::<SegmentName>().ok());
        let mut names: Vec<SegmentName> = names.filter(|name| name.first <= name.last).collect();
        names.sort_unstable_by_key(|name| (name.incarnation, name.first, name.last, name.ulid));
        let above = |name: &&SegmentName| name.incarnation == own && name.first >= first;
        Ok(Self {
            own: names.iter().filter(above).copied().collect(),
            later: names.iter().filter(|name| name.incarnation > own).copied().collect(),
            passed_over: Vec::new(),
            discarded: Vec::new(),
        })
    }

    /// Leaves out what reaches beyond `index`: that was uploaded after the next owner's cut.
    pub fn end_at(&mut self, index: LogIndex) {
        self.own.retain(|name| name.last <= index);
    }

    /// Those that hold some of the same indices, in pairs.
    pub fn overlapping(&self) -> Vec<(SegmentName, SegmentName)> {
        let mut pairs = Vec::new();
        for (at, one) in self.own.iter().enumerate() {
            let others = self.own[at + 1..].iter().take_while(|other| other.first <= one.last);
            pairs.extend(others.map(|other| (*one, *other)));
        }
        pairs
    }

    /// Does not use a segment: another holds the same indices, and was chosen.
    pub fn discard(&mut self, name: &SegmentName) {
        self.pass_over(name);
        self.discarded.push(*name);
    }

    /// Whether another one was chosen.
    pub fn has_discarded(&self, name: &SegmentName) -> bool {
        self.discarded.contains(name)
    }

    /// Does not use a segment.
    pub fn pass_over(&mut self, name: &SegmentName) {
        self.own.retain(|own| own != name);
        self.passed_over.push(*name);
    }

    /// The contiguous ones from `first` on that reach furthest.
    pub fn chain_from(&self, first: LogIndex) -> Vec<SegmentName> {
        longest_chain(&self.own, first)
    }

    /// The contiguous ones from `first` on that reach furthest, up to `end`.
    pub fn chain_within(&self, first: LogIndex, end: LogIndex) -> Vec<SegmentName> {
        let within = self.own.iter().filter(|name| name.last <= end);
        longest_chain(&within.copied().collect::<Vec<_>>(), first)
    }

    /// Whether the commands book a segment that was discarded: then they are of its branch.
    pub fn registers_discarded(&self, frames: &[(LogIndex, Vec<Command>)]) -> bool {
        let mut registered = frames.iter().flat_map(|(_, commands)| commands).filter_map(|command| match command {
            Command::RegisterSegment(segment) => segment.key.parse::<SegmentName>().ok(),
            _ => None,
        });
        registered.any(|name| self.has_discarded(&name))
    }

    /// One that lies beyond a hole after `end`.
    pub fn beyond(&self, end: LogIndex) -> Option<&SegmentName> {
        self.own.iter().find(|name| name.first > end + 1)
    }

    /// One that is not used and reaches beyond `end`.
    pub fn passed_over(&self, end: LogIndex) -> Option<&SegmentName> {
        self.passed_over.iter().find(|name| name.last > end)
    }

    /// What was lost by choosing, in words.
    pub fn discarded_for_a_fork(&self) -> Option<String> {
        let lost = self.discarded.first()?;
        Some(format!("segment {lost} holds other records than the one that was chosen"))
    }

    /// One of a later incarnation.
    pub fn later(&self) -> Option<&SegmentName> {
        self.later.first()
    }

    /// The first index of a later incarnation's segments.
    pub fn first_of(&self, incarnation: Incarnation) -> Option<LogIndex> {
        let of_it = self.later.iter().filter(|name| name.incarnation == incarnation);
        of_it.map(|name| name.first).min()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use chronik_store::memory;
    use ulid::Ulid;

    use super::*;

    const LANE: LaneId = LaneId(0);

    #[tokio::test]
    async fn all_folders_are_listed_from_there_on() {
        let store = memory();
        let name = |incarnation, first| SegmentName {
            lane: LANE,
            incarnation: Incarnation(incarnation),
            first,
            last: first,
            ulid: Ulid::new(),
        };
        for first in 1..=700 {
            for incarnation in [1, 2] {
                let key = name(incarnation, first).to_string();
                store.create(&key, Vec::new()).await.unwrap();
            }
        }
        store.create(&name(3, 7).to_string(), Vec::new()).await.unwrap();
        let segments = SegmentChain::list(&store, LANE, Incarnation(2), 300).await.unwrap();
        let firsts: Vec<_> = segments.own.iter().map(|name| name.first).collect();
        assert_eq!(firsts, (300..=700).collect::<Vec<_>>());
        assert!(segments.own.iter().all(|name| name.incarnation == Incarnation(2)));
        assert_eq!(segments.later().unwrap().incarnation, Incarnation(3));
        assert_eq!(segments.first_of(Incarnation(3)), Some(7));
    }
}
