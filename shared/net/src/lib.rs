//! Kafka connections: framing, limits, answers in request order, and dispatch by the API table.
//!
//! [`KafkaServer`] accepts connections, at one listener or several. Each has one task with two halves: `reader` takes
//! frames off the socket and calls the [`KafkaService`] with them in order of arrival; `writer` polls what the calls
//! returned, together, and sends the answers in order of the requests (`answers`). [`ApiTable`] is a service made of
//! one row an API.
//!
//! Memory is bounded by [`NetLimits`]: a frame's length before it is allocated, the bytes of all requests in
//! progress as they arrive (`admission`), the requests and finished answers of one connection. Beyond a limit the
//! socket is not read, and TCP holds the client back.

mod admission;
mod answers;
mod api_table;
mod client_place;
mod close_reason;
mod connection;
mod delivery;
mod limits;
mod outgoing;
mod reader;
mod server;
mod server_context;
mod service;
mod stats;
mod writer;

pub use api_table::{ApiHandler, ApiRow, ApiTable};
pub use delivery::AnswerDelivery;
pub use limits::NetLimits;
pub use server::KafkaServer;
pub use service::{KafkaRequest, KafkaService, RequestOutcome};
pub use stats::NetStats;
