//! The Kafka broker: owns the write-ahead log, the lane's state and the catalog.
//!
//! A record's way: `api` checks it on its connection's task, [`lane`] orders it, [`wal`] makes it durable, [`state`] takes
//! it in; later [`ship`] puts it into a segment, [`indexing`] has it archived, [`export`] tells readers, and [`reading`] finds
//! it wherever it lies. [`deletion`] clears away what nobody needs any more. [`recover`] is the way back from the bucket,
//! [`claim`] and [`ownership`] decide who owns it, [`continuity`] whether the local files still belong to it. [`Ingest`] puts all of it together, [`run`] makes a process of it.

mod api;
mod broker;
pub mod claim;
pub mod clock;
pub mod command;
pub mod continuity;
pub mod data_dir;
pub mod deletion;
pub mod disk;
pub mod export;
pub mod http;
pub mod indexing;
pub mod lane;
pub mod metrics;
pub mod ownership;
pub mod reading;
pub mod recover;
mod run;
pub mod settings;
pub mod ship;
pub mod start;
pub mod state;
pub mod tail_service;
pub mod topic_config;
pub mod wal;

pub use broker::{Ingest, IngestError, IngestParts};
pub use run::{RunError, run};
pub use settings::{IngestSettings, RunSettings, SettingsError};
