//! Jobs that were sent and not answered yet, and when they count as lost. A pure state machine: the time and the
//! queue's depth are arguments.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use chronik_store::queue::QueueDepth;
use tokio::time::Instant;

/// A queue that was found empty for this long has lost what was sent before and not answered.
const LOST_AFTER: Duration = Duration::from_secs(60);
/// A job without a result after this long is sent again, whatever the queue says.
const JOB_AGE_MAX: Duration = Duration::from_secs(6 * 60 * 60);
/// What is in jobs that were lost so often is not sent again.
const LOSSES_MAX: u32 = 3;

/// Jobs, each over runs or pages of names `K`. A restart forgets them, and everything that is still to be done is sent
/// again.
#[derive(Debug)]
pub struct JobsInFlight<K> {
    jobs: HashMap<String, JobOut<K>>,
    losses: HashMap<K, u32>,
}

#[derive(Debug)]
struct JobOut<K> {
    inputs: Vec<K>,
    sent_at: Instant,
    /// The first look at the queue since it was sent, if that one and all later ones found nothing.
    missing_since: Option<Instant>,
}

impl<K> Default for JobsInFlight<K> {
    fn default() -> Self {
        Self { jobs: HashMap::new(), losses: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash> JobsInFlight<K> {
    /// The queue has taken a job.
    pub fn sent(&mut self, id: String, inputs: Vec<K>, now: Instant) {
        let job = JobOut { inputs, sent_at: now, missing_since: None };
        self.jobs.insert(id, job);
    }

    /// The job's result has been taken in.
    pub fn answered(&mut self, id: &str) {
        let Some(job) = self.jobs.remove(id) else { return };
        for input in job.inputs {
            self.losses.remove(&input);
        }
    }

    /// Compares with the queue, `None` if it did not answer; returns how many jobs count as not sent from now on.
    ///
    /// A job is lost if nothing was in the queue at any look for a minute. One that is merely old may be lost too: it
    /// is sent again, but that is held against its inputs only if nothing waits in the queue, for otherwise it may be
    /// that no indexer runs at all.
    pub fn compare(&mut self, depth: Option<QueueDepth>, now: Instant) -> usize {
        let empty = depth == Some(QueueDepth::default());
        let worked_on = depth.is_some_and(|depth| depth.visible == 0);

        let mut gone = 0;
        let losses = &mut self.losses;
        self.jobs.retain(|_, job| {
            job.missing_since = empty.then(|| job.missing_since.unwrap_or(now));
            let lost = job.missing_since.is_some_and(|since| now - since >= LOST_AFTER);
            let old = now - job.sent_at >= JOB_AGE_MAX;
            if lost || (old && worked_on) {
                for input in &job.inputs {
                    *losses.entry(input.clone()).or_insert(0) += 1;
                }
            }
            gone += usize::from(lost || old);
            !(lost || old)
        });
        gone
    }

    /// The inputs of all jobs that are out.
    pub fn inputs(&self) -> HashSet<K> {
        self.jobs.values().flat_map(|job| job.inputs.iter().cloned()).collect()
    }

    /// Whether an input is in a job that is out.
    pub fn has<Q: Eq + Hash + ?Sized>(&self, input: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.jobs.values().any(|job| job.inputs.iter().any(|other| other.borrow() == input))
    }

    /// Whether an input was sent often enough without any result.
    pub fn is_exhausted<Q: Eq + Hash + ?Sized>(&self, input: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.losses.get(input).is_some_and(|losses| *losses >= LOSSES_MAX)
    }

    /// The inputs that were lost and did not come since.
    pub fn lossy(&self) -> impl Iterator<Item = &K> {
        self.losses.keys()
    }

    /// Forgets the losses of all other inputs.
    pub fn keep_losses(&mut self, mut is_kept: impl FnMut(&K) -> bool) {
        self.losses.retain(|input, _| is_kept(input));
    }

    /// The inputs that were sent often enough without any result, whose losses are forgotten.
    pub fn take_exhausted(&mut self) -> Vec<K> {
        let exhausted: Vec<K> = self.losses.keys().filter(|input| self.is_exhausted(*input)).cloned().collect();
        self.losses.retain(|_, losses| *losses < LOSSES_MAX);
        exhausted
    }

    /// Forgets the inputs that wait no more, or not now, and jobs of which no other is left.
    pub fn keep_only(&mut self, waiting: &HashSet<K>) {
        self.losses.retain(|input, _| waiting.contains(input));
        self.jobs.retain(|_, job| {
            job.inputs.retain(|input| waiting.contains(input));
            !job.inputs.is_empty()
        });
    }

    /// Jobs that are out.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use chronik_format::ids::TopicId;
    use uuid::Uuid;

    use super::*;
    use crate::state::RunKey;

    const EMPTY: Option<QueueDepth> = Some(QueueDepth { visible: 0, in_flight: 0 });
    const WAITING: Option<QueueDepth> = Some(QueueDepth { visible: 1, in_flight: 0 });
    const WORKED_ON: Option<QueueDepth> = Some(QueueDepth { visible: 0, in_flight: 1 });

    /// Jobs in flight on a clock of their own, seconds.
    struct World {
        in_flight: JobsInFlight<RunKey>,
        start: Instant,
    }

    impl World {
        fn new() -> Self {
            Self { in_flight: JobsInFlight::default(), start: Instant::now() }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn send(&mut self, id: &str, run: i64, seconds: u64) {
            let now = self.at(seconds);
            self.in_flight.sent(id.into(), vec![key(run)], now);
        }

        fn compare(&mut self, depth: Option<QueueDepth>, seconds: u64) -> usize {
            let now = self.at(seconds);
            self.in_flight.compare(depth, now)
        }
    }

    fn key(first: i64) -> RunKey {
        (TopicId(Uuid::nil()), 0, first)
    }

    #[test]
    fn a_lost_job_is_known_by_a_queue_that_stays_empty_for_a_minute() {
        let mut world = World::new();
        world.send("a", 1, 0);
        assert_eq!(world.compare(EMPTY, 30), 0);
        assert_eq!(world.compare(EMPTY, 60), 0);
        assert_eq!(world.compare(EMPTY, 89), 0);
        assert_eq!(world.compare(EMPTY, 90), 1);
        assert!(world.in_flight.inputs().is_empty());
    }

    #[test]
    fn a_queue_that_was_empty_long_before_the_job_does_not_hide_its_loss() {
        let mut world = World::new();
        for look in 0..10 {
            world.compare(EMPTY, look * 30);
        }
        world.send("a", 1, 280);
        assert_eq!(world.compare(EMPTY, 300), 0);
        assert_eq!(world.compare(EMPTY, 330), 0);
        assert_eq!(world.compare(EMPTY, 360), 1);
    }

    #[test]
    fn anything_in_the_queue_and_a_queue_that_does_not_answer_begin_the_minute_anew() {
        for between in [WAITING, WORKED_ON, None] {
            let mut world = World::new();
            world.send("a", 1, 0);
            world.compare(EMPTY, 30);
            world.compare(between, 60);
            assert_eq!(world.compare(EMPTY, 90), 0, "{between:?}");
            assert_eq!(world.compare(EMPTY, 150), 1, "{between:?}");
        }
    }

    #[test]
    fn a_job_that_was_sent_after_the_queue_was_seen_empty_is_not_lost_yet() {
        let mut world = World::new();
        world.send("a", 1, 0);
        world.compare(EMPTY, 30);
        world.send("b", 2, 60);
        assert_eq!(world.compare(EMPTY, 90), 1);
        assert_eq!(world.in_flight.inputs(), HashSet::from([key(2)]));
        assert_eq!(world.compare(EMPTY, 120), 0);
        assert_eq!(world.compare(EMPTY, 150), 1);
    }

    #[test]
    fn the_third_loss_is_the_last_and_a_result_in_between_clears_the_run() {
        let mut world = World::new();
        for (round, at) in [(1, 0), (2, 1000), (3, 2000)] {
            world.send("a", 1, at);
            world.send("b", 2, at);
            world.compare(WORKED_ON, at + 1);
            if round == 2 {
                world.in_flight.answered("b");
            }
            assert!(!world.in_flight.is_exhausted(&key(1)));
            world.compare(EMPTY, at + 30);
            world.compare(EMPTY, at + 90);
        }
        assert!(world.in_flight.is_exhausted(&key(1)));
        assert!(!world.in_flight.is_exhausted(&key(2)));
        world.in_flight.keep_losses(|run| *run == key(1));
        world.in_flight.keep_only(&HashSet::from([key(1)]));
        assert!(world.in_flight.is_exhausted(&key(1)));
        let mut forgetful = JobsInFlight { losses: world.in_flight.losses.clone(), ..JobsInFlight::default() };
        forgetful.keep_losses(|run| *run == key(2));
        assert!(!forgetful.is_exhausted(&key(1)));
        assert_eq!(world.in_flight.take_exhausted(), [key(1)]);
        assert!(!world.in_flight.is_exhausted(&key(1)) && world.in_flight.lossy().next().is_none());
    }

    #[test]
    fn without_anybody_who_works_old_jobs_are_sent_again_but_never_given_up() {
        let hours = 60 * 60;
        let mut world = World::new();
        for round in 0..20 {
            let at = round * 6 * hours;
            world.send("a", 1, at);
            assert_eq!(world.compare(WAITING, at + 6 * hours - 1), 0);
            assert_eq!(world.compare(if round % 2 == 0 { WAITING } else { None }, at + 6 * hours), 1);
            assert!(!world.in_flight.is_exhausted(&key(1)));
        }
    }

    #[test]
    fn a_job_that_is_held_for_ever_counts_as_lost_when_it_is_old() {
        let hours = 60 * 60;
        let mut world = World::new();
        for round in 0..3 {
            world.send("a", 1, round * 6 * hours);
            assert_eq!(world.compare(WORKED_ON, (round + 1) * 6 * hours), 1);
        }
        assert!(world.in_flight.is_exhausted(&key(1)));
    }

    #[test]
    fn a_job_is_out_as_long_as_one_of_its_runs_waits() {
        let mut world = World::new();
        world.in_flight.sent("a".into(), vec![key(1), key(2)], world.at(0));
        world.in_flight.keep_only(&HashSet::from([key(2), key(3)]));
        assert_eq!((world.in_flight.len(), world.in_flight.inputs()), (1, HashSet::from([key(2)])));
        world.in_flight.keep_only(&HashSet::from([key(1)]));
        assert_eq!(world.in_flight.len(), 0);
    }

    #[test]
    fn results_of_unknown_and_repeated_jobs_change_nothing() {
        let mut world = World::new();
        world.send("a", 1, 0);
        world.in_flight.answered("b");
        assert_eq!(world.in_flight.len(), 1);
        world.in_flight.answered("a");
        world.in_flight.answered("a");
        assert_eq!(world.in_flight.len(), 0);
    }
}
