//! The broker's settings under Kafka's names, as tools read them. None can be changed while it runs.

use super::entry::{ConfigEntry, ConfigSource};
use crate::api::{BROKER_ID, SessionLimits};
use crate::groups::GroupLimits;
use crate::listener::BoundListener;
use crate::settings::IngestSettings;
use crate::state::topic_config::ValueKind::{self, Int, List, Long, Switch};
use crate::state::topic_config::{TOPIC_SETTINGS, TopicSetting};

/// What the broker was started with, and what it can't but be.
pub struct BrokerConfig {
    entries: Vec<ConfigEntry>,
}

impl BrokerConfig {
    /// Of a broker with these settings that has these listeners.
    pub fn new(settings: &IngestSettings, listeners: &[BoundListener]) -> Self {
        let (groups, sessions) = (GroupLimits::default(), SessionLimits::default());
        let started = [
            (
                "auto.create.topics.enable",
                Switch,
                settings.auto_create_topics.to_string(),
                "--auto-create-topics (CHRONIK_AUTO_CREATE_TOPICS)",
            ),
            ("num.partitions", Int, settings.num_partitions.to_string(), "--num-partitions (CHRONIK_NUM_PARTITIONS)"),
            (
                "group.initial.rebalance.delay.ms",
                Int,
                settings.group_initial_rebalance_delay.0.as_millis().to_string(),
                "--group-initial-rebalance-delay (CHRONIK_GROUP_INITIAL_REBALANCE_DELAY)",
            ),
            (
                "offsets.retention.minutes",
                Int,
                (settings.offsets_retention.0.as_secs() / 60).to_string(),
                "--offsets-retention (CHRONIK_OFFSETS_RETENTION)",
            ),
            (
                "producer.id.expiration.ms",
                Int,
                settings.producer_id_expiration.0.as_millis().to_string(),
                "--producer-id-expiration (CHRONIK_PRODUCER_ID_EXPIRATION)",
            ),
            (
                "log.retention.check.interval.ms",
                Long,
                settings.retention_check_interval.0.as_millis().to_string(),
                "--retention-check-interval (CHRONIK_RETENTION_CHECK_INTERVAL)",
            ),
            (
                "listeners",
                List,
                named(listeners, |listener| listener.bound.to_string()),
                "--listeners (CHRONIK_LISTENERS), or --bind-addr (CHRONIK_BIND_ADDR) and --kafka-port \
                 (CHRONIK_KAFKA_PORT)",
            ),
            (
                "advertised.listeners",
                List,
                named(listeners, |listener| listener.advertised.to_string()),
                "--advertised-listeners (CHRONIK_ADVERTISED_LISTENERS), or --advertised-addr \
                 (CHRONIK_ADVERTISED_ADDR) and --advertised-port (CHRONIK_ADVERTISED_PORT)",
            ),
        ];
        let fixed = [
            ("broker.id", Int, BROKER_ID.to_string()),
            ("node.id", Int, BROKER_ID.to_string()),
            ("default.replication.factor", Int, "1".into()),
            ("delete.topic.enable", Switch, "true".into()),
            ("group.min.session.timeout.ms", Int, groups.session_min.as_millis().to_string()),
            ("group.max.session.timeout.ms", Int, groups.session_max.as_millis().to_string()),
            ("group.max.size", Int, groups.members_max.to_string()),
            ("max.incremental.fetch.session.cache.slots", Int, sessions.sessions_max.to_string()),
        ];
        let started = started.map(|(name, kind, value, flag)| entry(name, kind, value, ConfigSource::Start, flag));
        let fixed = fixed.map(|(name, kind, value)| entry(name, kind, value, ConfigSource::Default, "Not to be set."));
        let topics = TOPIC_SETTINGS.iter().filter_map(topic_default);
        Self { entries: started.into_iter().chain(fixed).chain(topics).collect() }
    }

    /// All of them.
    pub fn entries(&self) -> &[ConfigEntry] {
        &self.entries
    }
}

/// Listeners as Kafka writes them.
fn named(listeners: &[BoundListener], address: impl Fn(&BoundListener) -> String) -> String {
    let named = |listener: &BoundListener| format!("{}://{}", listener.name, address(listener));
    listeners.iter().map(named).collect::<Vec<_>>().join(",")
}

/// What topics have without a setting of their own, under the broker's name for it.
fn topic_default(setting: &TopicSetting) -> Option<ConfigEntry> {
    let (value, source) = (setting.default.to_owned(), ConfigSource::Default);
    Some(entry(setting.broker_name?, setting.kind, value, source, setting.meaning))
}

fn entry(name: &str, kind: ValueKind, value: String, source: ConfigSource, meaning: &'static str) -> ConfigEntry {
    ConfigEntry { name: name.into(), value, kind, source, default: None, is_read_only: true, meaning }
}
