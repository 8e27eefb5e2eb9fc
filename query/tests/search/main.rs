//! Searches over HTTP routes and real segments, archives and catalogs in a bucket in memory, with a tail that the tests
//! move.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod faults;
mod oracle;
mod surface;
mod world;
