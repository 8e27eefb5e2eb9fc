//! What ingest, indexer and query have in common: identifiers, record batches, the formats at rest, and the
//! four seams through which the services meet: [`store::Store`], [`queue::Queue`], [`tail::Tail`] and
//! [`cold::ColdReader`]. Services never call each other in any other way, whether they share a process or not.
//!
//! Bytes at rest carry magic, version and checksum; integers are little-endian unless they are Kafka's.

pub mod archive;
pub mod batch;
pub mod catalog;
pub mod checkpoint;
pub mod client;
pub mod cold;
pub mod failpoint;
#[cfg(any(test, feature = "testing"))]
pub mod golden;
pub mod handles;
pub mod ids;
pub mod job;
#[cfg(any(test, feature = "testing"))]
pub mod loopback;
pub mod names;
pub mod problem;
pub mod process;
pub mod program;
pub mod queue;
pub mod search;
pub mod segment;
pub mod setting;
pub mod shutdown;
pub mod store;
pub mod tail;
pub mod telemetry;
pub mod turns;
pub mod web;
