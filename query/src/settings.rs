use std::path::PathBuf;

use chronik_service::setting::{CacheSettings, HttpSettings, IngestEndpointSettings};
use chronik_store::setting::BucketSettings;
use clap::Args;

/// Settings of a query worker.
#[derive(Args, Clone, Debug)]
pub struct RunSettings {
    /// Directory in which a bucket on a local directory lies, and the cache on disk, unless those are set themselves
    #[arg(long, env = "CHRONIK_DATA_DIR", value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,
    /// The bucket.
    #[command(flatten)]
    pub bucket: BucketSettings,
    /// Who has the newest records.
    #[command(flatten)]
    pub brokers: IngestEndpointSettings,
    /// Search, metrics and health.
    #[command(flatten)]
    pub http: HttpSettings,
    /// Memory.
    #[command(flatten)]
    pub cache: CacheSettings,
}
