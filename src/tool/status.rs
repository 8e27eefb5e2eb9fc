use anyhow::Result;
use serde_json::Value;

use crate::command::Server;
use crate::http::Http;
use crate::output::{Output, shown};

/// `chronik status`
pub async fn run(server: &Server, output: &Output) -> Result<()> {
    let status = Http::new(server).get("/v1/status", &[]).await?;
    if output.json {
        return output.document(&status);
    }
    let mut rows = Vec::new();
    for topic in status["topics"].as_array().into_iter().flatten() {
        for partition in topic["partitions"].as_array().into_iter().flatten() {
            let number = |name: &str| match &partition[name] {
                Value::Null => "-".to_owned(),
                number => number.to_string(),
            };
            rows.push(vec![
                shown(&topic["topic"]),
                number("partition"),
                number("log_start"),
                number("high_watermark"),
                number("shipped_to"),
                number("archived_to"),
            ]);
        }
    }
    output.table(
        &["topic", "partition", "log start", "end", "shipped to", "archived to"],
        rows,
    )?;
    let figure = |name: &str| status[name].as_u64().unwrap_or(0);
    output.line(&format!(
        "\nunshipped: {} bytes, the oldest {} ms old; jobs pending: {}",
        figure("unshipped_bytes"),
        figure("oldest_unshipped_ms"),
        figure("pending_jobs"),
    ))
}
