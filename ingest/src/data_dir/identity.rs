use std::path::Path;

use chronik_format::ids::Incarnation;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::DataDirError;

/// The version of `identity.json`.
const VERSION: u32 = 0;

/// Whose data lies in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryIdentity {
    v: u32,
    pub cluster: Uuid,
    /// The claim under which it was written.
    pub incarnation: Incarnation,
    /// Whether all that belongs to it is there. If not, its start ended before anything was served.
    pub(super) complete: bool,
    /// Whether the last stop released the bucket: then nothing is served before the claims have been read.
    pub released: bool,
}

impl DirectoryIdentity {
    /// Reads the file at `path`.
    pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Self, DataDirError> {
        let path = || path.to_owned();
        let damaged = |error: serde_json::Error| DataDirError::Damaged { path: path(), reason: error.to_string() };
        let fields: Value = serde_json::from_slice(bytes).map_err(damaged)?;
        match fields.get("v").and_then(Value::as_u64) {
            Some(other) if other != u64::from(VERSION) => {
                let reason = format!("version {other}, known is {VERSION}");
                Err(DataDirError::Unknown { path: path(), reason })
            }
            _ => serde_json::from_value(fields).map_err(damaged),
        }
    }

    /// Of a start that is laying down what belongs to it.
    pub fn begun(cluster: Uuid, incarnation: Incarnation) -> Self {
        Self { v: VERSION, cluster, incarnation, complete: false, released: false }
    }

    /// Of a running broker.
    pub fn held(cluster: Uuid, incarnation: Incarnation) -> Self {
        Self { complete: true, ..Self::begun(cluster, incarnation) }
    }

    /// Of a broker that stopped in good order and released the bucket.
    pub fn given_up(self) -> Self {
        Self { released: true, ..self }
    }
}

/// Reads any bytes as an identity, for fuzzing; whatever comes out, nothing panics.
pub fn fuzz_identity(bytes: &[u8]) {
    let _ = DirectoryIdentity::decode(Path::new("fuzz"), bytes);
}
