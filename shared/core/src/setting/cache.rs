//! Memory that a process may use for what it could read again.

use clap::Args;

use super::ByteSize;

/// The caches.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Memory")]
pub struct CacheSettings {
    /// Memory for what was read from the bucket.
    #[arg(long, env = "CHRONIK_CACHE_MEMORY_BYTES", value_name = "SIZE", default_value_t = ByteSize::mebibytes(256))]
    pub cache_memory_bytes: ByteSize,
    /// Memory that building an archive may take.
    #[arg(long, env = "CHRONIK_INDEXER_MEMORY_BYTES", value_name = "SIZE", default_value_t = ByteSize::mebibytes(1024))]
    pub indexer_memory_bytes: ByteSize,
}
