//! The tool's way to search, status and seal.

use anyhow::{Result, anyhow, bail};
use chronik_service::setting::{Endpoint, Secret};
use serde_json::Value;

use crate::server::ServerOptions;

/// A client of one HTTP address.
#[derive(Debug)]
pub struct Http {
    endpoint: Endpoint,
    token: Option<Secret>,
    client: reqwest::Client,
}

impl Http {
    /// For the address that the command line names.
    pub fn new(server: &ServerOptions) -> Self {
        Self { endpoint: server.http.clone(), token: server.http_token.clone(), client: reqwest::Client::new() }
    }

    /// GET with a query, to a JSON document.
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value> {
        self.answer(self.client.get(self.endpoint.at(path)).query(query)).await
    }

    /// POST without a body, to a JSON document.
    pub async fn post(&self, path: &str) -> Result<Value> {
        self.answer(self.client.post(self.endpoint.at(path))).await
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        };
        let response = request.send().await.map_err(|error| {
            anyhow!(
                "no server answers on {} ({}); start one with `chronik`, or name it with --http URL",
                self.endpoint,
                root_cause(&error)
            )
        })?;
        let status = response.status();
        let body = response
            .bytes()
            .await
            .map_err(|error| anyhow!("the answer of {} broke off: {}", self.endpoint, root_cause(&error)))?;
        let document: Value = match serde_json::from_slice(&body) {
            Ok(document) => document,
            Err(_) if status.is_success() && body.is_empty() => Value::Null,
            Err(_) => bail!("{} does not answer like a Chronik server (status {status})", self.endpoint),
        };
        if status.is_success() {
            return Ok(document);
        }
        let word = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut told = format!("{} ({})", word("detail"), word("code"));
        if status == reqwest::StatusCode::UNAUTHORIZED {
            told.push_str("; give it with CHRONIK_HTTP_TOKEN (--http-token)");
        }
        if let Some(ranges) = document.get("not_searched").and_then(Value::as_array) {
            for range in ranges {
                told.push_str(&format!("\n  not searched: {range}"));
            }
        }
        bail!(told)
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
