//! `GET|POST /v1/search`

use std::fmt;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, RawQuery, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use chronik_service::problem::HttpProblem;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::records::record_at;
use super::render::{self, RecordDocument};
use crate::search::{CoveredRange, MissingRange, PageCursor, SearchAnswer, SearchError, SearchRequest};
use crate::service::QueryService;

/// Parameters in the query string.
pub(crate) async fn search_get(
    State(service): State<Arc<QueryService>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Response, HttpProblem> {
    let Query(parameters) = query.map_err(|error| SearchError::parameter("query string", error.body_text()))?;
    answer(&service, parameters).await
}

/// The same parameters as members of a JSON object, and nothing in the query string; repeated ones as an array.
pub(crate) async fn search_post(
    State(service): State<Arc<QueryService>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpProblem> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|given| given.to_str().ok()).unwrap_or_default();
    if !is_json(media_type) {
        let detail = format!("a body needs Content-Type: application/json, and this one has {media_type:?}");
        return Err(HttpProblem::new(415, "wrong_media_type", detail));
    }
    if query.is_some_and(|query| !query.is_empty()) {
        return Err(SearchError::parameter("query string", "a POST has its parameters in its body").into());
    }
    answer(&service, parameters_of(&body)?).await
}

async fn answer(service: &QueryService, parameters: Vec<(String, String)>) -> Result<Response, HttpProblem> {
    let begun = Instant::now();
    let request = SearchRequest::from_parameters(parameters)?;
    let answer = search(service, &request, begun).await;
    service.searcher.scanner.metrics.seconds.observe(begun.elapsed().as_secs_f64());
    Ok(answer?)
}

/// Has its turn until the answer is written, and the answer's room until it is sent.
async fn search(service: &QueryService, request: &SearchRequest, begun: Instant) -> Result<Response, SearchError> {
    let turn = service.searcher.turn().await?;
    let mut answer = service.searcher.search(request).await?;
    let mut room = service.answers.answer();
    for hit in &mut answer.hits {
        if hit.left_out.is_some() {
            hit.record = record_at(service, &hit.topic, hit.partition, hit.record.offset, &mut room).await?;
        }
    }
    let took_ms = begun.elapsed().as_millis() as u64;
    let write = move || render::answer(&document(&answer, took_ms), room);
    let written = service.searcher.scanner.cpu.run(write).await?;
    drop(turn);
    written
}

#[derive(Serialize)]
struct SearchDocument<'a> {
    hits: Vec<RecordDocument<'a>>,
    total: Value,
    coverage: Vec<Value>,
    not_searched: Vec<Value>,
    cursor: Option<String>,
    took_ms: u64,
}

fn document(answer: &SearchAnswer, took_ms: u64) -> SearchDocument<'_> {
    SearchDocument {
        hits: answer.hits.iter().map(RecordDocument::of_hit).collect(),
        total: json!({"value": answer.total, "relation": if answer.counted { "eq" } else { "gte" }}),
        coverage: answer.coverage.iter().map(CoveredRange::json).collect(),
        not_searched: answer.missing.iter().map(MissingRange::json).collect(),
        cursor: answer.cursor.as_ref().map(PageCursor::text),
        took_ms,
    }
}

/// `application/json`, or another type with the suffix `+json`; parameters such as a charset don't matter.
fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.strip_prefix("application/").is_some_and(|kind| kind == "json" || kind.ends_with("+json"))
}

fn parameters_of(body: &[u8]) -> Result<Vec<(String, String)>, SearchError> {
    let Members(members) = serde_json::from_slice(body)
        .map_err(|error| SearchError::parameter("body", format!("not a JSON object: {error}")))?;
    let mut parameters = Vec::new();
    for (name, value) in members {
        match value {
            Value::Array(values) => {
                for value in values {
                    parameters.push((name.clone(), scalar(&name, value)?));
                }
            }
            Value::Null => {}
            value => parameters.push((name.clone(), scalar(&name, value)?)),
        }
    }
    Ok(parameters)
}

/// A JSON object's members, also those of one name: whether that may be is up to the parameter.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = object.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        decoder.deserialize_map(Object)
    }
}

fn scalar(name: &str, value: Value) -> Result<String, SearchError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => Err(SearchError::parameter(name, "is neither text nor a number")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_body_says_what_a_query_string_says() {
        let body =
            br#"{"topic":["a","b"],"q":"x y","limit":5,"partial":true,"cursor":null,"from":"2024-01-01T00:00:00Z"}"#;
        let mut parameters = parameters_of(body).unwrap();
        parameters.sort();
        let expected = [
            ("from", "2024-01-01T00:00:00Z"),
            ("limit", "5"),
            ("partial", "true"),
            ("q", "x y"),
            ("topic", "a"),
            ("topic", "b"),
        ];
        assert_eq!(parameters, expected.map(|(name, value)| (name.to_string(), value.to_string())));
        let twice = parameters_of(br#"{"q":"a","q":"b"}"#).unwrap();
        assert_eq!(twice, [("q", "a"), ("q", "b")].map(|(name, value)| (name.to_string(), value.to_string())));
        for body in [&b""[..], b"[]", b"{\"q\":{}}", b"{\"topic\":[[1]]}", b"\xff"] {
            assert!(matches!(parameters_of(body), Err(SearchError::Parameter { .. })));
        }
    }
}
