use serde::{Deserialize, Serialize};

use super::{CatalogError, VERSION};
use crate::ids::{Incarnation, LaneId, LogIndex};

/// `catalog/{lane}/latest`, JSON: names the newest export. It is the one object that is written again and again, by
/// its owner, also as a sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latest {
    /// [`VERSION`].
    pub v: u32,
    /// Of the lane's owner.
    pub incarnation: Incarnation,
    pub lane: LaneId,
    /// The applied index at the export.
    pub index: LogIndex,
    /// The export object's name; empty as long as there is none, but an owner that shows that it lives.
    pub export: String,
    /// Where the root starts in it, bytes.
    pub root_position: u64,
    /// Bytes of the root.
    pub root_length: u64,
    /// CRC-32C of the root.
    pub root_crc: u32,
    /// The process that wrote this, by a name that it made up when it started; empty in an export's own description.
    /// Two of one incarnation serve with copies of one data directory.
    pub writer: String,
    /// Counts up while the owner lives.
    pub beat: u64,
    /// Whether the owner has released the bucket.
    pub released: bool,
}

impl Latest {
    /// The first sign of life of an owner, where nothing has been exported yet.
    pub fn claimed(incarnation: Incarnation, lane: LaneId) -> Self {
        Self {
            v: VERSION.into(),
            incarnation,
            lane,
            index: 0,
            export: String::new(),
            root_position: 0,
            root_length: 0,
            root_crc: 0,
            writer: String::new(),
            beat: 0,
            released: false,
        }
    }

    /// Whether there is an export.
    pub fn names_export(&self) -> bool {
        !self.export.is_empty()
    }

    /// How new the export is; readers keep the highest they have seen.
    pub fn generation(&self) -> (Incarnation, LogIndex) {
        (self.incarnation, self.index)
    }

    /// Reads the object named `object`.
    pub fn decode(object: &str, bytes: &[u8]) -> Result<Self, CatalogError> {
        let damaged = |error: serde_json::Error| CatalogError::damaged(object, error.to_string());
        let document: serde_json::Value = serde_json::from_slice(bytes).map_err(damaged)?;
        let version = document.get("v").and_then(serde_json::Value::as_u64);
        match version.ok_or_else(|| CatalogError::damaged(object, "it has no version"))? {
            version if version == u64::from(VERSION) => serde_json::from_value(document).map_err(damaged),
            version => Err(CatalogError::UnknownVersion { object: object.to_owned(), version }),
        }
    }

    /// The object's bytes.
    pub fn encode(&self) -> Vec<u8> {
        // Numbers, a string and a flag always have a JSON form.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
