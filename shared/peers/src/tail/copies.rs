//! Copies of topics' tails, within one limit of bytes. A pure state machine: the time is an argument.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

use super::TailTopic;
use chronik_format::batch::BatchHeader;
use chronik_format::ids::{Offset, PartitionId, TopicId};

/// Bytes that a batch costs beyond its own.
const BATCH_OVERHEAD: usize = 128;

/// The copies.
#[derive(Debug)]
pub(super) struct TailCopies {
    topics: HashMap<TopicId, TopicCopy>,
    followings: u64,
    bytes: usize,
    bytes_max: usize,
    topics_max: usize,
}

#[derive(Debug)]
struct TopicCopy {
    partitions: BTreeMap<PartitionId, PartitionCopy>,
    bytes: usize,
    last_query: Instant,
    /// Tells this following of the topic from earlier ones.
    following: u64,
    /// Whether the broker answered last time.
    alive: bool,
    changed: Arc<Notify>,
}

/// Everything from `from` to `to` is here.
#[derive(Debug)]
struct PartitionCopy {
    batches: VecDeque<Held>,
    from: Offset,
    to: Offset,
}

#[derive(Debug)]
struct Held {
    last: Offset,
    bytes: Bytes,
}

/// What became of a query's wish that a topic be followed.
#[derive(Debug)]
pub(super) enum FollowOutcome {
    /// It is followed; the notice wakes at every change.
    Followed(Arc<Notify>),
    /// It is to be followed from now on, under this number.
    New(Arc<Notify>, u64),
    /// Too many others are.
    Refused,
}

impl TailCopies {
    pub(super) fn new(bytes_max: usize, topics_max: usize) -> Self {
        Self { topics: HashMap::new(), followings: 0, bytes: 0, bytes_max, topics_max }
    }

    /// Bytes of all copies.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Topics that are followed.
    pub(super) fn topics(&self) -> usize {
        self.topics.len()
    }

    /// A query is about a topic that stands there; what is below its start is let go.
    pub(super) fn wish(&mut self, position: &TailTopic, now: Instant) -> FollowOutcome {
        if let Some(copy) = self.topics.get_mut(&position.id) {
            copy.last_query = now;
            let freed = copy.release_below_starts(position);
            self.bytes -= freed;
            return FollowOutcome::Followed(copy.changed.clone());
        }
        if self.topics.len() >= self.topics_max {
            return FollowOutcome::Refused;
        }
        let changed = Arc::new(Notify::new());
        let copy = TopicCopy {
            partitions: BTreeMap::new(),
            bytes: 0,
            last_query: now,
            following: self.followings,
            alive: true,
            changed: changed.clone(),
        };
        self.followings += 1;
        let following = copy.following;
        self.topics.insert(position.id, copy);
        self.stand(position);
        FollowOutcome::New(changed, following)
    }

    /// Whether the topic is still followed under this number and was asked for less than `idle` ago.
    pub(super) fn is_wanted(&self, topic: TopicId, following: u64, now: Instant, idle: Duration) -> bool {
        self.topics
            .get(&topic)
            .is_some_and(|copy| copy.following == following && now.duration_since(copy.last_query) < idle)
    }

    /// Applies the topic's position: releases what is below its start, and all of a partition that ends earlier than
    /// its copy, for then the broker has lost records and may give others the same offsets.
    pub(super) fn stand(&mut self, position: &TailTopic) {
        let Some(copy) = self.topics.get_mut(&position.id) else {
            return;
        };
        copy.alive = true;
        let before = copy.bytes;
        for told in &position.partitions {
            let partition = copy.partitions.entry(told.partition).or_insert(PartitionCopy {
                batches: VecDeque::new(),
                from: told.start,
                to: told.start,
            });
            if told.end < partition.to {
                copy.bytes -= partition.begin_at(told.start);
            }
            copy.bytes -= partition.release_below(told.start);
        }
        self.bytes -= before - copy.bytes;
        copy.changed.notify_waiters();
    }

    /// The broker did not answer, so queries need not wait for the copy. It is begun anew: when the broker is back it
    /// may have been recovered without its last records, and give their offsets to others.
    pub(super) fn fail(&mut self, topic: TopicId) {
        let Some(copy) = self.topics.get_mut(&topic) else {
            return;
        };
        copy.alive = false;
        copy.partitions.clear();
        self.bytes -= std::mem::take(&mut copy.bytes);
        copy.changed.notify_waiters();
    }

    /// Forgets a topic, unless it is followed under another number.
    pub(super) fn remove(&mut self, topic: TopicId, following: u64) {
        if self.topics.get(&topic).is_some_and(|copy| copy.following == following)
            && let Some(copy) = self.topics.remove(&topic)
        {
            self.bytes -= copy.bytes;
            copy.changed.notify_waiters();
        }
    }

    /// The partitions whose copy ends before `position`, and what they lack.
    pub(super) fn behind(&self, position: &TailTopic) -> Vec<(PartitionId, Range<Offset>)> {
        let Some(copy) = self.topics.get(&position.id) else {
            return Vec::new();
        };
        let to = |partition| copy.partitions.get(&partition).map_or(0, |copy| copy.to);
        let partitions = position.partitions.iter();
        partitions
            .filter(|told| to(told.partition) < told.end)
            .map(|told| (told.partition, to(told.partition).max(told.start)..told.end))
            .collect()
    }

    /// Whether waiting can bring the copy to `position`.
    pub(super) fn is_on_the_way(&self, position: &TailTopic) -> bool {
        self.topics.get(&position.id).is_some_and(|copy| copy.alive) && !self.behind(position).is_empty()
    }

    /// Adds batches that begin where the partition's copy ends, and releases others until the limit is kept: first of
    /// topics that were not asked for as recently, then of this topic's own. Topics that were given up are no longer
    /// followed. Where the partition's copy ends now, if there is one.
    pub(super) fn add(
        &mut self,
        topic: TopicId,
        partition: PartitionId,
        from: Offset,
        batches: &[Bytes],
    ) -> Option<Offset> {
        let copy = self.topics.get_mut(&topic)?;
        let of = copy.partitions.get_mut(&partition)?;
        if of.to != from {
            // Something lies between: what was held before is not joined to it.
            let freed = of.begin_at(from);
            copy.bytes -= freed;
            self.bytes -= freed;
        }
        for batch in batches {
            let Ok(header) = BatchHeader::parse(batch) else { break };
            let last = header.last_offset();
            if last < of.to {
                continue;
            }
            of.to = last.saturating_add(1);
            // A copy of its own, so that it keeps no other memory alive.
            let held = Held { last, bytes: Bytes::copy_from_slice(batch) };
            copy.bytes += held.cost();
            self.bytes += held.cost();
            of.batches.push_back(held);
        }
        let to = of.to;
        copy.changed.notify_waiters();
        self.shrink(topic);
        Some(to)
    }

    fn shrink(&mut self, growing: TopicId) {
        while self.bytes > self.bytes_max {
            let others = self.topics.iter().filter(|(id, copy)| **id != growing && copy.bytes > 0);
            let oldest = others.min_by_key(|(_, copy)| copy.last_query);
            let growing_since = self.topics.get(&growing).map(|copy| copy.last_query);
            match oldest {
                Some((&id, copy)) if growing_since.is_some_and(|since| copy.last_query <= since) => {
                    self.remove(id, copy.following);
                }
                _ => {
                    let Some(copy) = self.topics.get_mut(&growing) else {
                        return;
                    };
                    let freed = copy.release_one();
                    if freed == 0 {
                        return;
                    }
                    self.bytes -= freed;
                }
            }
        }
    }

    /// Batches as [`Tail::read`](super::Tail::read) gives them; `None` if the copy does not have them.
    pub(super) fn read(
        &self,
        topic: TopicId,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Option<Vec<Bytes>> {
        let copy = self.topics.get(&topic)?.partitions.get(&partition)?;
        if from < copy.from || from >= copy.to {
            return None;
        }
        let first = copy.batches.partition_point(|batch| batch.last < from);
        let mut bytes = 0;
        let within = copy.batches.range(first..).take_while(|batch| {
            let fits = bytes == 0 || bytes + batch.bytes.len() <= max_bytes;
            bytes += batch.bytes.len();
            fits
        });
        Some(within.map(|batch| batch.bytes.clone()).collect())
    }
}

impl TopicCopy {
    /// Releases what the tail no longer serves; answers the bytes that this frees. The position may be older than the
    /// copy.
    fn release_below_starts(&mut self, position: &TailTopic) -> usize {
        let mut freed = 0;
        for told in &position.partitions {
            if let Some(partition) = self.partitions.get_mut(&told.partition) {
                freed += partition.release_below(told.start);
            }
        }
        self.bytes -= freed;
        freed
    }

    /// Releases the first batch of the partition that holds most; answers the bytes that this frees.
    fn release_one(&mut self) -> usize {
        let most = self.partitions.values_mut().max_by_key(|copy| copy.batches.len());
        let freed = most.map_or(0, PartitionCopy::release_of_first);
        self.bytes -= freed;
        freed
    }
}

impl PartitionCopy {
    fn release_of_first(&mut self) -> usize {
        let Some(first) = self.batches.pop_front() else {
            return 0;
        };
        self.from = first.last.saturating_add(1);
        first.cost()
    }

    /// Releases the batches that end below `start`; answers the bytes that this frees.
    fn release_below(&mut self, start: Offset) -> usize {
        let mut freed = 0;
        while self.batches.front().is_some_and(|batch| batch.last < start) {
            freed += self.release_of_first();
        }
        if self.to < start {
            (self.from, self.to) = (start, start);
        }
        freed
    }

    /// Releases everything; what comes next begins at `from`. Answers the bytes that this frees.
    fn begin_at(&mut self, from: Offset) -> usize {
        (self.from, self.to) = (from, from);
        self.batches.drain(..).map(|batch| batch.cost()).sum()
    }
}

impl Held {
    fn cost(&self) -> usize {
        self.bytes.len() + BATCH_OVERHEAD
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use uuid::Uuid;

    use super::super::TailPartition;
    use super::super::suite::batch_at;
    use super::*;
    use chronik_format::job::IndexSettings;

    const A: TopicId = TopicId(Uuid::from_u128(1));
    const B: TopicId = TopicId(Uuid::from_u128(2));

    fn position(id: TopicId, bounds: &[(Offset, Offset)]) -> TailTopic {
        let partitions =
            (0..).zip(bounds).map(|(partition, &(start, end))| TailPartition { partition, log_start: 0, start, end });
        TailTopic { id, search_enabled: true, index: IndexSettings::default(), partitions: partitions.collect() }
    }

    fn counts(copies: &TailCopies) {
        let held = |copy: &TopicCopy| -> usize {
            let batches = copy.partitions.values().flat_map(|partition| &partition.batches);
            batches.map(Held::cost).sum()
        };
        for copy in copies.topics.values() {
            assert_eq!(copy.bytes, held(copy));
        }
        assert_eq!(copies.bytes, copies.topics.values().map(held).sum::<usize>());
        assert!(copies.bytes <= copies.bytes_max);
    }

    #[tokio::test]
    async fn what_was_added_is_read_from_any_offset_in_it() {
        let mut copies = TailCopies::new(1 << 20, 2);
        let told = position(A, &[(4, 10), (0, 0)]);
        assert!(matches!(copies.wish(&told, Instant::now()), FollowOutcome::New(..)));
        assert_eq!(copies.behind(&told), [(0, 4..10)]);
        copies.add(A, 0, 4, &[batch_at(4, 3), batch_at(7, 1)]);
        assert!(copies.is_on_the_way(&told));
        copies.add(A, 0, 8, &[batch_at(9, 1)]);
        assert!(!copies.is_on_the_way(&told));
        assert_eq!(copies.read(A, 0, 3, 1), None);
        assert_eq!(copies.read(A, 0, 5, 1).unwrap(), [batch_at(4, 3)]);
        assert_eq!(copies.read(A, 0, 7, 1 << 20).unwrap(), [batch_at(7, 1), batch_at(9, 1)]);
        assert_eq!(copies.read(A, 0, 8, 1).unwrap(), [batch_at(9, 1)], "nothing has offset 8");
        assert_eq!(copies.read(A, 0, 10, 1), None);
        assert_eq!(copies.read(A, 1, 0, 1), None);
        counts(&copies);
    }

    #[tokio::test]
    async fn what_was_shipped_is_let_go() {
        let mut copies = TailCopies::new(1 << 20, 2);
        copies.wish(&position(A, &[(0, 4)]), Instant::now());
        copies.add(A, 0, 0, &[batch_at(0, 2), batch_at(2, 2)]);
        copies.stand(&position(A, &[(2, 4)]));
        assert_eq!(copies.read(A, 0, 1, 1), None);
        assert_eq!(copies.read(A, 0, 2, 1).unwrap().len(), 1);
        copies.stand(&position(A, &[(9, 9)]));
        assert_eq!((copies.bytes(), copies.behind(&position(A, &[(9, 12)]))), (0, vec![(0, 9..12)]));
        counts(&copies);
    }

    #[tokio::test]
    async fn what_a_broker_may_have_lost_is_not_kept() {
        let mut copies = TailCopies::new(1 << 20, 2);
        copies.wish(&position(A, &[(0, 4)]), Instant::now());
        copies.add(A, 0, 0, &[batch_at(0, 2), batch_at(2, 2)]);
        copies.stand(&position(A, &[(0, 3)]));
        assert_eq!((copies.read(A, 0, 0, 1), copies.bytes()), (None, 0));
        copies.add(A, 0, 0, &[batch_at(0, 3)]);
        copies.fail(A);
        assert!(!copies.is_on_the_way(&position(A, &[(0, 9)])));
        assert_eq!((copies.read(A, 0, 0, 1), copies.bytes()), (None, 0));
        copies.stand(&position(A, &[(0, 9)]));
        assert!(copies.is_on_the_way(&position(A, &[(0, 9)])));
    }

    #[tokio::test]
    async fn the_topic_asked_for_last_is_kept_longest() {
        let mut copies = TailCopies::new(12 * 300, 3);
        let now = Instant::now();
        copies.wish(&position(A, &[(0, 90)]), now);
        copies.wish(&position(B, &[(0, 90)]), now + Duration::from_secs(1));
        for at in 0..10 {
            copies.add(A, 0, at, &[batch_at(at, 1)]);
            counts(&copies);
        }
        for at in 0..30 {
            copies.add(B, 0, at, &[batch_at(at, 1)]);
            counts(&copies);
        }
        assert!(!copies.is_wanted(A, 0, now, Duration::from_secs(600)), "it was given up");
        assert_eq!(copies.read(B, 0, 0, 1), None, "its own oldest batches went as well");
        assert_eq!(copies.read(B, 0, 29, 1).unwrap(), [batch_at(29, 1)]);
        // A topic that was asked for less recently takes nothing from another.
        copies.wish(&position(A, &[(0, 90)]), now);
        copies.add(A, 0, 0, &[batch_at(0, 1)]);
        assert!(copies.read(B, 0, 29, 1).is_some());
        counts(&copies);
    }

    #[tokio::test]
    async fn no_more_topics_are_followed_than_may_be() {
        let mut copies = TailCopies::new(1 << 20, 1);
        let now = Instant::now();
        copies.wish(&position(A, &[]), now);
        assert!(matches!(copies.wish(&position(B, &[]), now), FollowOutcome::Refused));
        assert!(matches!(copies.wish(&position(A, &[]), now), FollowOutcome::Followed(_)));
        copies.remove(A, 7);
        assert_eq!(copies.topics(), 1, "another following is meant");
        copies.remove(A, 0);
        assert!(matches!(copies.wish(&position(B, &[]), now), FollowOutcome::New(..)));
        let idle = Duration::from_secs(5);
        assert!(copies.is_wanted(B, 1, now, idle) && !copies.is_wanted(B, 1, now + idle, idle));
    }
}
