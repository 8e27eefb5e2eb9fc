//! The container of a Tantivy index over runs of one topic.
