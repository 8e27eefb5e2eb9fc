//! Kafka record batches of magic 2, the only form in which records are kept.
//!
//! A batch arrives as bytes and stays bytes: [`verify`] or [`check_produced`] look at its [`BatchHeader`] and CRC,
//! [`stamp`] writes offset and leader epoch in place, [`split`] cuts a run of batches apart. Only who needs the records
//! themselves (search, indexing, a lookup by time) opens one with [`records`], and who needs to know when they happened
//! asks [`time_span`]. [`BatchBuilder`] makes batches as a client does.
//!
//! The layout is that of Kafka's `DefaultRecordBatch`; all integers are big-endian.

mod builder;
mod codec;
mod error;
mod header;
mod message_set;
mod produced;
mod record;
mod time;
mod transfer;
mod varint;

pub use builder::BatchBuilder;
pub use codec::{BatchUnpacker, Codec};
pub use error::BatchError;
pub use header::{BatchHeader, CONTROL, HEADER_LENGTH, LOG_APPEND_TIME, TRANSACTIONAL, split, verify};
pub use message_set::{MessageMagic, batch_of_messages, fuzz_message_set, magic, messages_of_batches};
#[cfg(any(test, feature = "testing"))]
pub use produced::forged;
pub use produced::{check_produced, stamp, stamp_log_append_time};
pub use record::{HEADERS_MAX, Record, RecordHeader, Records, check_unpacks, fuzz_records, records};
pub use time::{DECOMPRESSED_BYTES_MAX, TimeSpan, find_time, fuzz_time_span, latest_timestamp, time_span};
pub use transfer::{BATCH_BYTES_MAX, CONTENT_TYPE_BATCHES, TRANSFER_HEADER_LENGTH, TransferError, pack, unpack};
