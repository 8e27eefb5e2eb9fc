use std::time::Duration;

use anyhow::Result;
use chronik_format::ids::PartitionId;
use chronik_service::setting::{ByteSize, Period};
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
    let limit = |name| settings.get(name).and_then(|value| value.parse::<u64>().ok());
    let (ms, bytes) = (limit("retention.ms"), limit("retention.bytes"));
    if output.json {
        let retention = json!({"ms": ms, "bytes": bytes});
        return output
            .document(&json!({"topic": name, "partitions": rows, "retention": retention, "settings": settings}));
    }
    output.rows(&["partition", "leader", "log start", "log end"], &rows)?;
    output.line(&format!("\nretention: {}", retention_in_words(ms, bytes)))?;
    if settings.is_empty() {
        return output.line("\nno settings of its own");
    }
    output.line("")?;
    output.table(&["setting", "value"], settings.into_iter().map(|(name, value)| vec![name, shown(&value.into())]))
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
