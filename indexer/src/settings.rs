use std::path::PathBuf;

use chronik_service::setting::{ByteSize, HttpSettings};
use chronik_store::setting::{BucketSettings, QueueSettings};
use clap::Args;

/// Settings of an indexer in a process of its own.
#[derive(Args, Clone, Debug)]
pub struct RunSettings {
    /// Directory in which a bucket on a local directory lies, unless that is set itself
    #[arg(long, env = "CHRONIK_DATA_DIR", value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,
    /// The bucket.
    #[command(flatten)]
    pub bucket: BucketSettings,
    /// The queue.
    #[command(flatten)]
    pub queue: QueueSettings,
    /// Metrics and health.
    #[command(flatten)]
    pub http: HttpSettings,
    /// Of the work itself.
    #[command(flatten)]
    pub indexer: IndexerSettings,
}

/// The indexer's own settings.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Memory")]
pub struct IndexerSettings {
    /// Memory that building an archive may take.
    #[arg(long, env = "CHRONIK_INDEXER_MEMORY_BYTES", value_name = "SIZE", default_value_t = ByteSize::mebibytes(1024))]
    pub indexer_memory_bytes: ByteSize,
}
