//! The newest export by its name: for recovery, which must not believe a `latest` that a former owner wrote late, and
//! for who finds `latest` damaged.

use super::coding::PART_BYTES_MAX;
use super::export::{TRAILER_LENGTH, decode_root, decode_trailer};
use super::{CatalogError, CatalogRoot, Latest};
use crate::ids::LaneId;
use crate::names::ExportName;
use chronik_store::Store;

/// The lane's export with the highest incarnation and index that can be read, as `latest` would name it, and its root;
/// `None` if there is none. A damaged one is passed over, and named in the log.
pub async fn newest_export(store: &dyn Store, lane: LaneId) -> Result<Option<(Latest, CatalogRoot)>, CatalogError> {
    let objects = store.list(&ExportName::prefix(lane)).await?;
    let mut exports: Vec<(ExportName, u64)> =
        objects.iter().filter_map(|object| Some((object.key.parse().ok()?, object.size))).collect();
    exports.sort_unstable_by_key(|(name, _)| std::cmp::Reverse((name.incarnation, name.index, name.ulid)));
    for (name, size) in exports {
        match read_export(store, &name.to_string(), size).await {
            Ok(export) => return Ok(Some(export)),
            Err(error @ CatalogError::Damaged { .. }) => {
                tracing::warn!("{error}; the catalog export before it is read instead");
            }
            // Superseded and deleted since it was listed.
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

async fn read_export(store: &dyn Store, key: &str, size: u64) -> Result<(Latest, CatalogRoot), CatalogError> {
    let damaged = |reason: &str| CatalogError::damaged(key, reason);
    let trailer_at = size.checked_sub(TRAILER_LENGTH).ok_or_else(|| damaged("it is cut off"))?;
    let trailer = store.read(key, Some(trailer_at..size)).await?;
    let (_, latest) = decode_trailer(key, &trailer)?;
    let root_ends = latest.root_position.checked_add(latest.root_length);
    if latest.root_length > PART_BYTES_MAX || root_ends != Some(trailer_at) {
        return Err(damaged("its root does not lie where it should"));
    }
    let bytes = store.read(key, Some(latest.root_position..size)).await?;
    let root = decode_root(&latest, &bytes)?;
    Ok((latest, root))
}
