//! Whether the bucket's last owner is gone, asked before the bucket is claimed. Where a lock answers that already
//! ([`Store::is_locked`](chronik_store::Store::is_locked)) the bucket is not asked.
//!
//! An owner that stopped in good order has said so in `latest`. Of any other the last sign of life must be old enough,
//! by the store's own clock: a probe object shows its time, so that no clock of any machine matters.

use std::time::SystemTime;

use bytes::Bytes;
use chronik_format::catalog::Latest;
use chronik_format::ids::{Incarnation, LaneId};
use chronik_format::names::{self, ClaimName, ProbeName};
use chronik_store::{SharedStore, StoreError};
use tokio::time::Instant;
use ulid::Ulid;

use super::claim::{self, ClaimError};
use super::{OwnershipTimes, heartbeat};

/// Why the bucket was not claimed.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// The bucket could not be asked.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// Its owner lives.
    #[error(
        "the bucket is in use: {owner} gave a sign of life while this broker was looking. Stop that one, or give this \
         one another bucket. To take the bucket away from it, start this one with --take-over (CHRONIK_TAKE_OVER): the \
         other stops within seconds, and what it acknowledged without shipping stays on its disk"
    )]
    InUse {
        /// Who, in words.
        owner: String,
    },
}

impl From<StoreError> for TakeoverError {
    fn from(error: StoreError) -> Self {
        Self::Claim(error.into())
    }
}

/// Returns once the holder of `claim`, the highest on the bucket, has given the bucket up or must be gone, and what it
/// showed of itself last.
pub async fn wait(
    store: &SharedStore,
    lane: LaneId,
    claim: Incarnation,
    rhythm: OwnershipTimes,
) -> Result<OwnerSign, TakeoverError> {
    let first = OwnerSign::read(store, lane, claim).await?;
    if first.released {
        return Ok(first);
    }
    let age = store_time(store).await?.duration_since(first.at).unwrap_or_default();
    let remaining = rhythm.quiet.saturating_sub(age);
    let owner = claim::owner(store, claim).await;
    if remaining.is_zero() {
        tracing::warn!("{owner} did not release the bucket, but gave no sign of life for {} s", age.as_secs());
        return Ok(first);
    }
    tracing::info!(
        "{owner} has not given the bucket up; its last sign of life is {} s old. Unless there is another one, this broker \
         goes on in {} s",
        age.as_secs(),
        remaining.as_secs()
    );
    let gone_at = Instant::now() + remaining;
    loop {
        tokio::time::sleep_until(gone_at.min(Instant::now() + rhythm.look)).await;
        let sign = OwnerSign::read(store, lane, claim).await?;
        if sign.released {
            return Ok(sign);
        }
        if sign != first {
            return Err(TakeoverError::InUse { owner });
        }
        if Instant::now() >= gone_at {
            tracing::warn!("{owner} did not release the bucket, but gives no sign of life any more");
            return Ok(first);
        }
    }
}

/// Whether the holder of `claim` has shown itself since `seen`: it may have come back between the look and a claim
/// above its own, and goes on until it sees that one.
pub async fn came_back(
    store: &SharedStore,
    lane: LaneId,
    claim: Incarnation,
    seen: &OwnerSign,
) -> Result<bool, ClaimError> {
    Ok(OwnerSign::read(store, lane, claim).await? != *seen)
}

/// What an owner shows of itself.
#[derive(Debug, PartialEq, Eq)]
pub struct OwnerSign {
    /// By the store's clock. An owner that has not written `latest` yet, before its first beat, has claimed at least.
    at: SystemTime,
    latest: Option<Latest>,
    released: bool,
}

impl OwnerSign {
    /// The time is read before the content: should the owner write in between, the next sign differs from this one.
    async fn read(store: &SharedStore, lane: LaneId, claim: Incarnation) -> Result<Self, ClaimError> {
        let claimed_at = store.info(&ClaimName { incarnation: claim }.to_string()).await?;
        let written_at = match store.info(&names::latest(lane)).await {
            Ok(info) => Some(info.last_modified),
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let latest = heartbeat::read(store, lane).await?;
        Ok(Self {
            at: written_at.map_or(claimed_at.last_modified, |at| at.max(claimed_at.last_modified)),
            // What an earlier owner released says nothing about this one.
            released: latest.as_ref().is_some_and(|latest| latest.released && latest.incarnation == claim),
            latest,
        })
    }
}

/// The store's time: that of an object written now, and gone again.
async fn store_time(store: &SharedStore) -> Result<SystemTime, StoreError> {
    let probe = ProbeName { ulid: Ulid::new() }.to_string();
    store.create(&probe, vec![Bytes::from_static(b"probe")]).await?;
    let written = store.info(&probe).await;
    if let Err(error) = store.delete(&probe).await {
        tracing::warn!("probe {probe} stays in the bucket for a day: {error}");
    }
    Ok(written?.last_modified)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::sync::Arc;
    use std::time::Duration;

    use chronik_format::catalog::VERSION;
    use chronik_store::clocked::ClockedStore;
    use chronik_store::memory;

    use super::*;

    const LANE: LaneId = LaneId(0);
    const OWN: Incarnation = Incarnation(1);

    async fn claimed() -> SharedStore {
        let store: SharedStore = Arc::new(ClockedStore::new(memory()));
        claim::claim_after(&store, None).await.unwrap();
        store
    }

    async fn beat(store: &SharedStore, incarnation: Incarnation, beat: u64, released: bool) {
        let latest = Latest {
            v: VERSION.into(),
            incarnation,
            lane: LANE,
            index: 1,
            export: "export".into(),
            root_position: 0,
            root_length: 0,
            root_crc: 0,
            writer: String::new(),
            beat,
            released,
        };
        store.overwrite(&names::latest(LANE), latest.encode().into()).await.unwrap();
    }

    async fn waited(store: &SharedStore, claim: Incarnation) -> (Result<OwnerSign, TakeoverError>, u64) {
        let began = Instant::now();
        let outcome = wait(store, LANE, claim, OwnershipTimes::default()).await;
        assert!(store.list(names::PROBES).await.unwrap().is_empty(), "probes are removed");
        (outcome, began.elapsed().as_secs())
    }

    async fn pass(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_that_was_given_up_is_free_at_once() {
        let store = claimed().await;
        beat(&store, OWN, 3, true).await;
        assert!(matches!(waited(&store, OWN).await, (Ok(_), 0)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_is_gone_after_ninety_seconds_of_silence() {
        for (silent, left) in [(0, 90), (60, 30), (89, 1), (90, 0), (100_000, 0)] {
            let store = claimed().await;
            beat(&store, OWN, 3, false).await;
            pass(silent).await;
            let (outcome, waited) = waited(&store, OWN).await;
            assert!(outcome.is_ok() && waited == left, "{silent} s: {outcome:?} after {waited} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_that_beats_is_not_disturbed() {
        for after in [1, 29, 88] {
            let store = claimed().await;
            beat(&store, OWN, 3, false).await;
            let living = store.clone();
            let life = tokio::spawn(async move {
                pass(after).await;
                beat(&living, OWN, 4, false).await;
            });
            let (outcome, waited) = waited(&store, OWN).await;
            let refusal = outcome.unwrap_err().to_string();
            assert!(refusal.contains("incarnation 00000001") && refusal.contains("--take-over"), "{refusal}");
            assert!(waited <= after + 5, "it is refused soon, not after {waited} s");
            life.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_that_stops_meanwhile_makes_room() {
        let store = claimed().await;
        beat(&store, OWN, 3, false).await;
        let leaving = store.clone();
        let life = tokio::spawn(async move {
            pass(20).await;
            beat(&leaving, OWN, 4, true).await;
        });
        let (outcome, waited) = waited(&store, OWN).await;
        assert!(outcome.is_ok() && waited <= 25, "{outcome:?} after {waited} s");
        life.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_damaged_latest_is_waited_for_like_one_that_says_held() {
        let store = claimed().await;
        pass(1000).await;
        let damaged = Bytes::from_static(b"{\"released\":true");
        store.overwrite(&names::latest(LANE), damaged).await.unwrap();
        pass(30).await;
        assert!(matches!(waited(&store, OWN).await, (Ok(_), 60)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_between_the_look_and_the_claim_is_seen() {
        for released in [true, false] {
            let store = claimed().await;
            beat(&store, OWN, 3, released).await;
            pass(100).await;
            let seen = wait(&store, LANE, OWN, OwnershipTimes::default()).await.unwrap();
            assert!(!came_back(&store, LANE, OWN, &seen).await.unwrap());
            beat(&store, OWN, 4, false).await;
            assert!(came_back(&store, LANE, OWN, &seen).await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_earlier_owner_released_does_not_count() {
        let store = claimed().await;
        beat(&store, OWN, 3, true).await;
        pass(1000).await;
        let later = claim::claim_after(&store, Some(OWN)).await.unwrap();
        pass(50).await;
        let (outcome, waited) = waited(&store, later).await;
        assert!(outcome.is_ok() && waited == 40, "{outcome:?}: the claim itself is a sign of life for {waited} s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_without_a_catalog_is_waited_for_too() {
        let store = claimed().await;
        assert!(matches!(waited(&store, OWN).await, (Ok(_), 90)));
    }
}
