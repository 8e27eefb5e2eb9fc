//! From the socket to the service.

use std::any::Any;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use chronik_wire::{ApiKey, RequestHeader};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::tcp::ReadHalf;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::admission::{ConnectionRoom, OWN_BYTES, RequestRoom};
use crate::answers::{PendingAnswer, RequestKey};
use crate::client_place::ClientPlace;
use crate::close_reason::CloseReason;
use crate::server_context::ServerContext;
use crate::stats::count;
use crate::{AnswerDelivery, KafkaRequest, KafkaService, NetLimits, NetStats, RequestOutcome};

/// Small requests are read together. A larger one goes straight to its own buffer, and even a small one is
/// moved to one: what keeps a slice of a request must not keep its neighbours.
const BUFFER_BYTES: usize = 16 << 10;
/// A large request takes permits in steps of at most so many bytes.
const STEP_BYTES_MAX: usize = 1 << 20;

/// The reading half of a connection.
pub struct RequestReader<'a, S> {
    socket: BufReader<ReadHalf<'a>>,
    client: ClientPlace,
    delivery: Arc<AnswerDelivery>,
    service: Arc<S>,
    shared: Arc<ServerContext>,
    requests: mpsc::Sender<PendingAnswer>,
    in_progress: &'a AtomicUsize,
    room: ConnectionRoom,
}

/// How long a client may still keep its frame waiting.
struct Patience {
    left: Duration,
    gap: Duration,
}

impl Patience {
    async fn wait<T>(&mut self, read: impl Future<Output = io::Result<T>>) -> Result<T, CloseReason> {
        let begun = Instant::now();
        let read = timeout(self.left.min(self.gap), read).await.map_err(|_| CloseReason::Stalled)??;
        self.left = self.left.saturating_sub(begun.elapsed());
        Ok(read)
    }
}

impl<'a, S: KafkaService> RequestReader<'a, S> {
    pub fn new(
        socket: ReadHalf<'a>,
        client: ClientPlace,
        delivery: Arc<AnswerDelivery>,
        service: Arc<S>,
        shared: Arc<ServerContext>,
        requests: mpsc::Sender<PendingAnswer>,
        in_progress: &'a AtomicUsize,
    ) -> Self {
        let socket = BufReader::with_capacity(BUFFER_BYTES, socket);
        let room = ConnectionRoom::new(shared.admission.clone());
        Self { socket, client, delivery, service, shared, requests, in_progress, room }
    }

    /// Reads requests until the connection ends, calls the service with each, and passes on what it returns.
    pub async fn run(mut self, cancel: &CancellationToken) -> CloseReason {
        loop {
            let frame = tokio::select! {
                biased;
                () = cancel.cancelled() => return CloseReason::Shutdown,
                frame = self.frame() => frame,
            };
            let pending = match frame {
                Ok((frame, room)) => self.call(frame, room),
                Err(end) => Err(end),
            };
            match pending {
                Ok(pending) => {
                    self.in_progress.fetch_add(1, Ordering::Relaxed);
                    if self.requests.send(pending).await.is_err() {
                        return CloseReason::Client;
                    }
                }
                Err(end) => return end,
            }
        }
    }

    async fn frame(&mut self) -> Result<(Bytes, RequestRoom), CloseReason> {
        self.arrival().await?;
        let NetLimits { stall_timeout, frame_rate_min, frame_bytes_max: max, .. } = self.shared.limits;
        let mut patience = Patience { left: stall_timeout, gap: stall_timeout };
        let length = patience.wait(self.socket.read_i32()).await?;
        let bytes = match usize::try_from(length) {
            Ok(bytes) if (1..=max).contains(&bytes) => bytes,
            _ => return Err(CloseReason::FrameLength { length, max }),
        };
        patience.left += Duration::from_secs_f64(bytes as f64 / frame_rate_min as f64);
        let mut room = self.room.request();
        let frame = self.body(bytes, &mut room, &mut patience).await?;
        Ok((frame, room))
    }

    /// Waits for the first byte of a frame.
    async fn arrival(&mut self) -> Result<(), CloseReason> {
        loop {
            match timeout(self.shared.limits.idle_timeout, self.socket.fill_buf()).await {
                Ok(buffered) => return if buffered?.is_empty() { Err(CloseReason::Client) } else { Ok(()) },
                // A client that waits for an answer is not idle.
                Err(_) if self.in_progress.load(Ordering::Relaxed) > 0 => {}
                Err(_) => return Err(CloseReason::Idle),
            }
        }
    }

    /// Reads a frame in steps that grow with what has come: neither permits nor memory are taken for what is only
    /// announced.
    async fn body(
        &mut self,
        bytes: usize,
        room: &mut RequestRoom,
        patience: &mut Patience,
    ) -> Result<Bytes, CloseReason> {
        let mut frame = BytesMut::new();
        while frame.len() < bytes {
            let step = frame.len().clamp(OWN_BYTES, STEP_BYTES_MAX).min(bytes - frame.len());
            room.take(step).await;
            frame.reserve(step);
            let end = frame.len() + step;
            while frame.len() < end {
                let left = end - frame.len();
                let mut rest = (&mut frame).limit(left);
                if patience.wait(self.socket.read_buf(&mut rest)).await? == 0 {
                    return Err(CloseReason::Client);
                }
            }
        }
        count(&self.shared.stats.bytes_read, bytes + 4);
        Ok(frame.freeze())
    }

    /// Calls the service. An unknown API, or a panic, ends the connection in its turn.
    fn call(&self, frame: Bytes, room: RequestRoom) -> Result<PendingAnswer, CloseReason> {
        let frame_bytes = frame.len();
        let mut body = frame;
        let header = RequestHeader::decode(&mut body)?;
        let Some(api) = header.api() else {
            return Ok(unknown_api(&header, frame_bytes));
        };
        count(&self.shared.stats.requests, 1);
        let reply = RequestKey { api, version: header.api_version, correlation_id: header.correlation_id };
        let ClientPlace { peer, listener } = self.client;
        let delivery = self.delivery.clone();
        let request = KafkaRequest { api, header, body, frame_bytes, peer, listener, delivery };
        let stats = self.shared.stats.clone();
        let outcome = match catch_unwind(AssertUnwindSafe(|| self.service.call(request))) {
            Ok(outcome) => outcome,
            Err(panic) => ready(panicked(&stats, peer, api, &*panic)).boxed(),
        };
        let outcome = async move {
            let outcome = AssertUnwindSafe(outcome).catch_unwind().await;
            drop(room);
            outcome.unwrap_or_else(|panic| panicked(&stats, peer, api, &*panic))
        };
        Ok(PendingAnswer { reply, frame_bytes, outcome: outcome.boxed() })
    }
}

fn unknown_api(header: &RequestHeader, frame_bytes: usize) -> PendingAnswer {
    let reason = format!("unknown API {} v{}, client {:?}", header.api_key, header.api_version, header.client_id);
    let outcome: BoxFuture<'static, RequestOutcome> = ready(RequestOutcome::close(reason)).boxed();
    // Nothing is sent for it, so the API named here has no meaning.
    let reply = RequestKey { api: ApiKey::ApiVersions, version: 0, correlation_id: header.correlation_id };
    PendingAnswer { reply, frame_bytes, outcome }
}

fn panicked(stats: &NetStats, peer: SocketAddr, api: ApiKey, panic: &(dyn Any + Send)) -> RequestOutcome {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    count(&stats.panics, 1);
    tracing::error!(%peer, %api, message, "a handler panicked");
    RequestOutcome::close(format!("the handler of {api} panicked"))
}
