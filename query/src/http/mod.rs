//! What goes over the wire.

mod records;
mod render;
mod search;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::service::QueryService;

/// `GET|POST /v1/search` and `GET /v1/topics/{topic}/partitions/{partition}/records`.
pub fn routes(service: Arc<QueryService>) -> Router {
    Router::new()
        .route("/v1/search", get(search::search_get).post(search::search_post))
        .route(
            "/v1/topics/{topic}/partitions/{partition}/records",
            get(records::records),
        )
        .with_state(service)
}
