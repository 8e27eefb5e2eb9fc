//! What goes away, and when that is safe.
//!
//! A [run](ObjectDeletion::run) deletes what the lane's state has tombstoned ([`tombstones`]), the oldest segments,
//! once nothing needs them ([`dropped_segments`]), and what is superseded by name ([`superseded`]); once a day the
//! whole bucket is [looked through](ObjectDeletion::look_through) for unknown objects ([`orphans`]). The claims are
//! read again before anything is deleted. Every step may be cut short and done again: an object that is gone counts as
//! deleted, and what says so is a command of its own.

mod checkpoints;
mod dropped_segments;
mod known;
mod object;
mod orphans;
mod segment_names;
mod superseded;
#[cfg(test)]
mod tests;
mod tombstones;
mod trees;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chronik_format::catalog::{CatalogError, CatalogReader};
use chronik_format::ids::{LogIndex, Timestamp};
use chronik_format::origin::Origin;
use chronik_service::failpoint;
use chronik_store::{SharedStore, StoreError};
use futures::{StreamExt, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::checkpoints::BucketCheckpoints;
use self::object::NamedObject;
use self::tombstones::SettledCatalogs;
use crate::clock::now_ms;
use crate::lane::{Lane, LaneError, LaneGone};
use crate::metrics::DeletionMetrics;
use crate::ownership::BucketOwnership;
use crate::ownership::claim::ClaimError;
use crate::state::checkpoint::StateCheckpointError;
use crate::state::command::Command;

const MINUTE_MS: i64 = 60 * 1000;
/// How long a superseded object stays, for readers that don't know yet.
const GRACE_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
/// How often there is a run. There is also one after each checkpoint.
const RUN_EVERY: Duration = Duration::from_secs(60);
/// How long after the start the bucket is looked through for the first time.
const FIRST_LOOK_MS: i64 = 120 * MINUTE_MS;
/// How soon a look that failed is tried again.
const LOOK_RETRY_MS: i64 = 60 * MINUTE_MS;
/// After each page with orphans, so that the store has time for others.
const PAUSE: Duration = Duration::from_secs(1);
/// Requests at the same time.
const DELETES_AT_ONCE: usize = 8;
/// Objects that are deleted, or names that a command holds, in one go.
const BATCH: usize = 1000;

/// Why a run ended early; the next one begins anew.
#[derive(Debug, thiserror::Error)]
pub enum DeletionError {
    /// The bucket could not be reached, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The claims can't be read, or another broker owns the bucket.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The catalog can't be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The oldest kept checkpoint can't be read, so it is unknown what it needs.
    #[error("checkpoint {key}: {source}; nothing unknown is deleted as long as it is there")]
    Checkpoint {
        /// The object's name.
        key: String,
        /// Why.
        source: StateCheckpointError,
    },
    /// The lane has ended.
    #[error(transparent)]
    Gone(#[from] LaneGone),
}

/// Where one lane's objects are deleted.
pub struct DeletionParts {
    /// Whose bucket it is, and the claim under which it deletes.
    pub origin: Origin,
    /// The lane's owner.
    pub lane: Lane,
    /// The bucket.
    pub store: SharedStore,
    /// Asked before anything is deleted.
    pub ownership: BucketOwnership,
    /// What readers go by.
    pub catalog: Arc<CatalogReader>,
    /// What is counted.
    pub metrics: DeletionMetrics,
}

/// Deletes one lane's objects. It remembers what it has seen since its start; a new one waits a little longer.
pub struct ObjectDeletion {
    parts: DeletionParts,
    settled: SettledCatalogs,
    /// Superseded exports, and since when they have been known to be.
    unnamed: BTreeMap<String, Timestamp>,
    /// When a checkpoint was last asked for.
    asked_at: Option<Timestamp>,
    pause: Duration,
}

impl ObjectDeletion {
    /// Nothing is deleted yet.
    pub fn new(parts: DeletionParts) -> Self {
        for kind in NamedObject::KINDS {
            // There from the start, so that the first deletion shows as an increase.
            parts.metrics.deleted.with_label_values(&[kind]);
        }
        Self { parts, settled: SettledCatalogs::default(), unnamed: BTreeMap::new(), asked_at: None, pause: PAUSE }
    }

    /// Deletes until cancelled, or until another broker owns the bucket. `checkpoints` reports new ones in the bucket.
    pub async fn run_always(
        mut self,
        mut checkpoints: watch::Receiver<LogIndex>,
        cancel: CancellationToken,
    ) -> Result<(), ClaimError> {
        let mut look_at = now_ms() + FIRST_LOOK_MS;
        loop {
            let looks = now_ms() >= look_at;
            if looks {
                look_at = now_ms() + LOOK_RETRY_MS;
            }
            let run = async {
                self.run(now_ms()).await?;
                if looks {
                    self.look_through(now_ms()).await?;
                }
                Ok(())
            };
            match cancel.run_until_cancelled(run).await {
                Some(Ok(())) if looks => look_at = now_ms() + DAY_MS,
                Some(Ok(())) => {}
                None | Some(Err(DeletionError::Gone(_))) => return Ok(()),
                Some(Err(DeletionError::Claim(lost @ (ClaimError::Fenced { .. } | ClaimError::Doubled { .. })))) => {
                    return Err(lost);
                }
                Some(Err(error)) => tracing::warn!("deletion goes on later: {error}"),
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                Ok(()) = checkpoints.changed() => {}
                () = tokio::time::sleep(RUN_EVERY) => {}
            }
        }
    }

    /// Deletes what neither state nor readers need any more, as of `now`.
    pub async fn run(&mut self, now: Timestamp) -> Result<(), DeletionError> {
        let checkpoints = BucketCheckpoints::list(&*self.parts.store, self.parts.origin.lane).await?;
        let catalog = self.parts.catalog.refresh().await?;
        self.settled.see(self.parts.origin.incarnation, catalog.generation(), now);
        // What was listed above stays right even if a new owner claims the bucket from here on.
        self.parts.ownership.check().await?;
        failpoint!("deletion-checked");
        self.delete_results().await?;
        self.delete_tombstoned(&checkpoints, now).await?;
        self.delete_dropped(&checkpoints, now).await?;
        self.delete_superseded(&checkpoints, &catalog, now).await
    }

    /// Deletes objects, and returns those that are gone. One that can't be deleted now is met again.
    async fn delete(&self, what: &str, keys: Vec<String>) -> Vec<String> {
        let asked = keys.len();
        let (gone, failure) = self.delete_objects(keys).await;
        if !gone.is_empty() {
            tracing::info!("deleted {} {what}", gone.len());
        }
        if let Some(error) = failure {
            tracing::warn!("{} {what} are not deleted yet: {error}", asked - gone.len());
        }
        gone
    }

    /// Deletes objects: those that are gone, and why others are not.
    async fn delete_objects(&self, keys: Vec<String>) -> (Vec<String>, Option<StoreError>) {
        let asked = keys.len();
        let deletes = stream::iter(keys).map(|key| async move {
            let deleted = self.parts.store.delete(&key).await;
            deleted.map(|()| key)
        });
        let answers: Vec<_> = deletes.buffer_unordered(DELETES_AT_ONCE).collect().await;
        let mut gone = Vec::with_capacity(asked);
        let mut failure = None;
        for answer in answers {
            match answer {
                Ok(key) => gone.push(key),
                Err(error) => failure = Some(error),
            }
        }
        for object in gone.iter().filter_map(|key| NamedObject::named(key)) {
            self.parts.metrics.deleted.with_label_values(&[object.kind()]).inc();
        }
        if !gone.is_empty() {
            failpoint!("objects-deleted");
        }
        (gone, failure)
    }

    /// Proposes bookkeeping that is proposed again by a later run should it not go through now.
    async fn propose(&self, command: Command) -> Result<(), LaneGone> {
        match self.parts.lane.propose(command).await {
            Err(LaneError::Gone(gone)) => Err(gone),
            Err(error) => {
                tracing::warn!("what was deleted is not booked yet: {error}");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }
}
