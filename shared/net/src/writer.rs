//! From the service to the socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Buf;
use chronik_wire::frame;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::WriteHalf;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::answers::{AnswerQueue, PendingAnswer, RequestKey};
use crate::close_reason::CloseReason;
use crate::outgoing::OutgoingChunks;
use crate::server_context::ServerContext;
use crate::stats::count;
use crate::{AnswerDelivery, RequestOutcome};

/// Finished answers are sent together up to about this many bytes.
const WRITE_BYTES: usize = 1 << 20;

/// The writing half of a connection.
pub struct AnswerWriter<'a> {
    socket: WriteHalf<'a>,
    delivery: Arc<AnswerDelivery>,
    shared: Arc<ServerContext>,
    requests: mpsc::Receiver<PendingAnswer>,
    in_progress: &'a AtomicUsize,
    answers: AnswerQueue,
    outgoing: OutgoingChunks,
}

impl<'a> AnswerWriter<'a> {
    pub fn new(
        socket: WriteHalf<'a>,
        delivery: Arc<AnswerDelivery>,
        shared: &Arc<ServerContext>,
        requests: mpsc::Receiver<PendingAnswer>,
        in_progress: &'a AtomicUsize,
    ) -> Self {
        let answers = AnswerQueue::new(shared.limits.connection_bytes_max);
        Self {
            socket,
            delivery,
            shared: shared.clone(),
            requests,
            in_progress,
            answers,
            outgoing: OutgoingChunks::default(),
        }
    }

    /// Sends answers until the reader has ended and all are sent.
    pub async fn run(mut self) -> Result<(), CloseReason> {
        let mut open = true;
        while open || !self.answers.is_empty() {
            let room = self.has_room();
            tokio::select! {
                pending = self.requests.recv(), if open && room => match pending {
                    Some(pending) => self.answers.push(pending),
                    None => open = false,
                },
                finished = self.answers.next(), if !self.answers.is_empty() => self.send(finished).await?,
            }
        }
        self.socket.shutdown().await?;
        Ok(())
    }

    fn has_room(&self) -> bool {
        let limits = &self.shared.limits;
        self.answers.len() < limits.connection_requests_max
            && self.answers.request_bytes() < limits.connection_bytes_max
    }

    /// Sends an answer and those behind it that are finished too.
    async fn send(&mut self, first: (RequestKey, RequestOutcome)) -> Result<(), CloseReason> {
        let mut next = Some(first);
        while let Some((reply, outcome)) = next {
            self.in_progress.fetch_sub(1, Ordering::Relaxed);
            match outcome {
                RequestOutcome::NoAnswer => {}
                RequestOutcome::Answer(body) => {
                    let RequestKey { api, version, correlation_id } = reply;
                    self.outgoing.extend(frame::response(api, version, correlation_id, body));
                }
                RequestOutcome::Close { reason } => {
                    self.flush().await?;
                    return Err(CloseReason::Refused(reason));
                }
            }
            next = if self.outgoing.remaining() < WRITE_BYTES { self.answers.take_finished() } else { None };
        }
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), CloseReason> {
        while self.outgoing.has_remaining() {
            self.delivery.offered();
            let write = timeout(self.shared.limits.stall_timeout, self.socket.write_buf(&mut self.outgoing));
            let written = tokio::select! {
                biased;
                () = self.delivery.given_up() => return Err(CloseReason::Unread),
                written = write => written.map_err(|_| CloseReason::Unread)??,
            };
            count(&self.shared.stats.bytes_written, written);
        }
        self.delivery.finished();
        Ok(())
    }
}
