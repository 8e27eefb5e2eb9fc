//! Errors of a cold reader as problem documents and back, without loss: the document's member `fault` holds the error.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ColdError;
use chronik_format::catalog::CatalogError;
use chronik_format::ids::{Offset, PartitionId, TopicId};
use chronik_service::http_client::ToldProblem;
use chronik_service::problem::HttpProblem;
use chronik_store::{ErrorCause, StoreError};

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Fault {
    NotInCatalog { topic: TopicId, partition: PartitionId, offset: Offset },
    Damaged { segment: String, reason: String },
    UnknownVersion { segment: String, version: u16 },
    Store { store: StoreFault },
    Catalog { catalog: CatalogFault },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum StoreFault {
    NotFound { key: String },
    Exists { key: String },
    BeyondEnd { key: String, size: u64, start: u64, end: u64 },
    TooLarge { key: String, size: u64, limit: u64 },
    Unavailable { operation: String, key: String, message: String },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum CatalogFault {
    Unbuildable { reason: String },
    UnknownVersion { object: String, version: u64 },
    Damaged { object: String, reason: String },
    Store { store: StoreFault },
}

/// What a store is asked to do, as far as errors name it.
const OPERATIONS: [&str; 6] = ["create", "overwrite", "read", "info", "list", "delete"];

impl From<ColdError> for HttpProblem {
    /// 404 `not_in_catalog`, 409 `damaged_segment` and `unknown_version`, 503 `storage_unavailable`.
    fn from(error: ColdError) -> Self {
        let (status, code) = match &error {
            ColdError::NotInCatalog { .. } => (404, "not_in_catalog"),
            ColdError::Damaged { .. } => (409, "damaged_segment"),
            ColdError::UnknownVersion { .. } => (409, "unknown_version"),
            ColdError::Store(_) | ColdError::Catalog(_) => (503, "storage_unavailable"),
        };
        let told = error.to_string();
        let fault = serde_json::to_value(Fault::from(error)).unwrap_or(Value::Null);
        HttpProblem::new(status, code, told).with("fault", fault)
    }
}

/// The error that a query worker told, if it is one of a cold reader.
pub(super) fn told(problem: &ToldProblem) -> Option<ColdError> {
    let fault: Fault = serde_json::from_value(problem.members.get("fault")?.clone()).ok()?;
    Some(fault.into())
}

impl From<ColdError> for Fault {
    fn from(error: ColdError) -> Self {
        match error {
            ColdError::NotInCatalog { topic, partition, offset } => Self::NotInCatalog { topic, partition, offset },
            ColdError::Damaged { segment, reason } => Self::Damaged { segment, reason },
            ColdError::UnknownVersion { segment, version } => Self::UnknownVersion { segment, version },
            ColdError::Store(error) => Self::Store { store: error.into() },
            ColdError::Catalog(error) => Self::Catalog { catalog: error.into() },
        }
    }
}

impl From<Fault> for ColdError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NotInCatalog { topic, partition, offset } => Self::NotInCatalog { topic, partition, offset },
            Fault::Damaged { segment, reason } => Self::Damaged { segment, reason },
            Fault::UnknownVersion { segment, version } => Self::UnknownVersion { segment, version },
            Fault::Store { store } => Self::Store(store.into()),
            Fault::Catalog { catalog } => Self::Catalog(catalog.into()),
        }
    }
}

impl From<StoreError> for StoreFault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { key } => Self::NotFound { key },
            StoreError::Exists { key } => Self::Exists { key },
            StoreError::BeyondEnd { key, size, start, end } => Self::BeyondEnd { key, size, start, end },
            StoreError::TooLarge { key, size, limit } => Self::TooLarge { key, size, limit },
            StoreError::Unavailable { operation, key, message, .. } => {
                Self::Unavailable { operation: operation.to_owned(), key, message }
            }
        }
    }
}

impl From<StoreFault> for StoreError {
    fn from(fault: StoreFault) -> Self {
        match fault {
            StoreFault::NotFound { key } => Self::NotFound { key },
            StoreFault::Exists { key } => Self::Exists { key },
            StoreFault::BeyondEnd { key, size, start, end } => Self::BeyondEnd { key, size, start, end },
            StoreFault::TooLarge { key, size, limit } => Self::TooLarge { key, size, limit },
            StoreFault::Unavailable { operation, key, message } => {
                let known = OPERATIONS.into_iter().find(|known| *known == operation);
                Self::Unavailable {
                    operation: known.unwrap_or("an operation"),
                    key,
                    message,
                    // The client of this service is not the one that called the store.
                    cause: ErrorCause::Passing,
                }
            }
        }
    }
}

impl From<CatalogError> for CatalogFault {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Unbuildable { reason } => Self::Unbuildable { reason },
            CatalogError::UnknownVersion { object, version } => Self::UnknownVersion { object, version },
            CatalogError::Damaged { object, reason } => Self::Damaged { object, reason },
            CatalogError::Store(error) => Self::Store { store: error.into() },
        }
    }
}

impl From<CatalogFault> for CatalogError {
    fn from(fault: CatalogFault) -> Self {
        match fault {
            CatalogFault::Unbuildable { reason } => Self::Unbuildable { reason },
            CatalogFault::UnknownVersion { object, version } => Self::UnknownVersion { object, version },
            CatalogFault::Damaged { object, reason } => Self::Damaged { object, reason },
            CatalogFault::Store { store } => Self::Store(store.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn all() -> Vec<ColdError> {
        let key = || "segments/1".to_owned();
        let reason = || "why".to_owned();
        let store = || {
            OPERATIONS
                .into_iter()
                .map(|operation| StoreError::Unavailable {
                    operation,
                    key: key(),
                    message: reason(),
                    cause: ErrorCause::Passing,
                })
                .chain([
                    StoreError::NotFound { key: key() },
                    StoreError::Exists { key: key() },
                    StoreError::BeyondEnd { key: key(), size: 1, start: 2, end: u64::MAX },
                    StoreError::TooLarge { key: key(), size: 1, limit: 2 },
                ])
        };
        let catalog = [
            CatalogError::Unbuildable { reason: reason() },
            CatalogError::UnknownVersion { object: key(), version: 7 },
            CatalogError::Damaged { object: key(), reason: reason() },
        ];
        let own = [
            ColdError::NotInCatalog { topic: TopicId::default(), partition: -1, offset: i64::MAX },
            ColdError::Damaged { segment: key(), reason: reason() },
            ColdError::UnknownVersion { segment: key(), version: 3 },
        ];
        let catalog = catalog.into_iter().chain(store().map(CatalogError::Store));
        own.into_iter().chain(store().map(ColdError::Store)).chain(catalog.map(ColdError::Catalog)).collect()
    }

    #[test]
    fn every_error_comes_back_as_it_was() {
        for error in all() {
            let expected = format!("{error:?}");
            let problem = HttpProblem::from(error);
            let members = problem.document().as_object().unwrap().clone();
            let (status, code, detail) = (problem.status.as_u16(), problem.code.to_owned(), problem.detail);
            let back = told(&ToldProblem { status, code, detail, members });
            assert_eq!(format!("{:?}", back.unwrap()), expected);
        }
    }
}
