use chronik_store::StoreError;
use serde::{Deserialize, Serialize};

/// Why the catalog could not be written or read.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum CatalogError {
    /// What was to be exported can't be: a fault of the lane's owner.
    #[error("the catalog can't be exported: {reason}")]
    Unbuildable {
        /// What is wrong.
        reason: String,
    },
    /// The object was written by a later program.
    #[error("{object} has format version {version}, this program reads {}", super::VERSION)]
    UnknownVersion {
        /// The object's name.
        object: String,
        /// The version found.
        version: u64,
    },
    /// The bytes are not those that were written.
    #[error("{object} is damaged: {reason}")]
    Damaged {
        /// The object's name.
        object: String,
        /// What does not fit.
        reason: String,
    },
    /// The store could not be reached, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CatalogError {
    pub(super) fn damaged(object: &str, reason: impl Into<String>) -> Self {
        Self::Damaged { object: object.to_owned(), reason: reason.into() }
    }

    /// Whether an object that the catalog names is gone: a newer catalog names others, so refresh once.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Store(StoreError::NotFound { .. }))
    }
}
