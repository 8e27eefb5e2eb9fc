//! What commands have superseded: archives that no run refers to, pages that others have replaced, pages of what was
//! deleted with all that they name, lists of segments that are gone, and results that were registered.

use std::collections::VecDeque;

use chronik_format::ids::{Incarnation, LogIndex, Timestamp};
use futures::{StreamExt, stream};

use super::checkpoints::BucketCheckpoints;
use super::object::NamedObject;
use super::{BATCH, DELETES_AT_ONCE, DeletionError, GRACE_MS, MINUTE_MS, ObjectDeletion};
use crate::state::LaneState;
use crate::state::command::{Command, ForgetResults, ForgetTombstones};
use crate::state::segments::Tombstone;

/// A lane at rest writes no checkpoints. If something waits for one that long, it is asked for.
const CHECKPOINT_WAIT_MS: i64 = 10 * MINUTE_MS;

/// Which catalogs have been there for the grace time: no reader goes by an older one.
#[derive(Debug, Default)]
pub struct SettledCatalogs {
    /// Indices of catalogs and when they were first seen, ascending; the first is the newest that is settled, if any
    /// is.
    seen: VecDeque<(LogIndex, Timestamp)>,
}

/// The tombstones of a state.
struct Tombstones {
    count: usize,
    /// Objects that may be deleted, a batch at most.
    ripe: Vec<(String, Tombstone)>,
    /// Whether others wait for nothing but a checkpoint.
    uncovered: bool,
}

impl SettledCatalogs {
    /// Notes the newest catalog; one of another incarnation than `own` says nothing of the own log.
    pub fn see(&mut self, own: Incarnation, (incarnation, index): (Incarnation, LogIndex), now: Timestamp) {
        if incarnation == own && self.seen.back().is_none_or(|(newest, _)| *newest < index) {
            self.seen.push_back((index, now));
        }
        while self.seen.get(1).is_some_and(|(_, at)| at + GRACE_MS <= now) {
            self.seen.pop_front();
        }
    }

    /// What commands up to this index tombstoned is in no reader's catalog.
    pub fn index(&self, now: Timestamp) -> LogIndex {
        let settled = self.seen.front().filter(|(_, at)| at + GRACE_MS <= now);
        settled.map_or(0, |(index, _)| *index)
    }
}

impl Tombstones {
    /// `settled`: see [`SettledCatalogs`]; `covered`: the index up to which all kept checkpoints know the log.
    fn of(state: &LaneState, settled: LogIndex, covered: LogIndex, now: Timestamp) -> Self {
        let covered = covered.min(state.shipped_index());
        let may_go = |key: &str| {
            matches!(
                NamedObject::named(key),
                Some(
                    NamedObject::Archive(_)
                        | NamedObject::Page(_)
                        | NamedObject::TopicSegment(_)
                        | NamedObject::SegmentList(_)
                )
            )
        };
        let over = state
            .tombstones
            .iter()
            .filter(|(key, tombstone)| tombstone.index <= settled && tombstone.at + GRACE_MS <= now && may_go(key));
        let (ripe, uncovered): (Vec<_>, Vec<_>) = over.partition(|(_, tombstone)| tombstone.index <= covered);
        Self {
            count: state.tombstones.len(),
            ripe: ripe.into_iter().take(BATCH).map(|(key, tombstone)| (key.clone(), *tombstone)).collect(),
            uncovered: !uncovered.is_empty(),
        }
    }
}

impl ObjectDeletion {
    /// Deletes what was tombstoned by commands that every kept checkpoint knows, once no reader looks for it.
    pub(super) async fn delete_tombstoned(
        &mut self,
        checkpoints: &BucketCheckpoints,
        now: Timestamp,
    ) -> Result<(), DeletionError> {
        let (settled, covered) = (self.settled.index(now), checkpoints.covered());
        loop {
            let tombstones = Tombstones::of(&self.parts.lane.snapshot().await?, settled, covered, now);
            self.parts.metrics.tombstones.set(tombstones.count as i64);
            if tombstones.ripe.is_empty() {
                return match tombstones.uncovered {
                    true => self.ask_for_checkpoint(checkpoints, now).await,
                    false => Ok(()),
                };
            }
            let asked = tombstones.ripe.len();
            let (trees, alone): (Vec<_>, Vec<_>) =
                tombstones.ripe.into_iter().partition(|(key, tombstone)| tombstone.with_all && is_page(key));
            let alone = alone.into_iter().map(|(key, _)| key).collect();
            let mut objects = self.delete("tombstoned objects", alone).await;
            objects.extend(self.delete_trees(trees.into_iter().map(|(key, _)| key)).await);
            let gone = objects.len();
            if gone > 0 {
                self.propose(Command::ForgetTombstones(ForgetTombstones { objects })).await?;
                self.parts.metrics.tombstones.set((tombstones.count - gone) as i64);
            }
            if gone < asked || asked < BATCH {
                return Ok(());
            }
        }
    }

    /// Deletes pages with all that they name, and returns those that are done.
    async fn delete_trees(&self, pages: impl Iterator<Item = String>) -> Vec<String> {
        let trees = stream::iter(pages).map(|page| async {
            let is_done = self.delete_tree(&page).await;
            is_done.then_some(page)
        });
        trees.buffer_unordered(DELETES_AT_ONCE).filter_map(std::future::ready).collect().await
    }

    pub(super) async fn ask_for_checkpoint(
        &mut self,
        checkpoints: &BucketCheckpoints,
        now: Timestamp,
    ) -> Result<(), DeletionError> {
        let last = checkpoints.newest_at().max(self.asked_at);
        if last.is_none_or(|last| last + CHECKPOINT_WAIT_MS <= now) {
            self.asked_at = Some(now);
            self.parts.lane.cut(true).await?;
        }
        Ok(())
    }

    /// Deletes results whose commands lie in shipped segments: nothing needs the objects any more.
    pub(super) async fn delete_results(&mut self) -> Result<(), DeletionError> {
        loop {
            let results = results_taken_in(&self.parts.lane.snapshot().await?);
            let asked = results.len();
            let results = self.delete("registered results", results).await;
            let gone = results.len();
            if gone > 0 {
                self.propose(Command::ForgetResults(ForgetResults { results })).await?;
            }
            if gone < asked || asked < BATCH {
                return Ok(());
            }
        }
    }
}

fn is_page(key: &str) -> bool {
    matches!(NamedObject::named(key), Some(NamedObject::Page(_)))
}

fn results_taken_in(state: &LaneState) -> Vec<String> {
    let shipped = state.shipped_index();
    let taken_in = state.results.iter().filter(|(_, index)| **index <= shipped);
    taken_in.take(BATCH).map(|(key, _)| key.clone()).collect()
}
