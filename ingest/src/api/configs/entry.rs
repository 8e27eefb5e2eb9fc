//! A setting as clients see it.

use crate::state::topic_config::{TOPIC_SETTINGS, TopicConfig, TopicSetting, ValueKind};

/// Where a setting's value comes from, with Kafka's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// The topic was given it.
    Topic = 1,
    /// The operator has set it, or could, at the broker's start.
    Start = 4,
    /// It holds where nothing else was given.
    Default = 5,
}

/// A setting with its value.
#[derive(Clone, Debug)]
pub struct ConfigEntry {
    pub name: String,
    pub value: String,
    pub kind: ValueKind,
    pub source: ConfigSource,
    /// What topics have that were given no value, by the name that it goes by there: the broker's, if it has one.
    pub default: Option<(&'static str, &'static str)>,
    /// Whether no request can give it another value.
    pub is_read_only: bool,
    /// In words, for clients.
    pub meaning: &'static str,
}

/// All settings of a topic.
pub fn topic_entries(config: &TopicConfig) -> Vec<ConfigEntry> {
    let known = TOPIC_SETTINGS.iter().map(|setting| known_entry(config, setting));
    let is_other = |(name, _): &(&str, &str)| TopicSetting::named(name).is_none();
    let others = config.entries().filter(is_other).map(|(name, value)| ConfigEntry {
        name: name.into(),
        value: value.into(),
        kind: ValueKind::Word,
        source: ConfigSource::Topic,
        default: None,
        is_read_only: false,
        meaning: "Without effect.",
    });
    known.chain(others).collect()
}

fn known_entry(config: &TopicConfig, setting: &'static TopicSetting) -> ConfigEntry {
    let given = config.get(setting.name);
    ConfigEntry {
        name: setting.name.into(),
        value: given.unwrap_or(setting.default).into(),
        kind: setting.kind,
        source: if given.is_some() { ConfigSource::Topic } else { ConfigSource::Default },
        default: Some((setting.broker_name.unwrap_or(setting.name), setting.default)),
        is_read_only: setting.is_fixed,
        meaning: setting.meaning,
    }
}
