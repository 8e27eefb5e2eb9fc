//! Accepting connections, and letting them go.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream, ToSocketAddrs, lookup_host};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::RequestAdmission;
use crate::client_place::ClientPlace;
use crate::connection;
use crate::server_context::ServerContext;
use crate::stats::{count, uncount};
use crate::{KafkaService, NetLimits, NetStats};

/// How long to wait when the system has no more sockets to give.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Connections that the system holds until they are accepted, if it may hold so many (`net.core.somaxconn`). Clients
/// that come back together, as they do after a restart, would else be put off for seconds.
const BACKLOG: u32 = 4096;

/// What listens at one address or several, with one set of limits over all of them.
pub struct KafkaServer {
    listeners: Vec<TcpListener>,
    /// The listener that is asked first, so that a crowd at one does not shut out who comes to another.
    first_asked: usize,
    shared: Arc<ServerContext>,
}

impl KafkaServer {
    /// Listens nowhere yet.
    pub fn new(limits: NetLimits) -> Self {
        let stats = Arc::<NetStats>::default();
        let admission = RequestAdmission::new(limits.in_flight_bytes_max, stats.clone());
        let shared = Arc::new(ServerContext { limits, stats, admission });
        Self { listeners: Vec::new(), first_asked: 0, shared }
    }

    /// Binds one more address, the first that can be had where it stands for several; returns it with the port that the
    /// system chose if 0 was asked for. Clients can connect from here on; they are answered once [`Self::serve`] runs.
    pub async fn listen(&mut self, address: impl ToSocketAddrs) -> io::Result<SocketAddr> {
        let listener = listen(address).await?;
        let bound = listener.local_addr()?;
        self.listeners.push(listener);
        Ok(bound)
    }

    /// Its counters.
    pub fn stats(&self) -> Arc<NetStats> {
        self.shared.stats.clone()
    }

    /// Serves connections until `cancel`. Then none is accepted or read any more; returns when all outstanding
    /// answers are sent, at the latest after [`NetLimits::drain_timeout`].
    pub async fn serve<S: KafkaService>(mut self, service: Arc<S>, cancel: CancellationToken) {
        let connections = TaskTracker::new();
        let mut full = false;
        while let Some(Accepted { stream, peer, listener }) = self.accept(&cancel).await {
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
                connection::serve(stream, ClientPlace { peer, listener }, service, shared, cancel).await;
                drop(open);
            });
        }
        drop(self.listeners);
        connections.close();
        connections.wait().await;
    }

    /// The next connection; `None` once cancelled.
    async fn accept(&mut self, cancel: &CancellationToken) -> Option<Accepted> {
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                biased;
                () = cancel.cancelled() => return None,
                accepted = poll_fn(|context| self.poll_accept(context)) => accepted,
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

    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        let listeners = self.listeners.len();
        for listener in (self.first_asked..listeners).chain(0..self.first_asked) {
            if let Poll::Ready(accepted) = self.listeners[listener].poll_accept(context) {
                self.first_asked = (listener + 1) % listeners;
                // A socket for both families gives IPv4 addresses in IPv6's form.
                let accept = |(stream, peer): (_, SocketAddr)| {
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    Accepted { stream, peer, listener }
                };
                return Poll::Ready(accepted.map(accept));
            }
        }
        Poll::Pending
    }
}

/// A connection that has just been made.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    listener: usize,
}

/// Listens on the first of the addresses that can be had.
async fn listen(addresses: impl ToSocketAddrs) -> io::Result<TcpListener> {
    let mut refused = io::ErrorKind::AddrNotAvailable.into();
    for address in lookup_host(addresses).await? {
        match listen_on(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Or connections of the process before would keep the port for a minute.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
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
