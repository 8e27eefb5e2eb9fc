//! What the broker puts into the bucket for readers: the log as segments, and the catalog that names them. What is
//! settled leaves the state on the way, for pages and lists of segments.

pub mod catalog;
pub mod closing;
pub mod error;
pub mod folding;
pub mod page_tree;
pub mod pages;
pub mod segment_lists;
pub mod segments;
pub mod topic_runs;
