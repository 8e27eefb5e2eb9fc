//! What a broker does after it lost the bucket: it waits for the next owner's cut and says what lies above it.

use std::path::PathBuf;
use std::time::Duration;

use chronik_format::ids::LaneId;
use chronik_store::SharedStore;
use tokio_util::sync::CancellationToken;

use super::BucketOwnership;
use super::fenced::{FencingReport, PartitionEnds, RecordsAbove, above_cut, ends};
use crate::lane::Lane;

/// How long the next owner may take from its claim to its first checkpoint.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often that checkpoint is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Waits for the new owner's cut.
pub struct FencingReporter {
    /// The bucket.
    pub store: SharedStore,
    /// The right that was lost.
    pub ownership: BucketOwnership,
    pub lane_id: LaneId,
    /// What it held.
    pub lane: Lane,
    /// Where it still is.
    pub data_dir: PathBuf,
}

impl FencingReporter {
    /// The report, to be made once nothing is acknowledged any more. Cut short when cancelled.
    pub async fn report(self, cancel: &CancellationToken) -> FencingReport {
        let own = self.ownership.incarnation();
        let by = self.ownership.fenced_by().unwrap_or(own);
        tracing::error!(
            "the bucket was claimed by incarnation {by}: this broker (incarnation {own}) acknowledges nothing any more, and \
             ends as soon as it knows what the new owner does not have"
        );
        let ends = ends(&self.lane.topics());
        let above = tokio::select! {
            above = self.above(&ends) => Some(above),
            () = tokio::time::sleep(TIMEOUT) => None,
            () = cancel.cancelled() => None,
        };
        FencingReport { own, by, data_dir: self.data_dir, ends, above }
    }

    async fn above(&self, ends: &PartitionEnds) -> Vec<RecordsAbove> {
        loop {
            match above_cut(&self.store, &self.ownership, self.lane_id, ends).await {
                Ok(Some(above)) => return above,
                Ok(None) => {}
                Err(error) => tracing::warn!("the new owner's checkpoint can't be read, trying again: {error}"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
