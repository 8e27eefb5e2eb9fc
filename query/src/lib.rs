//! chronik-query
