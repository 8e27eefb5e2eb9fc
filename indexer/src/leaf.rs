//! A leaf of a topic's history, as jobs name it.

use std::sync::Arc;

use chronik_format::catalog::page::{Page, decode_page};
use chronik_format::catalog::{CatalogError, TopicRuns};
use chronik_format::ids::TopicId;
use chronik_format::job::JobPage;
use chronik_format::origin::Origin;
use chronik_store::SharedStore;

use crate::patience::patiently;

/// Reads the leaf of a topic that a job names.
pub(crate) async fn leaf(
    store: &SharedStore,
    topic: TopicId,
    page: &JobPage,
) -> Result<(Origin, Arc<TopicRuns>), CatalogError> {
    let bytes = patiently(|| store.read(&page.key, None)).await?;
    let stored = decode_page(&page.key, &bytes)?;
    let is_named = bytes.len() as u64 == page.size && bytes.ends_with(&page.crc.to_le_bytes());
    match stored.page {
        Page::Runs(runs) if is_named && stored.topic == topic => Ok((stored.origin, runs)),
        _ => {
            let reason = "it is another page than the job names".to_owned();
            Err(CatalogError::Damaged { object: page.key.clone(), reason })
        }
    }
}
