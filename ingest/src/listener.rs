//! One place where Kafka clients come in, and where they are told to come.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use chronik_net::KafkaServer;
use chronik_service::process::reachable;

/// As it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaListener {
    /// `PLAINTEXT`, or one that the operator gave.
    pub name: String,
    /// Bound to.
    pub bind_host: BindHost,
    /// Bound to; 0 is any free one.
    pub port: u16,
    /// In answers to clients; its port 0 is the one that was bound.
    pub advertised: Address,
}

/// What a listener is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindHost {
    /// Every address of the machine, of both families where it has both.
    All,
    /// One, or all of its family.
    Address(IpAddr),
    /// The first address of this name that can be bound.
    Name(String),
}

/// What a client connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name, or an IP address without brackets.
    pub host: String,
    pub port: u16,
}

/// A listener that has its port.
#[derive(Clone, Debug)]
pub struct BoundListener {
    /// Of the settings.
    pub name: String,
    /// Where it listens.
    pub bound: SocketAddr,
    /// In answers to clients.
    pub advertised: Address,
}

impl KafkaListener {
    /// Clients can connect from here on.
    pub async fn bind(self, server: &mut KafkaServer) -> std::io::Result<BoundListener> {
        let port = self.port;
        let bound = match &self.bind_host {
            BindHost::All => {
                // One socket for both families, or one for IPv4 where the machine has no IPv6.
                let all = [(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()];
                server.listen(&all[..] as &[SocketAddr]).await?
            }
            BindHost::Address(address) => server.listen((*address, port)).await?,
            BindHost::Name(name) => server.listen((name.as_str(), port)).await?,
        };
        let Address { host, port } = self.advertised;
        let port = if port == 0 { bound.port() } else { port };
        Ok(BoundListener { name: self.name, bound, advertised: Address { host, port } })
    }
}

impl BoundListener {
    /// Where a client on this machine finds it.
    pub fn nearby(&self) -> SocketAddr {
        reachable(self.bound)
    }
}

/// Where clients on this machine find listeners, and where others are told to come if that is elsewhere; several have
/// their names too: `127.0.0.1:9092 (INSIDE, advertised as kafka.example:9092)`.
pub fn named_places(listeners: &[BoundListener]) -> String {
    let place = |listener: &BoundListener| {
        let (nearby, advertised) = (listener.nearby().to_string(), listener.advertised.to_string());
        let name = (listeners.len() > 1).then(|| listener.name.clone());
        let elsewhere = (advertised != nearby).then(|| format!("advertised as {advertised}"));
        match name.into_iter().chain(elsewhere).collect::<Vec<_>>() {
            words if words.is_empty() => nearby,
            words => format!("{nearby} ({})", words.join(", ")),
        }
    };
    listeners.iter().map(place).collect::<Vec<_>>().join(", ")
}

/// `HOST:PORT`, as it was set.
impl fmt::Display for KafkaListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bind_host {
            BindHost::All => write!(f, "all addresses, port {}", self.port),
            BindHost::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
            BindHost::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// `HOST:PORT`, an IPv6 address in brackets.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(name: &str, bound: &str, host: &str, port: u16) -> BoundListener {
        let bound = bound.parse().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
        BoundListener { name: name.into(), bound, advertised: Address { host: host.into(), port } }
    }

    #[test]
    fn places_say_where_clients_are_told_to_come() {
        let alone = listener("PLAINTEXT", "127.0.0.1:9092", "127.0.0.1", 9092);
        assert_eq!(named_places(std::slice::from_ref(&alone)), "127.0.0.1:9092");
        let outside = listener("OUTSIDE", "0.0.0.0:9094", "kafka.example", 19094);
        assert_eq!(named_places(std::slice::from_ref(&outside)), "127.0.0.1:9094 (advertised as kafka.example:19094)");
        assert_eq!(
            named_places(&[alone, outside]),
            "127.0.0.1:9092 (PLAINTEXT), 127.0.0.1:9094 (OUTSIDE, advertised as kafka.example:19094)"
        );
    }
}
