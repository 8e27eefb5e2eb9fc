//! A topic's settings: Kafka's names, and our own below `search.`.

use std::collections::BTreeMap;

use chronik_core::job::{IndexSettings, ValueFormat};
use serde::{Deserialize, Serialize};

/// Kafka's default of `max.message.bytes`.
const MESSAGE_BYTES_DEFAULT: u32 = 1_048_588;
/// The largest `max.message.bytes`: a frame holds a whole batch.
const MESSAGE_BYTES_MAX: u32 = 32 << 20;

/// A topic's settings as they were given, checked by [`TopicConfig::new`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicConfig {
    entries: BTreeMap<String, String>,
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
}

/// Who sets the records' timestamps (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer.
    CreateTime,
    /// The broker, on arrival.
    LogAppendTime,
}

impl TopicConfig {
    /// Checks every entry; what does not work is refused rather than kept without an effect.
    pub fn new(entries: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let entries: BTreeMap<_, _> = entries.into_iter().collect();
        for (name, value) in &entries {
            check(name, value)?;
        }
        Ok(Self { entries })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.entries.get(name).map(String::as_str)
    }

    /// The entries that were given, by name.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// `max.message.bytes`: the largest batch, bytes.
    pub fn message_bytes_max(&self) -> usize {
        self.get("max.message.bytes")
            .and_then(|v| v.parse().ok())
            .unwrap_or(MESSAGE_BYTES_DEFAULT) as usize
    }

    /// `message.timestamp.type`.
    pub fn timestamp_type(&self) -> TimestampType {
        match self.get("message.timestamp.type") {
            Some("LogAppendTime") => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
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
        IndexSettings {
            value_format,
            positions: self.get("search.positions") == Some("true"),
        }
    }
}

fn check(name: &str, value: &str) -> Result<(), ConfigError> {
    let one_of = |accepted: &'static str, ok: bool| match ok {
        true => Ok(()),
        false => Err(ConfigError::Value {
            name: name.into(),
            value: value.into(),
            accepted,
        }),
    };
    match name {
        "search.enabled" | "search.positions" => one_of("true or false", ["true", "false"].contains(&value)),
        "search.value.format" => one_of(
            "auto, json, text or none",
            ["auto", "json", "text", "none"].contains(&value),
        ),
        "message.timestamp.type" => one_of(
            "CreateTime or LogAppendTime",
            ["CreateTime", "LogAppendTime"].contains(&value),
        ),
        "max.message.bytes" => one_of(
            "a number of bytes from 0 to 33554432 (32 MiB)",
            value.parse::<u32>().is_ok_and(|bytes| bytes <= MESSAGE_BYTES_MAX),
        ),
        "cleanup.policy" => one_of("delete", value == "delete"),
        "retention.ms" | "retention.bytes" => one_of("-1 (history is kept)", value == "-1"),
        "compression.type" => one_of("producer", value == "producer"),
        _ if name.starts_with("segment.") => Ok(()),
        _ => Err(ConfigError::Unsupported { name: name.into() }),
    }
}
