//! HTTP connections: how many there may be, and how long one keeps its file handle for nothing.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use prometheus::{IntCounter, IntGauge};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep};

use crate::telemetry::Metrics;

/// From the connection to the first byte of its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// From a part of an answer to the next, or to the first byte of the next request. Clients keep a connection for less,
/// so that none is closed while a request is on its way.
const NEXT: Duration = Duration::from_secs(120);
/// From the first byte of a request to the end of its header.
const HEADER: Duration = Duration::from_secs(30);
/// From the first byte of a request to that of its answer.
const ANSWER: Duration = Duration::from_secs(600);
/// From a part of an answer that the client does not take to its first byte that it does.
const TAKE: Duration = Duration::from_secs(30);

/// A listener for a limited number of connections; another one is closed at once.
pub struct HttpListener {
    listener: TcpListener,
    max: usize,
    is_full: bool,
    open: IntGauge,
    refused: IntCounter,
}

impl HttpListener {
    /// At most `max` at a time.
    pub fn new(listener: TcpListener, max: usize, metrics: &Metrics) -> Self {
        Self {
            listener,
            max,
            is_full: false,
            open: metrics.gauge("chronik_http_connections", "HTTP connections that are open."),
            refused: metrics.counter(
                "chronik_http_refused_connections_total",
                "HTTP connections closed at once because there were too many.",
            ),
        }
    }
}

impl Listener for HttpListener {
    type Io = HttpConnection<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = Listener::accept(&mut self.listener).await;
            if (self.open.get() as usize) < self.max {
                self.is_full = false;
                return (HttpConnection::new(stream, Open::new(self.open.clone())), peer);
            }
            self.refused.inc();
            if !self.is_full {
                tracing::warn!(%peer, connections = self.max, "too many HTTP connections: refusing more");
            }
            self.is_full = true;
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection in the gauge, also if its task panics.
struct Open(IntGauge);

impl Open {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Requests of one connection whose header has come whole and that are not answered yet.
#[derive(Clone, Debug, Default)]
pub struct OpenRequests(Arc<AtomicUsize>);

/// One of them, until dropped.
pub struct ServedRequest(OpenRequests);

impl OpenRequests {
    /// Counts a request.
    pub fn begin(&self) -> ServedRequest {
        self.0.fetch_add(1, Ordering::Relaxed);
        ServedRequest(self.clone())
    }

    fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for ServedRequest {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, HttpListener>> for OpenRequests {
    fn connect_info(stream: IncomingStream<'_, HttpListener>) -> Self {
        stream.io().served.clone()
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// The first byte of a request, or what comes next of an answer.
    Next,
    /// The end of a request's header.
    Header,
    /// An answer.
    Answer,
    /// That the client takes what is there of an answer.
    Taking,
}

/// A stream that ends when its client has asked nothing, or not to the end, or has taken nothing of an answer, for too
/// long.
pub struct HttpConnection<S> {
    stream: S,
    deadline: Pin<Box<Sleep>>,
    waiting: Waiting,
    served: OpenRequests,
    _open: Open,
}

impl<S> HttpConnection<S> {
    fn new(stream: S, open: Open) -> Self {
        let deadline = Box::pin(sleep(FIRST_REQUEST));
        Self { stream, deadline, waiting: Waiting::Next, served: OpenRequests::default(), _open: open }
    }

    fn wait(&mut self, waiting: Waiting, time: Duration) {
        self.waiting = waiting;
        self.deadline.as_mut().reset(Instant::now() + time);
    }

    /// Bytes of a request came. Only the first count: who drips them does not get more time.
    fn asked(&mut self) {
        if self.waiting == Waiting::Next {
            self.wait(Waiting::Header, HEADER);
        }
    }

    fn poll_late<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        ready!(self.deadline.as_mut().poll(cx));
        if self.waiting == Waiting::Header && self.served.is_any() {
            self.wait(Waiting::Answer, ANSWER - HEADER);
            ready!(self.deadline.as_mut().poll(cx));
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn written(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            if self.waiting != Waiting::Taking {
                self.wait(Waiting::Taking, TAKE);
            }
            return self.poll_late(cx);
        }
        self.wait(Waiting::Next, NEXT);
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HttpConnection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_pending() {
            return self.poll_late(cx);
        }
        self.asked();
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HttpConnection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn pair() -> (HttpConnection<DuplexStream>, DuplexStream) {
        let (stream, client) = duplex(4);
        let gauge = IntGauge::new("chronik_test_open", "Counts.").unwrap();
        (HttpConnection::new(stream, Open::new(gauge)), client)
    }

    /// What the wait for more from the client ends with, and after which time.
    async fn wait(connection: &mut HttpConnection<DuplexStream>) -> (io::ErrorKind, Duration) {
        let begun = Instant::now();
        let error = connection.read_u8().await.unwrap_err();
        (error.kind(), begun.elapsed())
    }

    /// Timers are exact to a millisecond.
    fn assert_late((kind, after): (io::ErrorKind, Duration), expected: Duration) {
        assert_eq!((kind, after.as_secs()), (io::ErrorKind::TimedOut, expected.as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_asks_nothing_is_let_go() {
        let (mut connection, _client) = pair();
        assert_late(wait(&mut connection).await, FIRST_REQUEST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_drips_has_its_time_once() {
        let (mut connection, mut client) = pair();
        client.write_all(b"GET").await.unwrap();
        connection.read_exact(&mut [0; 3]).await.unwrap();
        tokio::time::sleep(HEADER - Duration::from_secs(10)).await;
        client.write_all(b" ").await.unwrap();
        connection.read_u8().await.unwrap();
        assert_late(wait(&mut connection).await, Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_has_its_time_once_and_the_next_may_wait() {
        let (mut connection, mut client) = pair();
        client.write_all(b"GET").await.unwrap();
        connection.read_exact(&mut [0; 3]).await.unwrap();
        let _served = connection.served.begin();
        assert_late(wait(&mut connection).await, ANSWER);
        connection.write_all(b"200").await.unwrap();
        assert_late(wait(&mut connection).await, NEXT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_of_an_answer_is_let_go() {
        let (mut connection, _client) = pair();
        let begun = Instant::now();
        let error = connection.write_all(b"12345").await.unwrap_err();
        assert_late((error.kind(), begun.elapsed()), TAKE);
    }

    #[tokio::test]
    async fn a_connection_too_many_is_closed_and_delays_no_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, metrics) = (listener.local_addr().unwrap(), Metrics::new());
        let mut connections = HttpListener::new(listener, 1, &metrics);
        let _first = TcpStream::connect(address).await.unwrap();
        let (held, _) = connections.accept().await;
        let mut second = TcpStream::connect(address).await.unwrap();
        let next = tokio::spawn(async move { connections.accept().await });
        assert_eq!(second.read(&mut [0]).await.unwrap(), 0);
        drop(held);
        let _third = TcpStream::connect(address).await.unwrap();
        next.await.unwrap();
        assert!(metrics.exposition().contains("chronik_http_refused_connections_total 1\n"));
        assert!(metrics.exposition().contains("chronik_http_connections 0\n"));
    }
}
