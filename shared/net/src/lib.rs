//! chronik-net
