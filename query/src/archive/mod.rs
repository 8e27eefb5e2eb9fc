//! The Tantivy leaf of a search.
