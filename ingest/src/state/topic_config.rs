//! A topic's settings: Kafka's names, and our own below `search.`.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_format::job::{IndexSettings, ValueFormat};
use serde::{Deserialize, Serialize};

/// Kafka's default of `max.message.bytes`.
const MESSAGE_BYTES_DEFAULT: u32 = 1_048_588;
/// The largest `max.message.bytes`: a frame holds a whole batch.
const MESSAGE_BYTES_MAX: u32 = 32 << 20;

/// Bytes of one setting's value; Kafka's longest are lists of a few dozen hosts.
const VALUE_BYTES_MAX: usize = 4 << 10;
/// Bytes of all names and values of a topic: they are in every checkpoint and in the catalog.
const CONFIG_BYTES_MAX: usize = 16 << 10;
/// Of a name or value that is refused, so much is repeated to the client.
const SHOWN_BYTES: usize = 100;

/// What a setting's value is, with Kafka's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// `true` or `false`.
    Switch = 1,
    /// One of several words.
    Word = 2,
    /// A number of 32 bits.
    Int = 3,
    /// A number of 64 bits.
    Long = 5,
    /// Words with commas between them.
    List = 7,
}

/// A setting that every topic has.
#[derive(Debug)]
pub struct TopicSetting {
    /// Kafka's name, or one of our own below `search.`.
    pub name: &'static str,
    /// The name that Kafka's brokers have for the default.
    pub broker_name: Option<&'static str>,
    pub kind: ValueKind,
    /// The value of topics that were given none.
    pub default: &'static str,
    /// Whether no other value is accepted.
    pub is_fixed: bool,
    /// In words, for clients.
    pub meaning: &'static str,
}

/// All of them, by name. `segment.*` is accepted besides, without effect.
pub static TOPIC_SETTINGS: [TopicSetting; 11] = [
    fixed("cleanup.policy", "log.cleanup.policy", ValueKind::List, "delete", "Topics are not compacted."),
    fixed("compression.type", "compression.type", ValueKind::Word, "producer", "Batches stay as they came."),
    TopicSetting {
        name: "max.message.bytes",
        broker_name: Some("message.max.bytes"),
        kind: ValueKind::Int,
        default: "1048588",
        is_fixed: false,
        meaning: "The largest batch, bytes.",
    },
    TopicSetting {
        name: "message.timestamp.type",
        broker_name: Some("log.message.timestamp.type"),
        kind: ValueKind::Word,
        default: "CreateTime",
        is_fixed: false,
        meaning: "Whether the producer (CreateTime) or the broker (LogAppendTime) says when a record happened.",
    },
    fixed("min.insync.replicas", "min.insync.replicas", ValueKind::Int, "1", "There is one replica."),
    TopicSetting {
        name: "retention.bytes",
        broker_name: Some("log.retention.bytes"),
        kind: ValueKind::Long,
        default: "-1",
        is_fixed: false,
        meaning: "The oldest records of a partition go as long as so many bytes are left of it; -1: history is kept.",
    },
    TopicSetting {
        name: "retention.ms",
        broker_name: Some("log.retention.ms"),
        kind: ValueKind::Long,
        default: "-1",
        is_fixed: false,
        meaning: "The oldest records of a partition go once they are older, ms; -1: history is kept.",
    },
    own("search.enabled", ValueKind::Switch, "true", "Whether the topic is indexed and searched."),
    own("search.positions", ValueKind::Switch, "false", "Whether positions of words are in archives."),
    own("search.value.format", ValueKind::Word, "auto", "How a value becomes words: auto, json, text or none."),
    TopicSetting {
        name: "segment.bytes",
        broker_name: Some("log.segment.bytes"),
        kind: ValueKind::Int,
        default: "1073741824",
        is_fixed: false,
        meaning: "Without effect.",
    },
];

const fn fixed(
    name: &'static str,
    broker_name: &'static str,
    kind: ValueKind,
    default: &'static str,
    meaning: &'static str,
) -> TopicSetting {
    TopicSetting { name, broker_name: Some(broker_name), kind, default, is_fixed: true, meaning }
}

const fn own(name: &'static str, kind: ValueKind, default: &'static str, meaning: &'static str) -> TopicSetting {
    TopicSetting { name, broker_name: None, kind, default, is_fixed: false, meaning }
}

impl TopicSetting {
    /// The setting of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TOPIC_SETTINGS.iter().find(|setting| setting.name == name)
    }
}

/// A topic's settings as they were given, checked by [`TopicConfig::new`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicConfig {
    entries: Arc<BTreeMap<String, String>>,
}

/// A change of a topic's settings, checked by [`ConfigChange::new`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChange {
    /// Whether settings that are not named go back to their default.
    replaces: bool,
    /// What is named, with its value; without one it goes back to its default.
    values: BTreeMap<String, Option<String>>,
}

/// A setting that a topic can't have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No such setting, or none that works yet.
    #[error("topic setting {name} is not supported")]
    Unsupported {
        /// The setting.
        name: String,
    },
    /// Not one of the values that work.
    #[error("topic setting {name} can't be {value:?}: accepted is {accepted}")]
    Value {
        /// The setting.
        name: String,
        /// The value given.
        value: String,
        /// In words.
        accepted: &'static str,
    },
    /// Words were to be added to it, or taken from it.
    #[error("topic setting {name} is not a list")]
    NoList {
        /// The setting.
        name: String,
    },
    /// One value is longer than any that means something.
    #[error("the value of topic setting {name} has {bytes} bytes, and may have {VALUE_BYTES_MAX}")]
    LongValue {
        /// The setting.
        name: String,
        /// Bytes of the value given.
        bytes: usize,
    },
    /// All settings together.
    #[error("the topic's settings have {bytes} bytes together, and may have {CONFIG_BYTES_MAX}")]
    TooLarge {
        /// Bytes of all names and values given.
        bytes: usize,
    },
}

/// Who sets the records' timestamps (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer.
    CreateTime,
    /// The broker, on arrival.
    LogAppendTime,
}

/// How much of its history a topic keeps (`retention.ms`, `retention.bytes`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicRetention {
    /// The age from which on records go, ms; `None`: any stay.
    pub ms: Option<i64>,
    /// Bytes of each partition that are left when its oldest records go; `None`: all stay.
    pub bytes: Option<u64>,
}

impl TopicConfig {
    /// Checks every entry; what does not work is refused rather than kept without an effect.
    pub fn new(entries: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let entries: BTreeMap<_, _> = entries.into_iter().collect();
        for (name, value) in &entries {
            check(name, value)?;
        }
        Self::within_size(entries)
    }

    fn within_size(entries: BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let bytes = entries.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLarge { bytes });
        }
        Ok(Self { entries: Arc::new(entries) })
    }

    /// These settings after a change. Only their size is checked: what a setting accepts may differ from one version
    /// of the program to the next, what a replay gives may not.
    pub fn changed(&self, change: &ConfigChange) -> Result<Self, ConfigError> {
        let mut entries = if change.replaces { BTreeMap::new() } else { BTreeMap::clone(&self.entries) };
        for (name, value) in &change.values {
            match value {
                Some(value) => entries.insert(name.clone(), value.clone()),
                None => entries.remove(name),
            };
        }
        Self::within_size(entries)
    }

    /// The value that was given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.get(name).map(String::as_str)
    }

    /// The entries that were given, by name.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// `max.message.bytes`: the largest batch, bytes.
    pub fn message_bytes_max(&self) -> usize {
        self.get("max.message.bytes").and_then(|v| v.parse().ok()).unwrap_or(MESSAGE_BYTES_DEFAULT) as usize
    }

    /// `message.timestamp.type`.
    pub fn timestamp_type(&self) -> TimestampType {
        match self.get("message.timestamp.type") {
            Some("LogAppendTime") => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        }
    }

    /// `retention.ms` and `retention.bytes`; below 0 they are without bounds.
    pub fn retention(&self) -> TopicRetention {
        let given = |name| self.get(name).and_then(|value| value.parse::<i64>().ok());
        TopicRetention {
            ms: given("retention.ms").filter(|ms| *ms >= 0),
            bytes: given("retention.bytes").and_then(|bytes| u64::try_from(bytes).ok()),
        }
    }

    /// `search.enabled`.
    pub fn search_enabled(&self) -> bool {
        self.get("search.enabled") != Some("false")
    }

    /// `search.value.format` and `search.positions`.
    pub fn index_settings(&self) -> IndexSettings {
        let value_format = match self.get("search.value.format") {
            Some("json") => ValueFormat::Json,
            Some("text") => ValueFormat::Text,
            Some("none") => ValueFormat::None,
            _ => ValueFormat::Auto,
        };
        IndexSettings { value_format, positions: self.get("search.positions") == Some("true") }
    }
}

impl ConfigError {
    /// The setting of a name is no list.
    pub fn no_list(name: &str) -> Self {
        Self::NoList { name: shown(name) }
    }
}

impl ConfigChange {
    /// Gives settings a value, or their default back; `replaces` does the latter for all that are not named. Checks
    /// every name and value.
    pub fn new(
        replaces: bool,
        values: impl IntoIterator<Item = (String, Option<String>)>,
    ) -> Result<Self, ConfigError> {
        let values: BTreeMap<_, _> = values.into_iter().collect();
        for (name, value) in &values {
            match value {
                Some(value) => check(name, value)?,
                None if TopicSetting::named(name).is_some() || is_without_effect(name) => {}
                None => return Err(ConfigError::Unsupported { name: shown(name) }),
            }
        }
        Ok(Self { replaces, values })
    }
}

/// Clients may give a topic these, and what comes of it is nothing.
fn is_without_effect(name: &str) -> bool {
    name.starts_with("segment.")
}

fn check(name: &str, value: &str) -> Result<(), ConfigError> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(ConfigError::LongValue { name: shown(name), bytes: value.len() });
    }
    let one_of = |accepted: &'static str, ok: bool| match ok {
        true => Ok(()),
        false => Err(ConfigError::Value { name: name.into(), value: shown(value), accepted }),
    };
    match name {
        "search.enabled" | "search.positions" => one_of("true or false", ["true", "false"].contains(&value)),
        "search.value.format" => one_of("auto, json, text or none", ["auto", "json", "text", "none"].contains(&value)),
        "message.timestamp.type" => {
            one_of("CreateTime or LogAppendTime", ["CreateTime", "LogAppendTime"].contains(&value))
        }
        "max.message.bytes" => one_of(
            "a number of bytes from 0 to 33554432 (32 MiB)",
            value.parse::<u32>().is_ok_and(|bytes| bytes <= MESSAGE_BYTES_MAX),
        ),
        "cleanup.policy" => one_of("delete", value == "delete"),
        "retention.ms" => {
            one_of("a number of milliseconds, or -1 (history is kept)", value.parse::<i64>().is_ok_and(|ms| ms >= -1))
        }
        "retention.bytes" => one_of("a number of bytes; below 0, history is kept", value.parse::<i64>().is_ok()),
        "min.insync.replicas" => one_of("1, as there is one replica", value == "1"),
        "compression.type" => one_of("producer", value == "producer"),
        _ if is_without_effect(name) => Ok(()),
        _ => Err(ConfigError::Unsupported { name: shown(name) }),
    }
}

/// A given value as error messages repeat it.
fn shown(given: &str) -> String {
    match given.len() {
        ..=SHOWN_BYTES => given.into(),
        _ => format!("{}…", &given[..given.floor_char_boundary(SHOWN_BYTES)]),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn given(entries: &[(&str, usize)]) -> Result<TopicConfig, ConfigError> {
        TopicConfig::new(entries.iter().map(|(name, bytes)| ((*name).into(), "1".repeat(*bytes))))
    }

    #[test]
    fn settings_have_a_size_each_and_together() {
        given(&[("segment.a", 4096), ("segment.b", 4096), ("segment.c", 4096)]).unwrap();
        let long = ConfigError::LongValue { name: "segment.a".into(), bytes: 4097 };
        assert_eq!(given(&[("segment.a", 4097)]), Err(long));
        let four = ["segment.a", "segment.b", "segment.c", "segment.d"].map(|name| (name, 4096));
        assert_eq!(given(&four), Err(ConfigError::TooLarge { bytes: 4 * (4096 + 9) }));
        let name = format!("segment.{}", "x".repeat(20_000));
        assert_eq!(given(&[(&name, 1)]), Err(ConfigError::TooLarge { bytes: 20_009 }));
    }

    #[test]
    fn a_default_is_what_holds_without_a_value_and_is_accepted_as_one() {
        let explicit = TOPIC_SETTINGS.iter().map(|setting| (setting.name.to_owned(), setting.default.to_owned()));
        let (explicit, none) = (TopicConfig::new(explicit).unwrap(), TopicConfig::default());
        let effects = |config: &TopicConfig| {
            let (bytes, time) = (config.message_bytes_max(), config.timestamp_type());
            (bytes, time, config.retention(), config.search_enabled(), config.index_settings())
        };
        assert_eq!(effects(&explicit), effects(&none));
        for setting in TOPIC_SETTINGS.iter().filter(|setting| setting.is_fixed) {
            let other = TopicConfig::new([(setting.name.to_owned(), "2".to_owned())]);
            assert!(matches!(other, Err(ConfigError::Value { .. })), "{}", setting.name);
        }
    }

    #[test]
    fn retention_has_kafkas_bounds() {
        for (ms, bytes, accepted) in [
            ("-1", "-1", Some((None, None))),
            ("0", "0", Some((Some(0), Some(0)))),
            ("9223372036854775807", "9223372036854775807", Some((Some(i64::MAX), Some(i64::MAX as u64)))),
            ("-1", "-2", Some((None, None))),
            ("-2", "-1", None),
            ("9223372036854775808", "-1", None),
            ("-1", "9223372036854775808", None),
            ("7d", "-1", None),
            ("-1", "1GiB", None),
            ("", "-1", None),
        ] {
            let entries = [("retention.ms", ms), ("retention.bytes", bytes)];
            let config = TopicConfig::new(entries.map(|(name, value)| (name.to_owned(), value.to_owned())));
            let expected = accepted.map(|(ms, bytes)| TopicRetention { ms, bytes });
            assert_eq!(config.ok().map(|config| config.retention()), expected, "{ms} {bytes}");
        }
    }

    #[test]
    fn a_change_touches_what_it_names_and_a_replacement_all() {
        let entry = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let config = |entries: &[(&str, &str)]| TopicConfig::new(entries.iter().map(entry)).unwrap();
        let before = config(&[("max.message.bytes", "7"), ("search.enabled", "false")]);
        let values = || [("max.message.bytes".into(), None), ("segment.ms".into(), Some("9".into()))];
        for (replaces, after) in [
            (false, config(&[("search.enabled", "false"), ("segment.ms", "9")])),
            (true, config(&[("segment.ms", "9")])),
        ] {
            assert_eq!(before.changed(&ConfigChange::new(replaces, values()).unwrap()), Ok(after));
        }
        for (name, value) in [("retention.ms", Some("-2")), ("retention.bits", None), ("retention.bits", Some("-1"))] {
            assert!(ConfigChange::new(false, [(name.into(), value.map(Into::into))]).is_err(), "{name} {value:?}");
        }
    }

    #[test]
    fn changes_together_stay_within_the_size() {
        let change = |name: &str| ConfigChange::new(false, [(name.into(), Some("1".repeat(4000)))]).unwrap();
        let full = ["segment.a", "segment.b", "segment.c", "segment.d"]
            .iter()
            .try_fold(TopicConfig::default(), |config, name| config.changed(&change(name)));
        assert_eq!(full.unwrap().changed(&change("segment.e")), Err(ConfigError::TooLarge { bytes: 5 * 4009 }));
    }

    #[test]
    fn what_is_refused_is_repeated_in_part_only() {
        let name = "ü".repeat(1_000_000);
        for refused in [given(&[(&name, 1)]), given(&[(&name, 5000)]), given(&[("retention.ms", 4000)])] {
            let told = refused.unwrap_err().to_string();
            assert!(told.len() < 300, "{} bytes", told.len());
        }
    }
}
