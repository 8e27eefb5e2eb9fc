//! The indexer: turns runs of records into archives, many small runs into few, and many archives into few.
//!
//! A worker takes a [`Job`](chronik_format::job::Job) from the queue, reads its runs from their segments, checks and
//! decodes every batch (`decode`), fills Tantivy indexes within a memory limit (`index_builder`), creates the
//! archives under names of their own, puts a result into the lane's inbox, and acknowledges the job last. A
//! [`CompactJob`](chronik_format::job::CompactJob) leads to segments instead (`compaction`), a
//! [`MergeJob`](chronik_format::job::MergeJob) to archives that are made of others (`merging`). It keeps nothing: a
//! worker that dies leaves at most objects that no result names.

mod compaction;
mod decode;
mod error;
mod fields;
mod files;
mod index_builder;
mod indexer;
mod job;
mod job_runner;
pub mod lambda;
mod leaf;
mod merging;
mod metrics;
mod patience;
mod reader;
mod report;
mod run;
mod settings;
mod tokenizer;
mod work_thread;
mod worker;

pub use error::IndexError;
pub use indexer::{Indexer, IndexerParts};
pub use run::{RunError, run};
pub use settings::{IndexerSettings, RunSettings};
