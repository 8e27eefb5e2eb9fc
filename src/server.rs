//! The server that the tool speaks to.

use chronik_service::setting::{Endpoint, Secret};
use clap::Args;

/// Where the tool finds the server, and how it answers.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "For every command")]
pub struct ServerOptions {
    /// Answer in JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// A broker's address, HOST:PORT; the broker says where it, and the others of its cluster, are to be reached.
    #[arg(long, global = true, value_name = "HOST:PORT", default_value = "127.0.0.1:9092", value_parser = broker_address)]
    pub bootstrap: String,
    /// The address of search, metrics and health.
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub http: Endpoint,
    /// What the server was given as its CHRONIK_HTTP_TOKEN, if it was; better set as the variable.
    #[arg(long, global = true, env = "CHRONIK_HTTP_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub http_token: Option<Secret>,
}

fn broker_address(text: &str) -> Result<String, String> {
    let text = text.trim();
    let refused = |reason| {
        let accepted = "HOST:PORT of one broker, such as 127.0.0.1:9092 or, an IPv6 address in brackets, [::1]:9092";
        Err(format!("{text:?} {reason}; accepted is {accepted}"))
    };
    let (host, port) = match text.rsplit_once(':') {
        _ if text.contains("://") => return refused("is a URL"),
        _ if text.contains(',') => return refused("is more than one address"),
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => return refused("has no port"),
    };
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || host.contains(char::is_whitespace) {
        return refused("has no host");
    }
    if host.contains(':') != is_bracketed {
        return refused("has no port, or an IPv6 address without brackets");
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(text.to_owned()),
        _ => refused("has a port that is not 1 to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brokers_address_has_a_host_and_a_port() {
        for address in ["localhost:9092", "kafka.example:65535", "[::1]:1"] {
            assert_eq!(broker_address(&format!(" {address} ")), Ok(address.to_owned()));
        }
        for (text, reason) in [
            ("", "has no port"),
            ("localhost", "has no port"),
            ("[::1]", "has no port"),
            ("::1", "IPv6 address without brackets"),
            (":9092", "has no host"),
            ("a b:9092", "has no host"),
            ("a:", "1 to 65535"),
            ("a:0", "1 to 65535"),
            ("a:65536", "1 to 65535"),
            ("a:kafka", "1 to 65535"),
            ("a:1,b:1", "more than one address"),
            ("http://a:1", "is a URL"),
        ] {
            assert!(
                broker_address(text).is_err_and(|told| told.contains(reason) && told.contains("[::1]:9092")),
                "{text}"
            );
        }
    }
}
