use anyhow::Result;
use clap::Subcommand;
use serde_json::Value;

use crate::http::ServiceClient;
use crate::output::CommandOutput;
use crate::server::ServerOptions;

#[derive(Debug, Subcommand)]
pub enum CompactCommand {
    /// Show how many runs and archives closed history has, and what waits to be compacted or merged.
    Status,
    /// Have closed history compacted, and archives merged, whether it is time or not.
    Now {
        /// Only of this topic
        topic: Option<String>,
    },
}

impl CompactCommand {
    /// `chronik compact ...`
    pub async fn run(self, server: &ServerOptions, output: &CommandOutput) -> Result<()> {
        match self {
            Self::Status => status(server, output).await,
            Self::Now { topic } => now(server, output, topic).await,
        }
    }
}

async fn status(server: &ServerOptions, output: &CommandOutput) -> Result<()> {
    let status = ServiceClient::new(server)?.get("/v1/compaction", &[]).await?;
    if output.json {
        return output.document(&status);
    }
    let row = |level: &Value| {
        let figures = ["level", "runs", "records", "bytes", "archives"].map(|name| level[name].to_string());
        let age = age(level["oldest_ms"].as_i64().unwrap_or(0));
        figures.into_iter().chain([age]).collect::<Vec<_>>()
    };
    let levels = status["levels"].as_array().into_iter().flatten().map(row);
    output.table(&["level", "runs", "records", "bytes", "archives", "oldest"], levels)?;
    let waiting = &status["waiting"];
    output.line(&format!(
        "\nnever compacted: {} pages, {} runs, {} bytes; pages that failed: {}; to be merged: {} archives; jobs \
         pending: {}",
        waiting["pages"],
        waiting["runs"],
        waiting["bytes"],
        status["failed_pages"],
        status["mergeable"],
        status["pending_jobs"]
    ))?;
    let shipped = &status["shipped"];
    let needed = match shipped["oldest_needed_ms"].as_i64() {
        Some(millis) => format!("the oldest that is needed is {} old", age(millis)),
        None => "none is needed any more".to_owned(),
    };
    output.line(&format!("level 0: {} segments of {} bytes; {needed}", shipped["segments"], shipped["bytes"]))
}

async fn now(server: &ServerOptions, output: &CommandOutput, topic: Option<String>) -> Result<()> {
    let query: Vec<_> = topic.iter().map(|topic| ("topic", topic.clone())).collect();
    let sent = ServiceClient::new(server)?.post_with("/v1/compact", &query).await?;
    if output.json {
        return output.document(&sent);
    }
    let count = |name: &str| sent[name].as_u64().unwrap_or(0);
    output.line(&match (count("jobs"), count("merges")) {
        (0, 0) => "nothing is to be compacted that is not being compacted already".to_owned(),
        (0, merges) => format!("{merges} jobs are sent that merge archives"),
        (jobs, 0) => format!("{jobs} jobs are sent: {} pages of {} bytes", sent["pages"], sent["bytes"]),
        (jobs, merges) => {
            format!("{jobs} jobs are sent: {} pages of {} bytes; {merges} merge archives", sent["pages"], sent["bytes"])
        }
    })
}

fn age(millis: i64) -> String {
    let seconds = millis / 1000;
    match (seconds / 86_400, seconds / 3600, seconds / 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, _) => format!("{hours} h"),
        (days, ..) => format!("{days} d"),
    }
}
