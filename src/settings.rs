//! What an operator can set about `chronik standalone`: the settings of its parts, side by side.

use anyhow::Result;
use chronik_core::setting::{BucketSettings, CacheSettings, HttpSettings, QueueSettings};
use clap::Args;

/// Settings of the whole system in one process. Every flag has an environment variable.
#[derive(Args, Clone, Debug)]
pub struct StandaloneSettings {
    #[command(flatten)]
    pub ingest: chronik_ingest::settings::IngestSettings,
    #[command(flatten)]
    pub bucket: BucketSettings,
    #[command(flatten)]
    pub queue: QueueSettings,
    #[command(flatten)]
    pub http: HttpSettings,
    #[command(flatten)]
    pub cache: CacheSettings,
}

impl StandaloneSettings {
    /// Checks what goes beyond a single value.
    pub fn check(&self) -> Result<()> {
        self.ingest.validate()?;
        self.http.check()?;
        self.bucket.check()?;
        self.queue.check()?;
        Ok(())
    }
}
