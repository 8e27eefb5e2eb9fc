//! What Chronik keeps and how: identifiers and object names, record batches, segments, archives, the catalog,
//! checkpoints and jobs, and the query language with the analysis of text that indexer and search share.
//!
//! Bytes at rest carry magic, version and checksum; integers are little-endian unless they are Kafka's.

pub mod archive;
pub mod batch;
pub mod catalog;
pub mod checkpoint;
#[cfg(any(test, feature = "testing"))]
pub mod golden;
pub mod ids;
pub mod job;
pub mod names;
pub mod origin;
pub mod search;
pub mod segment;
pub mod segment_list;
pub mod span;
