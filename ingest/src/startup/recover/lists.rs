//! Whether the lists of segments that the state names are in the bucket: by names and sizes, in one listing. No record
//! depends on them.

use std::collections::HashMap;

use chronik_format::ids::LaneId;
use chronik_format::names::SegmentListName;
use chronik_store::{SharedStore, StoreError};

use super::unreachable::Listed;
use crate::state::segments::RegisteredSegments;

/// Those that are gone or have another size; `None` if there are none.
pub async fn differing(
    store: &SharedStore,
    lane: LaneId,
    segments: &RegisteredSegments,
) -> Result<Option<Listed>, StoreError> {
    if segments.lists().is_empty() {
        return Ok(None);
    }
    let objects = store.list(&SegmentListName::prefix(lane)).await?;
    let sizes: HashMap<&str, u64> = objects.iter().map(|object| (object.key.as_str(), object.size)).collect();
    let mut differing = Listed::default();
    for list in segments.lists().iter().filter(|list| sizes.get(&*list.object) != Some(&list.size)) {
        differing.add(|| format!("{} (of log indices {} to {})", list.object, list.first, list.last));
    }
    Ok((!differing.is_empty()).then_some(differing))
}
