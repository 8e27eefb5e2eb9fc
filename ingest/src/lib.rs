//! chronik-ingest
