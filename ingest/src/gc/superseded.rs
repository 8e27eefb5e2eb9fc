//! What a newer object of the same kind has replaced: catalog exports and checkpoints. Their names show it.

use std::collections::HashSet;

use chronik_format::catalog::Catalog;
use chronik_format::ids::Timestamp;
use chronik_format::names::ExportName;
use chronik_store::StoreError;

use super::checkpoints::BucketCheckpoints;
use super::{BATCH, DeletionError, GRACE_MS, ObjectDeletion};

impl ObjectDeletion {
    /// Deletes old checkpoints, the last three kept, and exports that the newest catalog does without.
    pub(super) async fn delete_superseded(
        &mut self,
        checkpoints: &BucketCheckpoints,
        catalog: &Catalog,
        now: Timestamp,
    ) -> Result<(), DeletionError> {
        let superseded = checkpoints.superseded().iter().take(BATCH).map(ToString::to_string);
        self.delete("checkpoints that newer ones replace", superseded.collect()).await;
        let superseded = self.superseded_exports(catalog, now).await?;
        self.delete("catalog exports that newer ones replace", superseded).await;
        Ok(())
    }

    /// An export that the newest catalog does not name is never named again, since a catalog only takes over pages of
    /// the one before it. Readers may still go by it for the grace time.
    async fn superseded_exports(&mut self, catalog: &Catalog, now: Timestamp) -> Result<Vec<String>, StoreError> {
        let named: HashSet<&str> = catalog.exports().collect();
        let objects = self.parts.store.list(&ExportName::prefix(self.parts.origin.lane)).await?;
        let is_superseded = |key: &String| {
            let name = key.parse::<ExportName>();
            name.is_ok_and(|name| (name.incarnation, name.index) < catalog.generation())
                && !named.contains(key.as_str())
        };
        let superseded: HashSet<String> = objects.into_iter().map(|object| object.key).filter(is_superseded).collect();
        self.unnamed.retain(|key, _| superseded.contains(key));
        for key in superseded {
            self.unnamed.entry(key).or_insert(now);
        }
        let over = self.unnamed.iter().filter(|(_, since)| **since + GRACE_MS <= now);
        Ok(over.take(BATCH).map(|(key, _)| key.clone()).collect())
    }
}
