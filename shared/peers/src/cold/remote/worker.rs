//! One query worker: asking it, and whether it is worth asking.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::Serialize;
use tokio::time::{Duration, Instant};

use super::super::routes::{FETCH_BYTES_MAX, FetchAsked, TimeAsked, TimeFound};
use super::super::{ColdError, fault};
use chronik_format::batch::{BATCH_BYTES_MAX, BatchHeader, TRANSFER_HEADER_LENGTH, unpack};
use chronik_format::ids::{Offset, Timestamp};
use chronik_service::http_client::{HttpClient, HttpError};
use chronik_service::setting::Endpoint;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of an answer that holds no batches.
const DOCUMENT_BYTES_MAX: usize = 1 << 16;
/// How long a worker is left alone after its first failure, and at most.
const REST: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// So often a worker may be overtaken by another in a row before that counts as a failure.
const OVERTAKEN_MAX: u32 = 3;

/// A query worker.
#[derive(Debug)]
pub(in super::super) struct QueryWorker {
    pub(super) endpoint: Endpoint,
    health: Mutex<Health>,
}

/// How a worker has done lately.
#[derive(Debug, Default)]
struct Health {
    failures: u32,
    overtaken: u32,
    rests_until: Option<Instant>,
}

/// What became of asking a worker.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum WorkerError {
    /// It answered with an error of its reader.
    #[error(transparent)]
    Told(ColdError),
    /// It did not answer as it should.
    #[error("{reason}")]
    Failed { reason: String },
}

impl QueryWorker {
    pub(in super::super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, health: Mutex::default() }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is to be asked now.
    pub(super) fn is_fit(&self, now: Instant) -> bool {
        self.health().rests_until.is_none_or(|until| now >= until)
    }

    /// It answered.
    pub(super) fn succeeded(&self) {
        *self.health() = Health::default();
    }

    /// It did not answer; true if it was fit before.
    pub(super) fn failed(&self, now: Instant) -> bool {
        self.health().fail(now)
    }

    /// Another answered earlier.
    pub(super) fn overtaken(&self, now: Instant) {
        let mut health = self.health();
        health.overtaken += 1;
        if health.overtaken >= OVERTAKEN_MAX {
            health.fail(now);
        }
    }

    pub(in super::super) async fn fetch(
        &self,
        client: &HttpClient,
        asked: &FetchAsked,
    ) -> Result<Vec<Bytes>, WorkerError> {
        let max_bytes = asked.max_bytes.min(FETCH_BYTES_MAX);
        let bytes_max = TRANSFER_HEADER_LENGTH + max_bytes.max(BATCH_BYTES_MAX);
        let body = self.ask(client, "/v1/fetch", asked, bytes_max).await?;
        let batches = unpack(body, asked.offset).map_err(|error| self.strange(error))?;
        let first = batches.first().and_then(|batch| BatchHeader::parse(batch).ok());
        match first {
            Some(first) if first.base_offset <= asked.offset => Ok(batches),
            _ => Err(self.strange("its batches do not contain what was asked for")),
        }
    }

    pub(in super::super) async fn time(
        &self,
        client: &HttpClient,
        asked: &TimeAsked,
    ) -> Result<Option<(Offset, Timestamp)>, WorkerError> {
        let body = self.ask(client, "/v1/fetch/time", asked, DOCUMENT_BYTES_MAX).await?;
        let TimeFound { found } = serde_json::from_slice(&body).map_err(|error| self.strange(error))?;
        match found {
            Some(found) if found.offset < asked.from || found.timestamp < asked.timestamp => {
                Err(self.strange("it found a record that was not asked for"))
            }
            found => Ok(found.map(|found| (found.offset, found.timestamp))),
        }
    }

    async fn ask(
        &self,
        client: &HttpClient,
        path: &str,
        asked: &(impl Serialize + Sync),
        bytes_max: usize,
    ) -> Result<Bytes, WorkerError> {
        let request = client.post(&self.endpoint, path).json(asked);
        let answer = client.answer(request, DEADLINE, bytes_max).await;
        answer.map_err(|error| {
            let told = match &error {
                HttpError::Refused { problem, .. } => fault::told(problem),
                _ => None,
            };
            told.map_or_else(|| WorkerError::Failed { reason: error.to_string() }, WorkerError::Told)
        })
    }

    fn strange(&self, reason: impl ToString) -> WorkerError {
        let reason = format!("{}: {}", self.endpoint, reason.to_string());
        WorkerError::Failed { reason }
    }
}

impl Health {
    fn fail(&mut self, now: Instant) -> bool {
        let rest = REST.0.saturating_mul(1 << self.failures.min(16)).min(REST.1);
        let was_fit = self.failures == 0;
        self.failures += 1;
        self.overtaken = 0;
        self.rests_until = Some(now + rest);
        was_fit
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[tokio::test]
    async fn a_worker_rests_longer_the_more_often_it_fails() {
        let worker = QueryWorker::new("a:1".parse().unwrap());
        let now = Instant::now();
        for (failure, rest) in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000].into_iter().enumerate() {
            assert_eq!(worker.failed(now), failure == 0);
            let rest = Duration::from_millis(rest);
            assert!(!worker.is_fit(now + rest - Duration::from_millis(1)) && worker.is_fit(now + rest));
        }
        worker.succeeded();
        assert!(worker.is_fit(now));
        assert!(worker.failed(now), "it begins anew");
    }

    #[tokio::test]
    async fn a_worker_that_is_overtaken_again_and_again_rests() {
        let worker = QueryWorker::new("a:1".parse().unwrap());
        let now = Instant::now();
        for _ in 0..2 {
            worker.overtaken(now);
            worker.overtaken(now);
            assert!(worker.is_fit(now));
            worker.succeeded();
        }
        for _ in 0..OVERTAKEN_MAX {
            worker.overtaken(now);
        }
        assert!(!worker.is_fit(now));
    }
}
