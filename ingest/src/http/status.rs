//! The broker's part of the HTTP interface: where every partition stands, and shipping everything now.

use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chronik_format::catalog::WaitingRuns;
use chronik_format::ids::{Offset, PartitionId, Timestamp};
use chronik_service::problem::HttpProblem;
use serde::Serialize;

use super::tiers::{TierStatus, tiers_of};
use crate::clock::now_ms;
use crate::indexing::{FlushError, IndexingHandle};
use crate::lane::{Lane, LaneGone};
use crate::state::LaneState;

/// What the routes work on.
pub struct StatusContext {
    pub lane: Lane,
    /// The sender of jobs.
    pub indexing: IndexingHandle,
}

/// `GET /v1/status`.
#[derive(Debug, Serialize)]
pub struct BrokerStatus {
    topics: Vec<TopicStatus>,
    unshipped_bytes: u64,
    oldest_unshipped_ms: Option<i64>,
    pending_jobs: usize,
}

#[derive(Debug, Serialize)]
struct TopicStatus {
    topic: String,
    id: String,
    /// What waits for an archive.
    waiting: WaitingRuns,
    tiers: Vec<TierStatus>,
    partitions: Vec<PartitionStatus>,
}

#[derive(Debug, Serialize)]
struct PartitionStatus {
    partition: PartitionId,
    log_start: Offset,
    high_watermark: Offset,
    shipped_to: Offset,
    archived_to: Option<Offset>,
}

/// `POST /v1/seal`.
#[derive(Debug, Serialize)]
pub struct SealAnswer {
    shipped_index: u64,
    pending_jobs: usize,
}

/// The routes.
pub fn routes(desk: Arc<StatusContext>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/seal", post(seal))
        .route_layer(from_fn(without_parameters))
        .with_state(desk)
}

/// A parameter that is not known may be one that is misspelled.
async fn without_parameters(Query(given): Query<Vec<(String, String)>>, request: Request, next: Next) -> Response {
    match given.first() {
        None => next.run(request).await,
        Some((name, _)) => {
            let detail = format!("{name}: {} takes no parameters", request.uri().path());
            HttpProblem::new(400, "invalid_parameter", detail).with("parameter", name.as_str()).into_response()
        }
    }
}

async fn status(State(desk): State<Arc<StatusContext>>) -> Response {
    let progress = *desk.lane.progress().borrow();
    let answer = desk.lane.snapshot().await.map(|state| BrokerStatus {
        topics: topics_of(&state, now_ms()),
        unshipped_bytes: progress.unshipped_bytes,
        oldest_unshipped_ms: progress.unshipped_since.map(|since| (now_ms() - since).max(0)),
        pending_jobs: desk.indexing.pending_jobs(),
    });
    respond(answer)
}

/// Ships everything acknowledged before the call and sends its jobs, then answers.
async fn seal(State(desk): State<Arc<StatusContext>>) -> Response {
    let sealed = async {
        let border = desk.lane.cut(false).await?;
        desk.lane.shipped(border).await?;
        desk.indexing.flush().await?;
        Ok(SealAnswer { shipped_index: border, pending_jobs: desk.indexing.pending_jobs() })
    };
    match sealed.await {
        Err(error @ FlushError::Queue(_)) => {
            HttpProblem::new(503, "queue_unavailable", format!("everything is shipped, but {error}")).into_response()
        }
        Err(FlushError::Gone(gone)) => respond::<SealAnswer>(Err(gone)),
        Ok(sealed) => respond(Ok(sealed)),
    }
}

fn topics_of(state: &LaneState, now: Timestamp) -> Vec<TopicStatus> {
    let mut topics: Vec<TopicStatus> = state
        .topics
        .values()
        .map(|topic| TopicStatus {
            topic: topic.name.to_string(),
            id: topic.id.to_string(),
            waiting: state.waiting(topic),
            tiers: tiers_of(topic, now),
            partitions: topic
                .partitions
                .iter()
                .enumerate()
                .map(|(number, partition)| PartitionStatus {
                    partition: number as PartitionId,
                    log_start: partition.log_start,
                    high_watermark: partition.next_offset,
                    shipped_to: partition.shipped_to,
                    archived_to: topic.config.search_enabled().then(|| partition.archived_to()),
                })
                .collect(),
        })
        .collect();
    topics.sort_by(|a, b| a.topic.cmp(&b.topic));
    topics
}

pub(super) fn respond<T: Serialize>(answer: Result<T, LaneGone>) -> Response {
    match answer {
        Ok(answer) => Json(answer).into_response(),
        Err(gone) => HttpProblem::new(503, "stopping", gone.to_string()).into_response(),
    }
}
