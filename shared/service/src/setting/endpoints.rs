//! Where other services answer over HTTP.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use reqwest::Url;

/// The brokers of a query worker.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Other services")]
pub struct IngestEndpointSettings {
    /// Addresses of the broker, for records that are not in the bucket yet [default: search covers the bucket].
    #[arg(long, env = "CHRONIK_INGEST_ENDPOINTS", value_name = "URL,URL")]
    pub ingest_endpoints: Option<Endpoints>,
}

/// The query workers of a broker.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Other services")]
pub struct QueryEndpointSettings {
    /// Addresses of the query workers that read old records for consumers [default: the broker reads them itself].
    #[arg(long, env = "CHRONIK_QUERY_ENDPOINTS", value_name = "URL,URL")]
    pub query_endpoints: Option<Endpoints>,
}

/// Where a service answers: scheme, host, port and perhaps a path, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint(String);

/// At least one endpoint, none of them twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(Vec<Endpoint>);

/// What is not a list of endpoints.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Nothing is named.
    #[error("no endpoint is named; accepted are URLs with commas between them, such as http://10.0.0.5:8080")]
    Empty,
    /// It is no address of a service.
    #[error("{text:?} {reason}; accepted are URLs such as http://10.0.0.5:8080")]
    Invalid {
        /// What was given, without user name and password.
        text: String,
        /// What does not fit.
        reason: &'static str,
    },
    /// It is named twice.
    #[error("{endpoint} is named twice")]
    Repeated {
        /// Which one.
        endpoint: Endpoint,
    },
}

impl Endpoint {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of something that the service has; `path` begins with a slash.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

impl Endpoints {
    /// In the order in which they were named.
    pub fn iter(&self) -> std::slice::Iter<'_, Endpoint> {
        self.0.iter()
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// `host:port` is taken for `http://host:port`.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let text = text.trim();
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let invalid = |reason| Err(EndpointError::Invalid { text: without_user(text), reason });
        let Ok(url) = Url::parse(&whole) else {
            return invalid("is not a URL");
        };
        if !url.username().is_empty() || url.password().is_some() {
            return invalid("is given with a user name");
        }
        if !matches!(url.scheme(), "http" | "https") {
            return invalid("is neither http nor https");
        }
        if url.port() == Some(0) {
            return invalid("has port 0");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return invalid("has more than an address");
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

impl FromStr for Endpoints {
    type Err = EndpointError;

    /// Endpoints with commas between them.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let mut endpoints = Vec::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let endpoint: Endpoint = part.parse()?;
            if endpoints.contains(&endpoint) {
                return Err(EndpointError::Repeated { endpoint });
            }
            endpoints.push(endpoint);
        }
        if endpoints.is_empty() {
            return Err(EndpointError::Empty);
        }
        Ok(Self(endpoints))
    }
}

/// What was given as an address or as several, to be shown: without what stands before an `@`, which may be a password.
pub fn without_user(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((before, host)) => format!("{}{host}", before.find("://").map_or("", |at| &before[..at + 3])),
        None => text.to_owned(),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let endpoints: Endpoints = text.parse().unwrap();
        endpoints.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lists_are_read_in_their_order() {
        assert_eq!(read("http://a:8080"), ["http://a:8080"]);
        assert_eq!(read(" b:1 , https://a/chronik/,[::1]:9,"), ["http://b:1", "https://a/chronik", "http://[::1]:9"]);
        let endpoint: Endpoint = "a:1/".parse().unwrap();
        assert_eq!(endpoint.at("/v1/tail"), "http://a:1/v1/tail");
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, told) in [
            ("", "no endpoint is named"),
            (" , ", "no endpoint is named"),
            ("http://", "is not a URL"),
            ("ftp://a", "neither http nor https"),
            ("http://a?x=1", "more than an address"),
            ("a:1,http://a:1", "http://a:1 is named twice"),
            ("a:99999", "is not a URL"),
            ("a:0", "has port 0"),
        ] {
            let error = text.parse::<Endpoints>().unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        for text in
            ["http://me:secret@a", "me:secret@a", "http://me:se@cret@a:99999", "ftp://me:secret@a", "me:secret@a:x"]
        {
            let error = text.parse::<Endpoints>().unwrap_err().to_string();
            assert!(!error.contains("cret") && !error.contains("me:") && error.contains("a"), "{error}");
        }
    }
}
