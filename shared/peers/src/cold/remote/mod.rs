//! Old records through query workers, whose caches all reads share.
//!
//! A worker is chosen by the part of the partition that is read. If it is slow, another one is asked as well, within
//! limits; if it fails, the next; and at last the bucket itself.

mod hedge;
mod ranking;
mod worker;

use std::pin::pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use prometheus::IntCounter;
use tokio::time::{Instant, sleep};

use self::hedge::HedgePolicy;
use self::ranking::ranking;
pub(super) use self::worker::{QueryWorker, WorkerError};
use super::routes::{FetchAsked, TimeAsked};
use super::{ColdError, ColdReader, SharedColdReader};
use chronik_format::ids::{Offset, PartitionId, Timestamp, TopicId};
use chronik_service::http_client::HttpClient;
use chronik_service::setting::Endpoints;
use chronik_service::telemetry::Metrics;

/// Workers that are asked for one read, at most.
const WORKERS_MAX: usize = 3;

/// Reads through query workers, and through a reader in process where they don't answer.
pub struct RemoteReaders {
    client: HttpClient,
    workers: Vec<QueryWorker>,
    local: SharedColdReader,
    hedge: HedgePolicy,
    metrics: ColdMetrics,
}

struct ColdMetrics {
    hedges: IntCounter,
    failovers: IntCounter,
    local: IntCounter,
}

impl RemoteReaders {
    /// Asks the query workers at `endpoints`; `local` has the last word.
    pub fn new(endpoints: &Endpoints, client: HttpClient, local: SharedColdReader, metrics: &Metrics) -> Self {
        Self {
            client,
            workers: endpoints.iter().cloned().map(QueryWorker::new).collect(),
            local,
            hedge: HedgePolicy::default(),
            metrics: ColdMetrics::register(metrics),
        }
    }

    /// The workers for an offset that are fit, the first choice first.
    fn choices(&self, topic: TopicId, partition: PartitionId, offset: Offset) -> Vec<&QueryWorker> {
        let now = Instant::now();
        let endpoints = self.workers.iter().map(|worker| worker.endpoint.as_str());
        ranking(endpoints, topic, partition, offset)
            .into_iter()
            .filter_map(|at| self.workers.get(at))
            .filter(|worker| worker.is_fit(now))
            .take(WORKERS_MAX)
            .collect()
    }

    /// The first answer of a worker; `None` if the reader in process has to be asked.
    async fn ask_workers<'a, T>(
        &'a self,
        choices: Vec<&'a QueryWorker>,
        ask: impl Fn(&'a QueryWorker) -> BoxFuture<'a, Result<T, WorkerError>>,
    ) -> Option<T> {
        let mut choices = choices.into_iter();
        let mut patience = pin!(sleep(self.hedge.begin()));
        let mut is_patient = true;
        // In the order in which they were asked.
        let mut asked = vec![choices.next()?];
        let mut asking = FuturesUnordered::new();
        let timed = |worker: &'a QueryWorker| {
            let (begun, answer) = (Instant::now(), ask(worker));
            async move { (worker, answer.await, begun.elapsed()) }
        };
        asking.push(timed(asked[0]));
        loop {
            tokio::select! {
                biased;
                Some((worker, answer, took)) = asking.next() => match answer {
                    Ok(answer) => {
                        worker.succeeded();
                        self.hedge.answered(took);
                        let slower = asked.iter().take_while(|slower| !std::ptr::eq(**slower, worker));
                        slower.for_each(|slower| slower.overtaken(Instant::now()));
                        return Some(answer);
                    }
                    // The worker is well, but its catalog, its caches or its bucket may not be ours.
                    Err(WorkerError::Told(error)) if !error.is_of_storage() => return None,
                    Err(error) => {
                        asked.retain(|other| !std::ptr::eq(*other, worker));
                        self.metrics.failovers.inc();
                        if worker.failed(Instant::now()) {
                            tracing::warn!("a query worker is not asked for a while, others read in its place: {error}");
                        }
                        if asking.is_empty() {
                            let next = choices.next()?;
                            asked.push(next);
                            asking.push(timed(next));
                        }
                    }
                },
                () = &mut patience, if is_patient => {
                    is_patient = false;
                    if self.hedge.may_send() {
                        self.metrics.hedges.inc();
                        let Some(next) = choices.next() else {
                            asked.iter().for_each(|slow| slow.overtaken(Instant::now()));
                            return None;
                        };
                        asked.push(next);
                        asking.push(timed(next));
                    }
                }
            }
        }
    }
}

#[async_trait]
impl ColdReader for RemoteReaders {
    async fn fetch(
        &self,
        topic: TopicId,
        partition: PartitionId,
        offset: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, ColdError> {
        let asked = FetchAsked { topic, partition, offset, max_bytes };
        let ask = |worker| fetch_from(worker, &self.client, asked);
        let choices = self.choices(topic, partition, offset);
        if let Some(batches) = self.ask_workers(choices, ask).await {
            return Ok(batches);
        }
        self.metrics.local.inc();
        self.local.fetch(topic, partition, offset, max_bytes).await
    }

    async fn offset_for_time(
        &self,
        topic: TopicId,
        partition: PartitionId,
        from: Offset,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, ColdError> {
        let asked = TimeAsked { topic, partition, from, timestamp };
        let ask = |worker| find_at(worker, &self.client, asked);
        let choices = self.choices(topic, partition, from);
        if let Some(found) = self.ask_workers(choices, ask).await {
            return Ok(found);
        }
        self.metrics.local.inc();
        self.local.offset_for_time(topic, partition, from, timestamp).await
    }
}

fn fetch_from<'a>(
    worker: &'a QueryWorker,
    client: &'a HttpClient,
    asked: FetchAsked,
) -> BoxFuture<'a, Result<Vec<Bytes>, WorkerError>> {
    async move { worker.fetch(client, &asked).await }.boxed()
}

fn find_at<'a>(
    worker: &'a QueryWorker,
    client: &'a HttpClient,
    asked: TimeAsked,
) -> BoxFuture<'a, Result<Option<(Offset, Timestamp)>, WorkerError>> {
    async move { worker.time(client, &asked).await }.boxed()
}

impl ColdError {
    /// Whether the store failed, so that another worker may succeed.
    fn is_of_storage(&self) -> bool {
        matches!(self, Self::Store(_))
    }
}

impl ColdMetrics {
    fn register(metrics: &Metrics) -> Self {
        Self {
            hedges: metrics.counter(
                "chronik_cold_fetch_hedges_total",
                "Reads of old records sent a second time because the first worker was slow.",
            ),
            failovers: metrics
                .counter("chronik_cold_fetch_failovers_total", "Requests for old records that a query worker failed."),
            local: metrics.counter(
                "chronik_cold_fetch_local_total",
                "Reads of old records from the bucket itself because no query worker answered.",
            ),
        }
    }
}
