//! The Kafka broker: owns the write-ahead log, the lane's state and the catalog.
//!
//! A record's way: `api` checks it on its connection's task, `lane` orders it, the [`mod@log`] makes it durable
//! ([`wal`]), [`state`] applies it; later `publish` puts it into a segment and exports the catalog, `indexing` has it
//! archived, `compaction` makes few runs of many and `merging` few archives, and `reading` finds it wherever it lies.
//! `retention` deletes old records, and `gc` objects that nothing refers to any more. `startup` is the way back, from
//! the data directory or from the bucket, and [`ownership`] decides whose the bucket is. [`RunningBroker`] puts all of
//! it together, `run` makes a process of it.

mod api;
mod broker;
mod clock;
pub mod compaction;
pub mod data_dir;
pub mod disk;
mod gc;
mod groups;
mod http;
mod indexing;
mod lane;
mod listener;
pub mod log;
pub mod merging;
mod metrics;
pub mod ownership;
mod producer_expiry;
pub mod publish;
mod read_failures;
mod reading;
mod retention;
mod run;
mod settings;
mod startup;
pub mod state;
mod store_clock;
pub mod wal;

pub use broker::{IngestError, IngestParts, RunningBroker};
pub use listener::{Address, BindHost, BoundListener, KafkaListener, named_places};
pub use run::{RunError, run};
pub use settings::{IngestSettings, RunSettings, SettingsError};
