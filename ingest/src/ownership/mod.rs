//! One owner of the bucket at a time, between machines.
//!
//! A new one makes sure that the last one is gone ([`vacancy`]), claims the bucket, and from then on shows that it lives
//! ([`beat`]). It asks for the claim above its own again and again ([`Ownership`]); once there is one, it stops at once and
//! says what it leaves behind ([`last_words`], [`remains`]). While it can't know, because it was suspended, it acknowledges
//! nothing ([`presence`]).

pub mod beat;
pub mod last_words;
pub mod presence;
pub mod remains;
pub mod vacancy;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chronik_core::ids::Incarnation;
use chronik_core::names::ClaimName;
use chronik_core::store::{SharedStore, StoreError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::presence::Presence;
use crate::claim::{self, ClaimError};

/// The times by which owners of a bucket tell each other apart. All brokers on a bucket must have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// How often an owner writes `latest`.
    pub beat: Duration,
    /// How often an owner asks for a claim above its own.
    pub check: Duration,
    /// After how long without a beat an owner counts as gone, by the store's clock.
    pub quiet: Duration,
    /// How often `latest` is looked at meanwhile.
    pub look: Duration,
    /// How long an owner that was not asked gets to notice that it is one no more; longer than `check`.
    pub notice: Duration,
    /// How long an owner may not have run before it counts as having been away: with `check`, shorter than `notice`.
    pub away: Duration,
}

impl Rhythm {
    /// How old an owner's last beat may be while nobody else can have the bucket yet: what a successor waits, and a margin
    /// for the store's clock, which counts in seconds.
    pub fn lease(&self) -> Duration {
        self.quiet - self.quiet / 9
    }
}

impl Default for Rhythm {
    fn default() -> Self {
        Self {
            beat: Duration::from_secs(30),
            check: Duration::from_secs(10),
            quiet: Duration::from_secs(90),
            look: Duration::from_secs(5),
            notice: Duration::from_secs(20),
            away: Duration::from_secs(5),
        }
    }
}

/// The right to write to the bucket, as long as nobody claims it anew. All clones learn of a later claim together.
#[derive(Clone, Debug)]
pub struct Ownership {
    store: SharedStore,
    cluster: Uuid,
    incarnation: Incarnation,
    seen: Arc<Seen>,
    presence: Arc<Presence>,
}

/// What the bucket has told so far.
#[derive(Debug, Default)]
struct Seen {
    own_cluster: AtomicBool,
    later_claim: OnceLock<Incarnation>,
    fenced: CancellationToken,
}

impl Ownership {
    /// The holder of `incarnation` of `cluster`, which the bucket may not know.
    pub fn new(store: SharedStore, cluster: Uuid, incarnation: Incarnation) -> Self {
        Self {
            store,
            cluster,
            incarnation,
            seen: Arc::default(),
            presence: Arc::new(Presence::new(Rhythm::default().away, None)),
        }
    }

    /// The same right, held in another rhythm; with a strict lease, as long as its beats get through.
    pub fn in_rhythm(self, rhythm: Rhythm, strict_lease: bool) -> Self {
        let lease = strict_lease.then(|| rhythm.lease());
        let presence = Arc::new(Presence::new(rhythm.away, lease));
        Self { presence, ..self }
    }

    /// Whether the owner was there all along, and may acknowledge.
    pub fn presence(&self) -> &Arc<Presence> {
        &self.presence
    }

    /// The same right, asked about through another handle on the bucket.
    pub fn through(&self, store: SharedStore) -> Self {
        Self { store, ..self.clone() }
    }

    /// The bucket.
    pub fn store(&self) -> &SharedStore {
        &self.store
    }

    /// The cluster.
    pub fn cluster(&self) -> Uuid {
        self.cluster
    }

    /// The claim.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Cancelled once somebody has seen a claim above this one: nothing may be acknowledged, registered or deleted
    /// any more.
    pub fn fenced(&self) -> &CancellationToken {
        &self.seen.fenced
    }

    /// The claim above this one, if any has been seen.
    pub fn fenced_by(&self) -> Option<Incarnation> {
        self.seen.later_claim.get().copied()
    }

    /// Returns once somebody has seen a claim above this one.
    pub async fn lost(&self) -> ClaimError {
        self.fenced().cancelled().await;
        let own = self.incarnation;
        ClaimError::Fenced {
            own,
            by: self.fenced_by().unwrap_or(own),
        }
    }

    /// Asks for the next claim's name: as long as nobody has it, the bucket is ours. The first time, also whether it
    /// is our cluster's bucket at all.
    pub async fn check(&self) -> Result<(), ClaimError> {
        let (own, next) = (self.incarnation, Incarnation(self.incarnation.0 + 1));
        if let Some(by) = self.fenced_by() {
            return Err(ClaimError::Fenced { own, by });
        }
        let begun = self.presence.begin();
        self.check_cluster().await?;
        match self.store.info(&ClaimName { incarnation: next }.to_string()).await {
            Err(StoreError::NotFound { .. }) => {
                self.presence.answered(&begun);
                Ok(())
            }
            Ok(_) => {
                let by = *self.seen.later_claim.get_or_init(|| next);
                self.seen.fenced.cancel();
                Err(ClaimError::Fenced { own, by })
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn check_cluster(&self) -> Result<(), ClaimError> {
        if self.seen.own_cluster.load(Ordering::Relaxed) {
            return Ok(());
        }
        let bucket = claim::cluster_of(&self.store).await?;
        if bucket != Some(self.cluster) {
            let cluster = |cluster| format!("cluster {cluster}");
            return Err(ClaimError::Foreign {
                own: self.cluster,
                bucket: bucket.map_or("no cluster (it is empty)".into(), cluster),
            });
        }
        self.seen.own_cluster.store(true, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use chronik_core::store::faulty::{Fault, FaultyStore, Operation};
    use chronik_core::store::memory;

    use super::*;

    #[tokio::test]
    async fn a_later_claim_is_seen_once_and_remembered_by_all() {
        let store = Arc::new(FaultyStore::new(memory()));
        let shared: SharedStore = store.clone();
        let cluster = claim::found_cluster(&shared).await.unwrap();
        let own = claim::claim_after(&shared, None).await.unwrap();
        let ownership = Ownership::new(shared.clone(), cluster, own);
        let other = ownership.clone();
        ownership.check().await.unwrap();
        let by = claim::claim_after(&shared, Some(own)).await.unwrap();
        store.fail(Operation::Info, "claims/", Fault::Before, 1);
        assert!(matches!(other.check().await, Err(ClaimError::Store(_))));
        assert!(
            !ownership.fenced().is_cancelled(),
            "a bucket that does not answer takes nothing away"
        );
        assert!(matches!(other.check().await, Err(ClaimError::Fenced { .. })));
        assert!(ownership.fenced().is_cancelled() && ownership.fenced_by() == Some(by));
        store.fail(Operation::Info, "", Fault::Missing, usize::MAX);
        assert!(matches!(ownership.check().await, Err(ClaimError::Fenced { .. })));
    }

    #[tokio::test]
    async fn another_clusters_bucket_is_nobodys() {
        let store = memory();
        let ownership = Ownership::new(store.clone(), Uuid::nil(), Incarnation(1));
        assert!(matches!(ownership.check().await, Err(ClaimError::Foreign { bucket, .. }) if bucket.contains("empty")));
        let cluster = claim::found_cluster(&store).await.unwrap().to_string();
        assert!(
            matches!(ownership.check().await, Err(ClaimError::Foreign { bucket, .. }) if bucket.contains(&cluster))
        );
    }
}
