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

/// Where clients on this machine find listeners: one by its address alone, several by their names too.
pub fn named_places(listeners: &[BoundListener]) -> String {
    match listeners {
        [only] => only.nearby().to_string(),
        several => {
            let named = |listener: &BoundListener| format!("{} ({})", listener.nearby(), listener.name);
            several.iter().map(named).collect::<Vec<_>>().join(", ")
        }
    }
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
