use std::time::Duration;

use anyhow::{Result, anyhow};
use chronik_format::ids::PartitionId;
use chronik_service::setting::{ByteSize, Period};
use chronik_wire::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::http::ServiceClient;
use crate::kafka::{KafkaClient, TopicLeaders};
use crate::output::{CommandOutput, shown};
use crate::server::ServerOptions;

/// For what HTTP tells beside what Kafka's protocol does.
const HTTP_PATIENCE: Duration = Duration::from_secs(10);

/// `chronik topic describe`
pub async fn run(client: &mut KafkaClient, name: &str, server: &ServerOptions, output: &CommandOutput) -> Result<()> {
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
    let limit = |name| settings.get(name).and_then(|value| value.parse::<u64>().ok());
    let (ms, bytes) = (limit("retention.ms"), limit("retention.bytes"));
    let tiers = tiers_of(&topic, server).await.unwrap_or_else(|error| {
        eprintln!("where the records lie is not known: {error:#}");
        Value::Null
    });
    if output.json {
        let retention = json!({"ms": ms, "bytes": bytes});
        return output.document(
            &json!({"topic": name, "partitions": rows, "tiers": tiers, "retention": retention, "settings": settings}),
        );
    }
    output.rows(&["partition", "leader", "log start", "log end"], &rows)?;
    if let Some(tiers) = tiers.as_array() {
        output.line("")?;
        output.rows(&["tier", "records", "bytes", "runs", "archives"], tiers)?;
    }
    output.line(&format!("\nretention: {}", retention_in_words(ms, bytes)))?;
    if settings.is_empty() {
        return output.line("\nno settings of its own");
    }
    output.line("")?;
    output.table(&["setting", "value"], settings.into_iter().map(|(name, value)| vec![name, shown(&value.into())]))
}

/// From the broker's log to the segments that were compacted most often.
async fn tiers_of(topic: &TopicLeaders, server: &ServerOptions) -> Result<Value> {
    let client = ServiceClient::new(server)?;
    let status = timeout(HTTP_PATIENCE, client.get("/v1/status", &[])).await;
    let status = status.map_err(|_| anyhow!("{} did not answer within {HTTP_PATIENCE:?}", server.http))??;
    let id = topic.id.to_string();
    let found = status["topics"].as_array().into_iter().flatten().find(|status| status["id"] == id);
    let found = found.ok_or_else(|| {
        let (http, name) = (&server.http, &topic.name);
        anyhow!("the broker at {http} does not have topic {name} of {}: is --http another broker's?", server.bootstrap)
    })?;
    Ok(found["tiers"].clone())
}

/// Without a limit all is kept.
fn retention_in_words(ms: Option<u64>, bytes: Option<u64>) -> String {
    let age = ms.map(|ms| Period(Duration::from_millis(ms)).to_string());
    let size = bytes.map(|bytes| format!("{} of each partition", ByteSize(bytes)));
    match (age, size) {
        (None, None) => "history is kept".to_owned(),
        (Some(age), Some(size)) => format!("{age}, and {size} at the most"),
        (age, size) => age.or(size).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_told_by_its_limits() {
        for (ms, bytes, told) in [
            (None, None, "history is kept"),
            (Some(7 * 86_400_000), None, "7d"),
            (None, Some(1 << 30), "1GiB of each partition"),
            (Some(0), Some(5), "0s, and 5B of each partition at the most"),
        ] {
            assert_eq!(retention_in_words(ms, bytes), told);
        }
    }
}
