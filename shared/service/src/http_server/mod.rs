//! The HTTP server that every service has: what the service brings, metrics and health.
//!
//! It answers from the moment the port is bound, so that an operator or orchestrator sees that a process lives while it
//! takes long to start. What the service brings comes later, by [`HttpServer::offer`].

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

mod connections;

use self::connections::{HttpListener, OpenRequests};
use crate::handles;
use crate::problem::{CONTENT_TYPE_PROBLEM, HttpProblem};
use crate::setting::{HttpPlace, Secret};
use crate::telemetry::{CONTENT_TYPE_METRICS, Metrics};

/// Bytes that the body of a request may have.
const BODY_BYTES_MAX: usize = 2 << 20;
/// Bytes of an error's own words that become the detail of a problem document.
const DETAIL_BYTES_MAX: usize = 4096;

/// HTTP can't be served there.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process has the port.
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

/// A running HTTP server.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    services: Services,
    stop: CancellationToken,
    served: JoinHandle<io::Result<()>>,
}

/// What the service brings, once it does.
type Services = Arc<OnceLock<Router>>;

impl HttpServer {
    /// Binds the port and answers.
    pub async fn start(place: HttpPlace, metrics: Metrics, readiness: Readiness) -> Result<Self, ListenError> {
        let HttpPlace { address, token } = place;
        let listener = listen(address).await?;
        let address = listener.local_addr().map_err(|source| ListenError::Refused { address, source })?;
        let services = Services::default();
        let connections = HttpListener::new(listener, handles::for_http(), &metrics);
        let routes = routes(services.clone(), metrics, readiness, token);
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let routes = routes.layer(from_fn(serve)).into_make_service_with_connect_info::<OpenRequests>();
        let served = tokio::spawn(async { axum::serve(connections, routes).with_graceful_shutdown(stopped).await });
        Ok(Self { address, services, stop, served })
    }

    /// Where it listens, with the port that the system chose if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers the service's own paths from now on. Only the first offer counts.
    pub fn offer(&self, services: Router) {
        let services = services.fallback(unknown_path).method_not_allowed_fallback(wrong_method);
        let _ = self.services.set(services);
    }

    /// Takes no more requests, and finishes what is under way if that takes no longer than `patience`.
    pub async fn stop(self, patience: Duration) {
        self.stop.cancel();
        let ending = self.served.abort_handle();
        match tokio::time::timeout(patience, self.served).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!("HTTP did not end well: {error}"),
            Ok(Err(fault)) => tracing::error!("HTTP ended unexpectedly: {fault}"),
            Err(_) => {
                tracing::warn!("some HTTP requests were not answered within {patience:?} and are given up");
                ending.abort();
            }
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { address },
        _ => ListenError::Refused { address, source },
    })
}

/// Whether the process can work, as `/health/ready` answers it. Clones are handles on the same.
#[derive(Clone, Debug)]
pub struct Readiness {
    condition: Arc<ArcSwap<Condition>>,
    stopping: CancellationToken,
}

#[derive(Debug)]
enum Condition {
    Starting,
    Ready,
    Unready(String),
}

impl Readiness {
    /// Starting, and stopping once the token is cancelled.
    pub fn new(stopping: CancellationToken) -> Self {
        Self { condition: Arc::new(ArcSwap::from_pointee(Condition::Starting)), stopping }
    }

    /// The process can work.
    pub fn ready(&self) {
        self.condition.store(Arc::new(Condition::Ready));
    }

    /// The process can't work now.
    pub fn unready(&self, why: String) {
        self.condition.store(Arc::new(Condition::Unready(why)));
    }

    /// Nothing if the process can work.
    fn problem(&self) -> Option<HttpProblem> {
        if self.stopping.is_cancelled() {
            return Some(HttpProblem::new(503, "stopping", "the process is about to end"));
        }
        match self.condition.load().as_ref() {
            Condition::Ready => None,
            Condition::Starting => Some(starting()),
            Condition::Unready(why) => Some(HttpProblem::new(503, "not_ready", why.clone())),
        }
    }
}

fn starting() -> HttpProblem {
    HttpProblem::new(503, "starting", "the process is starting; ask again in a moment")
}

/// Health for every client; the rest, and unknown paths, for clients that know the token.
fn routes(services: Services, metrics: Metrics, readiness: Readiness, token: Option<Secret>) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(exposition).with_state(metrics))
        .fallback(of_services)
        .method_not_allowed_fallback(wrong_method)
        .with_state(services);
    let guarded = match token {
        Some(token) => guarded.layer(from_fn_with_state(token, check_token)),
        None => guarded,
    };
    let open = Router::new()
        .route("/health/live", get(async || "alive\n"))
        .route("/health/ready", get(ready).with_state(readiness))
        .method_not_allowed_fallback(wrong_method);
    guarded.merge(open).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).layer(map_response(as_problem))
}

/// Turns an error that no handler has made, such as that of a body over the limit, into a problem document.
async fn as_problem(response: Response) -> Response {
    let status = response.status();
    let media_type = response.headers().get(CONTENT_TYPE);
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || media_type.is_some_and(|media_type| media_type == CONTENT_TYPE_PROBLEM) {
        return response;
    }
    let code = match status {
        StatusCode::NOT_FOUND => "unknown_path",
        StatusCode::METHOD_NOT_ALLOWED => "wrong_method",
        StatusCode::PAYLOAD_TOO_LARGE => "body_too_large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "wrong_media_type",
        _ if status.is_client_error() => "invalid_request",
        _ => "internal",
    };
    let (parts, body) = response.into_parts();
    let problem = if status == StatusCode::PAYLOAD_TOO_LARGE {
        let detail = format!("the body of a request may have {BODY_BYTES_MAX} bytes, and this one has more");
        HttpProblem::new(status.as_u16(), code, detail).with("limit_bytes", BODY_BYTES_MAX)
    } else {
        let detail = axum::body::to_bytes(body, DETAIL_BYTES_MAX).await.unwrap_or_default();
        HttpProblem::new(status.as_u16(), code, String::from_utf8_lossy(&detail))
    };
    let mut told = problem.into_response();
    for (name, value) in &parts.headers {
        if ![CONTENT_TYPE, CONTENT_LENGTH].contains(name) {
            told.headers_mut().append(name, value.clone());
        }
    }
    told
}

async fn of_services(State(services): State<Services>, request: Request) -> Response {
    match services.get() {
        Some(services) => services.clone().oneshot(request).await.into_response(),
        None => starting().into_response(),
    }
}

async fn check_token(State(token): State<Secret>, request: Request, next: Next) -> Response {
    match bearer(request.headers()) {
        Some(given) if token.is(given) => next.run(request).await,
        given => {
            let (detail, challenge) = match given {
                None => ("send the token: Authorization: Bearer TOKEN", "Bearer realm=\"chronik\""),
                Some(_) => {
                    ("the token is not the one of this server", "Bearer realm=\"chronik\", error=\"invalid_token\"")
                }
            };
            let mut refusal = HttpProblem::new(401, "unauthorized", detail).into_response();
            let challenge = HeaderValue::from_static(challenge);
            refusal.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            refusal
        }
    }
}

/// What comes after `Bearer`, a word whose case does not matter.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Tells the connection that the request's header has come whole, until the answer begins.
async fn serve(request: Request, next: Next) -> Response {
    let connection = request.extensions().get::<ConnectInfo<OpenRequests>>();
    let _served = connection.map(|ConnectInfo(connection)| connection.begin());
    next.run(request).await
}

async fn exposition(State(metrics): State<Metrics>) -> Response {
    ([(CONTENT_TYPE, CONTENT_TYPE_METRICS)], metrics.exposition()).into_response()
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    match readiness.problem() {
        Some(problem) => problem.into_response(),
        None => "ready\n".into_response(),
    }
}

async fn unknown_path(uri: Uri) -> HttpProblem {
    HttpProblem::new(404, "unknown_path", format!("there is nothing at {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> HttpProblem {
    HttpProblem::new(405, "wrong_method", format!("{} can't be asked for with {method}", uri.path()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use axum::body::Body;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Site {
        services: Services,
        readiness: Readiness,
        stopping: CancellationToken,
        routes: Router,
    }

    fn site(token: Option<&str>) -> Site {
        let (services, stopping) = (Services::default(), CancellationToken::new());
        let readiness = Readiness::new(stopping.clone());
        let token = token.map(|token| Secret::from(token.to_owned()));
        let routes = routes(services.clone(), Metrics::new(), readiness.clone(), token);
        Site { services, readiness, stopping, routes }
    }

    impl Site {
        async fn ask(&self, method: &str, path: &str, authorization: Option<&str>) -> Response {
            let mut request = Request::builder().method(method).uri(path);
            if let Some(authorization) = authorization {
                request = request.header(AUTHORIZATION, authorization);
            }
            let request = request.body(Body::empty()).unwrap();
            self.routes.clone().oneshot(request).await.unwrap()
        }

        async fn status(&self, path: &str, authorization: Option<&str>) -> u16 {
            self.ask("GET", path, authorization).await.status().as_u16()
        }

        fn offer(&self) {
            let services = Router::new().route("/v1/thing", get(async || "thing"));
            self.services.set(services.fallback(unknown_path)).unwrap();
        }
    }

    #[tokio::test]
    async fn a_process_lives_before_it_is_ready() {
        let site = site(None);
        assert_eq!(site.status("/health/live", None).await, 200);
        assert_eq!(site.status("/health/ready", None).await, 503);
        assert_eq!(site.status("/v1/thing", None).await, 503);
        site.offer();
        site.readiness.ready();
        assert_eq!(site.status("/health/ready", None).await, 200);
        assert_eq!(site.status("/v1/thing", None).await, 200);
        assert_eq!(site.status("/v1/nothing", None).await, 404);
        site.readiness.unready("the bucket is away".into());
        assert_eq!(site.status("/health/ready", None).await, 503);
        site.readiness.ready();
        site.stopping.cancel();
        assert_eq!(site.status("/health/ready", None).await, 503);
        assert_eq!(site.status("/health/live", None).await, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_nothing_is_let_go() {
        let place = HttpPlace { address: ([127, 0, 0, 1], 0).into(), token: None };
        let readiness = Readiness::new(CancellationToken::new());
        let web = HttpServer::start(place, Metrics::new(), readiness).await.unwrap();
        let mut silent = tokio::net::TcpStream::connect(web.address()).await.unwrap();
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_drips_a_header_is_closed_and_who_waits_for_an_answer_is_not() {
        let place = HttpPlace { address: ([127, 0, 0, 1], 0).into(), token: None };
        let web = HttpServer::start(place, Metrics::new(), Readiness::new(CancellationToken::new())).await.unwrap();
        let slow = async |body: axum::body::Bytes| {
            tokio::time::sleep(Duration::from_secs(60)).await;
            body
        };
        web.offer(Router::new().route("/v1/slow", axum::routing::post(slow)));
        let mut drips = tokio::net::TcpStream::connect(web.address()).await.unwrap();
        let mut waits = tokio::net::TcpStream::connect(web.address()).await.unwrap();
        drips.write_all(b"GET /v1/slow HT").await.unwrap();
        let (closed, answered) = tokio::join!(
            async {
                while drips.write_all(b"T").await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                tokio::time::Instant::now()
            },
            async {
                let request = b"POST /v1/slow HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                waits.write_all(request).await.unwrap();
                let mut answer = String::new();
                waits.read_to_string(&mut answer).await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
                tokio::time::Instant::now()
            }
        );
        assert!(closed < answered, "the one is closed before the other is answered");
        web.stop(Duration::from_secs(1)).await;
    }

    #[tokio::test]
    async fn every_error_is_a_problem_document() {
        let site = site(None);
        let taken = Router::new().route("/v1/thing", axum::routing::post(async |body: axum::body::Bytes| body));
        site.services.set(taken).unwrap();
        let fits = vec![b'x'; 2_097_152];
        let too_large = [&fits[..], b"y"].concat();
        for (method, path, body, status, code) in [
            ("POST", "/v1/thing", too_large, 413, "body_too_large"),
            ("GET", "/v1/thing", vec![], 405, "wrong_method"),
            ("GET", "/v1/nothing", vec![], 404, "unknown_path"),
            ("POST", "/metrics", vec![], 405, "wrong_method"),
        ] {
            let request = Request::builder().method(method).uri(path).body(Body::from(body)).unwrap();
            let response = site.routes.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status, "{path}");
            assert_eq!(response.headers()[CONTENT_TYPE], CONTENT_TYPE_PROBLEM, "{path}");
            assert_eq!(response.headers().contains_key("allow"), status == 405, "{path}");
            let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
            let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(document["code"], code, "{path}");
            assert_eq!(document["status"], status, "{path}");
            if status == 413 {
                assert_eq!(document["limit_bytes"], 2_097_152);
                assert!(document["detail"].as_str().unwrap().contains("2097152 bytes"), "{document}");
            }
        }
        let request = Request::post("/v1/thing").body(Body::from(fits)).unwrap();
        let response = site.routes.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
    }

    #[tokio::test]
    async fn only_health_is_told_without_the_token() {
        let site = site(Some("tok3n"));
        site.offer();
        for path in ["/health/live", "/health/ready"] {
            assert_ne!(site.status(path, None).await, 401, "{path}");
        }
        for path in ["/metrics", "/v1/thing", "/v1/nothing", "/"] {
            for wrong in [None, Some("Bearer tok3"), Some("Basic tok3n"), Some("tok3n"), Some("Bearer ")] {
                let refusal = site.ask("GET", path, wrong).await;
                assert_eq!(refusal.status(), 401, "{path} {wrong:?}");
                let challenge = refusal.headers()[WWW_AUTHENTICATE].to_str().unwrap();
                assert!(challenge.starts_with("Bearer"), "{challenge}");
            }
            for right in ["Bearer tok3n", "bearer tok3n"] {
                assert_ne!(site.status(path, Some(right)).await, 401, "{path} {right}");
            }
        }
    }

    #[tokio::test]
    async fn a_wrong_method_is_a_problem_everywhere() {
        let site = site(None);
        for path in ["/metrics", "/health/live", "/health/ready"] {
            assert_eq!(site.ask("DELETE", path, None).await.status(), 405, "{path}");
        }
    }
}
