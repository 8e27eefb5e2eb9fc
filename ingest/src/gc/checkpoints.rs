//! The lane's checkpoints in the bucket.

use chronik_format::ids::{LaneId, LogIndex, Timestamp};
use chronik_format::names::CheckpointName;
use chronik_store::{Store, StoreError};

use super::object::NamedObject;

/// How many are kept.
const KEPT: usize = 3;

/// What is there, in the order in which a recovery prefers it, the best last.
pub struct BucketCheckpoints {
    names: Vec<CheckpointName>,
}

impl BucketCheckpoints {
    /// Looks into the bucket.
    pub async fn list(store: &dyn Store, lane: LaneId) -> Result<Self, StoreError> {
        let objects = store.list(&CheckpointName::prefix(lane)).await?;
        let mut names: Vec<CheckpointName> = objects.iter().filter_map(|object| object.key.parse().ok()).collect();
        names.sort_by_key(|name| (name.incarnation, name.index, name.ulid));
        Ok(Self { names })
    }

    /// The last three.
    pub fn kept(&self) -> &[CheckpointName] {
        &self.names[self.names.len().saturating_sub(KEPT)..]
    }

    /// All others.
    pub fn superseded(&self) -> &[CheckpointName] {
        &self.names[..self.names.len().saturating_sub(KEPT)]
    }

    /// The index up to which every kept one knows the log; 0 if there is none.
    pub fn covered(&self) -> LogIndex {
        self.kept().iter().map(|name| name.index).min().unwrap_or(0)
    }

    /// When the newest was named, ms since the epoch.
    pub fn newest_at(&self) -> Option<Timestamp> {
        self.names.last().map(|name| NamedObject::Checkpoint(*name).named_at())
    }
}
