//! Listeners as Kafka's settings write them: `INSIDE://:9092,OUTSIDE://kafka.example:9094`.
//!
//! The rules are those of Kafka's `listeners` and `advertised.listeners`, but for names, which stand for plain text:
//! there is no `listener.security.protocol.map`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// More than anybody has networks.
const ENDPOINTS_MAX: usize = 16;
/// As Kafka bounds names.
const NAME_CHARS_MAX: usize = 249;
/// The longest name that there is in DNS.
const HOST_CHARS_MAX: usize = 253;
/// Security protocols of Kafka's that ask for what is not there.
const SECURITY_PROTOCOLS: [&str; 3] = ["SSL", "SASL_PLAINTEXT", "SASL_SSL"];

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedEndpoint {
    /// In capital letters: Kafka does not tell them apart either.
    pub name: String,
    /// A host name, an IP address without brackets, or nothing for all addresses.
    pub host: String,
    /// 0 is any free one.
    pub port: u16,
}

/// At least one, no name twice; at most 16.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointList(Vec<NamedEndpoint>);

/// What is not a list of listeners.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointListError {
    /// Nothing is named, or more than there is use for.
    #[error("it names {count} listeners; accepted are 1 to {ENDPOINTS_MAX}, NAME://HOST:PORT with commas between them")]
    Count { count: usize },
    /// One is not written as Kafka writes it.
    #[error(
        "{text:?} {reason}; accepted is NAME://HOST:PORT, such as INSIDE://10.0.0.5:9092, an IPv6 address in brackets"
    )]
    Syntax {
        /// What was given.
        text: String,
        /// What does not fit.
        reason: &'static str,
    },
    /// A name asks for TLS or SASL.
    #[error(
        "the name {name} stands for a security protocol, and TLS and SASL are not there yet; accepted are PLAINTEXT and \
         names of your own, such as INSIDE, which all speak plain text"
    )]
    Security { name: String },
    /// A name stands for two listeners.
    #[error("{name} is named twice; each listener needs a name of its own")]
    Name { name: String },
}

impl EndpointList {
    /// In the order in which they were named.
    pub fn iter(&self) -> std::slice::Iter<'_, NamedEndpoint> {
        self.0.iter()
    }

    /// The one of this name.
    pub fn named(&self, name: &str) -> Option<&NamedEndpoint> {
        self.iter().find(|endpoint| endpoint.name == name)
    }
}

/// A list of one.
impl From<NamedEndpoint> for EndpointList {
    fn from(endpoint: NamedEndpoint) -> Self {
        Self(vec![endpoint])
    }
}

impl FromStr for EndpointList {
    type Err = EndpointListError;

    fn from_str(text: &str) -> Result<Self, EndpointListError> {
        let parts: Vec<_> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        if parts.is_empty() || parts.len() > ENDPOINTS_MAX {
            return Err(EndpointListError::Count { count: parts.len() });
        }
        let mut list = Self(Vec::new());
        for part in parts {
            let endpoint: NamedEndpoint = part.parse()?;
            if list.named(&endpoint.name).is_some() {
                return Err(EndpointListError::Name { name: endpoint.name });
            }
            list.0.push(endpoint);
        }
        Ok(list)
    }
}

impl FromStr for NamedEndpoint {
    type Err = EndpointListError;

    fn from_str(text: &str) -> Result<Self, EndpointListError> {
        let wrong = |reason| EndpointListError::Syntax { text: text.into(), reason };
        let (name, place) = text.split_once("://").ok_or_else(|| wrong("is not a name and an address"))?;
        let (host, port) = place.rsplit_once(':').ok_or_else(|| wrong("has no port"))?;
        let port = port.parse().map_err(|_| wrong("has a port that is not 0 to 65535"))?;
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(is_of_name) {
            return Err(wrong("has a name that is not letters, digits, dots, dashes and underscores"));
        }
        let name = name.to_ascii_uppercase();
        if SECURITY_PROTOCOLS.contains(&name.as_str()) {
            return Err(EndpointListError::Security { name });
        }
        let host = bare_host(host).map_err(wrong)?.to_owned();
        Ok(Self { name, host, port })
    }
}

/// What host names consist of, as do names of listeners.
fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_')
}

fn bare_host(host: &str) -> Result<&str, &'static str> {
    match host.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        Some(Some(bare)) if matches!(bare.parse(), Ok(IpAddr::V6(_))) => Ok(bare),
        Some(_) => Err("has no IPv6 address in its brackets"),
        None if host.contains(':') => Err("has an IPv6 address without brackets"),
        None if host.len() > HOST_CHARS_MAX || !host.chars().all(is_of_name) => Err("has no host in it"),
        None => Ok(host),
    }
}

impl fmt::Display for NamedEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, host, port } = self;
        if host.contains(':') { write!(f, "{name}://[{host}]:{port}") } else { write!(f, "{name}://{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String, u16)>, EndpointListError> {
        let list: EndpointList = text.parse()?;
        Ok(list.0.into_iter().map(|NamedEndpoint { name, host, port }| (name, host, port)).collect())
    }

    #[test]
    fn lists_are_read_as_kafka_reads_them() {
        let of = |name: &str, host: &str, port| (name.to_owned(), host.to_owned(), port);
        for (text, endpoints) in [
            ("PLAINTEXT://:9092", vec![of("PLAINTEXT", "", 9092)]),
            ("plaintext://localhost:0", vec![of("PLAINTEXT", "localhost", 0)]),
            (
                " IN_SIDE://10.0.0.1:9092 , out-side.2://kafka.example:9094,",
                vec![of("IN_SIDE", "10.0.0.1", 9092), of("OUT-SIDE.2", "kafka.example", 9094)],
            ),
            ("A://[::1]:1,B://[fd00::2]:65535", vec![of("A", "::1", 1), of("B", "fd00::2", 65535)]),
        ] {
            assert_eq!(read(text), Ok(endpoints), "{text}");
        }
    }

    #[test]
    fn what_is_no_list_of_listeners_is_refused_with_the_reason() {
        let many = (0..17).map(|number| format!("L{number}://:{number}")).collect::<Vec<_>>().join(",");
        for (text, told) in [
            ("", "0 listeners"),
            (" , ", "0 listeners"),
            (many.as_str(), "17 listeners"),
            ("localhost:9092", "is not a name and an address"),
            ("A:/h:1", "is not a name and an address"),
            ("://h:1", "has a name that"),
            ("A B://h:1", "has a name that"),
            ("Å://h:1", "has a name that"),
            ("A://h", "has no port"),
            ("A://h:", "65535"),
            ("A://h:-1", "65535"),
            ("A://h:65536", "65535"),
            ("A://h:9092/", "65535"),
            ("A://::1:9092", "without brackets"),
            ("A://[::1:9092", "in its brackets"),
            ("A://[10.0.0.1]:9092", "in its brackets"),
            ("A://[]:9092", "in its brackets"),
            ("A://user@h:9092", "has no host"),
            ("A://h h:9092", "has no host"),
            ("ssl://h:9093", "TLS and SASL are not there yet"),
            ("A://h:1,SASL_SSL://h:2", "SASL_SSL stands for a security protocol"),
            ("SASL_PLAINTEXT://h:2", "SASL_PLAINTEXT stands for a security protocol"),
            ("A://h:1,a://h:2", "A is named twice"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_was_read_is_written_so_that_it_is_read_again(
            text in prop_oneof![any::<String>(), "[A-Za-z,:/\\[\\].0-9-]{0,60}", "[A-Z]{1,3}://(\\[::[0-9a-f]\\]|[a-z.]*):[0-9]{1,6}"],
        ) {
            if let Ok(endpoint) = text.parse::<NamedEndpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<NamedEndpoint>(), Ok(endpoint));
            }
        }
    }
}
