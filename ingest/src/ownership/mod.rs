//! One owner of the bucket at a time, between machines.
//!
//! A new one makes sure that the last one is gone ([`takeover`]), claims the bucket, and from then on shows that it
//! lives ([`heartbeat`]). It asks for the claim above its own again and again ([`BucketOwnership`]); once there is one,
//! it stops at once and says what it leaves behind ([`fencing_reporter`], [`fenced`]). While it can't know, because it
//! was suspended, it acknowledges nothing (`OwnerPresence`).

pub mod claim;
pub mod fenced;
pub mod fencing_reporter;
pub mod heartbeat;
pub mod takeover;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chronik_format::catalog::Latest;
use chronik_format::ids::{Incarnation, LaneId};
use chronik_format::names::ClaimName;
use chronik_format::origin::Origin;
use chronik_store::{ErrorCause, SharedStore, StoreError};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;
use uuid::Uuid;

use self::claim::ClaimError;
use crate::lane::presence::OwnerPresence;

/// The times by which owners of a bucket know of each other. All brokers on a bucket must have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnershipTimes {
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

impl OwnershipTimes {
    /// How old an owner's last beat may be while no other broker can own the bucket yet: what a successor waits, and a
    /// margin for the store's clock, which counts in seconds.
    pub fn lease(&self) -> Duration {
        self.quiet - self.quiet / 9
    }
}

impl Default for OwnershipTimes {
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

/// The right to write to the bucket, as long as there is no later claim. All clones learn of one together.
#[derive(Clone, Debug)]
pub struct BucketOwnership {
    store: SharedStore,
    cluster: Uuid,
    incarnation: Incarnation,
    /// Names this process among those with the same claim.
    writer: Arc<str>,
    /// The names of those that ran before on the same data directory.
    predecessors: Arc<[String]>,
    seen: Arc<Seen>,
    presence: Arc<OwnerPresence>,
}

/// What the bucket has answered so far.
#[derive(Debug, Default)]
struct Seen {
    own_cluster: AtomicBool,
    own_claim: OnceLock<Bytes>,
    loss: OnceLock<Loss>,
    fenced: CancellationToken,
}

/// How the right was lost.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// To this later claim.
    Claimed(Incarnation),
    /// To a process with the same claim.
    Doubled,
}

impl BucketOwnership {
    /// The holder of `incarnation` of `cluster`, which the bucket may not know.
    pub fn new(store: SharedStore, cluster: Uuid, incarnation: Incarnation) -> Self {
        Self {
            store,
            cluster,
            incarnation,
            writer: Ulid::new().to_string().into(),
            predecessors: Arc::default(),
            seen: Arc::default(),
            presence: Arc::new(OwnerPresence::new(OwnershipTimes::default().away, None)),
        }
    }

    /// The same right, held in another rhythm; with a strict lease, as long as its beats get through.
    pub fn in_rhythm(self, rhythm: OwnershipTimes, strict_lease: bool) -> Self {
        let lease = strict_lease.then(|| rhythm.lease());
        let presence = Arc::new(OwnerPresence::new(rhythm.away, lease));
        Self { presence, ..self }
    }

    /// The same right, held after processes of these names, which are gone.
    pub fn after(self, predecessors: Vec<String>) -> Self {
        Self { predecessors: predecessors.into(), ..self }
    }

    /// Whether who wrote `latest` is gone, as far as its name shows. Under our claim it may be another process than
    /// ours and those before it, if a copy of the data directory was started; where the bucket is locked, that one is
    /// gone too.
    pub fn follows(&self, latest: &Latest) -> bool {
        let writer = &latest.writer;
        let is_known = || **writer == *self.writer || self.predecessors.contains(writer);
        latest.incarnation != self.incarnation || writer.is_empty() || self.store.is_locked() || is_known()
    }

    /// Whether the owner was there all along, and may acknowledge.
    pub fn presence(&self) -> &Arc<OwnerPresence> {
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

    /// What is written of a lane under the claim.
    pub fn origin(&self, lane: LaneId) -> Origin {
        Origin { cluster: self.cluster, incarnation: self.incarnation, lane }
    }

    /// This process among those with the same claim; there should be no other.
    pub fn writer(&self) -> &str {
        &self.writer
    }

    /// Cancelled once a check has found a claim above this one, or another process with the same one: nothing may be
    /// acknowledged, registered or deleted any more.
    pub fn fenced(&self) -> &CancellationToken {
        &self.seen.fenced
    }

    /// The claim above this one, if any has been seen.
    pub fn fenced_by(&self) -> Option<Incarnation> {
        match self.seen.loss.get() {
            Some(Loss::Claimed(by)) => Some(*by),
            _ => None,
        }
    }

    /// Why nothing may be written any more; `None` as long as it may.
    pub fn loss(&self) -> Option<ClaimError> {
        let own = self.incarnation;
        self.seen.loss.get().map(|loss| match *loss {
            Loss::Claimed(by) => ClaimError::Fenced { own, by },
            Loss::Doubled => ClaimError::Doubled { own },
        })
    }

    /// Returns once the right is lost.
    pub async fn lost(&self) -> ClaimError {
        self.fenced().cancelled().await;
        self.loss().unwrap_or(ClaimError::Doubled { own: self.incarnation })
    }

    /// Another process that holds the same claim has written to the bucket.
    pub fn doubled(&self) -> ClaimError {
        self.lose(Loss::Doubled)
    }

    fn lose(&self, loss: Loss) -> ClaimError {
        let _ = self.seen.loss.set(loss);
        self.seen.fenced.cancel();
        self.loss().unwrap_or(ClaimError::Doubled { own: self.incarnation })
    }

    /// Asks for our own claim and for the next one's name: as long as the bucket holds the one and not the
    /// other, it is ours. The first time, also whether it is our cluster's bucket at all.
    pub async fn check(&self) -> Result<(), ClaimError> {
        if let Some(loss) = self.loss() {
            return Err(loss);
        }
        let begun = self.presence.begin();
        self.check_cluster().await?;
        let next = claim::after(self.incarnation)?;
        let next_name = ClaimName { incarnation: next }.to_string();
        let (own_claim, next_claim) = tokio::join!(self.check_claim(), self.store.info(&next_name));
        own_claim?;
        match next_claim {
            Err(StoreError::NotFound { .. }) => {
                self.presence.answered(&begun);
                Ok(())
            }
            Ok(_) => Err(self.lose(Loss::Claimed(next))),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether this is the bucket that was claimed: claims are never deleted and never change. Without ours, the true
    /// one may be back later, like one that can't be reached.
    pub async fn check_claim(&self) -> Result<(), StoreError> {
        let key = ClaimName { incarnation: self.incarnation }.to_string();
        let lacks = match self.store.read(&key, None).await {
            Ok(claim) if *self.seen.own_claim.get_or_init(|| claim.clone()) == claim => return Ok(()),
            Ok(_) => "holds another broker's claim in the place of this one's",
            Err(StoreError::NotFound { .. }) => "does not hold this broker's claim",
            Err(error) => return Err(error),
        };
        Err(StoreError::Unavailable {
            operation: "check".into(),
            key,
            message: format!(
                "the bucket {lacks}: was it emptied, unmounted or replaced? Until the one that was claimed is back, nothing \
                 is written to it, and what is acknowledged stays in the data directory"
            ),
            cause: ErrorCause::Setting,
        })
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
                bucket: bucket
                    .map_or("no cluster (it has no cluster.json: it is empty, or has lost it)".into(), cluster),
            });
        }
        self.seen.own_cluster.store(true, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use chronik_store::faulty::{FaultyStore, StoreFault, StoreOperation};
    use chronik_store::memory;

    use super::*;

    #[tokio::test]
    async fn a_later_claim_is_seen_once_and_remembered_by_all() {
        let store = Arc::new(FaultyStore::new(memory()));
        let shared: SharedStore = store.clone();
        let cluster = claim::found_cluster(&shared).await.unwrap();
        let own = claim::claim_after(&shared, None).await.unwrap();
        let ownership = BucketOwnership::new(shared.clone(), cluster, own);
        let other = ownership.clone();
        ownership.check().await.unwrap();
        let by = claim::claim_after(&shared, Some(own)).await.unwrap();
        store.fail(StoreOperation::Info, "claims/", StoreFault::Before, 1);
        assert!(matches!(other.check().await, Err(ClaimError::Store(_))));
        assert!(!ownership.fenced().is_cancelled(), "a bucket that does not answer takes nothing away");
        assert!(matches!(other.check().await, Err(ClaimError::Fenced { .. })));
        assert!(ownership.fenced().is_cancelled() && ownership.fenced_by() == Some(by));
        store.fail(StoreOperation::Info, "", StoreFault::Missing, usize::MAX);
        assert!(matches!(ownership.check().await, Err(ClaimError::Fenced { .. })));
    }

    #[tokio::test]
    async fn a_bucket_without_its_own_claim_is_waited_for() {
        let store = Arc::new(FaultyStore::new(memory()));
        let shared: SharedStore = store.clone();
        let cluster = claim::found_cluster(&shared).await.unwrap();
        let own = claim::claim_after(&shared, None).await.unwrap();
        let ownership = BucketOwnership::new(shared.clone(), cluster, own);
        ownership.check().await.unwrap();
        let key = ClaimName { incarnation: own }.to_string();
        let claimed = shared.read(&key, None).await.unwrap();
        let lacks = async |lacks: &str| {
            let refused = ownership.check().await;
            let told = matches!(&refused, Err(ClaimError::Store(error)) if error.to_string().contains(lacks));
            assert!(told, "{refused:?}");
            assert!(!ownership.fenced().is_cancelled(), "it may be back");
        };
        shared.delete(&key).await.unwrap();
        lacks("does not hold this broker's claim").await;
        claim::claim_after(&shared, None).await.unwrap();
        lacks("another broker's claim").await;
        shared.overwrite(&key, claimed).await.unwrap();
        ownership.check().await.unwrap();
    }

    #[tokio::test]
    async fn another_clusters_bucket_is_refused() {
        let store = memory();
        let ownership = BucketOwnership::new(store.clone(), Uuid::nil(), Incarnation(1));
        assert!(matches!(ownership.check().await, Err(ClaimError::Foreign { bucket, .. }) if bucket.contains("empty")));
        let cluster = claim::found_cluster(&store).await.unwrap().to_string();
        assert!(
            matches!(ownership.check().await, Err(ClaimError::Foreign { bucket, .. }) if bucket.contains(&cluster))
        );
    }
}
