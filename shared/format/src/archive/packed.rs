//! Packed values: bincode 2, standard configuration, within one zstd frame.

use std::io::Read;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes that a packed value may have before compression. It bounds what a reader allocates.
const BYTES_MAX: usize = 64 << 20;
const LEVEL: i32 = 3;

/// Packs a value; the reason if it is too large.
pub(super) fn pack<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    let plain = bincode::serde::encode_to_vec(value, bincode::config::standard()).map_err(|error| error.to_string())?;
    if plain.len() > BYTES_MAX {
        return Err(format!("a table of {} bytes is larger than {BYTES_MAX}", plain.len()));
    }
    zstd::bulk::compress(&plain, LEVEL).map_err(|error| error.to_string())
}

/// The value that was packed, or why there is none.
pub(super) fn unpack<T: DeserializeOwned>(packed: &[u8]) -> Result<T, String> {
    let mut plain = Vec::new();
    zstd::stream::read::Decoder::with_buffer(packed)
        .and_then(|decoder| decoder.take(BYTES_MAX as u64 + 1).read_to_end(&mut plain))
        .map_err(|error| error.to_string())?;
    if plain.len() > BYTES_MAX {
        return Err(format!("a table is larger than {BYTES_MAX} bytes"));
    }
    decode(&plain)
}

/// The value that these bytes were before they were compressed.
pub(super) fn decode<T: DeserializeOwned>(plain: &[u8]) -> Result<T, String> {
    let config = bincode::config::standard().with_limit::<BYTES_MAX>();
    let (value, length) = bincode::serde::decode_from_slice(plain, config).map_err(|error| error.to_string())?;
    if length != plain.len() {
        return Err(format!("{} bytes follow a table", plain.len() - length));
    }
    Ok(value)
}
