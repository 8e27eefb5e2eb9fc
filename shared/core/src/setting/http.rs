//! Where HTTP is served.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::{ArgAction, Args};

/// Search, metrics and health over HTTP.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "HTTP")]
pub struct HttpSettings {
    /// Port for search, metrics and health; 0 takes any free one.
    #[arg(long, env = "CHRONIK_HTTP_PORT", value_name = "PORT", default_value_t = 8080, value_parser = super::port)]
    pub http_port: u16,
    /// Address to listen on for HTTP.
    #[arg(long, env = "CHRONIK_HTTP_BIND", value_name = "IP", default_value_t = Ipv4Addr::LOCALHOST.into(), value_parser = super::address)]
    pub http_bind: IpAddr,
    /// Allows an address beyond loopback: whoever reaches it can read every record.
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

/// HTTP would be open to everybody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--http-bind (CHRONIK_HTTP_BIND) {bind} would let everybody who reaches it read every record; \
     bind to loopback, or say that this is meant with --http-insecure (CHRONIK_HTTP_INSECURE=true)"
)]
pub struct OpenHttp {
    /// The address to listen on.
    pub bind: IpAddr,
}

impl HttpSettings {
    /// Checks what goes beyond a single value.
    pub fn check(&self) -> Result<(), OpenHttp> {
        if self.http_bind.is_loopback() || self.http_insecure {
            Ok(())
        } else {
            Err(OpenHttp { bind: self.http_bind })
        }
    }

    /// Where to listen.
    pub fn bind(&self) -> SocketAddr {
        SocketAddr::new(self.http_bind, self.http_port)
    }
}
