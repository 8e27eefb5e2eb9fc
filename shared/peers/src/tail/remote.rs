//! The broker's tail, asked for over HTTP.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::routes::{READ_BYTES_MAX, TopicNames, WAIT_MAX};
use super::{Tail, TailError, TailTopic};
use chronik_format::batch::{BATCH_BYTES_MAX, TRANSFER_HEADER_LENGTH, unpack};
use chronik_format::ids::{Offset, PartitionId, TopicId};
use chronik_service::http_client::{HttpClient, HttpError, ToldProblem};
use chronik_service::setting::{Endpoint, Endpoints};

/// How long a position may take to come, beyond the time for which it was asked to wait.
const POSITION_DEADLINE: Duration = Duration::from_secs(2);
/// How long the names of all topics, or batches, may take to come.
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of an answer that holds no batches.
const DOCUMENT_BYTES_MAX: usize = 32 << 20;

/// Asks the broker at its addresses, one after the other, beginning with the one that answered last.
#[derive(Debug)]
pub struct RemoteTail {
    client: HttpClient,
    endpoints: Vec<Endpoint>,
    /// The endpoint that answered last.
    answering: AtomicUsize,
}

struct Question<'a> {
    path: &'static str,
    query: &'a [(&'static str, String)],
    deadline: Duration,
    bytes_max: usize,
}

/// Why an endpoint's answer is not the broker's.
enum Silence {
    Http(HttpError),
    Unreadable { reason: String },
}

impl RemoteTail {
    /// The tail of the broker that all these endpoints lead to.
    pub fn new(endpoints: &Endpoints, client: HttpClient) -> Self {
        Self { client, endpoints: endpoints.iter().cloned().collect(), answering: AtomicUsize::new(0) }
    }

    /// The first answer that can be read; an error that the broker tells is one.
    async fn ask<T>(
        &self,
        question: Question<'_>,
        read: impl Fn(Bytes) -> Result<T, String> + Send + Sync,
    ) -> Result<T, TailError> {
        let first = self.answering.load(Ordering::Relaxed);
        let mut reasons = Vec::new();
        for step in 0..self.endpoints.len() {
            let at = (first + step) % self.endpoints.len();
            let answer = match self.ask_one(&self.endpoints[at], &question, &read).await {
                Ok(answer) => Ok(answer),
                Err(silence) => match silence.told() {
                    Ok(told) => Err(told),
                    Err(reason) => {
                        reasons.push(reason);
                        continue;
                    }
                },
            };
            self.answering.store(at, Ordering::Relaxed);
            return answer;
        }
        Err(TailError::Unavailable { message: reasons.join("; ") })
    }

    async fn ask_one<T>(
        &self,
        endpoint: &Endpoint,
        question: &Question<'_>,
        read: impl Fn(Bytes) -> Result<T, String> + Send + Sync,
    ) -> Result<T, Silence> {
        let request = self.client.get(endpoint, question.path).query(question.query);
        let answer = self.client.answer(request, question.deadline, question.bytes_max).await;
        read(answer.map_err(Silence::Http)?)
            .map_err(|reason| Silence::Unreadable { reason: format!("{endpoint}: {reason}") })
    }
}

#[async_trait]
impl Tail for RemoteTail {
    async fn topics(&self) -> Result<Vec<String>, TailError> {
        let question =
            Question { path: "/v1/tail/topics", query: &[], deadline: READ_DEADLINE, bytes_max: DOCUMENT_BYTES_MAX };
        let names: TopicNames = self.ask(question, document).await?;
        Ok(names.topics)
    }

    async fn topic(&self, name: &str) -> Result<Option<TailTopic>, TailError> {
        let question = Question {
            path: "/v1/tail/position",
            query: &[("topic", name.to_owned())],
            deadline: POSITION_DEADLINE,
            bytes_max: DOCUMENT_BYTES_MAX,
        };
        match self.ask(question, document).await {
            Ok(topic) => Ok(Some(topic)),
            Err(TailError::UnknownTopic { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn moved(&self, topic: TopicId, reach: i64, wait: Duration) -> Result<TailTopic, TailError> {
        let wait = wait.min(WAIT_MAX);
        let question = Question {
            path: "/v1/tail/position",
            query: &[
                ("id", topic.to_string()),
                ("reach", reach.to_string()),
                ("wait_ms", wait.as_millis().to_string()),
            ],
            deadline: wait + POSITION_DEADLINE,
            bytes_max: DOCUMENT_BYTES_MAX,
        };
        self.ask(question, document).await
    }

    async fn read(
        &self,
        topic: TopicId,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, TailError> {
        let max_bytes = max_bytes.min(READ_BYTES_MAX);
        let question = Question {
            path: "/v1/tail",
            query: &[
                ("topic", topic.to_string()),
                ("partition", partition.to_string()),
                ("from", from.to_string()),
                ("max_bytes", max_bytes.to_string()),
            ],
            deadline: READ_DEADLINE,
            bytes_max: TRANSFER_HEADER_LENGTH + max_bytes.max(BATCH_BYTES_MAX),
        };
        self.ask(question, |body| unpack(body, from).map_err(|error| error.to_string())).await
    }
}

impl Silence {
    /// What the broker told, or why it did not tell anything.
    fn told(self) -> Result<TailError, String> {
        match self {
            Self::Http(HttpError::Refused { url, problem }) => {
                told(&problem).ok_or_else(|| HttpError::Refused { url, problem }.to_string())
            }
            Self::Http(error) => Err(error.to_string()),
            Self::Unreadable { reason } => Err(reason),
        }
    }
}

fn told(problem: &ToldProblem) -> Option<TailError> {
    let number = |name: &str| problem.members.get(name)?.as_i64();
    match (problem.status, problem.code.as_str()) {
        (404, "unknown_topic") => {
            let id = problem.members.get("id").and_then(|id| id.as_str()?.parse().ok());
            Some(TailError::UnknownTopic { id: id.unwrap_or_default() })
        }
        (410, "too_old") => Some(TailError::TooOld { from: number("from")?, start: number("start")? }),
        _ => None,
    }
}

fn document<T: DeserializeOwned>(body: Bytes) -> Result<T, String> {
    serde_json::from_slice(&body).map_err(|error| format!("the answer can't be read: {error}"))
}
