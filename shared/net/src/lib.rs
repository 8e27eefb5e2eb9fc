//! Kafka connections: framing, limits, answers in request order, and dispatch by the API table.
//!
//! [`Server`] accepts connections. Each has one task with two halves: `reader` takes frames off the socket and calls
//! the [`Service`] with them in order of arrival; `writer` polls what the calls returned, together, and
//! sends the answers in order of the requests (`answers`). [`ApiTable`] is a service made of one row an API.
//!
//! Memory is bounded by [`Limits`]: a frame's length before it is allocated, the bytes of all requests in
//! progress as they arrive (`admission`), the requests and finished answers of one connection. Beyond a limit the
//! socket is not read, and TCP holds the client back.

mod admission;
mod answers;
mod api_table;
mod close_reason;
mod connection;
mod delivery;
mod limits;
mod outgoing;
mod reader;
mod server;
mod service;
mod shared;
mod stats;
mod writer;

pub use api_table::{Api, ApiTable, Handler};
pub use delivery::Delivery;
pub use limits::Limits;
pub use server::Server;
pub use service::{Outcome, Request, Service};
pub use stats::NetStats;
