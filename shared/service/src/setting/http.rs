//! Where HTTP is served, and to whom.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::{ArgAction, Args};

use super::Secret;

/// Search, metrics and health over HTTP.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "HTTP")]
pub struct HttpSettings {
    /// Port for HTTP; 0 takes any free one.
    #[arg(long, env = "CHRONIK_HTTP_PORT", value_name = "PORT", default_value_t = 8080, value_parser = super::port)]
    pub http_port: u16,
    /// Address to listen on for HTTP [default: 127.0.0.1, or the address for Kafka once a token is set].
    #[arg(long, env = "CHRONIK_HTTP_BIND", value_name = "IP", value_parser = super::address)]
    pub http_bind: Option<IpAddr>,
    /// What callers have to send, `Authorization: Bearer TOKEN`, for everything but health; better set as the variable.
    #[arg(long, env = "CHRONIK_HTTP_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub http_token: Option<Secret>,
    /// Allows an address beyond loopback without a token: any client that reaches it can read every record.
    #[arg(
        long,
        env = "CHRONIK_HTTP_INSECURE",
        value_name = "BOOL",
        default_value_t = false,
        action = ArgAction::Set,
        num_args = 0..=1,
        default_missing_value = "true",
        value_parser = super::switch
    )]
    pub http_insecure: bool,
}

/// Where HTTP is served and what callers have to send.
#[derive(Clone, Debug)]
pub struct HttpPlace {
    /// To listen on.
    pub address: SocketAddr,
    /// Sent by callers as `Authorization: Bearer`; without one everybody is answered.
    pub token: Option<Secret>,
}

/// Why HTTP is not served as it was set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpRefused {
    /// It would be open to everybody.
    #[error(
        "--http-bind (CHRONIK_HTTP_BIND) {bind} would let everybody who reaches it read every record; set a token with \
         CHRONIK_HTTP_TOKEN, bind to loopback, or say that this is meant with --http-insecure (CHRONIK_HTTP_INSECURE=true)"
    )]
    Open {
        /// The address to listen on.
        bind: IpAddr,
    },
    /// It fits into no header.
    #[error(
        "the token in --http-token (CHRONIK_HTTP_TOKEN) can't be sent: accepted are visible ASCII characters, at \
         least one, without spaces"
    )]
    Token,
}

impl HttpSettings {
    /// Checks what goes beyond a single value. `kafka` is the address for Kafka clients, loopback if there are none.
    pub fn place(&self, kafka: IpAddr) -> Result<HttpPlace, HttpRefused> {
        let token = self.token()?;
        let bind = self.http_bind.unwrap_or(match &token {
            Some(_) => kafka,
            None => Ipv4Addr::LOCALHOST.into(),
        });
        if token.is_none() && !bind.is_loopback() && !self.http_insecure {
            return Err(HttpRefused::Open { bind });
        }
        Ok(HttpPlace { address: SocketAddr::new(bind, self.http_port), token })
    }

    /// What callers have to send, and what this process sends to others.
    pub fn token(&self) -> Result<Option<Secret>, HttpRefused> {
        let fits = |token: &Secret| {
            let bytes = token.reveal().as_bytes();
            !bytes.is_empty() && bytes.iter().all(u8::is_ascii_graphic)
        };
        match &self.http_token {
            Some(token) if !fits(token) => Err(HttpRefused::Token),
            token => Ok(token.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        http: HttpSettings,
    }

    fn place(line: &str, kafka: &str) -> Result<HttpPlace, HttpRefused> {
        let line = std::iter::once("chronik").chain(line.split_whitespace());
        Line::parse_from(line).http.place(kafka.parse().unwrap())
    }

    #[test]
    fn http_follows_kafka_only_with_a_token() {
        for (line, kafka, address) in [
            ("", "0.0.0.0", "127.0.0.1:8080"),
            ("--http-token t", "0.0.0.0", "0.0.0.0:8080"),
            ("--http-token t --http-bind ::1 --http-port 1", "0.0.0.0", "[::1]:1"),
            ("--http-bind 10.0.0.1 --http-insecure", "127.0.0.1", "10.0.0.1:8080"),
        ] {
            assert_eq!(place(line, kafka).unwrap().address.to_string(), address, "{line}");
        }
    }

    #[test]
    fn what_would_be_open_or_can_never_be_sent_is_refused() {
        let refused = place("--http-bind 0.0.0.0", "127.0.0.1").unwrap_err();
        assert!(matches!(refused, HttpRefused::Open { .. }));
        for token in ["", "größe", "two\twords", "line\r\nX: y"] {
            let settings = HttpSettings {
                http_port: 0,
                http_bind: None,
                http_token: Some(Secret::from(token.to_owned())),
                http_insecure: true,
            };
            assert_eq!(settings.token().unwrap_err(), HttpRefused::Token, "{token:?}");
        }
    }
}
