//! The HTTP client with which services and the operator's tool ask a service, and what they make of its answers.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Map, Value};

use crate::setting::Endpoint;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of a problem document that are read.
const PROBLEM_BYTES_MAX: usize = 1 << 20;

/// Asks services, with the token if there is one. It follows no redirection and goes through no proxy: what it asks
/// is named by address. Cloning gives another handle on the same connections.
#[derive(Clone)]
pub struct HttpClient {
    client: reqwest::Client,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No client can be made.
    #[error("there can't be an HTTP client: {reason}")]
    NoClient {
        /// What is wrong.
        reason: String,
    },
    /// The server did not answer in time, or the connection broke.
    #[error("{url} does not answer: {reason}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// The system's own words.
        reason: String,
    },
    /// The service answered with a problem document.
    #[error("{url} answers {}: {}", problem.code, problem.detail)]
    Refused {
        /// What was asked.
        url: String,
        /// What the service says.
        problem: Box<ToldProblem>,
    },
    /// The answer is not one of a Chronik service.
    #[error("{url} does not answer like a Chronik server: {reason}")]
    Strange {
        /// What was asked.
        url: String,
        /// What does not fit.
        reason: String,
    },
}

/// A [problem document](crate::problem) as it came back.
#[derive(Clone, Debug, PartialEq)]
pub struct ToldProblem {
    /// The HTTP status.
    pub status: u16,
    /// Names the kind of error.
    pub code: String,
    /// For people.
    pub detail: String,
    /// All of the document's members.
    pub members: Map<String, Value>,
}

impl HttpClient {
    /// A client that sends `token` as `Authorization: Bearer`.
    pub fn new(token: Option<&str>) -> Result<Self, HttpError> {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut bearer = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| HttpError::NoClient {
                reason: "the token has characters that a header can't have".into(),
            })?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        let client = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| HttpError::NoClient { reason: root_cause(&error) })?;
        Ok(Self { client })
    }

    /// A GET to be completed.
    pub fn get(&self, endpoint: &Endpoint, path: &str) -> RequestBuilder {
        self.client.get(endpoint.at(path))
    }

    /// A POST to be completed.
    pub fn post(&self, endpoint: &Endpoint, path: &str) -> RequestBuilder {
        self.client.post(endpoint.at(path))
    }

    /// Sends a request and gives the body of a good answer, refused beyond `bytes_max`. All of it has to come within
    /// `deadline`.
    pub async fn answer(
        &self,
        request: RequestBuilder,
        deadline: Duration,
        bytes_max: usize,
    ) -> Result<Bytes, HttpError> {
        let request =
            request.timeout(deadline).build().map_err(|error| HttpError::NoClient { reason: root_cause(&error) })?;
        let url = request.url().as_str().split('?').next().unwrap_or_default().to_owned();
        let sent = self.client.execute(request).await;
        let response = sent.map_err(|error| unreachable(&url, &error))?;
        let status = response.status();
        if status == StatusCode::OK {
            return body(response, &url, bytes_max).await;
        }
        let body = body(response, &url, PROBLEM_BYTES_MAX).await?;
        Err(match ToldProblem::read(status, &body) {
            Some(problem) => HttpError::Refused { url, problem: Box::new(problem) },
            None => HttpError::Strange { url, reason: format!("status {status} without a problem document") },
        })
    }
}

impl ToldProblem {
    fn read(status: StatusCode, body: &[u8]) -> Option<Self> {
        let members: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let word = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self { status: status.as_u16(), code: word("code")?, detail: word("detail")?, members })
    }
}

async fn body(mut response: Response, url: &str, bytes_max: usize) -> Result<Bytes, HttpError> {
    let too_large =
        || HttpError::Strange { url: url.to_owned(), reason: format!("the answer has more than {bytes_max} bytes") };
    let told = response.content_length().unwrap_or(0);
    if told > bytes_max as u64 {
        return Err(too_large());
    }
    let mut whole = BytesMut::with_capacity(told as usize);
    while let Some(part) = response.chunk().await.map_err(|error| unreachable(url, &error))? {
        if whole.len() + part.len() > bytes_max {
            return Err(too_large());
        }
        whole.extend_from_slice(&part);
    }
    Ok(whole.freeze())
}

fn unreachable(url: &str, error: &reqwest::Error) -> HttpError {
    HttpError::Unreachable { url: url.to_owned(), reason: root_cause(error) }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HttpClient")
    }
}
