//! The HTTP server that every service has: what the service brings, metrics and health.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::problem::Problem;
use crate::telemetry::{CONTENT_TYPE_METRICS, Metrics};

/// How long answers that are under way may take once the process stops.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// HTTP can't be served there.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else has the port.
    #[error(
        "port {} on {} is in use by another process; stop that one, or choose another port with --http-port (CHRONIK_HTTP_PORT)",
        address.port(),
        address.ip()
    )]
    InUse {
        /// Where to listen.
        address: SocketAddr,
    },
    /// The system does not give the address.
    #[error(
        "HTTP can't be served on {address}: {source}; choose another address with --http-bind (CHRONIK_HTTP_BIND) or \
         --http-port (CHRONIK_HTTP_PORT)"
    )]
    Refused {
        /// Where to listen.
        address: SocketAddr,
        /// The system's own words.
        source: io::Error,
    },
}

/// Binds the port.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { address },
        _ => ListenError::Refused { address, source },
    })
}

/// Whether the process takes work.
#[derive(Clone, Debug)]
pub struct Readiness {
    stopping: CancellationToken,
}

impl Readiness {
    /// Ready until it is told to stop.
    pub fn new(stopping: CancellationToken) -> Self {
        Self { stopping }
    }
}

/// What the services bring, `/metrics`, `/health/live`, `/health/ready`, and an answer for everything that is not there.
pub fn routes(services: Router, metrics: Metrics, readiness: Readiness) -> Router {
    let own = Router::new()
        .route("/metrics", get(exposition))
        .with_state(metrics)
        .route("/health/live", get(async || "alive\n"))
        .route("/health/ready", get(ready).with_state(readiness));
    // Last, as it reaches only routes that are there already.
    services
        .merge(own)
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
}

/// Serves until cancelled, and finishes what is under way.
pub async fn serve(listener: TcpListener, routes: Router, cancel: CancellationToken) -> io::Result<()> {
    let stopped = cancel.clone();
    let serving = axum::serve(listener, routes).with_graceful_shutdown(async move { stopped.cancelled().await });
    tokio::select! {
        served = serving => served,
        () = async { cancel.cancelled().await; tokio::time::sleep(LAST_ANSWERS).await } => Ok(()),
    }
}

async fn exposition(State(metrics): State<Metrics>) -> Response {
    ([(CONTENT_TYPE, CONTENT_TYPE_METRICS)], metrics.exposition()).into_response()
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    if readiness.stopping.is_cancelled() {
        return Problem::new(503, "stopping", "the process is about to end").into_response();
    }
    "ready\n".into_response()
}

async fn unknown_path(uri: Uri) -> Problem {
    Problem::new(404, "unknown_path", format!("there is nothing at {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::new(
        405,
        "wrong_method",
        format!("{} can't be asked for with {method}", uri.path()),
    )
}
