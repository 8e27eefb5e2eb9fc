//! Search and cold fetch over HTTP, straight from the bucket.
//!
//! A [`QueryService`] holds no state but caches: what to look at comes from the catalog, records come from segments
//! and from the broker's tail, candidates from archives. `search` has the walk of a search, `http` what goes over the
//! wire, and [`run()`] makes a process of it.

mod answer_room;
mod archive;
mod cpu;
mod http;
mod memory;
mod metrics;
mod record_copy;
mod run;
mod search;
mod service;
mod settings;

pub use archive::{ArchiveLeaf, CandidateBatch, CandidateRecords, LeafError};
pub use http::routes;
pub use run::run;
pub use service::{QueryLimits, QueryParts, QueryService};
pub use settings::RunSettings;
