//! Objects that hold batches: at level 0 those of a range of a lane's log, with its commands; at level 1 those of one
//! topic from many segments, batches byte for byte and no log.
//!
//! [`build`] makes a segment out of batches and log entries, [`TopicSegmentWriter`] one of level 1 batch by batch;
//! [`SegmentReader`] reads both by ranges. Integers are little-endian (those inside batches are Kafka's), checksums
//! CRC-32C, positions bytes from the object's start.
//!
//! ```text
//! header        56   magic "CHRNKSEG" | version u16 | level u16 | cluster 16 | incarnation u32 | lane u32
//!                    | first index u64 | last index u64 | crc u32 of what precedes; indices are 0 at level 1
//! batches            as Kafka's, grouped by topic id, partition, offset
//! command log        per entry: index u64 | epoch u64 | length u32 | commands; indices are first..=last. None at
//!                    level 1
//! directory
//!   topic index      per topic, ascending, 24: topic id 16 | first row u32 | rows u32
//!   partition table  per partition, ascending, 88: topic id 16 | partition i32 | first offset i64 | last offset i64
//!                    | position u64 | length u64 | min timestamp i64 | max timestamp i64 | first leader epoch i32
//!                    | last leader epoch i32 | batches u32 | first chunk u32 | chunks u32. Timestamps, here and of a
//!                    chunk, are those of the records, whatever headers claim; i64's bounds if not all can be read
//!   chunks           per 64 KiB of a partition's batches, 28: base offset i64 | position u64 | max timestamp i64
//!                    | crc u32. A chunk is whole batches and ends where the next one starts; the crc covers it all,
//!                    also the fields of a batch that its own CRC leaves out
//! trailer      124   the header again 56 | log position u64 | log length u64 | directory position u64
//!                    | directory length u64 | log entries u32 | topics u32 | rows u32 | chunks u32 | log crc u32
//!                    | directory crc u32 | crc u32 of what precedes | magic "SEGCHRNK"
//! ```
//!
//! A reader that knows the directory's position (from the catalog) needs one ranged read for directory and trailer
//! and one for batches; one that does not asks for the object's size and reads its end.

mod chunk;
mod directory;
mod error;
mod inspect;
mod layout;
mod log;
mod open;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use chunk::certain;
pub use directory::{DirectoryRow, SegmentChunk, SegmentDirectory};
pub use error::SegmentError;
pub use inspect::{PartitionDescription, SegmentDescription, TopicDescription, inspect};
pub use layout::{HEADER_LENGTH, SegmentHeader, TRAILER_LENGTH, VERSION};
pub use log::LogEntry;
pub use open::fuzz_open;
pub use reader::{SegmentReader, verify_stored};
pub use writer::{BuiltSegment, PartitionBatches, TopicSegmentEnd, TopicSegmentWriter, build};
