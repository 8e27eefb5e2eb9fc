//! Compaction over HTTP: how many runs and archives history has, and having them made fewer now.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chronik_format::ids::Timestamp;
use chronik_service::problem::HttpProblem;
use serde::Serialize;

use super::status::{StatusContext, respond};
use super::tiers::{LevelStatus, levels_of};
use crate::clock::now_ms;
use crate::compaction::planner::{self, CompactionDebt};
use crate::indexing::FlushError;
use crate::merging;
use crate::state::LaneState;

/// `GET /v1/compaction`.
#[derive(Debug, Serialize)]
struct CompactionStatus {
    /// By level, ascending; only those that there are.
    levels: Vec<LevelStatus>,
    waiting: CompactionDebt,
    /// Archives that wait to be merged, be it time or not.
    mergeable: u64,
    /// Pages that are left as they are until the next start, because it has failed.
    failed_pages: usize,
    pending_jobs: usize,
    /// What was shipped and is not deleted.
    shipped: ShippedStatus,
}

/// The level 0 segments in the bucket.
#[derive(Debug, Serialize)]
struct ShippedStatus {
    segments: u64,
    bytes: u64,
    /// Since the oldest was named that open runs or pages need.
    oldest_needed_ms: Option<Timestamp>,
}

/// The routes.
pub fn routes(desk: Arc<StatusContext>) -> Router {
    Router::new().route("/v1/compaction", get(status)).route("/v1/compact", post(compact)).with_state(desk)
}

async fn status(State(desk): State<Arc<StatusContext>>, Query(given): Query<Vec<(String, String)>>) -> Response {
    if let Some((name, _)) = given.first() {
        return unknown_parameter(name);
    }
    let (pending_jobs, failed_pages) = (desk.indexing.pending_jobs(), desk.indexing.failed_pages());
    let answer = desk.lane.snapshot().await.map(|state| {
        let now = now_ms();
        CompactionStatus {
            levels: levels_of(state.topics.values().flat_map(|topic| &topic.pages), now),
            waiting: planner::debt(&state),
            mergeable: merging::planner::debt(&state),
            failed_pages,
            pending_jobs,
            shipped: shipped(&state, now),
        }
    });
    respond(answer)
}

/// Sends jobs for all that is to be gained, then answers.
async fn compact(State(desk): State<Arc<StatusContext>>, Query(given): Query<Vec<(String, String)>>) -> Response {
    let mut topic = None;
    for (name, value) in given {
        match name.as_str() {
            "topic" => topic = Some(value),
            other => return unknown_parameter(other),
        }
    }
    let sent = async {
        let id = match &topic {
            None => None,
            Some(name) => match desk.lane.snapshot().await?.topic_named(name) {
                Some(topic) => Some(topic.id),
                None => return Ok(None),
            },
        };
        desk.indexing.compact(id).await.map(Some)
    };
    match sent.await {
        Ok(Some(sent)) => respond(Ok(sent)),
        Ok(None) => {
            let topic = topic.unwrap_or_default();
            HttpProblem::new(404, "unknown_topic", format!("topic {topic} does not exist")).into_response()
        }
        Err(error @ FlushError::Queue(_)) => {
            HttpProblem::new(503, "queue_unavailable", error.to_string()).into_response()
        }
        Err(FlushError::Gone(gone)) => respond::<()>(Err(gone)),
    }
}

fn shipped(state: &LaneState, now: Timestamp) -> ShippedStatus {
    let (segments, bytes) = state.segments.size();
    let oldest_needed_ms = state.oldest_needed().map(|oldest| now.saturating_sub(oldest.named_at));
    ShippedStatus { segments, bytes, oldest_needed_ms }
}

fn unknown_parameter(name: &str) -> Response {
    let problem = HttpProblem::new(400, "invalid_parameter", format!("{name}: this is no parameter"));
    problem.with("parameter", name).into_response()
}
