//! What every service is around its work: a log, signals that end it, metrics, health, and a line that says when it
//! is ready.

use std::future::Future;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::handles;
use crate::http_client::HttpError;
use crate::http_server::{HttpServer, ListenError, Readiness};
use crate::setting::{EarlierName, HttpPlace, HttpRefused, earlier_names_in};
use crate::shutdown::stop_on_signal;
use crate::telemetry::{Metrics, log_to_stderr};

/// How long a stop takes at most, if the work ends in its own time; who starts processes kills them after 30 s.
const STOP_WITHIN: Duration = Duration::from_secs(28);
/// How long HTTP requests that are under way may take once the work has ended.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// What keeps any service from starting, or ends it.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The HTTP settings are refused.
    #[error(transparent)]
    Http(#[from] HttpRefused),
    /// The HTTP port can't be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// What the service works with, as its bucket or its queue, can't be opened.
    #[error(transparent)]
    Resource(Box<dyn std::error::Error + Send + Sync>),
    /// Other services can't be asked.
    #[error(transparent)]
    Client(#[from] HttpError),
    /// The system does not let the process handle signals.
    #[error("signals can't be handled: {0}")]
    Signals(#[source] io::Error),
    /// A part ended by a fault of the program.
    #[error("{part} ended unexpectedly, so the process ends too; the log says more")]
    Part {
        /// Which one.
        part: &'static str,
    },
}

/// A service's process, from its first line in the log to its last answer.
#[derive(Debug)]
pub struct ServiceProcess {
    /// Where the service's parts count.
    pub metrics: Metrics,
    /// Whether the service can work.
    pub readiness: Readiness,
    /// Cancelled when the service is to stop.
    pub cancel: CancellationToken,
    web: HttpServer,
    parts: TaskTracker,
    fallen: Fallen,
}

/// The first part that ended before the process stopped.
type Fallen = Arc<OnceLock<&'static str>>;

impl ServiceProcess {
    /// Starts to log, to listen to signals, and to answer on the HTTP port. Names of earlier systems in the
    /// environment are warned about.
    pub async fn begin(place: HttpPlace) -> Result<Self, ServiceError> {
        log_to_stderr("info");
        handles::raise();
        for EarlierName { name, instead } in earlier_names_in(variables()) {
            tracing::warn!("{name} has no effect here; in its place there is {instead}");
        }
        let cancel = stop_on_signal().map_err(ServiceError::Signals)?;
        let metrics = Metrics::new();
        let readiness = Readiness::new(cancel.clone());
        let web = HttpServer::start(place, metrics.clone(), readiness.clone()).await?;
        Ok(Self { metrics, readiness, cancel, web, parts: TaskTracker::new(), fallen: Fallen::default() })
    }

    /// Where HTTP can be reached from this machine.
    pub fn http_addr(&self) -> SocketAddr {
        reachable(self.web.address())
    }

    /// Answers the service's own paths from now on.
    pub fn offer(&self, services: Router) {
        self.web.offer(services);
    }

    /// Runs a part beside the work, which ends once [`Self::cancel`] is. A part that ends sooner ends the process.
    pub fn beside(&self, part: &'static str, runs: impl Future<Output = ()> + Send + 'static) {
        let watch = Watch { part, cancel: self.cancel.clone(), fallen: self.fallen.clone() };
        self.parts.spawn(async move {
            let _watch = watch;
            runs.await;
        });
    }

    /// From now on the service is ready, and says so with `line` on standard output.
    pub fn ready(&self, line: &str) {
        self.readiness.ready();
        let mut out = io::stdout().lock();
        // Standard output may be closed.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    /// Works until `work` ends, by itself or because the process is to stop; then the parts beside it end, and
    /// HTTP finishes what is under way.
    pub async fn run<E: From<ServiceError>>(self, work: impl AsyncFnOnce(&Self) -> Result<(), E>) -> Result<(), E> {
        let (ended, stopped) = {
            let mut work = pin!(work(&self));
            tokio::select! {
                biased;
                stopped = when_stopped(&self.cancel) => (work.await, stopped),
                ended = &mut work => (ended, Instant::now()),
            }
        };
        self.cancel.cancel();
        self.parts.close();
        let left = || STOP_WITHIN.saturating_sub(stopped.elapsed());
        if timeout(left(), self.parts.wait()).await.is_err() {
            tracing::warn!("not everything came to its end within {STOP_WITHIN:?}");
        }
        self.web.stop(left().min(LAST_ANSWERS)).await;
        match self.fallen.get() {
            Some(part) if ended.is_ok() => Err(ServiceError::Part { part }.into()),
            _ => ended,
        }
    }
}

/// When the process was cancelled.
async fn when_stopped(cancel: &CancellationToken) -> Instant {
    cancel.cancelled().await;
    Instant::now()
}

/// Sees a part end, also by a panic.
struct Watch {
    part: &'static str,
    cancel: CancellationToken,
    fallen: Fallen,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.cancel.is_cancelled() {
            let _ = self.fallen.set(self.part);
            self.cancel.cancel();
        }
    }
}

/// The names of all variables in the environment.
pub(crate) fn variables() -> impl Iterator<Item = String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())
}

/// An address that this machine can connect to.
pub fn reachable(bound: SocketAddr) -> SocketAddr {
    match bound {
        SocketAddr::V4(address) if address.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        SocketAddr::V6(address) if address.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
        bound => bound,
    }
}
