//! The newest export by its name: for recovery, which must not believe a `latest` that a former owner wrote late.

use super::export::{PART_BYTES_MAX, TRAILER_LENGTH, decode_root, decode_trailer};
use super::{CatalogError, CatalogRoot};
use crate::ids::Lane;
use crate::names::ExportName;
use crate::store::Store;

/// The root of the lane's export with the highest incarnation and index; `None` if there is no export.
pub async fn newest_root(store: &dyn Store, lane: Lane) -> Result<Option<CatalogRoot>, CatalogError> {
    let objects = store.list(&ExportName::prefix(lane)).await?;
    let newest = objects
        .iter()
        .filter_map(|object| Some((object.key.parse::<ExportName>().ok()?, object.size)))
        .max_by_key(|(name, _)| (name.incarnation, name.index, name.ulid));
    let Some((name, size)) = newest else { return Ok(None) };
    let key = name.to_string();
    let damaged = |reason: &str| CatalogError::damaged(&key, reason);
    let trailer_at = size
        .checked_sub(TRAILER_LENGTH)
        .ok_or_else(|| damaged("it is cut off"))?;
    let trailer = store.read(&key, Some(trailer_at..size)).await?;
    let (_, latest) = decode_trailer(&key, &trailer)?;
    let root_ends = latest.root_position.checked_add(latest.root_length);
    if latest.root_length > PART_BYTES_MAX || root_ends != Some(trailer_at) {
        return Err(damaged("its root does not lie where it should"));
    }
    let bytes = store.read(&key, Some(latest.root_position..size)).await?;
    decode_root(&latest, &bytes).map(Some)
}
