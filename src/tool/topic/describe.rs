use anyhow::Result;
use chronik_format::ids::PartitionId;
use chronik_wire::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use serde_json::json;

use crate::kafka::KafkaClient;
use crate::output::{CommandOutput, shown};

/// `chronik topic describe`
pub async fn run(client: &mut KafkaClient, name: &str, output: &CommandOutput) -> Result<()> {
    let topic = client.topic(name, false).await?;
    let partitions: Vec<PartitionId> = (0..topic.leaders.len() as PartitionId).collect();
    let log_starts = client.offsets(&topic, &partitions, EARLIEST_TIMESTAMP).await?;
    let log_ends = client.offsets(&topic, &partitions, LATEST_TIMESTAMP).await?;
    let settings = client.topic_settings(name).await?;
    let rows = partitions.iter().zip(&topic.leaders).map(|(partition, leader)| {
        let (log_start, log_end) = (log_starts.get(partition), log_ends.get(partition));
        json!({"partition": partition, "leader": leader, "log_start": log_start, "log_end": log_end})
    });
    let rows: Vec<_> = rows.collect();
    if output.json {
        return output.document(&json!({"topic": name, "partitions": rows, "settings": settings}));
    }
    output.rows(&["partition", "leader", "log start", "log end"], &rows)?;
    if settings.is_empty() {
        return output.line("\nno settings of its own");
    }
    output.line("")?;
    output.table(&["setting", "value"], settings.into_iter().map(|(name, value)| vec![name, shown(&value.into())]))
}
