//! A queue's URL, and what it contains.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;

/// Where SQS, or a server that speaks its protocol, is reached: `http://HOST:PORT` or `https://HOST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueEndpoint(String);

/// The URL of a standard queue: `https://sqs.REGION.amazonaws.com/ACCOUNT/NAME`, or the same on another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueAddress(Url);

/// A text that is not the URL of a queue or of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {fault}; accepted is {accepted}")]
pub struct QueueAddressError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub fault: &'static str,
    /// In words.
    pub accepted: &'static str,
}

impl QueueAddress {
    /// The server that the URL names.
    pub fn endpoint(&self) -> QueueEndpoint {
        QueueEndpoint(self.0.origin().ascii_serialization())
    }

    /// The region in an AWS host name; on other servers it has no meaning.
    pub fn region(&self) -> Option<&str> {
        let host = self.0.host_str()?;
        if !host.contains(".amazonaws.") && !host.ends_with(".api.aws") {
            return None;
        }
        let labels: Vec<&str> = host.split('.').collect();
        let place = |name: &str| labels.iter().position(|label| *label == name);
        match (place("sqs").or(place("sqs-fips")), place("queue")) {
            (Some(service), _) => labels.get(service + 1).copied(),
            (None, Some(0)) => Some("us-east-1"),
            (None, Some(service)) => labels.get(service - 1).copied(),
            (None, None) => None,
        }
    }

    /// The URL as SQS wants it.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The queue's name.
    pub fn name(&self) -> &str {
        self.0.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default()
    }

    /// Another queue of the same account and region, as a queue's dead letters are.
    pub fn sibling(&self, name: &str) -> Self {
        let mut url = self.0.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop().push(name);
        }
        Self(url)
    }
}

impl QueueEndpoint {
    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for QueueAddress {
    type Err = QueueAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |fault| QueueAddressError {
            text: text.to_owned(),
            fault,
            accepted: "the URL of a queue, https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
        };
        let url = web_url(text).map_err(refuse)?;
        let name = url.path_segments().and_then(|mut segments| segments.next_back());
        match name {
            None | Some("") => Err(refuse("names no queue")),
            Some(name) if name.ends_with(".fifo") => Err(refuse("is a FIFO queue, Chronik needs a standard one")),
            Some(_) => Ok(Self(url)),
        }
    }
}

impl FromStr for QueueEndpoint {
    type Err = QueueAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |fault| QueueAddressError {
            text: text.to_owned(),
            fault,
            accepted: "the URL of a server, http://HOST:PORT or https://HOST",
        };
        let url = web_url(text).map_err(refuse)?;
        if url.path() != "/" {
            return Err(refuse("has a path"));
        }
        Ok(Self(url.origin().ascii_serialization()))
    }
}

impl fmt::Display for QueueAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for QueueEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn web_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text.trim()).map_err(|_| "is no URL")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("begins with neither http:// nor https://");
    }
    if !url.has_host() || !url.username().is_empty() || url.password().is_some() {
        return Err("does not name a host alone");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query or a fragment");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn address(text: &str) -> QueueAddress {
        text.parse().unwrap()
    }

    #[test]
    fn a_url_tells_server_region_and_siblings() {
        for (text, endpoint, region) in [
            ("https://sqs.eu-west-1.amazonaws.com/1/jobs", "https://sqs.eu-west-1.amazonaws.com", Some("eu-west-1")),
            (
                "https://sqs.cn-north-1.amazonaws.com.cn/1/jobs",
                "https://sqs.cn-north-1.amazonaws.com.cn",
                Some("cn-north-1"),
            ),
            ("https://sqs.us-east-2.api.aws/1/jobs", "https://sqs.us-east-2.api.aws", Some("us-east-2")),
            (
                "https://vpce-1.sqs.eu-west-3.vpce.amazonaws.com/1/jobs",
                "https://vpce-1.sqs.eu-west-3.vpce.amazonaws.com",
                Some("eu-west-3"),
            ),
            (
                "https://us-west-2.queue.amazonaws.com/1/jobs",
                "https://us-west-2.queue.amazonaws.com",
                Some("us-west-2"),
            ),
            ("https://queue.amazonaws.com/1/jobs", "https://queue.amazonaws.com", Some("us-east-1")),
            ("http://127.0.0.1:9324/000000000000/jobs", "http://127.0.0.1:9324", None),
        ] {
            let address = address(text);
            assert_eq!((address.as_str(), address.endpoint().as_str(), address.region()), (text, endpoint, region));
        }
        let dead = address("http://127.0.0.1:9324/000000000000/jobs").sibling("dead");
        assert_eq!((dead.as_str(), dead.name()), ("http://127.0.0.1:9324/000000000000/dead", "dead"));
    }

    #[test]
    fn a_refusal_names_the_value_the_fault_and_what_is_accepted() {
        for (text, fault) in [
            ("jobs", "no URL"),
            ("arn:aws:sqs:eu-west-1:1:jobs", "http://"),
            ("https://sqs.eu-west-1.amazonaws.com", "names no queue"),
            ("https://sqs.eu-west-1.amazonaws.com/1/jobs.fifo", "FIFO"),
            ("https://me:word@sqs.eu-west-1.amazonaws.com/1/jobs", "host alone"),
            ("https://sqs.eu-west-1.amazonaws.com/1/jobs?Action=x", "query"),
        ] {
            let told = text.parse::<QueueAddress>().unwrap_err().to_string();
            assert!(told.contains(text) && told.contains(fault) && told.contains("/ACCOUNT/NAME"), "{told}");
        }
        for (text, fault) in [
            ("127.0.0.1:9324", "no URL"),
            ("localhost:9324", "http://"),
            ("http://localhost:9324/000000000000", "path"),
        ] {
            let told = text.parse::<QueueEndpoint>().unwrap_err().to_string();
            assert!(told.contains(text) && told.contains(fault) && told.contains("https://HOST"), "{told}");
        }
        let endpoint: QueueEndpoint = "http://localhost:9324/".parse().unwrap();
        assert_eq!(endpoint.as_str(), "http://localhost:9324");
    }
}
