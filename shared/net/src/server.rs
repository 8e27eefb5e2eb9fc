//! Accepting connections, and letting them go.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::RequestAdmission;
use crate::connection;
use crate::server_context::ServerContext;
use crate::stats::{count, uncount};
use crate::{KafkaService, NetLimits, NetStats};

/// How long to wait when the system has no more sockets to give.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A bound port.
pub struct KafkaServer {
    listener: TcpListener,
    shared: Arc<ServerContext>,
}

impl KafkaServer {
    /// Binds a port. Clients can connect from here on; they are answered once [`Self::serve`] runs.
    pub async fn bind(address: impl ToSocketAddrs, limits: NetLimits) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let stats = Arc::<NetStats>::default();
        let admission = RequestAdmission::new(limits.in_flight_bytes_max, stats.clone());
        let shared = Arc::new(ServerContext { limits, stats, admission });
        Ok(Self { listener, shared })
    }

    /// The address it is bound to, with the port that the system chose if 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Its counters.
    pub fn stats(&self) -> Arc<NetStats> {
        self.shared.stats.clone()
    }

    /// Serves connections until `cancel`. Then none is accepted or read any more; returns when all outstanding
    /// answers are sent, at the latest after [`NetLimits::drain_timeout`].
    pub async fn serve<S: KafkaService>(self, service: Arc<S>, cancel: CancellationToken) {
        let connections = TaskTracker::new();
        let mut full = false;
        while let Some((stream, peer)) = self.accept(&cancel).await {
            let stats = &self.shared.stats;
            if connections.len() >= self.shared.limits.connections_max {
                count(&stats.connections_refused, 1);
                if !full {
                    tracing::warn!(%peer, connections = connections.len(), "too many connections: refusing more");
                }
                full = true;
                continue;
            }
            full = false;
            count(&stats.connections_accepted, 1);
            let open = Open::new(stats.clone());
            let (service, shared, cancel) = (service.clone(), self.shared.clone(), cancel.clone());
            connections.spawn(async move {
                connection::serve(stream, peer, service, shared, cancel).await;
                drop(open);
            });
        }
        drop(self.listener);
        connections.close();
        connections.wait().await;
    }

    /// The next connection; `None` once cancelled.
    async fn accept(&self, cancel: &CancellationToken) -> Option<(TcpStream, SocketAddr)> {
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                biased;
                () = cancel.cancelled() => return None,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => return Some(accepted),
                Err(error) => {
                    // The system's trouble with a client is that client's: the listener goes on, and says it once.
                    if !failing {
                        tracing::warn!(%error, "can't accept a connection; trying again every {ACCEPT_RETRY:?}");
                    }
                    failing = true;
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
}

/// A connection in the gauge, also if its task panics.
struct Open(Arc<NetStats>);

impl Open {
    fn new(stats: Arc<NetStats>) -> Self {
        count(&stats.connections_open, 1);
        Self(stats)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        uncount(&self.0.connections_open, 1);
    }
}
