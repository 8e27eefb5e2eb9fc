use std::net::SocketAddr;

/// Where a client is, and where it came in.
#[derive(Clone, Copy)]
pub struct ClientPlace {
    pub peer: SocketAddr,
    /// See [`KafkaRequest::listener`](crate::KafkaRequest::listener).
    pub listener: usize,
}
