//! Compaction over HTTP: how many runs and archives history has, and having them made fewer now.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chronik_format::ids::Timestamp;
use chronik_service::problem::HttpProblem;
use serde::Serialize;

use super::status::{StatusContext, respond};
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

/// Closed history that was compacted so often, or oftener what lies below a page with some that was not.
#[derive(Debug, Default, Serialize)]
struct LevelStatus {
    level: u8,
    runs: u64,
    bytes: u64,
    archives: u64,
    /// Since the oldest of it was closed.
    oldest_ms: Timestamp,
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
            levels: levels_of(&state, now),
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

fn levels_of(state: &LaneState, now: Timestamp) -> Vec<LevelStatus> {
    let mut levels: BTreeMap<u8, LevelStatus> = BTreeMap::new();
    for page in state.topics.values().flat_map(|topic| &topic.pages) {
        let (bounds, never) = (&page.bounds, page.bounds.uncompacted);
        let compacted = (u64::from(bounds.runs).saturating_sub(never.runs), bounds.bytes.saturating_sub(never.bytes));
        let mut archives = u64::from(bounds.archives);
        for (level, (runs, bytes)) in [(bounds.level.max(1), compacted), (0, (never.runs, never.bytes))] {
            if runs == 0 {
                continue;
            }
            let status = levels.entry(level).or_insert(LevelStatus { level, ..LevelStatus::default() });
            status.runs += runs;
            status.bytes = status.bytes.saturating_add(bytes);
            status.archives += std::mem::take(&mut archives);
            status.oldest_ms = status.oldest_ms.max(now - page.closed_at);
        }
    }
    levels.into_values().collect()
}
