//! What an operator can set of the broker.

mod endpoint_list;
mod listeners;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use chronik_service::setting::{self, ByteSize, CacheSettings, HttpSettings, Period, QueryEndpointSettings};
use chronik_store::setting::{BucketSettings, QueueSettings};
use clap::Args;

use self::endpoint_list::EndpointList;
use crate::ownership::OwnershipTimes;
use crate::publish::segment_lists::SegmentListLimits;

/// Each look goes through all topics.
const RETENTION_CHECK_MIN: Duration = Duration::from_millis(100);

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
    /// Port of the Kafka protocol; by default 9092
    #[arg(long, env = "CHRONIK_KAFKA_PORT", value_parser = setting::port)]
    pub kafka_port: Option<u16>,
    /// Address that the Kafka port is bound to; by default 127.0.0.1, or 0.0.0.0 once an advertised address is given
    #[arg(long, env = "CHRONIK_BIND_ADDR", value_parser = setting::address)]
    pub bind_addr: Option<IpAddr>,
    /// Address that clients are told to connect to, HOST or HOST:PORT; by default the bind address
    #[arg(long, env = "CHRONIK_ADVERTISED_ADDR")]
    pub advertised_addr: Option<String>,
    /// Port that clients are told to connect to; by default the Kafka port
    #[arg(long, env = "CHRONIK_ADVERTISED_PORT", value_parser = setting::port)]
    pub advertised_port: Option<u16>,
    /// Where the broker listens, for clients of more than one network, instead of the four settings above
    /// (INSIDE://:9092,OUTSIDE://:9094; Kafka's listeners)
    #[arg(long, env = "CHRONIK_LISTENERS", value_name = "NAME://HOST:PORT,...")]
    pub listeners: Option<EndpointList>,
    /// What clients of each listener are told to connect to; by default its own address (Kafka's advertised.listeners)
    #[arg(long, env = "CHRONIK_ADVERTISED_LISTENERS", value_name = "NAME://HOST:PORT,...")]
    pub advertised_listeners: Option<EndpointList>,
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
    /// Of what is free at the start, bytes that a cache in the data directory takes by its own settings.
    #[arg(skip)]
    pub disk_bytes_kept: u64,
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
    /// How often records are looked for that `retention.ms` or `retention.bytes` of their topic lets go (Kafka's
    /// log.retention.check.interval.ms)
    #[arg(long, env = "CHRONIK_RETENTION_CHECK_INTERVAL", default_value = "5m")]
    pub retention_check_interval: Period,
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
    /// The same.
    #[arg(skip)]
    pub segment_lists: SegmentListLimits,
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
    /// Two settings for the same.
    #[error("{several} is given, and comes instead of {single}: leave one of them out")]
    Instead {
        /// Of all listeners.
        several: &'static str,
        /// Of the one listener.
        single: &'static str,
    },
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
        if self.retention_check_interval.0 < RETENTION_CHECK_MIN {
            return Err(SettingsError::Value {
                setting: "--retention-check-interval (CHRONIK_RETENTION_CHECK_INTERVAL)",
                value: self.retention_check_interval.to_string(),
                accepted: format!("{} or more", Period(RETENTION_CHECK_MIN)),
            });
        }
        self.kafka_listeners().map(|_| ())
    }

    /// The write-ahead log must hold a segment that is being filled, two that are being shipped, and a spare file.
    pub fn wal_bytes_min(&self) -> u64 {
        4 * self.wal_rotation_size.0
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
        settings: IngestSettings,
    }

    pub(super) fn settings(line: &[&str]) -> IngestSettings {
        Line::parse_from(["chronik"].iter().chain(line)).settings
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_by_name() {
        let cases = [
            (&["--ship-max-bytes", "65MiB"], "CHRONIK_SHIP_MAX_BYTES"),
            (&["--wal-rotation-size", "1KiB"], "CHRONIK_WAL_ROTATION_SIZE"),
            (&["--wal-max-bytes", "128MiB"], "CHRONIK_WAL_MAX_BYTES"),
            (&["--retention-check-interval", "0s"], "CHRONIK_RETENTION_CHECK_INTERVAL"),
        ];
        for (line, name) in cases {
            let refused = settings(line).validate().unwrap_err().to_string();
            assert!(refused.contains(name), "{line:?}: {refused}");
        }
    }
}
