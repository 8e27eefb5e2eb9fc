//! Broker, indexer and search in one process. They share it, and nothing else but the seams of `chronik-core`.

use anyhow::Result;

use crate::settings::StandaloneSettings;

pub async fn run(settings: StandaloneSettings) -> Result<()> {
    settings.check()?;
    anyhow::bail!("{}", settings.bucket_dir().display())
}
