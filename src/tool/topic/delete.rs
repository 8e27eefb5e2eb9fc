use anyhow::{Result, bail};
use chronik_format::ids::PartitionId;
use chronik_wire::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use clap::Args;
use serde_json::json;

use crate::kafka::KafkaClient;
use crate::output::CommandOutput;
use crate::tool::values::{named_once, not_empty};

/// `chronik topic delete`
#[derive(Args, Debug)]
pub struct DeleteCommand {
    /// The topics' names.
    #[arg(required = true, value_name = "TOPIC", value_parser = not_empty())]
    topics: Vec<String>,
    /// Do it. What is deleted does not come back.
    #[arg(long)]
    execute: bool,
}

/// What would go, or is gone.
struct DoomedTopic {
    name: String,
    partitions: usize,
    /// Offsets that can be read.
    offsets: i64,
}

impl DeleteCommand {
    pub async fn run(self, client: &mut KafkaClient, output: &CommandOutput) -> Result<()> {
        named_once("topic delete", &self.topics)?;
        let mut topics = Vec::new();
        for topic in &self.topics {
            topics.push(doomed(client, topic).await?);
        }
        let mut refusals = Vec::new();
        if self.execute {
            let refused = client.delete_topics(&self.topics).await?;
            topics.retain(|topic| !refused.contains_key(&topic.name));
            refusals.extend(refused.into_values().map(|refusal| refusal.to_string()));
        }
        self.show(&topics, output)?;
        match refusals.is_empty() {
            true => Ok(()),
            false => bail!("{}", refusals.join("\n")),
        }
    }

    fn show(&self, topics: &[DoomedTopic], output: &CommandOutput) -> Result<()> {
        let rows: Vec<_> = topics
            .iter()
            .map(|topic| json!({"topic": topic.name, "partitions": topic.partitions, "offsets": topic.offsets}))
            .collect();
        if output.json {
            return output.document(&json!({"executed": self.execute, "topics": rows}));
        }
        output.rows(&["topic", "partitions", "offsets"], &rows)?;
        output.line(match self.execute {
            true => "\nthey are deleted, with all of their records",
            false => "\nnothing was deleted; --execute does it, and what is deleted does not come back",
        })
    }
}

async fn doomed(client: &mut KafkaClient, name: &str) -> Result<DoomedTopic> {
    let topic = client.topic(name, false).await?;
    let all: Vec<PartitionId> = (0..topic.leaders.len() as PartitionId).collect();
    let ends: i64 = client.offsets(&topic, &all, LATEST_TIMESTAMP).await?.into_values().sum();
    let starts: i64 = client.offsets(&topic, &all, EARLIEST_TIMESTAMP).await?.into_values().sum();
    Ok(DoomedTopic { name: topic.name, partitions: all.len(), offsets: ends - starts })
}
