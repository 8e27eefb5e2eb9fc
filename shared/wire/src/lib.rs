//! Kafka's messages: what goes over the connection, and nothing that does I/O.
//!
//! A message is a table in [`message`]: field, type, default, versions. From the table come the struct,
//! [`Message::decode`], [`Message::encode`] and [`Message::encoded_len`] (`schema`, over the types of `field`).
//! Record bytes are never copied: a decoded message holds slices of its frame, an encoded one is a list of
//! chunks for a vectored write. Shapes are those of Apache Kafka's message definitions.
//!
//! A frame is `length i32 | header | body`; [`frame`] has both headers.

mod api;
mod cursor;
mod error_code;
#[doc(hidden)]
pub mod exercise;
mod field;
pub mod frame;
pub mod message;
#[cfg(test)]
mod oracle;
mod schema;
mod sink;

pub use api::ApiKey;
pub use cursor::DecodeError;
pub use error_code::ErrorCode;
pub use field::RecordChunks;
pub use frame::RequestHeader;
pub use message::*;
pub use schema::{Message, RequestMessage};
