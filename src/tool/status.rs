use anyhow::Result;
use serde_json::Value;

use crate::http::ServiceClient;
use crate::output::{CommandOutput, shown};
use crate::server::ServerOptions;

/// `chronik status`
pub async fn run(server: &ServerOptions, output: &CommandOutput) -> Result<()> {
    let status = ServiceClient::new(server)?.get("/v1/status", &[]).await?;
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
    output.table(&["topic", "partition", "log start", "end", "shipped to", "archived to"], rows)?;
    let figure = |name: &str| status[name].as_u64();
    let age = figure("oldest_unshipped_ms").map_or(String::new(), |age| format!(", the oldest {age} ms old"));
    output.line(&format!(
        "\nunshipped: {} bytes{age}; jobs pending: {}",
        figure("unshipped_bytes").unwrap_or(0),
        figure("pending_jobs").unwrap_or(0),
    ))
}
