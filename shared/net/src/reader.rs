//! From the socket to the service.

use std::any::Any;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use chronik_wire::{ApiKey, RequestHeader};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::tcp::ReadHalf;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::answers::{Pending, Reply};
use crate::end::End;
use crate::shared::Shared;
use crate::stats::{count, uncount};
use crate::{NetStats, Outcome, Request, Service};

/// Small requests are read together. A larger one goes straight to its own buffer, and even a small one is
/// moved to one: what keeps a slice of a request must not keep its neighbours.
const BUFFER_BYTES: usize = 16 << 10;

/// The reading half of a connection.
pub struct Reader<'a, S> {
    socket: BufReader<ReadHalf<'a>>,
    peer: SocketAddr,
    service: Arc<S>,
    shared: Arc<Shared>,
    requests: mpsc::Sender<Pending>,
    in_progress: &'a AtomicUsize,
}

/// The bytes of one frame as part of all bytes in flight.
struct InFlight {
    bytes: usize,
    stats: Arc<NetStats>,
    _permits: OwnedSemaphorePermit,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        uncount(&self.stats.in_flight_bytes, self.bytes);
    }
}

impl<'a, S: Service> Reader<'a, S> {
    pub fn new(
        socket: ReadHalf<'a>,
        peer: SocketAddr,
        service: Arc<S>,
        shared: Arc<Shared>,
        requests: mpsc::Sender<Pending>,
        in_progress: &'a AtomicUsize,
    ) -> Self {
        let socket = BufReader::with_capacity(BUFFER_BYTES, socket);
        Self {
            socket,
            peer,
            service,
            shared,
            requests,
            in_progress,
        }
    }

    /// Reads requests until the connection ends, calls the service with each, and passes on what it returns.
    pub async fn run(mut self, cancel: &CancellationToken) -> End {
        loop {
            let frame = tokio::select! {
                biased;
                () = cancel.cancelled() => return End::Shutdown,
                frame = self.frame() => frame,
            };
            let pending = match frame {
                Ok((frame, in_flight)) => self.call(frame, in_flight),
                Err(end) => Err(end),
            };
            match pending {
                Ok(pending) => {
                    self.in_progress.fetch_add(1, Ordering::Relaxed);
                    if self.requests.send(pending).await.is_err() {
                        return End::Client;
                    }
                }
                Err(end) => return end,
            }
        }
    }

    async fn frame(&mut self) -> Result<(Bytes, InFlight), End> {
        self.arrival().await?;
        let length = timeout(self.shared.limits.stall_timeout, self.socket.read_i32());
        let length = length.await.map_err(|_| End::Stalled)??;
        let max = self.shared.limits.frame_bytes_max;
        let bytes = match usize::try_from(length) {
            Ok(bytes) if (1..=max).contains(&bytes) => bytes,
            _ => return Err(End::FrameLength { length, max }),
        };
        let in_flight = self.in_flight(bytes).await?;
        Ok((self.body(bytes).await?, in_flight))
    }

    /// Waits for the first byte of a frame.
    async fn arrival(&mut self) -> Result<(), End> {
        loop {
            match timeout(self.shared.limits.idle_timeout, self.socket.fill_buf()).await {
                Ok(buffered) => return if buffered?.is_empty() { Err(End::Client) } else { Ok(()) },
                // A client that waits for an answer is not idle.
                Err(_) if self.in_progress.load(Ordering::Relaxed) > 0 => {}
                Err(_) => return Err(End::Idle),
            }
        }
    }

    /// Waits until the bytes of a frame fit in what may be in flight; one larger than that waits for all of it.
    async fn in_flight(&self, bytes: usize) -> Result<InFlight, End> {
        let all = u32::try_from(self.shared.limits.in_flight_bytes_max).unwrap_or(u32::MAX);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX).min(all);
        let permits = self.shared.in_flight.clone().acquire_many_owned(permits).await;
        let permits = permits.map_err(|_| End::Shutdown)?;
        let stats = self.shared.stats.clone();
        count(&stats.in_flight_bytes, bytes);
        Ok(InFlight {
            bytes,
            stats,
            _permits: permits,
        })
    }

    async fn body(&mut self, bytes: usize) -> Result<Bytes, End> {
        let mut frame = BytesMut::with_capacity(bytes);
        while frame.len() < bytes {
            let left = bytes - frame.len();
            let mut rest = (&mut frame).limit(left);
            let read = timeout(self.shared.limits.stall_timeout, self.socket.read_buf(&mut rest));
            if read.await.map_err(|_| End::Stalled)?? == 0 {
                return Err(End::Client);
            }
        }
        count(&self.shared.stats.bytes_read, bytes + 4);
        Ok(frame.freeze())
    }

    /// Calls the service. An API that nobody knows, or a panic, ends the connection in its turn.
    fn call(&self, frame: Bytes, in_flight: InFlight) -> Result<Pending, End> {
        let frame_bytes = frame.len();
        let mut body = frame;
        let header = RequestHeader::decode(&mut body)?;
        let Some(api) = header.api() else {
            return Ok(unknown_api(&header, frame_bytes));
        };
        count(&self.shared.stats.requests, 1);
        let reply = Reply {
            api,
            version: header.api_version,
            correlation_id: header.correlation_id,
        };
        let request = Request {
            api,
            header,
            body,
            frame_bytes,
            peer: self.peer,
        };
        let stats = self.shared.stats.clone();
        let peer = self.peer;
        let outcome = match catch_unwind(AssertUnwindSafe(|| self.service.call(request))) {
            Ok(outcome) => outcome,
            Err(panic) => ready(panicked(&stats, peer, api, &*panic)).boxed(),
        };
        let outcome = async move {
            let outcome = AssertUnwindSafe(outcome).catch_unwind().await;
            drop(in_flight);
            outcome.unwrap_or_else(|panic| panicked(&stats, peer, api, &*panic))
        };
        Ok(Pending {
            reply,
            frame_bytes,
            outcome: outcome.boxed(),
        })
    }
}

fn unknown_api(header: &RequestHeader, frame_bytes: usize) -> Pending {
    let reason = format!(
        "unknown API {} v{}, client {:?}",
        header.api_key, header.api_version, header.client_id
    );
    let outcome: BoxFuture<'static, Outcome> = ready(Outcome::close(reason)).boxed();
    // Nothing is sent for it, so the API named here has no meaning.
    let reply = Reply {
        api: ApiKey::ApiVersions,
        version: 0,
        correlation_id: header.correlation_id,
    };
    Pending {
        reply,
        frame_bytes,
        outcome,
    }
}

fn panicked(stats: &NetStats, peer: SocketAddr, api: ApiKey, panic: &(dyn Any + Send)) -> Outcome {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    count(&stats.panics, 1);
    tracing::error!(%peer, %api, message, "a handler panicked");
    Outcome::close(format!("the handler of {api} panicked"))
}
