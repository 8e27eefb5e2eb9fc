use chronik_core::setting::ByteSize;
use clap::Args;

/// The indexer's own settings.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Memory")]
pub struct IndexerSettings {
    /// Memory that building an archive may take.
    #[arg(long, env = "CHRONIK_INDEXER_MEMORY_BYTES", value_name = "SIZE", default_value_t = ByteSize::mebibytes(1024))]
    pub indexer_memory_bytes: ByteSize,
}
