//! The fetch sessions that there are, and which of them make room for others (`FetchSessionCache` of Apache Kafka).
//! They are forgotten with the process: a client that finds its session gone begins another one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chronik_wire::{FetchPartition, PartitionData};

use super::scope::{FetchScope, FullFetch, IncrementalFetch};
use super::session::{FetchSession, FoundPartition, PartitionKey, SessionError, SessionSize, TopicKey};
use super::shared_session::{SharedSession, lock};
use crate::metrics::SessionMetrics;

/// No session.
pub const NO_SESSION: i32 = 0;
/// A full fetch that asks for a session.
const FIRST_EPOCH: i32 = 0;
/// A full fetch that wants none, and ends the one it names.
const NO_EPOCH: i32 = -1;

/// What sessions are held to.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// `max.incremental.fetch.session.cache.slots`.
    pub sessions_max: usize,
    /// Memory for the partitions of all sessions.
    pub bytes_max: usize,
    /// A session that was not used for longer than this makes room for any other, and one that was begun longer ago
    /// than this for one with more partitions (`min.incremental.fetch.session.eviction.ms`).
    pub eviction_age: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { sessions_max: 1_000, bytes_max: 128 << 20, eviction_age: Duration::from_secs(120) }
    }
}

/// How a request asks: fields of the same names.
pub struct SessionClaim {
    pub session_id: i32,
    pub session_epoch: i32,
    /// Whether it names topics by id.
    pub by_id: bool,
}

/// All sessions of a broker. What a session remembers is locked for as long as a request is taken or answered, never
/// while it waits, and never within the lock of the cache.
pub struct FetchSessions {
    cache: Mutex<SessionCache>,
    metrics: SessionMetrics,
}

impl FetchSessions {
    /// None yet.
    pub fn new(limits: SessionLimits, metrics: SessionMetrics) -> Self {
        Self { cache: Mutex::new(SessionCache::new(limits)), metrics }
    }

    /// Finds what a request reads: `named`, or all that its session has once that has taken `named` and `forgotten`.
    pub fn open(
        &self,
        claim: &SessionClaim,
        named: Vec<(PartitionKey, FetchPartition)>,
        forgotten: &[PartitionKey],
        now: Instant,
    ) -> Result<FetchScope, SessionError> {
        let SessionClaim { session_id: id, session_epoch: epoch, by_id } = *claim;
        if [FIRST_EPOCH, NO_EPOCH].contains(&epoch) {
            self.change(|cache| cache.remove(id));
            return Ok(FetchScope::full(named, by_id, epoch == FIRST_EPOCH));
        }
        let session = self.cache().get(id).ok_or(SessionError::UnknownId { id })?;
        let (next_epoch, size) = {
            let mut session = lock(&session);
            (session.take(epoch, by_id, named, forgotten)?, session.size())
        };
        if size.partitions == 0 {
            self.change(|cache| cache.remove(id));
            return Ok(FetchScope::full(Vec::new(), by_id, false));
        }
        match self.change(|cache| cache.touch(id, size, now)) {
            true => Ok(FetchScope::Incremental(IncrementalFetch::new(id, session, next_epoch))),
            false => Err(SessionError::UnknownId { id }),
        }
    }

    /// Remembers what was found, and begins the session that the client wants if there is room for it. Returns the
    /// session's id, and what the client is told.
    pub fn settle(
        &self,
        scope: FetchScope,
        found: Vec<FoundPartition>,
        now: Instant,
    ) -> Result<(i32, Vec<(TopicKey, PartitionData)>), SessionError> {
        let (id, found) = match scope {
            FetchScope::Full(full) => {
                let id = if full.wants_session { self.begin(full, &found, now) } else { NO_SESSION };
                (id, found)
            }
            FetchScope::Incremental(request) => {
                let mut session = request.session()?;
                (request.id, found.into_iter().filter(|partition| session.settle(partition)).collect())
            }
        };
        Ok((id, found.into_iter().map(|partition| (partition.topic, partition.response)).collect()))
    }

    /// The id of a session that is from now on, or [`NO_SESSION`] if there is no room for it.
    fn begin(&self, full: FullFetch, found: &[FoundPartition], now: Instant) -> i32 {
        let size = PartitionKey::session_size(&full.named);
        if !self.change(|cache| cache.make_room(size, now)) {
            return NO_SESSION;
        }
        let mut session = FetchSession::new(full.named, full.by_id, full.watcher);
        for partition in found {
            session.settle(partition);
        }
        let (size, session) = (session.size(), Arc::new(Mutex::new(session)));
        let random = || rand::random_range(1..=i32::MAX);
        self.change(|cache| cache.insert(session, size, now, random)).unwrap_or(NO_SESSION)
    }

    fn change<T>(&self, change: impl FnOnce(&mut SessionCache) -> T) -> T {
        let mut cache = self.cache();
        let result = change(&mut cache);
        // Dropped without the lock: a large session takes its time.
        let evicted = std::mem::take(&mut cache.evicted);
        self.metrics.sessions.set(cache.sessions.len() as i64);
        self.metrics.partitions.set(cache.held.partitions as i64);
        self.metrics.bytes.set(cache.held.bytes as i64);
        drop(cache);
        self.metrics.evictions.inc_by(evicted.len() as u64);
        result
    }

    fn cache(&self) -> MutexGuard<'_, SessionCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sessions by id, as far as there is room.
struct SessionCache {
    limits: SessionLimits,
    sessions: HashMap<i32, CachedSession>,
    /// Of all together.
    held: SessionSize,
    /// Those that just made room for others, or found none to grow.
    evicted: Vec<CachedSession>,
}

struct CachedSession {
    session: SharedSession,
    begun: Instant,
    used: Instant,
    size: SessionSize,
}

/// Why a session makes room; the first one goes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum EvictionRank {
    Unused { since: Instant },
    Smaller { partitions: usize },
}

impl SessionCache {
    fn new(limits: SessionLimits) -> Self {
        Self { limits, sessions: HashMap::new(), held: SessionSize::default(), evicted: Vec::new() }
    }

    fn get(&self, id: i32) -> Option<SharedSession> {
        self.sessions.get(&id).map(|cached| cached.session.clone())
    }

    /// Takes a session in under an id that `draw` gives and no other has, if there is room for it, or others make some.
    fn insert(
        &mut self,
        session: SharedSession,
        size: SessionSize,
        now: Instant,
        mut draw: impl FnMut() -> i32,
    ) -> Option<i32> {
        if !self.make_room(size, now) {
            return None;
        }
        let mut id = draw();
        while self.sessions.contains_key(&id) {
            id = draw();
        }
        self.put(id, CachedSession { session, begun: now, used: now, size });
        Some(id)
    }

    /// A session is used, and has this size now. Returns whether it is still there: it goes if there is no room for
    /// what it has grown by.
    fn touch(&mut self, id: i32, size: SessionSize, now: Instant) -> bool {
        let Some(cached) = self.remove(id) else { return false };
        let stays = size.bytes <= cached.size.bytes || self.make_room(size, now);
        match stays {
            true => self.put(id, CachedSession { used: now, size, ..cached }),
            false => self.evicted.push(cached),
        }
        stays
    }

    fn put(&mut self, id: i32, cached: CachedSession) {
        self.held.partitions += cached.size.partitions;
        self.held.bytes += cached.size.bytes;
        self.sessions.insert(id, cached);
    }

    fn remove(&mut self, id: i32) -> Option<CachedSession> {
        let gone = self.sessions.remove(&id)?;
        self.held.partitions -= gone.size.partitions;
        self.held.bytes -= gone.size.bytes;
        Some(gone)
    }

    /// Whether there is room for a session of this size: others go, if that helps.
    fn make_room(&mut self, size: SessionSize, now: Instant) -> bool {
        let (mut sessions, mut bytes) = (self.sessions.len() + 1, self.held.bytes + size.bytes);
        let SessionLimits { sessions_max, bytes_max, .. } = self.limits;
        let mut going = Vec::new();
        if sessions > sessions_max || bytes > bytes_max {
            let ranked = self.sessions.iter().filter_map(|(id, cached)| Some((self.rank(cached, size, now)?, *id)));
            let mut ranked: Vec<_> = ranked.collect();
            ranked.sort();
            let mut ranked = ranked.into_iter();
            while (sessions > sessions_max || bytes > bytes_max)
                && let Some((_, id)) = ranked.next()
            {
                sessions -= 1;
                bytes -= self.sessions.get(&id).map_or(0, |cached| cached.size.bytes);
                going.push(id);
            }
        }
        let is_room = sessions <= sessions_max && bytes <= bytes_max;
        if is_room {
            let gone: Vec<_> = going.into_iter().filter_map(|id| self.remove(id)).collect();
            self.evicted.extend(gone);
        }
        is_room
    }

    /// Whether, and when, a session goes for another one of this size.
    fn rank(&self, cached: &CachedSession, size: SessionSize, now: Instant) -> Option<EvictionRank> {
        let is_over = |since: Instant| now.saturating_duration_since(since) > self.limits.eviction_age;
        if is_over(cached.used) {
            return Some(EvictionRank::Unused { since: cached.used });
        }
        let partitions = cached.size.partitions;
        (is_over(cached.begun) && partitions < size.partitions).then_some(EvictionRank::Smaller { partitions })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const AGE: Duration = Duration::from_secs(120);
    const PARTITION: usize = 100;

    /// A cache of which the test draws the ids, and the time as it sees it.
    struct World {
        cache: SessionCache,
        now: Instant,
        ids: i32,
    }

    fn size(partitions: usize) -> SessionSize {
        SessionSize { partitions, bytes: partitions * PARTITION }
    }

    impl World {
        fn new(sessions_max: usize, partitions_max: usize) -> Self {
            let limits = SessionLimits { sessions_max, bytes_max: partitions_max * PARTITION, eviction_age: AGE };
            Self { cache: SessionCache::new(limits), now: Instant::now(), ids: 0 }
        }

        fn begin(&mut self, partitions: usize) -> Option<i32> {
            let session = Arc::new(Mutex::new(FetchSession::new(Vec::new(), false, Arc::default())));
            let draw = || {
                self.ids += 1;
                self.ids
            };
            self.cache.insert(session, size(partitions), self.now, draw)
        }

        fn passes(&mut self, time: Duration) {
            self.now += time;
        }

        fn ids(&self) -> Vec<i32> {
            let mut ids: Vec<_> = self.cache.sessions.keys().copied().collect();
            ids.sort_unstable();
            ids
        }
    }

    #[test]
    fn a_session_that_finds_no_room_does_not_begin() {
        let mut world = World::new(2, 100);
        assert_eq!((world.begin(1), world.begin(1), world.begin(50)), (Some(1), Some(2), None));
        assert!(world.cache.remove(1).is_some() && world.cache.remove(1).is_none());
        assert_eq!(world.begin(100), None, "bytes");
        assert_eq!(world.begin(99), Some(3));
        assert_eq!((world.cache.held, world.cache.evicted.len()), (size(100), 0));
    }

    #[test]
    fn an_id_is_given_to_one_session_only() {
        let mut world = World::new(10, 10);
        let mut drawn = [7, 7, 7, 8].into_iter();
        for id in [7, 8] {
            let session = Arc::new(Mutex::new(FetchSession::new(Vec::new(), false, Arc::default())));
            assert_eq!(world.cache.insert(session, size(1), world.now, || drawn.next().unwrap()), Some(id));
        }
    }

    #[test]
    fn one_that_is_not_used_makes_room_the_longest_unused_first() {
        let mut world = World::new(3, 100);
        (0..3).for_each(|_| assert!(world.begin(10).is_some()));
        world.passes(Duration::from_secs(1));
        assert!(world.cache.touch(1, size(10), world.now));
        world.passes(AGE);
        assert_eq!(world.begin(1), Some(4), "2 and 3 are unused for longer than the age, 1 not yet");
        assert_eq!(world.begin(1), Some(5));
        assert_eq!(world.begin(1), None);
        assert_eq!((world.ids(), world.cache.evicted.len()), (vec![1, 4, 5], 2));
    }

    #[test]
    fn one_of_more_partitions_takes_the_place_of_a_smaller_one_that_is_not_new() {
        let mut world = World::new(3, 100);
        for partitions in [4, 2, 3] {
            world.begin(partitions);
        }
        assert_eq!(world.begin(50), None, "all are new");
        world.passes(AGE);
        for (id, partitions) in [(1, 4), (2, 2), (3, 3)] {
            assert!(world.cache.touch(id, size(partitions), world.now));
        }
        assert_eq!(world.begin(50), None, "still new");
        world.passes(Duration::from_millis(1));
        assert_eq!(world.begin(2), None, "as large is not larger");
        assert_eq!(world.begin(3), Some(4));
        assert_eq!(world.ids(), [1, 3, 4]);
        assert_eq!(world.begin(50), Some(5), "the smallest goes, but not the new one");
        assert_eq!(world.ids(), [1, 4, 5]);
    }

    #[test]
    fn nobody_goes_for_one_that_has_no_room_even_then() {
        let mut world = World::new(10, 10);
        (0..3).for_each(|_| assert!(world.begin(3).is_some()));
        world.passes(AGE * 2);
        assert_eq!(world.begin(11), None);
        assert_eq!((world.ids(), world.cache.evicted.len()), (vec![1, 2, 3], 0));
        assert_eq!(world.begin(7), Some(4), "as many go as must");
        assert_eq!((world.ids(), world.cache.held), (vec![3, 4], size(10)));
    }

    #[test]
    fn one_that_grows_needs_room_like_a_new_one() {
        let mut world = World::new(10, 10);
        (0..3).for_each(|_| assert!(world.begin(3).is_some()));
        assert!(world.cache.touch(1, size(4), world.now));
        assert!(!world.cache.touch(1, size(5), world.now), "it goes: its client begins again");
        assert!(!world.cache.touch(1, size(1), world.now), "it is gone");
        assert_eq!((world.ids(), world.cache.held, world.cache.evicted.len()), (vec![2, 3], size(6), 1));
        world.passes(AGE * 2);
        assert!(world.cache.touch(2, size(10), world.now), "the other one is unused");
        assert_eq!((world.ids(), world.cache.held), (vec![2], size(10)));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Begin(usize),
        Touch(usize, usize),
        Remove(usize),
        Pass(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0usize..8).prop_map(Step::Begin),
            (0usize..8, 0usize..8).prop_map(|(of, partitions)| Step::Touch(of, partitions)),
            (0usize..8).prop_map(Step::Remove),
            (0u64..100).prop_map(Step::Pass),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn there_are_never_more_than_there_is_room_for(steps in steps()) {
            let mut world = World::new(4, 16);
            for step in steps {
                let id = |world: &World, of: usize| world.ids().get(of).copied().unwrap_or(1_000);
                match step {
                    Step::Begin(partitions) => drop(world.begin(partitions)),
                    Step::Touch(of, partitions) => {
                        let id = id(&world, of);
                        world.cache.touch(id, size(partitions), world.now);
                    }
                    Step::Remove(of) => drop(world.cache.remove(id(&world, of))),
                    Step::Pass(seconds) => world.passes(Duration::from_secs(seconds)),
                }
                let held = world.cache.sessions.values().map(|cached| cached.size.partitions).sum();
                prop_assert_eq!(world.cache.held, size(held));
                prop_assert!(world.cache.sessions.len() <= 4 && held <= 16);
            }
        }
    }
}
