//! The indexer: turns runs of records into archives.
//!
//! A worker takes a [`Job`](chronik_format::job::Job) from the queue, reads its runs from their segments, checks and
//! decodes every batch (`survey`), fills Tantivy indexes within a memory limit (`draft`, `made`), creates the
//! archives under names of their own, puts a result into the lane's inbox, and acknowledges the job last. It keeps
//! nothing: a worker that dies leaves at most objects that nobody names.

mod aside;
mod bench;
mod draft;
mod error;
mod fields;
mod files;
mod indexer;
mod job;
pub mod lambda;
mod metrics;
mod patience;
mod reader;
mod report;
mod run;
mod settings;
mod survey;
mod words;
mod worker;

pub use error::IndexError;
pub use indexer::{Indexer, IndexerParts};
pub use run::{RunError, run};
pub use settings::{IndexerSettings, RunSettings};
