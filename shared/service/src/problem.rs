//! Problem documents ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)): how every HTTP endpoint says what went
//! wrong. `code` is stable and meant for programs, `detail` is meant for people.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

/// The media type of a problem document.
pub const CONTENT_TYPE_PROBLEM: &str = "application/problem+json";

/// An error as an HTTP client sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProblem {
    /// The HTTP status; the document's `title` is its reason phrase.
    pub status: StatusCode,
    /// Names the kind of error; stable between releases.
    pub code: &'static str,
    /// What happened here and what can be done about it.
    pub detail: String,
    members: Map<String, Value>,
}

impl HttpProblem {
    /// A problem with the given HTTP status; what is not a status counts as 500.
    pub fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, code, detail: detail.into(), members: Map::new() }
    }

    /// Adds an extension member. The standard members can't be replaced.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// The document.
    pub fn document(&self) -> Value {
        let mut document = self.members.clone();
        document.insert("type".into(), "about:blank".into());
        document.insert("title".into(), self.status.canonical_reason().unwrap_or("Error").into());
        document.insert("status".into(), self.status.as_u16().into());
        document.insert("detail".into(), self.detail.clone().into());
        document.insert("code".into(), self.code.into());
        Value::Object(document)
    }
}

impl IntoResponse for HttpProblem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.document().to_string()));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_PROBLEM));
        response
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_document_has_the_standard_members_and_its_own() {
        let problem = HttpProblem::new(503, "incomplete", "two ranges were not searched")
            .with("not_searched", serde_json::json!([1, 2]))
            .with("status", "tried to replace it");
        assert_eq!(
            problem.document(),
            serde_json::json!({
                "type": "about:blank",
                "title": "Service Unavailable",
                "status": 503,
                "detail": "two ranges were not searched",
                "code": "incomplete",
                "not_searched": [1, 2],
            })
        );
    }

    #[tokio::test]
    async fn a_response_carries_status_type_and_document() {
        let problem = HttpProblem::new(404, "unknown_topic", "there is no topic x");
        let document = problem.document();
        let response = problem.into_response();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()[CONTENT_TYPE], CONTENT_TYPE_PROBLEM);
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), document);
    }

    #[test]
    fn what_is_not_a_status_counts_as_an_internal_error() {
        assert_eq!(HttpProblem::new(7, "odd", "").status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
