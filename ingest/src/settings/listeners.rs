//! Where the broker listens and where its clients connect, of either kind of settings: one port with its addresses, or
//! Kafka's `listeners` and `advertised.listeners`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use super::endpoint_list::{EndpointList, NamedEndpoint};
use super::{IngestSettings, SettingsError};
use crate::listener::{Address, BindHost, KafkaListener};

/// The listener's name where none is given, as in Kafka.
const UNNAMED: &str = "PLAINTEXT";
/// Kafka's port.
const KAFKA_PORT: u16 = 9092;

const LISTENERS: &str = "--listeners (CHRONIK_LISTENERS)";
const ADVERTISED_LISTENERS: &str = "--advertised-listeners (CHRONIK_ADVERTISED_LISTENERS)";
const PORT: &str = "--kafka-port (CHRONIK_KAFKA_PORT)";
const BIND: &str = "--bind-addr (CHRONIK_BIND_ADDR)";
const ADVERTISED: &str = "--advertised-addr (CHRONIK_ADVERTISED_ADDR)";
const ADVERTISED_PORT: &str = "--advertised-port (CHRONIK_ADVERTISED_PORT)";

impl IngestSettings {
    /// At least one.
    pub fn kafka_listeners(&self) -> Result<Vec<KafkaListener>, SettingsError> {
        let several = match (&self.listeners, &self.advertised_listeners) {
            (Some(_), _) => LISTENERS,
            (None, Some(_)) => ADVERTISED_LISTENERS,
            (None, None) => return Ok(vec![self.one_listener()?]),
        };
        let given = [
            (PORT, self.kafka_port.is_some()),
            (BIND, self.bind_addr.is_some()),
            (ADVERTISED, self.advertised_addr.is_some()),
            (ADVERTISED_PORT, self.advertised_port.is_some()),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((single, _)) => Err(SettingsError::Instead { several, single }),
            None => self.several_listeners(),
        }
    }

    /// Where HTTP listens unless it is told: at the listeners' one address, or at all if there is more than that.
    pub fn http_bind(&self) -> Result<IpAddr, SettingsError> {
        let listeners = self.kafka_listeners()?;
        let mut hosts = listeners.iter().map(|listener| &listener.bind_host);
        Ok(match hosts.next() {
            Some(first @ BindHost::Address(address)) if hosts.all(|host| host == first) => *address,
            _ => Ipv4Addr::UNSPECIFIED.into(),
        })
    }

    /// The settings by which the addresses were chosen that can't be had.
    pub(crate) fn listening_settings(&self) -> &'static str {
        match (&self.listeners, &self.advertised_listeners) {
            (None, None) => "--kafka-port (CHRONIK_KAFKA_PORT) or address with --bind-addr (CHRONIK_BIND_ADDR)",
            _ => LISTENERS,
        }
    }

    fn one_listener(&self) -> Result<KafkaListener, SettingsError> {
        let bind = match (self.bind_addr, &self.advertised_addr) {
            (Some(bind), _) => bind,
            (None, Some(_)) => Ipv4Addr::UNSPECIFIED.into(),
            (None, None) => Ipv4Addr::LOCALHOST.into(),
        };
        let (host, port) = match &self.advertised_addr {
            Some(address) => split_port(address)?,
            None if is_any(bind) => {
                return Err(SettingsError::Value {
                    setting: BIND,
                    value: bind.to_string(),
                    accepted: format!(
                        "this address only together with {ADVERTISED}, the host name that clients are to connect to"
                    ),
                });
            }
            None => (bind.to_string(), None),
        };
        Ok(KafkaListener {
            name: UNNAMED.into(),
            bind_host: BindHost::Address(bind),
            port: self.kafka_port.unwrap_or(KAFKA_PORT),
            advertised: Address { host, port: port.or(self.advertised_port).unwrap_or(0) },
        })
    }

    fn several_listeners(&self) -> Result<Vec<KafkaListener>, SettingsError> {
        let everywhere = NamedEndpoint { name: UNNAMED.into(), host: String::new(), port: KAFKA_PORT };
        let listeners = self.listeners.clone().unwrap_or_else(|| EndpointList::from(everywhere));
        check_ports(&listeners)?;
        check_hosts(&listeners)?;
        if let Some(advertised) = &self.advertised_listeners {
            check_advertised(advertised, &listeners)?;
        }
        let advertised_as = |name| self.advertised_listeners.as_ref().and_then(|list| list.named(name));
        listeners.iter().map(|listener| kafka_listener(listener, advertised_as(&listener.name))).collect()
    }
}

fn kafka_listener(
    listener: &NamedEndpoint,
    advertised: Option<&NamedEndpoint>,
) -> Result<KafkaListener, SettingsError> {
    let bind_host = bind_host(&listener.host);
    let Address { host, port } = match (advertised, &bind_host) {
        (Some(endpoint), _) => Address { host: endpoint.host.clone(), port: endpoint.port },
        (None, BindHost::Name(name)) => Address { host: name.clone(), port: listener.port },
        (None, BindHost::Address(address)) if !is_any(*address) => {
            Address { host: address.to_string(), port: listener.port }
        }
        (None, BindHost::Address(_) | BindHost::All) => {
            let accepted = format!(
                "all addresses only together with {ADVERTISED_LISTENERS} for {}, the host name that clients are to \
                 connect to",
                listener.name
            );
            return Err(SettingsError::Value { setting: LISTENERS, value: listener.to_string(), accepted });
        }
    };
    Ok(KafkaListener {
        name: listener.name.clone(),
        bind_host,
        port: listener.port,
        advertised: Address { host, port },
    })
}

fn bind_host(host: &str) -> BindHost {
    match host {
        "" => BindHost::All,
        "localhost" => BindHost::Address(Ipv4Addr::LOCALHOST.into()),
        _ => host.parse().map_or_else(|_| BindHost::Name(host.into()), BindHost::Address),
    }
}

/// Whether it stands for all addresses, also as IPv6 writes that of IPv4.
fn is_any(address: IpAddr) -> bool {
    address.to_canonical().is_unspecified()
}

/// Whether it is neither a name nor a whole address, though systems take it for one, as in `0` and `127.1`.
fn is_short_address(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let is_number = last.parse::<u64>().is_ok() || last.starts_with("0x") || last.starts_with("0X");
    is_number && host.parse::<IpAddr>().is_err()
}

fn check_hosts(listeners: &EndpointList) -> Result<(), SettingsError> {
    match listeners.iter().find(|listener| is_short_address(&listener.host)) {
        None => Ok(()),
        Some(listener) => Err(SettingsError::Value {
            setting: LISTENERS,
            value: listener.to_string(),
            accepted: "a host name, a whole address, or nothing for all addresses".into(),
        }),
    }
}

/// A port stands for one listener, or for two of which one has an IPv4 address and the other one an IPv6 address; 0 for
/// any number.
fn check_ports(listeners: &EndpointList) -> Result<(), SettingsError> {
    let mut of_port: HashMap<u16, Vec<&NamedEndpoint>> = HashMap::new();
    for listener in listeners.iter().filter(|listener| listener.port != 0) {
        let same = of_port.entry(listener.port).or_default();
        same.push(listener);
        let families: Vec<_> = same.iter().map(|one| one.host.parse().ok().map(|ip: IpAddr| ip.is_ipv4())).collect();
        if same.len() > 1 && !matches!(families[..], [Some(true), Some(false)] | [Some(false), Some(true)]) {
            let accepted = "a port for one listener only, or for one with an IPv4 and one with an IPv6 address".into();
            return Err(SettingsError::Value { setting: LISTENERS, value: listener.to_string(), accepted });
        }
    }
    Ok(())
}

fn check_advertised(advertised: &EndpointList, listeners: &EndpointList) -> Result<(), SettingsError> {
    for endpoint in advertised.iter() {
        let refused = |accepted| {
            Err(SettingsError::Value { setting: ADVERTISED_LISTENERS, value: endpoint.to_string(), accepted })
        };
        let host = &endpoint.host;
        if host.is_empty() || host.parse().is_ok_and(is_any) || is_short_address(host) {
            return refused("a host name or an address that clients can connect to".into());
        }
        if listeners.named(&endpoint.name).is_none() {
            let names: Vec<_> = listeners.iter().map(|listener| listener.name.as_str()).collect();
            return refused(format!("the names in {LISTENERS}, here {}", names.join(", ")));
        }
    }
    Ok(())
}

fn split_port(address: &str) -> Result<(String, Option<u16>), SettingsError> {
    let refused = || SettingsError::Value {
        setting: ADVERTISED,
        value: address.into(),
        accepted: "HOST or HOST:PORT, an IPv6 address in brackets".into(),
    };
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, Some(port.parse().map_err(|_| refused())?))
        }
        _ => (address, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() { Err(refused()) } else { Ok((host.into(), port)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::tests::settings;
    use super::*;

    fn address(host: &str) -> BindHost {
        BindHost::Address(host.parse().unwrap())
    }

    fn name(host: &str) -> BindHost {
        BindHost::Name(host.into())
    }

    #[test]
    fn the_bind_address_follows_the_advertised_one() {
        let cases = [
            (&[][..], "127.0.0.1", 9092, "127.0.0.1", 0),
            (&["--advertised-addr", "kafka.example"], "0.0.0.0", 9092, "kafka.example", 0),
            (&["--advertised-addr", "kafka.example:19092"], "0.0.0.0", 9092, "kafka.example", 19092),
            (&["--advertised-addr", "[::1]:7", "--bind-addr", "::1"], "::1", 9092, "::1", 7),
            (&["--advertised-addr", "::1", "--advertised-port", "8"], "0.0.0.0", 9092, "::1", 8),
            (&["--bind-addr", "10.0.0.1", "--kafka-port", "1"], "10.0.0.1", 1, "10.0.0.1", 0),
        ];
        for (line, bind, port, host, advertised_port) in cases {
            let expected = KafkaListener {
                name: "PLAINTEXT".into(),
                bind_host: address(bind),
                port,
                advertised: Address { host: host.into(), port: advertised_port },
            };
            assert_eq!(settings(line).kafka_listeners().unwrap(), [expected], "{line:?}");
            assert_eq!(settings(line).http_bind().unwrap().to_string(), bind, "{line:?}");
        }
    }

    #[test]
    fn listeners_are_advertised_by_their_names_or_as_what_they_are() {
        type Expected<'a> = &'a [(&'a str, BindHost, u16, &'a str, u16)];
        let cases: &[(&str, Option<&str>, Expected<'_>, &str)] = &[
            ("a://127.0.0.1:1", None, &[("A", address("127.0.0.1"), 1, "127.0.0.1", 1)], "127.0.0.1"),
            ("A://localhost:0", None, &[("A", address("127.0.0.1"), 0, "127.0.0.1", 0)], "127.0.0.1"),
            ("A://broker.lan:1", None, &[("A", name("broker.lan"), 1, "broker.lan", 1)], "0.0.0.0"),
            (
                "IN://:1,OUT://[::]:2,SELF://10.0.0.1:3",
                Some("OUT://o:22,in://i:0"),
                &[
                    ("IN", BindHost::All, 1, "i", 0),
                    ("OUT", address("::"), 2, "o", 22),
                    ("SELF", address("10.0.0.1"), 3, "10.0.0.1", 3),
                ],
                "0.0.0.0",
            ),
            (
                "A://10.0.0.1:1,B://[fd00::1]:1,C://h:0,D://h:0",
                Some("A://x:9,B://x:9"),
                &[
                    ("A", address("10.0.0.1"), 1, "x", 9),
                    ("B", address("fd00::1"), 1, "x", 9),
                    ("C", name("h"), 0, "h", 0),
                    ("D", name("h"), 0, "h", 0),
                ],
                "0.0.0.0",
            ),
            (
                "A://10.0.0.1:1,B://10.0.0.1:2",
                None,
                &[("A", address("10.0.0.1"), 1, "10.0.0.1", 1), ("B", address("10.0.0.1"), 2, "10.0.0.1", 2)],
                "10.0.0.1",
            ),
        ];
        for (listeners, advertised, expected, http) in cases {
            let mut line = vec!["--listeners", listeners];
            line.extend(advertised.iter().flat_map(|advertised| ["--advertised-listeners", advertised]));
            let expected = expected.iter().map(|(name, bind_host, port, host, advertised_port)| KafkaListener {
                name: (*name).into(),
                bind_host: bind_host.clone(),
                port: *port,
                advertised: Address { host: (*host).into(), port: *advertised_port },
            });
            assert_eq!(settings(&line).kafka_listeners().unwrap(), expected.collect::<Vec<_>>(), "{line:?}");
            assert_eq!(settings(&line).http_bind().unwrap().to_string(), *http, "{line:?}");
        }
    }

    #[test]
    fn what_is_advertised_alone_is_of_kafkas_own_listener() {
        let settings = settings(&["--advertised-listeners", "PLAINTEXT://kafka.example:9092"]);
        let [listener] = &settings.kafka_listeners().unwrap()[..] else { panic!("one") };
        assert_eq!((&listener.bind_host, listener.port), (&BindHost::All, 9092));
    }

    #[test]
    fn what_does_not_fit_together_is_refused_by_name() {
        let cases = [
            (&["--bind-addr", "0.0.0.0"][..], &["CHRONIK_BIND_ADDR", "CHRONIK_ADVERTISED_ADDR"][..]),
            (&["--advertised-addr", "host:port"], &["CHRONIK_ADVERTISED_ADDR"]),
            (&["--listeners", "A://:9092"], &["CHRONIK_LISTENERS", "A://:9092", "CHRONIK_ADVERTISED_LISTENERS"]),
            (&["--bind-addr", "::ffff:0.0.0.0"], &["CHRONIK_BIND_ADDR", "CHRONIK_ADVERTISED_ADDR"]),
            (&["--listeners", "A://[::ffff:0.0.0.0]:1"], &["CHRONIK_LISTENERS", "A://[::ffff:0.0.0.0]:1", "for A"]),
            (&["--listeners", "A://0:1"], &["CHRONIK_LISTENERS", "A://0:1", "a whole address"]),
            (&["--listeners", "A://127.1:1"], &["CHRONIK_LISTENERS", "A://127.1:1", "a whole address"]),
            (&["--listeners", "A://a:1", "--advertised-listeners", "A://0:1"], &["A://0:1", "can connect to"]),
            (&["--listeners", "A://0.0.0.0:9092"], &["CHRONIK_LISTENERS", "A://0.0.0.0:9092", "for A"]),
            (
                &["--listeners", "A://:1,B://[::]:2", "--advertised-listeners", "A://a:1"],
                &["CHRONIK_LISTENERS", "B://[::]:2", "for B"],
            ),
            (&["--listeners", "A://a:1,B://b:1"], &["CHRONIK_LISTENERS", "B://b:1", "one listener only"]),
            (&["--listeners", "A://10.0.0.1:1,B://10.0.0.2:1"], &["B://10.0.0.2:1", "one listener only"]),
            (&["--listeners", "A://10.0.0.1:1,B://[::1]:1,C://c:1"], &["C://c:1", "one listener only"]),
            (
                &["--listeners", "A://a:1", "--advertised-listeners", "A://0.0.0.0:1"],
                &["CHRONIK_ADVERTISED_LISTENERS", "A://0.0.0.0:1", "can connect to"],
            ),
            (
                &["--listeners", "A://a:1", "--advertised-listeners", "A://:1"],
                &["CHRONIK_ADVERTISED_LISTENERS", "A://:1", "can connect to"],
            ),
            (
                &["--listeners", "A://a:1,B://b:2", "--advertised-listeners", "C://c:1"],
                &["CHRONIK_ADVERTISED_LISTENERS", "C://c:1", "CHRONIK_LISTENERS", "A, B"],
            ),
            (&["--advertised-listeners", "A://a:1"], &["CHRONIK_ADVERTISED_LISTENERS", "A://a:1", "PLAINTEXT"]),
            (&["--listeners", "A://a:1", "--kafka-port", "9092"], &["CHRONIK_LISTENERS", "CHRONIK_KAFKA_PORT"]),
            (&["--listeners", "A://a:1", "--bind-addr", "::1"], &["CHRONIK_LISTENERS", "CHRONIK_BIND_ADDR"]),
            (&["--listeners", "A://a:1", "--advertised-addr", "a"], &["CHRONIK_LISTENERS", "CHRONIK_ADVERTISED_ADDR"]),
            (
                &["--advertised-listeners", "PLAINTEXT://a:1", "--advertised-port", "1"],
                &["CHRONIK_ADVERTISED_LISTENERS", "CHRONIK_ADVERTISED_PORT"],
            ),
        ];
        for (line, told) in cases {
            let refused = settings(line).validate().unwrap_err().to_string();
            for told in told {
                assert!(refused.contains(told), "{line:?}: {refused}");
            }
        }
    }
}
