//! What an operator can set about `chronik standalone`: the settings of its parts, side by side.

use chronik_indexer::IndexerSettings;
use chronik_ingest::IngestSettings;
use chronik_service::setting::{CacheSettings, HttpSettings};
use chronik_store::setting::{BucketSettings, QueueSettings};
use clap::Args;

/// Settings of the whole system in one process. Every flag has an environment variable.
#[derive(Args, Clone, Debug)]
pub struct StandaloneSettings {
    #[command(flatten)]
    pub ingest: IngestSettings,
    #[command(flatten)]
    pub bucket: BucketSettings,
    #[command(flatten)]
    pub queue: QueueSettings,
    #[command(flatten)]
    pub http: HttpSettings,
    #[command(flatten)]
    pub cache: CacheSettings,
    #[command(flatten)]
    pub indexer: IndexerSettings,
}
