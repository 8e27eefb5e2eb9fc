//! chronik-indexer
