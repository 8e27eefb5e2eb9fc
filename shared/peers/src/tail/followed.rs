//! A tail with a copy of what searches are about, so that a topic that is searched often is not asked for each time.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt, TryStreamExt};
use prometheus::{IntCounter, IntGauge};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::copies::{FollowOutcome, TailCopies};
use super::{SharedTail, Tail, TailError, TailTopic};
use chronik_format::ids::{Offset, PartitionId, TopicId};
use chronik_service::telemetry::Metrics;

/// How long the broker is asked to wait for records.
const WAIT: Duration = Duration::from_secs(20);
/// How long to leave a broker alone that did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes that are read at a time.
const READ_BYTES: usize = 1 << 20;
/// Partitions of a topic that are read at a time.
const BREADTH: usize = 4;

/// How much is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowLimits {
    /// Bytes of all copies.
    pub bytes: usize,
    /// Topics at a time; others are read from the broker.
    pub topics: usize,
    /// How long after its last query a topic is followed.
    pub idle: Duration,
    /// How long a query waits for the copy to get to where the broker stands.
    pub patience: Duration,
}

impl Default for FollowLimits {
    /// 64 MiB, 128 topics, ten minutes, 500 ms.
    fn default() -> Self {
        Self { bytes: 64 << 20, topics: 128, idle: Duration::from_secs(600), patience: Duration::from_millis(500) }
    }
}

/// Follows each topic from its first query until some time after the last, within one limit of bytes. A query learns
/// the broker's own position, then waits a moment for the copy to get there; what the copy does not have is read from
/// the broker.
pub struct FollowedTail {
    shared: Arc<Shared>,
    wanted: mpsc::Sender<Wanted>,
}

/// Keeps the copies of a [`FollowedTail`] up to date. Without it everything is read from the broker.
pub struct TailFollower {
    shared: Arc<Shared>,
    wanted: mpsc::Receiver<Wanted>,
}

struct Shared {
    tail: SharedTail,
    limits: FollowLimits,
    copies: Mutex<TailCopies>,
    metrics: FollowMetrics,
}

/// A topic to be followed from a position on.
struct Wanted {
    position: TailTopic,
    following: u64,
}

struct FollowMetrics {
    bytes: IntGauge,
    topics: IntGauge,
    copied: IntCounter,
    asked: IntCounter,
}

impl FollowedTail {
    /// A copy of `tail`. The caller [runs](TailFollower::run) the follower.
    pub fn new(tail: SharedTail, limits: FollowLimits, metrics: &Metrics) -> (Self, TailFollower) {
        let (sender, wanted) = mpsc::channel(limits.topics.max(1));
        let shared = Arc::new(Shared {
            tail,
            limits,
            copies: Mutex::new(TailCopies::new(limits.bytes, limits.topics)),
            metrics: FollowMetrics::register(metrics),
        });
        let followed = Self { shared: shared.clone(), wanted: sender };
        (followed, TailFollower { shared, wanted })
    }

    /// Waits for the topic's copy to get to `position`, as long as there is hope.
    async fn await_copy(&self, position: &TailTopic) {
        let wish = self.shared.copies().wish(position, Instant::now());
        let changed = match wish {
            FollowOutcome::Refused => return,
            FollowOutcome::Followed(changed) => changed,
            FollowOutcome::New(changed, following) => {
                let position = position.clone();
                let id = position.id;
                if self.wanted.try_send(Wanted { position, following }).is_err() {
                    self.shared.copies().remove(id, following);
                }
                changed
            }
        };
        let there = async {
            loop {
                let notice = changed.notified();
                if !self.shared.copies().is_on_the_way(position) {
                    return;
                }
                notice.await;
            }
        };
        // What is missing then is read from the broker.
        let _ = timeout(self.shared.limits.patience, there).await;
    }
}

#[async_trait]
impl Tail for FollowedTail {
    async fn topics(&self) -> Result<Vec<String>, TailError> {
        self.shared.tail.topics().await
    }

    async fn topic(&self, name: &str) -> Result<Option<TailTopic>, TailError> {
        let position = self.shared.tail.topic(name).await?;
        if let Some(position) = &position {
            self.await_copy(position).await;
        }
        Ok(position)
    }

    async fn moved(&self, topic: TopicId, reach: i64, wait: Duration) -> Result<TailTopic, TailError> {
        self.shared.tail.moved(topic, reach, wait).await
    }

    async fn read(
        &self,
        topic: TopicId,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, TailError> {
        let copied = self.shared.copies().read(topic, partition, from, max_bytes);
        if let Some(batches) = copied.filter(|batches| !batches.is_empty()) {
            self.shared.metrics.copied.inc();
            return Ok(batches);
        }
        self.shared.metrics.asked.inc();
        self.shared.tail.read(topic, partition, from, max_bytes).await
    }
}

impl TailFollower {
    /// Follows what queries are about until cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut followings = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                wanted = self.wanted.recv() => match wanted {
                    Some(wanted) => followings.push(self.shared.follow(wanted)),
                    None => return,
                },
                Some(()) = followings.next(), if !followings.is_empty() => {}
            }
        }
    }
}

impl Shared {
    fn copies(&self) -> MutexGuard<'_, TailCopies> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a topic until no query has asked for it for long, it is deleted, or other topics need the memory.
    async fn follow(&self, Wanted { position, following }: Wanted) {
        let id = position.id;
        let mut caught_up = self.catch_up(&position, following).await;
        let mut reach = position.reach();
        let mut silent = false;
        while self.is_wanted(id, following) {
            let moved = match caught_up {
                Ok(()) => self.tail.moved(id, reach, WAIT).await,
                // Where it stands now, not where it moves to.
                Err(_) => self.tail.moved(id, i64::MIN, Duration::ZERO).await,
            };
            caught_up = match moved {
                Ok(position) => {
                    reach = position.reach();
                    self.copies().stand(&position);
                    self.catch_up(&position, following).await
                }
                Err(error) => Err(error),
            };
            match &caught_up {
                Ok(()) => silent = false,
                Err(TailError::UnknownTopic { .. }) => break,
                Err(error) => {
                    if !std::mem::replace(&mut silent, true) {
                        tracing::warn!("the broker's tail can't be followed, searches ask for it: {error}");
                    }
                    self.copies().fail(id);
                    self.show();
                    sleep(PAUSE).await;
                }
            }
        }
        self.copies().remove(id, following);
        self.show();
    }

    /// Reads what the copy lacks up to `position`.
    async fn catch_up(&self, position: &TailTopic, following: u64) -> Result<(), TailError> {
        let behind = self.copies().behind(position);
        let reads =
            behind.into_iter().map(|(partition, offsets)| self.copy(position.id, partition, offsets, following));
        futures::stream::iter(reads).buffer_unordered(BREADTH).try_collect::<()>().await
    }

    async fn copy(
        &self,
        topic: TopicId,
        partition: PartitionId,
        offsets: Range<Offset>,
        following: u64,
    ) -> Result<(), TailError> {
        let mut from = offsets.start;
        while from < offsets.end && self.is_wanted(topic, following) {
            match self.tail.read(topic, partition, from, READ_BYTES).await {
                Ok(batches) => {
                    let to = self.copies().add(topic, partition, from, &batches);
                    self.show();
                    match to {
                        Some(to) if to > from => from = to,
                        _ => return Ok(()),
                    }
                }
                Err(TailError::TooOld { start, .. }) if start > from => from = start,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn is_wanted(&self, topic: TopicId, following: u64) -> bool {
        self.copies().is_wanted(topic, following, Instant::now(), self.limits.idle)
    }

    fn show(&self) {
        let copies = self.copies();
        self.metrics.bytes.set(copies.bytes() as i64);
        self.metrics.topics.set(copies.topics() as i64);
    }
}

impl FollowMetrics {
    fn register(metrics: &Metrics) -> Self {
        Self {
            bytes: metrics.gauge("chronik_tail_copy_bytes", "Bytes of the copy of the broker's tail."),
            topics: metrics.gauge("chronik_tail_followed_topics", "Topics whose tail is followed."),
            copied: metrics.counter("chronik_tail_copy_reads_total", "Reads of the tail that its copy answered."),
            asked: metrics.counter("chronik_tail_broker_reads_total", "Reads of the tail that the broker answered."),
        }
    }
}
