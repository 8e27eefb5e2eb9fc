//! The tool's way to search, status, seal and compaction.

use std::time::Duration;

use anyhow::{Result, anyhow};
use chronik_service::http_client::{HttpClient, HttpError, ToldProblem};
use chronik_service::setting::{Endpoint, Secret};
use reqwest::RequestBuilder;
use serde_json::Value;

use crate::not_searched;
use crate::server::ServerOptions;

/// How long an answer may take: a little longer than the server lets it.
const DEADLINE: Duration = Duration::from_secs(610);
/// Bytes of an answer: those of a page of hits, or of one record that is larger, in JSON.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// A client of one HTTP address.
#[derive(Debug)]
pub struct ServiceClient {
    endpoint: Endpoint,
    client: HttpClient,
}

impl ServiceClient {
    /// For the address that the command line names.
    pub fn new(server: &ServerOptions) -> Result<Self> {
        let client = HttpClient::new(server.http_token.as_ref().map(Secret::reveal))?;
        Ok(Self { endpoint: server.http.clone(), client })
    }

    /// GET with a query, to a JSON document.
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value> {
        self.answer(self.client.get(&self.endpoint, path).query(query)).await
    }

    /// POST without a body, to a JSON document.
    pub async fn post(&self, path: &str) -> Result<Value> {
        self.post_with(path, &[]).await
    }

    /// POST with a query and no body, to a JSON document.
    pub async fn post_with(&self, path: &str, query: &[(&str, String)]) -> Result<Value> {
        self.answer(self.client.post(&self.endpoint, path).query(query)).await
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Value> {
        let answer = self.client.answer(request, DEADLINE, ANSWER_BYTES_MAX).await;
        let body = answer.map_err(|error| match error {
            HttpError::Unreachable { reason, .. } => anyhow!(
                "no server answers on {} ({reason}); start one with `chronik`, or name it with --http URL",
                self.endpoint
            ),
            HttpError::Refused { problem, .. } => anyhow!(told(&problem)),
            error => error.into(),
        })?;
        serde_json::from_slice(&body)
            .map_err(|error| anyhow!("{} does not answer like a Chronik server: {error}", self.endpoint))
    }
}

/// A problem in words, with what was not searched.
fn told(problem: &ToldProblem) -> String {
    let mut told = format!("{} ({})", problem.detail, problem.code);
    if problem.status == 401 {
        told.push_str("; give it with CHRONIK_HTTP_TOKEN (--http-token)");
    }
    let not_searched = not_searched::summary(problem.members.get("not_searched").unwrap_or(&Value::Null));
    for line in &not_searched {
        told.push_str(&format!("\n  {line}"));
    }
    if !not_searched.is_empty() {
        told.push_str("\n  each range: --partial --json");
    }
    told
}
