//! Objects that are not known: segments that were uploaded and never registered, archives without a result, pages and
//! lists of segments whose command was refused or was lost, results that were never registered, probes that were left.
//!
//! A registration refuses what was named six hours ago, so after a day no command can name an object any more; both
//! ages are by the broker's clock, which must agree with the store's to an hour. A recovery may still adopt a segment
//! of any age. Therefore a segment goes only if its range lies within what the oldest kept checkpoint knows as
//! registered: no recovery looks there. One that is older than all that are registered was not deleted with those of
//! its time; among them, unknown ones are told by the newest lists alone, so that a look does not read all of history.

use chronik_format::ids::{LogIndex, Timestamp};
use chronik_format::names::{PROBES, ResultName, SegmentListName, SegmentName, TOPICS};
use chronik_store::ObjectInfo;
use futures::TryStreamExt;

use super::checkpoints::BucketCheckpoints;
use super::known::{KnownObjects, LOOKED_FOR_MS};
use super::object::NamedObject;
use super::segment_names::SegmentNames;
use super::{DAY_MS, DeletionError, ObjectDeletion};
use crate::clock::millis;
use crate::state::checkpoint;
use crate::store_clock;

impl ObjectDeletion {
    /// Looks through the bucket, page by page, and deletes what has been unknown for a day, as of `now`.
    pub async fn look_through(&self, now: Timestamp) -> Result<(), DeletionError> {
        if self.settled.index(now) == 0 {
            tracing::debug!("orphans are not looked for: readers may still go by another incarnation's catalog");
            return Ok(());
        }
        let Some(registered) = self.registered_for_all().await? else {
            tracing::debug!("orphans are not looked for: too few checkpoints of this incarnation");
            return Ok(());
        };
        if let Some(seconds) = store_clock::disagrees_by(&*self.parts.store, now).await? {
            tracing::warn!(
                "the clocks of the bucket and of this machine differ by {seconds} s: nothing unknown is deleted until \
                 they agree"
            );
            return Ok(());
        }
        let lane = self.parts.origin.lane;
        let mut known = self.known(now).await?;
        let mut orphans = 0;
        let prefixes = [
            SegmentName::prefix(lane),
            SegmentListName::prefix(lane),
            TOPICS.to_owned(),
            ResultName::prefix(lane),
            PROBES.to_owned(),
        ];
        for prefix in &prefixes {
            let mut pages = self.parts.store.pages(prefix);
            while let Some(page) = pages.try_next().await? {
                orphans += self.delete_orphans(page, &mut known, registered, now).await?;
            }
        }
        self.parts.metrics.orphans.set(orphans as i64);
        Ok(())
    }

    /// What is known, as of now.
    pub(super) async fn known(&self, now: Timestamp) -> Result<KnownObjects, DeletionError> {
        let segments = self.parts.lane.snapshot().await?.segments;
        let segments = SegmentNames::of(&segments, &*self.parts.store, now - LOOKED_FOR_MS).await?;
        Ok(KnownObjects::new(self.parts.catalog.clone(), segments, now))
    }

    /// The index up to which all kept checkpoints know the segments; `None` as long as one of them is an earlier
    /// incarnation's, whose state may know what ours does not.
    pub(super) async fn registered_for_all(&self) -> Result<Option<LogIndex>, DeletionError> {
        let parts = &self.parts;
        let checkpoints = BucketCheckpoints::list(&*parts.store, parts.origin.lane).await?;
        let oldest = checkpoints.kept().first();
        let Some(oldest) = oldest.filter(|name| name.incarnation == parts.origin.incarnation) else {
            return Ok(None);
        };
        let key = oldest.to_string();
        let bytes = parts.store.read(&key, None).await?;
        let state = checkpoint::decode(&key, bytes, parts.origin.cluster, parts.origin.lane)
            .map_err(|source| DeletionError::Checkpoint { key, source })?;
        Ok(Some(state.shipped_index()))
    }

    /// Deletes the orphans of one page, and says how many there are.
    pub(super) async fn delete_orphans(
        &self,
        page: Vec<ObjectInfo>,
        known: &mut KnownObjects,
        registered: LogIndex,
        now: Timestamp,
    ) -> Result<usize, DeletionError> {
        let candidates = page.into_iter().filter_map(|info| {
            let object = NamedObject::named(&info.key)?;
            let since = millis(info.last_modified).max(object.named_at());
            let ours = object.incarnation().is_none_or(|incarnation| incarnation <= self.parts.origin.incarnation);
            let needed = matches!(object, NamedObject::Segment(name) if name.last > registered);
            (ours && !needed && since.saturating_add(DAY_MS) <= now).then_some((info.key, object))
        });
        let candidates: Vec<(String, NamedObject)> = candidates.collect();
        if candidates.is_empty() {
            return Ok(0);
        }
        let state = self.parts.lane.snapshot().await?;
        let mut orphans = Vec::new();
        for (key, object) in candidates {
            if !known.contains(&key, &object, &state).await? {
                orphans.push(key);
            }
        }
        if orphans.is_empty() {
            return Ok(0);
        }
        let count = orphans.len();
        self.parts.ownership.check().await?;
        self.delete("objects unknown to the state for a day", orphans).await;
        tokio::time::sleep(self.pause).await;
        Ok(count)
    }
}
