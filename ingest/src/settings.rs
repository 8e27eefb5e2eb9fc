//! What an operator can set of the broker.

use std::net::IpAddr;
use std::path::PathBuf;

use chronik_service::setting::{self, ByteSize, CacheSettings, HttpSettings, Period, QueryEndpointSettings};
use chronik_store::setting::{BucketSettings, QueueSettings};
use clap::Args;

use crate::ownership::OwnershipTimes;
/// Settings of a broker in a process of its own.
#[derive(Args, Clone, Debug)]
pub struct RunSettings {
    /// Of the broker itself.
    #[command(flatten)]
    pub ingest: IngestSettings,
    /// The bucket.
    #[command(flatten)]
    pub bucket: BucketSettings,
    /// The queue.
    #[command(flatten)]
    pub queue: QueueSettings,
    /// Who reads old records.
    #[command(flatten)]
    pub workers: QueryEndpointSettings,
    /// Status, metrics and health.
    #[command(flatten)]
    pub http: HttpSettings,
    /// Memory.
    #[command(flatten)]
    pub cache: CacheSettings,
}

/// The broker's settings. Each is a flag and an environment variable.
#[derive(Args, Clone, Debug)]
pub struct IngestSettings {
    /// Port of the Kafka protocol
    #[arg(long, env = "CHRONIK_KAFKA_PORT", default_value_t = 9092, value_parser = setting::port)]
    pub kafka_port: u16,
    /// Address that the Kafka port is bound to; by default 127.0.0.1, or 0.0.0.0 once an advertised address is given
    #[arg(long, env = "CHRONIK_BIND_ADDR", value_parser = setting::address)]
    pub bind_addr: Option<IpAddr>,
    /// Address that clients are told to connect to, HOST or HOST:PORT; by default the bind address
    #[arg(long, env = "CHRONIK_ADVERTISED_ADDR")]
    pub advertised_addr: Option<String>,
    /// Port that clients are told to connect to; by default the Kafka port
    #[arg(long, env = "CHRONIK_ADVERTISED_PORT", value_parser = setting::port)]
    pub advertised_port: Option<u16>,
    /// Directory of the write-ahead log and local checkpoints
    #[arg(long, env = "CHRONIK_DATA_DIR", default_value = "./data")]
    pub data_dir: PathBuf,
    /// Size of one write-ahead log file
    #[arg(long, env = "CHRONIK_WAL_ROTATION_SIZE", default_value = "64MiB")]
    pub wal_rotation_size: ByteSize,
    /// The most disk space the write-ahead log takes; by default 80 % of what is free at the start and what it has
    /// taken
    #[arg(long, env = "CHRONIK_WAL_MAX_BYTES")]
    pub wal_max_bytes: Option<ByteSize>,
    /// A segment is shipped once so much is unshipped; 64MiB is the most
    #[arg(long, env = "CHRONIK_SHIP_MAX_BYTES", default_value = "64MiB")]
    pub ship_max_bytes: ByteSize,
    /// A segment is shipped once its oldest record is this old
    #[arg(long, env = "CHRONIK_SHIP_MAX_AGE", default_value = "10s")]
    pub ship_max_age: Period,
    /// An index job is sent once so much of a topic is shipped without an archive
    #[arg(long, env = "CHRONIK_INDEX_BATCH_BYTES", default_value = "64MiB")]
    pub index_batch_bytes: ByteSize,
    /// An index job is sent once the oldest run waits this long (ten times as long if it is less than 1 MiB)
    #[arg(long, env = "CHRONIK_INDEX_BATCH_AGE", default_value = "60s")]
    pub index_batch_age: Period,
    /// Whether a client that asks for an unknown topic creates it (Kafka's auto.create.topics.enable)
    #[arg(long, env = "CHRONIK_AUTO_CREATE_TOPICS", default_value_t = true, action = clap::ArgAction::Set, value_parser = setting::switch)]
    pub auto_create_topics: bool,
    /// Partitions of a topic that is created without saying how many (Kafka's num.partitions)
    #[arg(long, env = "CHRONIK_NUM_PARTITIONS", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub num_partitions: i32,
    /// How long the first member of an empty consumer group waits for others (Kafka's group.initial.rebalance.delay.ms)
    #[arg(long, env = "CHRONIK_GROUP_INITIAL_REBALANCE_DELAY", default_value = "500ms")]
    pub group_initial_rebalance_delay: Period,
    /// Committed offsets are kept so long after their last use (Kafka's offsets.retention.minutes)
    #[arg(long, env = "CHRONIK_OFFSETS_RETENTION", default_value = "7d")]
    pub offsets_retention: Period,
    /// An idempotent producer that has been silent for so long is forgotten (Kafka's producer.id.expiration.ms)
    #[arg(long, env = "CHRONIK_PRODUCER_ID_EXPIRATION", default_value = "1d")]
    pub producer_id_expiration: Period,
    /// Serve although the bucket lacks records that it once had; they are lost then
    #[arg(long, env = "CHRONIK_ACCEPT_LOSS", default_value_t = false, action = clap::ArgAction::SetTrue, value_parser = setting::switch)]
    pub accept_loss: bool,
    /// Take the bucket from the broker that owns it, for the start with an empty data directory; what that one has not
    /// shipped is lost to the bucket
    #[arg(long, env = "CHRONIK_TAKE_OVER", default_value_t = false, action = clap::ArgAction::SetTrue, value_parser = setting::switch)]
    pub take_over: bool,
    /// Acknowledge only while the last sign of life in the bucket is younger than another broker waits before it takes
    /// the bucket: nothing acknowledged is lost to a successor that was too early, but an outage of the bucket stops
    /// producers
    #[arg(long, env = "CHRONIK_STRICT_LEASE", default_value_t = false, action = clap::ArgAction::SetTrue, value_parser = setting::switch)]
    pub strict_lease: bool,
    /// The same for all brokers, so not for the operator to set.
    #[arg(skip)]
    pub rhythm: OwnershipTimes,
}

/// Settings that don't fit together.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// One setting's value is out of its bounds.
    #[error("{setting} can't be {value}: accepted is {accepted}")]
    Value {
        /// The flag and environment variable.
        setting: &'static str,
        /// The value given.
        value: String,
        /// In words.
        accepted: String,
    },
}

/// Where the broker listens and where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaListener {
    /// Bound to.
    pub bind: std::net::SocketAddr,
    /// In answers to clients.
    pub advertised_host: String,
    /// In answers to clients; `None` is the port that was bound.
    pub advertised_port: Option<u16>,
}

impl IngestSettings {
    /// Checks what one value alone does not show.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let in_bounds = |setting, value: ByteSize, least: u64, most: u64| {
            if (least..=most).contains(&value.0) {
                return Ok(());
            }
            let accepted = format!("{} to {}", ByteSize(least), ByteSize(most));
            Err(SettingsError::Value { setting, value: value.to_string(), accepted })
        };
        in_bounds("--wal-rotation-size (CHRONIK_WAL_ROTATION_SIZE)", self.wal_rotation_size, 64 << 10, 1 << 30)?;
        in_bounds("--ship-max-bytes (CHRONIK_SHIP_MAX_BYTES)", self.ship_max_bytes, 16 << 10, 64 << 20)?;
        in_bounds("--index-batch-bytes (CHRONIK_INDEX_BATCH_BYTES)", self.index_batch_bytes, 1, 64 << 20)?;
        if let Some(most) = self.wal_max_bytes {
            let least = self.wal_bytes_min();
            in_bounds("--wal-max-bytes (CHRONIK_WAL_MAX_BYTES)", most, least, u64::MAX)?;
        }
        self.listener().map(|_| ())
    }

    /// The write-ahead log must hold a segment that is being filled, two that are being shipped, and a spare file.
    pub fn wal_bytes_min(&self) -> u64 {
        4 * self.wal_rotation_size.0
    }

    /// Bind and advertised address.
    pub fn listener(&self) -> Result<KafkaListener, SettingsError> {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let any = IpAddr::from([0, 0, 0, 0]);
        let bind = self.bind_addr.unwrap_or(if self.advertised_addr.is_some() { any } else { loopback });
        let (host, port) = match &self.advertised_addr {
            Some(address) => split_port(address)?,
            None if bind.is_unspecified() => {
                return Err(SettingsError::Value {
                    setting: "--bind-addr (CHRONIK_BIND_ADDR)",
                    value: bind.to_string(),
                    accepted: "this address only together with --advertised-addr (CHRONIK_ADVERTISED_ADDR), the \
                               host name that clients are to connect to"
                        .into(),
                });
            }
            None => (bind.to_string(), None),
        };
        Ok(KafkaListener {
            bind: (bind, self.kafka_port).into(),
            advertised_host: host,
            advertised_port: port.or(self.advertised_port),
        })
    }
}

fn split_port(address: &str) -> Result<(String, Option<u16>), SettingsError> {
    let refused = || SettingsError::Value {
        setting: "--advertised-addr (CHRONIK_ADVERTISED_ADDR)",
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

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: IngestSettings,
    }

    fn settings(line: &[&str]) -> IngestSettings {
        Line::parse_from(["chronik"].iter().chain(line)).settings
    }

    #[test]
    fn the_bind_address_follows_the_advertised_one() {
        let cases = [
            (&[][..], "127.0.0.1:9092", "127.0.0.1", None),
            (&["--advertised-addr", "kafka.example"], "0.0.0.0:9092", "kafka.example", None),
            (&["--advertised-addr", "kafka.example:19092"], "0.0.0.0:9092", "kafka.example", Some(19092)),
            (&["--advertised-addr", "[::1]:7", "--bind-addr", "::1"], "[::1]:9092", "::1", Some(7)),
            (&["--advertised-addr", "::1", "--advertised-port", "8"], "0.0.0.0:9092", "::1", Some(8)),
            (&["--bind-addr", "10.0.0.1", "--kafka-port", "1"], "10.0.0.1:1", "10.0.0.1", None),
        ];
        for (line, bind, host, port) in cases {
            let listener = settings(line).listener().unwrap();
            let expected =
                KafkaListener { bind: bind.parse().unwrap(), advertised_host: host.into(), advertised_port: port };
            assert_eq!(listener, expected, "{line:?}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused_by_name() {
        let cases = [
            (&["--bind-addr", "0.0.0.0"][..], "CHRONIK_ADVERTISED_ADDR"),
            (&["--advertised-addr", "host:port"], "CHRONIK_ADVERTISED_ADDR"),
            (&["--ship-max-bytes", "65MiB"], "CHRONIK_SHIP_MAX_BYTES"),
            (&["--wal-rotation-size", "1KiB"], "CHRONIK_WAL_ROTATION_SIZE"),
            (&["--wal-max-bytes", "128MiB"], "CHRONIK_WAL_MAX_BYTES"),
        ];
        for (line, name) in cases {
            let refused = settings(line).validate().unwrap_err().to_string();
            assert!(refused.contains(name), "{line:?}: {refused}");
        }
    }
}
