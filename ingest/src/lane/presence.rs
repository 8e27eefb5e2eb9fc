//! Whether the owner has been there all along.
//!
//! A process can be stopped, and a machine suspended, for longer than another broker waits before it takes the bucket.
//! Nothing tells the process so but a gap in its time. After one it acknowledges nothing until the bucket has answered,
//! to a question asked after the gap, that no other broker claimed it. A bucket that merely can't be reached is no
//! reason to stop, unless the operator asked for a strict lease: then the last sign of life must be younger than a
//! successor waits.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::since_boot;

/// How often it is looked at while nothing else happens.
const TURN_EVERY: Duration = Duration::from_secs(1);
/// How long an outcome waits for the bucket's answer before its client gets an error that it retries.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Of one owner; shared by all who acknowledge, and all who ask the bucket.
#[derive(Debug)]
pub struct OwnerPresence {
    away: Duration,
    lease: Option<Duration>,
    times: Mutex<Times>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Times {
    /// When it was last looked at, since boot as all times here.
    turn: Duration,
    /// Gaps so far.
    gaps: u64,
    /// Gaps after which the bucket has answered.
    answered: u64,
    /// When the last sign of life that got through was begun.
    beat: Option<Duration>,
    /// What was last found.
    held: bool,
}

/// A question to the bucket, or a sign of life, that has begun.
#[derive(Clone, Copy, Debug)]
pub struct PresenceCheck {
    at: Duration,
    gaps: u64,
}

impl OwnerPresence {
    /// An owner counts as having been away after a gap of more than `away`; with a `lease`, its last sign of life must
    /// be younger than that.
    pub fn new(away: Duration, lease: Option<Duration>) -> Self {
        let times = Times { turn: since_boot(), gaps: 0, answered: 0, beat: None, held: true };
        Self { away, lease, times: Mutex::new(times), changed: watch::Sender::new(()) }
    }

    /// Whether an acknowledgement may go out now.
    pub fn holds(&self) -> bool {
        self.look(&mut self.lock(), since_boot())
    }

    /// Waits, but not for long, until an acknowledgement may go out; `false` if it may not.
    pub async fn confirmed(&self) -> bool {
        if self.holds() {
            return true;
        }
        let mut changed = self.changed.subscribe();
        let held = async {
            while !self.holds() {
                let _ = changed.changed().await;
            }
        };
        tokio::time::timeout(ANSWER_WAIT, held).await.is_ok()
    }

    /// Looks again and again, so that a gap is one; never ends.
    pub async fn keep_looking(&self) {
        loop {
            self.holds();
            tokio::time::sleep(TURN_EVERY).await;
        }
    }

    /// Ends once the bucket has to be asked.
    pub async fn in_doubt(&self) {
        let mut changed = self.changed.subscribe();
        while !self.is_in_doubt() {
            let _ = changed.changed().await;
        }
    }

    /// Whether the bucket has to be asked.
    pub fn is_in_doubt(&self) -> bool {
        self.lock().is_in_doubt()
    }

    /// To be called before the bucket is asked, or a sign of life given.
    pub fn begin(&self) -> PresenceCheck {
        let (mut times, at) = (self.lock(), since_boot());
        self.look(&mut times, at);
        PresenceCheck { at, gaps: times.gaps }
    }

    /// The bucket has answered that no other broker claimed it. Says nothing about gaps after the question.
    pub fn answered(&self, begun: &PresenceCheck) {
        let (mut times, now) = (self.lock(), since_boot());
        self.look(&mut times, now);
        times.answered = times.answered.max(begun.gaps);
        self.look(&mut times, now);
    }

    /// A sign of life got through.
    pub fn beaten(&self, begun: &PresenceCheck) {
        let mut times = self.lock();
        times.beat = Some(begun.at);
        self.look(&mut times, since_boot());
    }

    fn look(&self, times: &mut Times, now: Duration) -> bool {
        let gap = now.saturating_sub(times.turn);
        times.turn = times.turn.max(now);
        if gap > self.away {
            times.gaps += 1;
            tracing::warn!(
                "this broker may have been suspended for {} s: it acknowledges nothing until the bucket has confirmed that \
                 no other broker claimed it",
                gap.as_secs()
            );
        }
        let is_late = |lease| times.beat.is_none_or(|beat| now.saturating_sub(beat) > lease);
        let late = self.lease.is_some_and(is_late);
        let held = !times.is_in_doubt() && !late;
        if held != times.held || gap > self.away {
            match (held, late) {
                (true, _) => tracing::info!("the bucket is still this broker's, which acknowledges again"),
                (false, true) => tracing::warn!(
                    "no sign of life got into the bucket for as long as --strict-lease (CHRONIK_STRICT_LEASE) allows: \
                     nothing is acknowledged until one does"
                ),
                (false, false) => {}
            }
            times.held = held;
            self.changed.send_replace(());
        }
        held
    }

    fn lock(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As if the process had been suspended for an hour.
    #[cfg(test)]
    pub fn suspend(&self) {
        let mut times = self.lock();
        times.turn = times.turn.saturating_sub(Duration::from_secs(3600));
    }

    /// As if the last sign of life were so much older.
    #[cfg(test)]
    pub fn age_beat(&self, by: Duration) {
        let mut times = self.lock();
        times.beat = times.beat.map(|beat| beat.saturating_sub(by));
    }
}

impl Times {
    fn is_in_doubt(&self) -> bool {
        self.answered < self.gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAY: Duration = Duration::from_secs(3000);

    #[test]
    fn after_a_gap_only_an_answer_to_a_later_question_counts() {
        let presence = OwnerPresence::new(AWAY, None);
        let before = presence.begin();
        assert!(presence.holds());
        presence.suspend();
        assert!(!presence.holds() && presence.is_in_doubt());
        presence.answered(&before);
        assert!(!presence.holds(), "asked before the gap");
        let after = presence.begin();
        assert!(!presence.holds(), "not answered yet");
        presence.suspend();
        presence.answered(&after);
        assert!(!presence.holds(), "another gap between question and answer");
        presence.answered(&presence.begin());
        assert!(presence.holds() && !presence.is_in_doubt());
    }

    #[test]
    fn without_a_gap_no_answer_is_needed() {
        let presence = OwnerPresence::new(AWAY, None);
        presence.beaten(&presence.begin());
        presence.age_beat(Duration::from_secs(1_000_000));
        assert!(presence.holds());
    }

    #[test]
    fn a_strict_lease_ends_with_the_age_of_the_last_beat() {
        let presence = OwnerPresence::new(AWAY, Some(Duration::from_secs(80)));
        assert!(!presence.holds(), "no beat yet");
        presence.beaten(&presence.begin());
        presence.age_beat(Duration::from_secs(70));
        assert!(presence.holds());
        presence.age_beat(Duration::from_secs(20));
        assert!(!presence.holds() && !presence.is_in_doubt());
        presence.beaten(&presence.begin());
        assert!(presence.holds());
    }

    #[tokio::test(start_paused = true)]
    async fn an_outcome_waits_for_the_answer_but_not_for_ever() {
        let presence = OwnerPresence::new(AWAY, None);
        presence.suspend();
        let asked = async {
            presence.in_doubt().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            presence.answered(&presence.begin());
        };
        let (confirmed, ()) = tokio::join!(presence.confirmed(), asked);
        assert!(confirmed);
        presence.suspend();
        assert!(!presence.confirmed().await);
    }
}
