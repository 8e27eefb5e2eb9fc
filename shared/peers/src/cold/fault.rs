//! Errors of a cold reader as problem documents and back: the document's member `fault` holds the error.

use serde_json::Value;

use super::ColdError;
use chronik_service::http_client::ToldProblem;
use chronik_service::problem::HttpProblem;

impl From<ColdError> for HttpProblem {
    /// 404 `not_in_catalog`, 409 `damaged_object` and `unknown_version`, 503 `storage_unavailable`.
    fn from(error: ColdError) -> Self {
        let (status, code) = match &error {
            ColdError::NotInCatalog { .. } => (404, "not_in_catalog"),
            ColdError::Damaged { .. } => (409, "damaged_object"),
            ColdError::UnknownVersion { .. } => (409, "unknown_version"),
            ColdError::Store(_) => (503, "storage_unavailable"),
        };
        let fault = serde_json::to_value(&error).unwrap_or(Value::Null);
        HttpProblem::new(status, code, error.to_string()).with("fault", fault)
    }
}

/// The error that a query worker told, if it is one of a cold reader.
pub(super) fn told(problem: &ToldProblem) -> Option<ColdError> {
    serde_json::from_value(problem.members.get("fault")?.clone()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use chronik_format::ids::TopicId;
    use chronik_store::{ErrorCause, StoreError};

    use super::*;

    fn all() -> Vec<ColdError> {
        let key = || "segments/1".to_owned();
        let reason = || "why".to_owned();
        let operation = "create".into();
        let store = [
            StoreError::Unavailable { operation, key: key(), message: reason(), cause: ErrorCause::Passing },
            StoreError::NotFound { key: key() },
            StoreError::Exists { key: key() },
            StoreError::BeyondEnd { key: key(), size: 1, start: 2, end: u64::MAX },
            StoreError::TooLarge { key: key(), size: 1, limit: 2 },
        ];
        let own = [
            ColdError::NotInCatalog { topic: TopicId::default(), partition: -1, offset: i64::MAX },
            ColdError::Damaged { object: key(), reason: reason() },
            ColdError::UnknownVersion { object: key(), version: 3 },
        ];
        own.into_iter().chain(store.map(ColdError::Store)).collect()
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
