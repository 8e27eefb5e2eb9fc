//! The parts of a catalog as bytes: bincode in its standard configuration.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::CatalogError;

/// The most bytes of a head, a root or a page.
pub(super) const PART_BYTES_MAX: u64 = 64 << 20;

pub(super) fn encode(value: &impl Serialize) -> Result<Vec<u8>, CatalogError> {
    let bytes = bincode::serde::encode_to_vec(value, bincode::config::standard());
    let bytes = bytes.map_err(|error| unbuildable(error.to_string()))?;
    if bytes.len() as u64 > PART_BYTES_MAX {
        return Err(unbuildable(format!("a part of it has {} bytes", bytes.len())));
    }
    Ok(bytes)
}

pub(super) fn decode<T: DeserializeOwned>(object: &str, bytes: &[u8]) -> Result<T, CatalogError> {
    let config = bincode::config::standard().with_limit::<{ 4 * PART_BYTES_MAX as usize }>();
    match bincode::serde::decode_from_slice(bytes, config) {
        Ok((value, length)) if length == bytes.len() => Ok(value),
        Ok(_) => Err(CatalogError::damaged(object, "bytes are left over")),
        Err(error) => Err(CatalogError::damaged(object, error.to_string())),
    }
}

pub(super) fn unbuildable(reason: String) -> CatalogError {
    CatalogError::Unbuildable { reason }
}
