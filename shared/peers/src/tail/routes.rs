//! A tail over HTTP:
//!
//! ```text
//! GET /v1/tail/topics                                     {"topics":["a","b"]}
//! GET /v1/tail/position?topic=NAME                        {"id","search_enabled","index":{"value_format","positions"},
//! GET /v1/tail/position?id=ID&reach=N&wait_ms=N            "partitions":[{"partition","log_start","start","end"}]}
//! GET /v1/tail?topic=ID&partition=N&from=N&max_bytes=N    batches, see `batch::pack`
//! ```
//! The second route answers once the sum of the partitions' `end` is more than `reach`, at the latest after
//! `wait_ms`. Errors are problem documents: 404 `unknown_topic`, 410 `too_old` with `from` and `start`, 503
//! `tail_unavailable`, `busy` or `stopping`, 400 `invalid_parameter`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus::IntGauge;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{SharedTail, TailError, TailTopic};
use chronik_format::batch::{CONTENT_TYPE_BATCHES, pack};
use chronik_format::ids::{Offset, PartitionId, TopicId};
use chronik_service::admission::TurnLimit;
use chronik_service::problem::HttpProblem;

/// Bytes of batches in an answer, but at least one batch.
pub(super) const READ_BYTES_MAX: usize = 8 << 20;
/// How long a request may wait for records.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(20);
/// Reads at a time, and how many may wait.
const READS: (usize, usize) = (8, 64);
/// Requests that wait for records.
const WAITS: usize = 1024;

/// The names of all topics.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TopicNames {
    pub(super) topics: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Position {
    topic: Option<String>,
    id: Option<TopicId>,
    #[serde(default)]
    reach: i64,
    #[serde(default)]
    wait_ms: u64,
}

#[derive(Debug, Deserialize)]
struct Read {
    topic: TopicId,
    partition: PartitionId,
    from: Offset,
    max_bytes: usize,
}

struct Served {
    tail: SharedTail,
    reads: TurnLimit,
    waits: TurnLimit,
    held: IntGauge,
    stopping: CancellationToken,
}

/// The routes. Requests that wait for records are answered at once when `stopping` is cancelled; `held` shows the bytes
/// of batches in answers that are not sent yet.
pub fn routes(tail: SharedTail, stopping: CancellationToken, held: IntGauge) -> Router {
    let served =
        Served { tail, reads: TurnLimit::new(READS.0, READS.1), waits: TurnLimit::new(WAITS, 0), held, stopping };
    Router::new()
        .route("/v1/tail", get(read))
        .route("/v1/tail/topics", get(topics))
        .route("/v1/tail/position", get(position))
        .with_state(Arc::new(served))
}

async fn topics(State(served): State<Arc<Served>>) -> Result<Json<TopicNames>, HttpProblem> {
    let topics = served.tail.topics().await?;
    Ok(Json(TopicNames { topics }))
}

async fn position(
    State(served): State<Arc<Served>>,
    asked: Result<Query<Position>, QueryRejection>,
) -> Result<Json<TailTopic>, HttpProblem> {
    let asked = parameters(asked)?;
    match (&asked.topic, asked.id) {
        (Some(topic), None) => {
            let unknown = || HttpProblem::new(404, "unknown_topic", format!("the broker has no topic {topic}"));
            Ok(Json(served.tail.topic(topic).await?.ok_or_else(unknown)?))
        }
        (None, Some(id)) => {
            let _turn = served.waits.take().await?;
            let wait = Duration::from_millis(asked.wait_ms).min(WAIT_MAX);
            let moved = served.tail.moved(id, asked.reach, wait);
            match served.stopping.run_until_cancelled(moved).await {
                Some(moved) => Ok(Json(moved?)),
                None => Err(HttpProblem::new(503, "stopping", "the process is about to end")),
            }
        }
        _ => Err(HttpProblem::new(400, "invalid_parameter", "either topic or id has to be given")),
    }
}

async fn read(
    State(served): State<Arc<Served>>,
    asked: Result<Query<Read>, QueryRejection>,
) -> Result<Response, HttpProblem> {
    let Read { topic, partition, from, max_bytes } = parameters(asked)?;
    let turn = served.reads.take().await?;
    let max_bytes = max_bytes.min(READ_BYTES_MAX);
    let batches = served.tail.read(topic, partition, from, max_bytes).await?;
    let body = turn.hold(pack(&batches), &served.held);
    Ok(([(CONTENT_TYPE, CONTENT_TYPE_BATCHES)], body).into_response())
}

fn parameters<T>(asked: Result<Query<T>, QueryRejection>) -> Result<T, HttpProblem> {
    let Query(asked) = asked.map_err(|error| HttpProblem::new(400, "invalid_parameter", error.body_text()))?;
    Ok(asked)
}

impl From<TailError> for HttpProblem {
    fn from(error: TailError) -> Self {
        let told = error.to_string();
        match error {
            TailError::UnknownTopic { id } => HttpProblem::new(404, "unknown_topic", told).with("id", id.to_string()),
            TailError::TooOld { from, start } => {
                HttpProblem::new(410, "too_old", told).with("from", from).with("start", start)
            }
            TailError::Unavailable { message } => HttpProblem::new(503, "tail_unavailable", message),
        }
    }
}
