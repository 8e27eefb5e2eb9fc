use anyhow::{Context, Result};
use chronik_format::ids::{PartitionId, Timestamp};
use chrono::DateTime;
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::http::ServiceClient;
use crate::not_searched;
use crate::output::{CommandOutput, shown};
use crate::server::ServerOptions;
use crate::tool::values::partition;

/// `chronik search`
#[derive(Args, Debug)]
pub struct SearchCommand {
    /// The topic; several are joined by commas.
    #[arg(value_parser = topics)]
    topic: String,
    /// What to look for: words, AND, OR, NOT, parentheses, "a phrase", key:K, headers.NAME:WORD; empty for all.
    #[arg(default_value = "", allow_hyphen_values = true)]
    query: String,
    /// Records from this time on, RFC 3339 or epoch milliseconds.
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    from: Option<String>,
    /// Records before this time.
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    to: Option<String>,
    /// Only this partition; may be repeated.
    #[arg(long = "partition", value_name = "NUMBER", value_parser = partition(), allow_negative_numbers = true)]
    partitions: Vec<PartitionId>,
    /// How many records at most.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(0..=10_000),
        allow_negative_numbers = true
    )]
    limit: u32,
    /// Which come first.
    #[arg(long, value_name = "ORDER", default_value = "newest")]
    sort: Sort,
    /// Go on where an earlier answer ended.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// Answer even if something could not be searched.
    #[arg(long)]
    partial: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sort {
    Newest,
    Oldest,
}

impl SearchCommand {
    pub async fn run(self, server: &ServerOptions, output: &CommandOutput) -> Result<()> {
        let answer = ServiceClient::new(server)?.get("/v1/search", &self.parameters()).await?;
        if output.json {
            return output.document(&answer);
        }
        let hits = answer["hits"].as_array().context("the answer has no hits")?;
        if !hits.is_empty() {
            let rows = hits.iter().map(|hit| row(hit, output.terminal));
            output.table(&["time", "partition", "offset", "key", "value"], rows)?;
        }
        summarise(&answer, hits.len(), output)
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters: Vec<_> = self.topic.split(',').map(|topic| ("topic", topic.to_owned())).collect();
        parameters.push(("q", self.query.clone()));
        parameters.extend(self.from.clone().map(|from| ("from", from)));
        parameters.extend(self.to.clone().map(|to| ("to", to)));
        parameters.extend(self.partitions.iter().map(|partition| ("partition", partition.to_string())));
        parameters.push(("limit", self.limit.to_string()));
        let sort = match self.sort {
            Sort::Newest => "newest",
            Sort::Oldest => "oldest",
        };
        parameters.push(("sort", sort.to_owned()));
        parameters.extend(self.cursor.clone().map(|cursor| ("cursor", cursor)));
        parameters.push(("partial", self.partial.to_string()));
        parameters
    }
}

fn topics(text: &str) -> Result<String, String> {
    match text.split(',').any(|topic| topic.trim().is_empty()) {
        true => Err(format!("{text:?} names a topic without a name; accepted are names with commas between them")),
        false => Ok(text.to_owned()),
    }
}

fn row(hit: &Value, terminal: bool) -> Vec<String> {
    let value = match (terminal, hit["value"].as_str()) {
        (true, Some(text)) => highlighted(text, &hit["highlights"]),
        _ => shown(&hit["value"]),
    };
    vec![
        hit["timestamp"].as_i64().map(time_of).unwrap_or_default(),
        shown(&hit["partition"]),
        shown(&hit["offset"]),
        shown(&hit["key"]),
        value,
    ]
}

fn summarise(answer: &Value, hits: usize, output: &CommandOutput) -> Result<()> {
    let total = answer["total"]["value"].as_u64().unwrap_or(0);
    let more = if answer["total"]["relation"] == "gte" { " or more" } else { "" };
    output.line(&format!("{hits} of {total}{more} found in {} ms", answer["took_ms"]))?;
    let not_searched = not_searched::summary(&answer["not_searched"]);
    not_searched.iter().try_for_each(|line| output.line(line))?;
    if !not_searched.is_empty() {
        output.line("each range: --json")?;
    }
    match answer["cursor"].as_str() {
        Some(cursor) => output.line(&format!("more with --cursor {cursor}")),
        None => Ok(()),
    }
}

/// Marks the byte ranges that matched; what is not a range of the text is left out.
fn highlighted(text: &str, ranges: &Value) -> String {
    let mut marked = String::new();
    let mut done = 0;
    for range in ranges.as_array().into_iter().flatten() {
        let end = |at: usize| range.get(at).and_then(Value::as_u64).and_then(|end| usize::try_from(end).ok());
        let (Some(from), Some(to)) = (end(0), end(1)) else {
            continue;
        };
        if let (Some(before), Some(matched)) = (text.get(done..from), text.get(from..to)) {
            marked.push_str(&shown(&before.into()));
            marked.push_str("\u{1b}[1;33m");
            marked.push_str(&shown(&matched.into()));
            marked.push_str("\u{1b}[0m");
            done = to;
        }
    }
    marked.push_str(&shown(&text[done..].into()));
    marked
}

/// A timestamp in UTC, `2024-02-29 12:00:00.000`; in ms where the calendar ends.
fn time_of(timestamp: Timestamp) -> String {
    match DateTime::from_timestamp_millis(timestamp) {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        None => format!("{timestamp} ms"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_calendar_times() {
        for (timestamp, time) in [
            (0, "1970-01-01 00:00:00.000"),
            (-1, "1969-12-31 23:59:59.999"),
            (951_827_696_789, "2000-02-29 12:34:56.789"),
            (4_107_542_400_000, "2100-03-01 00:00:00.000"),
            (i64::MAX, "9223372036854775807 ms"),
        ] {
            assert_eq!(time_of(timestamp), time);
        }
    }

    #[test]
    fn topics_have_names() {
        assert_eq!(topics("a,b"), Ok("a,b".to_owned()));
        for text in ["", "a,", "a, ,b"] {
            assert!(topics(text).is_err_and(|told| told.contains("with commas between them")), "{text}");
        }
    }

    #[test]
    fn matches_are_marked_where_they_are() {
        assert_eq!(highlighted("an error here", &json!([[3, 8]])), "an \u{1b}[1;33merror\u{1b}[0m here");
        assert_eq!(highlighted("größe", &json!([[3, 4], [9, 12], "x"])), "größe");
    }
}
