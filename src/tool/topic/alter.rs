use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::name_and_value;
use crate::kafka::{KafkaClient, SettingChange};
use crate::output::CommandOutput;
use crate::tool::values::{named_once, not_empty};

/// `chronik topic alter`
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("changes").args(["set", "unset"]).required(true).multiple(true))]
pub struct AlterCommand {
    /// The topic's name.
    #[arg(value_parser = not_empty())]
    topic: String,
    /// Give a setting a value; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    set: Vec<(String, String)>,
    /// Let a setting have its default again; may be repeated.
    #[arg(long, value_name = "NAME", value_parser = not_empty())]
    unset: Vec<String>,
}

impl AlterCommand {
    /// All of it is changed, or nothing.
    pub async fn run(self, client: &mut KafkaClient, output: &CommandOutput) -> Result<()> {
        let names = self.set.iter().map(|(name, _)| name).chain(&self.unset);
        named_once("--set and --unset", names.collect::<Vec<_>>())?;
        let set = self.set.into_iter().map(|(name, value)| SettingChange { name, value: Some(value) });
        let unset = self.unset.into_iter().map(|name| SettingChange { name, value: None });
        client.alter_topic(&self.topic, set.chain(unset)).await?;
        let settings = client.topic_settings(&self.topic).await?;
        if output.json {
            return output.document(&json!({"topic": self.topic, "settings": settings}));
        }
        output.line(&format!("changed topic {}, which has now", self.topic))?;
        match settings.is_empty() {
            true => output.line("no settings of its own"),
            false => settings.iter().try_for_each(|(name, value)| output.line(&format!("{name}={value}"))),
        }
    }
}
