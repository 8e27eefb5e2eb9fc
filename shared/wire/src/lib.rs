//! chronik-wire
