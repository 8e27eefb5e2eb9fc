//! Retention: deletes the oldest records of topics that have `retention.ms` or `retention.bytes`, as a client could by
//! DeleteRecords, and takes what is deleted out of pages that hold other records, too.

mod log_walk;
mod trimming;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chronik_format::catalog::CatalogReader;
use chronik_format::ids::{Offset, PartitionId, Timestamp, TopicId};
use chronik_format::origin::Origin;
use chronik_service::failpoint;
use chronik_store::SharedStore;
use tokio_util::sync::CancellationToken;

use self::log_walk::{ExpiredRecords, LogWalk, RetentionLimits};
use crate::clock::now_ms;
use crate::lane::{Lane, LaneError, LaneGone};
use crate::metrics::RetentionMetrics;
use crate::state::LaneState;
use crate::state::command::{DeleteRecords, FirstKept};
use crate::state::topic::TopicState;
use crate::state::topic_config::TopicRetention;
use crate::store_clock;

/// Pages of a topic that one look reads to find out what goes, and as many to take it out.
const PAGES_READ_MAX: usize = 64;

/// Where retention works.
pub struct RetentionParts {
    /// Whose pages it writes.
    pub origin: Origin,
    /// The lane itself.
    pub lane: Lane,
    /// The bucket.
    pub store: SharedStore,
    /// Reads pages.
    pub catalog: Arc<CatalogReader>,
    pub metrics: RetentionMetrics,
}

/// Retention of one lane's topics. What it remembers is a few bytes for each partition.
pub struct Retention {
    parts: RetentionParts,
    /// Of topics that need more pages than a look reads: the partitions that had their turn.
    had_turn: HashMap<TopicId, BTreeSet<PartitionId>>,
    /// Where the logs started when a topic's pages were last trimmed, by partition.
    trimmed_at: HashMap<TopicId, Vec<Offset>>,
}

impl Retention {
    pub fn new(parts: RetentionParts) -> Self {
        Self { parts, had_turn: HashMap::new(), trimmed_at: HashMap::new() }
    }

    /// Looks through all topics every so often, until it is stopped.
    pub async fn run_always(mut self, every: Duration, stop: CancellationToken) {
        let looks = async {
            loop {
                tokio::time::sleep(every).await;
                if self.look(now_ms()).await.is_err() {
                    return;
                }
            }
        };
        stop.run_until_cancelled(looks).await;
    }

    /// Deletes what is not to be kept as of `now`. What can't be done now is done by a later look.
    pub async fn look(&mut self, now: Timestamp) -> Result<(), LaneGone> {
        let state = self.parts.lane.snapshot().await?;
        let mut clock = StoreClock::default();
        for topic in state.topics.values().filter(|topic| topic.config.retention() != TopicRetention::default()) {
            self.expire(&state, topic, now, &mut clock).await?;
        }
        let state = self.parts.lane.snapshot().await?;
        for topic in state.topics.values() {
            self.trim(&state, topic, now).await?;
        }
        self.had_turn.retain(|id, _| state.topics.contains_key(id));
        self.trimmed_at.retain(|id, _| state.topics.contains_key(id));
        Ok(())
    }

    async fn expire(
        &mut self,
        state: &LaneState,
        topic: &TopicState,
        now: Timestamp,
        clock: &mut StoreClock,
    ) -> Result<(), LaneGone> {
        let retention = topic.config.retention();
        let mut limits =
            RetentionLimits { before: retention.ms.map(|ms| now.saturating_sub(ms)), bytes: retention.bytes };
        let mut expired = self.expired(state, topic, limits).await;
        if !expired.is_empty() && limits.before.is_some() && !clock.agrees(&self.parts, now).await {
            limits.before = None;
            expired = self.expired(state, topic, limits).await;
        }
        // Who has just changed it must not see it enforced as it was.
        let is_current = self.parts.lane.topics().get(topic.id).is_some_and(|known| known.config == topic.config);
        match expired.is_empty() || !is_current {
            true => Ok(()),
            false => self.delete(topic, &expired, now).await,
        }
    }

    /// What goes, as far as this look comes. Where it reads all the pages that it may, the next ones leave out the
    /// partitions that are decided, until all had their turn.
    async fn expired(&mut self, state: &LaneState, topic: &TopicState, limits: RetentionLimits) -> Vec<ExpiredRecords> {
        let had_turn = self.had_turn.remove(&topic.id).unwrap_or_default();
        let mut walk = LogWalk::new(topic, &state.segments, limits, &had_turn);
        let mut pages_read = 0;
        while let Some(entry) = walk.next_page() {
            if pages_read == PAGES_READ_MAX {
                self.had_turn.insert(topic.id, walk.decided());
                break;
            }
            pages_read += 1;
            match self.parts.catalog.page(topic.id, &entry).await {
                Ok(page) => walk.enter(&entry, &page),
                Err(error) => {
                    tracing::warn!("retention of topic {} goes no further for now: {error}", topic.name);
                    break;
                }
            }
        }
        walk.expired()
    }

    async fn delete(&self, topic: &TopicState, expired: &[ExpiredRecords], now: Timestamp) -> Result<(), LaneGone> {
        let first_kept =
            |expired: &ExpiredRecords| FirstKept { partition: expired.partition, offset: Some(expired.log_start) };
        let partitions = expired.iter().map(first_kept).collect();
        failpoint!("retention-planned");
        let outcomes =
            match self.parts.lane.delete_records(DeleteRecords { topic: topic.id, partitions, at: now }).await {
                Err(LaneError::Gone(gone)) => return Err(gone),
                Err(error) => {
                    tracing::warn!("retention of topic {} is tried again: {error}", topic.name);
                    return Ok(());
                }
                Ok(outcomes) => outcomes,
            };
        failpoint!("retention-moved");
        let deleted = expired.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_ok());
        let (offsets, bytes) = deleted.fold((0, 0u64), |(offsets, bytes), (expired, _)| {
            (offsets + expired.offsets.unsigned_abs(), bytes.saturating_add(expired.bytes))
        });
        self.parts.metrics.records.inc_by(offsets);
        self.parts.metrics.bytes.inc_by(bytes);
        tracing::info!("retention deleted {offsets} records of topic {}, in {bytes} bytes", topic.name);
        Ok(())
    }
}

/// Whether the bucket's clock agrees with ours; asked once a look at the most.
#[derive(Default)]
struct StoreClock {
    agrees: Option<bool>,
}

impl StoreClock {
    /// By a clock that is wrong a whole history may be too old.
    async fn agrees(&mut self, parts: &RetentionParts, now: Timestamp) -> bool {
        if let Some(agrees) = self.agrees {
            return agrees;
        }
        let agrees = match store_clock::disagrees_by(&*parts.store, now).await {
            Ok(None) => true,
            Ok(Some(seconds)) => {
                tracing::warn!(
                    "the clocks of the bucket and of this machine differ by {seconds} s: no records are deleted for \
                     their age until they agree"
                );
                false
            }
            Err(error) => {
                tracing::warn!("no records are deleted for their age, as the bucket's clock can't be read: {error}");
                false
            }
        };
        self.agrees = Some(agrees);
        agrees
    }
}
