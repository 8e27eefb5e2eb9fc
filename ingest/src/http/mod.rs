//! The broker's part of the HTTP interface.

pub mod compaction;
pub mod status;
pub mod tail;
mod tiers;
