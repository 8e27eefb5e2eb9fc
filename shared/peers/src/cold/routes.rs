//! A cold reader over HTTP:
//!
//! ```text
//! POST /v1/fetch         {"topic":ID,"partition":N,"offset":N,"max_bytes":N}      batches, see `batch::pack`
//! POST /v1/fetch/time    {"topic":ID,"partition":N,"from":N,"timestamp":MS}       {"found":{"offset","timestamp"}} or {"found":null}
//! ```
//! Errors are problem documents whose `fault` says it all: 404 `not_in_catalog`, 409 `damaged_object` and
//! `unknown_version`, 503 `storage_unavailable`; and 503 `busy`, 400 `invalid_parameter`.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use prometheus::IntGauge;
use serde::{Deserialize, Serialize};

use super::SharedColdReader;
use chronik_format::batch::{CONTENT_TYPE_BATCHES, pack};
use chronik_format::ids::{Offset, PartitionId, Timestamp, TopicId};
use chronik_service::admission::TurnLimit;
use chronik_service::problem::HttpProblem;

/// Bytes of batches in an answer, but at least one batch.
pub(super) const FETCH_BYTES_MAX: usize = 8 << 20;
/// Requests answered at a time, and how many may wait.
const FETCHES: (usize, usize) = (16, 256);

/// `POST /v1/fetch`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct FetchAsked {
    pub(super) topic: TopicId,
    pub(super) partition: PartitionId,
    pub(super) offset: Offset,
    pub(super) max_bytes: usize,
}

/// `POST /v1/fetch/time`
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct TimeAsked {
    pub(super) topic: TopicId,
    pub(super) partition: PartitionId,
    pub(super) from: Offset,
    pub(super) timestamp: Timestamp,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct TimeFound {
    pub(super) found: Option<FoundOffset>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct FoundOffset {
    pub(super) offset: Offset,
    pub(super) timestamp: Timestamp,
}

struct Served {
    cold: SharedColdReader,
    turns: TurnLimit,
    held: IntGauge,
}

/// The routes; `held` shows the bytes of batches in answers that are not sent yet.
pub fn routes(cold: SharedColdReader, held: IntGauge) -> Router {
    let served = Served { cold, turns: TurnLimit::new(FETCHES.0, FETCHES.1), held };
    Router::new().route("/v1/fetch", post(fetch)).route("/v1/fetch/time", post(time)).with_state(Arc::new(served))
}

async fn fetch(
    State(served): State<Arc<Served>>,
    asked: Result<Json<FetchAsked>, JsonRejection>,
) -> Result<Response, HttpProblem> {
    let FetchAsked { topic, partition, offset, max_bytes } = parameters(asked)?;
    let turn = served.turns.take().await?;
    let max_bytes = max_bytes.min(FETCH_BYTES_MAX);
    let batches = served.cold.fetch(topic, partition, offset, max_bytes).await?;
    let body = turn.hold(pack(&batches), &served.held);
    Ok(([(CONTENT_TYPE, CONTENT_TYPE_BATCHES)], body).into_response())
}

async fn time(
    State(served): State<Arc<Served>>,
    asked: Result<Json<TimeAsked>, JsonRejection>,
) -> Result<Json<TimeFound>, HttpProblem> {
    let TimeAsked { topic, partition, from, timestamp } = parameters(asked)?;
    let _turn = served.turns.take().await?;
    let found = served.cold.offset_for_time(topic, partition, from, timestamp).await?;
    let found = found.map(|(offset, timestamp)| FoundOffset { offset, timestamp });
    Ok(Json(TimeFound { found }))
}

fn parameters<T>(asked: Result<Json<T>, JsonRejection>) -> Result<T, HttpProblem> {
    let Json(asked) = asked.map_err(|error| HttpProblem::new(400, "invalid_parameter", error.body_text()))?;
    Ok(asked)
}
