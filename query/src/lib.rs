//! Search and cold fetch over HTTP, straight from the bucket.
//!
//! A [`QueryService`] holds no state but caches: what to look at comes from the catalog, records come from segments
//! and from the broker's tail, candidates from archives. `search` has the walk of a search, `http` what goes over the wire.

mod archive;
mod cpu;
mod http;
mod memory;
mod metrics;
mod search;
mod service;

pub use archive::{ArchiveLeaf, CandidateBatch, Candidates, LeafError};
pub use http::routes;
pub use service::{QueryLimits, QueryParts, QueryService};
