//! What the broker puts into the bucket for readers: the log as segments, and the catalog that names them.

pub mod catalog;
pub mod error;
pub mod folding;
pub mod pages;
pub mod segments;
pub mod topic_runs;
