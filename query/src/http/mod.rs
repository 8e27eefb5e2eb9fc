//! What goes over the wire.

mod records;
mod render;
mod search;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use chronik_peers::cold;

use crate::service::QueryService;

/// `GET|POST /v1/search`, `GET /v1/topics/{topic}/partitions/{partition}/records`, and `POST /v1/fetch` for brokers.
pub fn routes(service: Arc<QueryService>) -> Router {
    let fetch = cold::routes(service.cold.clone(), service.searcher.scanner.metrics.cold_answer_bytes.clone());
    Router::new()
        .route("/v1/search", get(search::search_get).post(search::search_post))
        .route("/v1/topics/{topic}/partitions/{partition}/records", get(records::records))
        .with_state(service)
        .merge(fetch)
}
