//! Requests as a connection hands them to a service, and the service's outcomes.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use chronik_wire::{ApiKey, DecodeError, Message, RequestHeader};
use futures::future::BoxFuture;

use crate::AnswerDelivery;

/// One request, its body not decoded yet.
#[derive(Debug)]
pub struct KafkaRequest {
    /// The API of the header.
    pub api: ApiKey,
    pub header: RequestHeader,
    /// What follows the header: a slice of the frame.
    pub body: Bytes,
    /// Bytes of the whole frame, which every slice of `body` keeps alive.
    pub frame_bytes: usize,
    /// Where the client is.
    pub peer: SocketAddr,
    /// Which of the server's listeners it came in by: their number in the order in which they were bound, from 0.
    pub listener: usize,
    /// How it takes its answers.
    pub delivery: Arc<AnswerDelivery>,
}

impl KafkaRequest {
    /// The version of the body and of its answer.
    pub fn version(&self) -> i16 {
        self.header.api_version
    }

    /// Decodes the body. An error becomes an [`RequestOutcome`] with `?` or `into`.
    pub fn decode<M: Message>(&self) -> Result<M, DecodeError> {
        M::decode(self.body.clone(), self.version())
    }
}

/// How a request ends.
#[derive(Debug)]
pub enum RequestOutcome {
    /// The body of an answer; the connection adds length and header.
    Answer(Vec<Bytes>),
    /// Nothing is sent, as for Produce with acks = 0.
    NoAnswer,
    /// The connection is closed, after the answers to earlier requests.
    Close {
        /// For the log.
        reason: String,
    },
}

impl RequestOutcome {
    /// Answers with `body` as `version` has it.
    pub fn answer(body: &impl Message, version: i16) -> Self {
        Self::Answer(body.encode(version))
    }

    /// Closes the connection.
    pub fn close(reason: impl Into<String>) -> Self {
        Self::Close { reason: reason.into() }
    }
}

/// Kafka closes the connection of a client whose request can't be read.
impl From<DecodeError> for RequestOutcome {
    fn from(error: DecodeError) -> Self {
        Self::close(error.to_string())
    }
}

/// Answers requests.
pub trait KafkaService: Send + Sync + 'static {
    /// Begins a request. Calls of one connection come one after the other, in the order in which its requests
    /// arrived, so what `call` itself does keeps that order. What it returns runs beside the futures of
    /// other requests, on the connection's task.
    fn call(&self, request: KafkaRequest) -> BoxFuture<'static, RequestOutcome>;
}
