//! `chronik topic`: topics as an operator sees them.

mod alter;
mod delete;
mod delete_records;
mod describe;

use anyhow::Result;
use clap::Subcommand;
use serde_json::json;

use crate::kafka::KafkaClient;
use crate::output::CommandOutput;
use crate::server::ServerOptions;
use crate::tool::values::{named_once, not_empty};

/// `chronik topic`
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Create a topic.
    Create {
        /// The topic's name.
        #[arg(value_parser = not_empty())]
        topic: String,
        /// How many partitions it gets [default: as the broker is set].
        #[arg(
            long,
            value_name = "COUNT",
            value_parser = clap::value_parser!(i32).range(1..),
            allow_negative_numbers = true
        )]
        partitions: Option<i32>,
        /// A setting of the topic; may be repeated.
        #[arg(long = "config", value_name = "NAME=VALUE", value_parser = name_and_value)]
        configs: Vec<(String, String)>,
    },
    /// Show a topic's partitions, where its records lie, and the settings that it has of its own.
    Describe {
        /// The topic's name.
        #[arg(value_parser = not_empty())]
        topic: String,
    },
    /// Change a topic's settings.
    Alter(alter::AlterCommand),
    /// Add partitions to a topic. Records of a key that has some may go to another partition from then on.
    AddPartitions {
        /// The topic's name.
        #[arg(value_parser = not_empty())]
        topic: String,
        /// How many partitions it is to have, those that it has included.
        #[arg(
            long,
            value_name = "COUNT",
            value_parser = clap::value_parser!(i32).range(1..),
            allow_negative_numbers = true
        )]
        partitions: i32,
    },
    /// Delete topics with all of their records; without --execute, only show them.
    Delete(delete::DeleteCommand),
    /// Delete the oldest records of a topic; without --execute, only show it.
    DeleteRecords(delete_records::DeleteRecordsCommand),
    /// List the topics.
    List,
}

impl TopicCommand {
    pub async fn run(self, server: &ServerOptions, output: &CommandOutput) -> Result<()> {
        let mut client = KafkaClient::connect(&server.bootstrap).await?;
        match self {
            Self::Create { topic, partitions, configs } => {
                named_once("--config", configs.iter().map(|(name, _)| name).collect::<Vec<_>>())?;
                let partitions = client.create_topic(&topic, partitions, &configs).await?;
                match output.json {
                    true => output.document(&json!({"topic": topic, "partitions": partitions})),
                    false => output.line(&format!("created topic {topic} with {}", counted(partitions))),
                }
            }
            Self::Describe { topic } => describe::run(&mut client, &topic, server, output).await,
            Self::Alter(alter) => alter.run(&mut client, output).await,
            Self::AddPartitions { topic, partitions } => add_partitions(&mut client, &topic, partitions, output).await,
            Self::Delete(delete) => delete.run(&mut client, output).await,
            Self::DeleteRecords(delete) => delete.run(&mut client, output).await,
            Self::List => {
                let topics = client.topics().await?;
                if output.json {
                    let topics =
                        topics.iter().map(|topic| json!({"topic": topic.name, "partitions": topic.leaders.len()}));
                    return output.document(&json!({"topics": topics.collect::<Vec<_>>()}));
                }
                let rows = topics.iter().map(|topic| vec![topic.name.clone(), topic.leaders.len().to_string()]);
                output.table(&["topic", "partitions"], rows)
            }
        }
    }
}

async fn add_partitions(client: &mut KafkaClient, topic: &str, partitions: i32, output: &CommandOutput) -> Result<()> {
    let old = client.topic(topic, false).await?.leaders.len();
    client.add_partitions(topic, partitions).await?;
    let row = json!({"topic": topic, "old_partitions": old, "partitions": partitions});
    match output.json {
        true => output.document(&row),
        false => output.rows(&["topic", "old partitions", "partitions"], [&row]),
    }
}

fn counted(partitions: i32) -> String {
    match partitions {
        1 => "1 partition".to_owned(),
        count => format!("{count} partitions"),
    }
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not NAME=VALUE")),
    }
}
