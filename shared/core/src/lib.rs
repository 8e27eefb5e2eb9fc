//! chronik-core
