use std::collections::BTreeMap;

use anyhow::{Result, bail};
use chronik_format::ids::{Offset, PartitionId, Timestamp};
use chronik_wire::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use chrono::DateTime;
use clap::Args;
use serde_json::json;

use crate::kafka::{Committer, KafkaClient, TopicLeaders};
use crate::output::CommandOutput;
use crate::tool::values::{named_once, not_empty, partition};

/// `chronik group reset`
#[derive(Args, Debug)]
pub struct ResetCommand {
    /// The group's id.
    group: String,
    /// The topic whose offsets are set.
    #[arg(long, value_parser = not_empty())]
    topic: String,
    /// Only this partition; may be repeated.
    #[arg(long = "partition", value_name = "NUMBER", value_parser = partition(), allow_negative_numbers = true)]
    partitions: Vec<PartitionId>,
    /// Where the group goes on: earliest, latest, an offset, which needs --partition where there are several, or the
    /// first record since a time, RFC 3339.
    #[arg(long, value_name = "WHERE", value_parser = target, allow_negative_numbers = true)]
    to: ResetTarget,
    /// Do it.
    #[arg(long)]
    execute: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResetTarget {
    Earliest,
    Latest,
    At(Offset),
    Since(Timestamp),
}

impl ResetCommand {
    pub async fn run(self, client: &mut KafkaClient, output: &CommandOutput) -> Result<()> {
        named_once("--partition", &self.partitions)?;
        let members = client.group(&self.group).await?.map_or(0, |group| group.members.len());
        let why_not = format!(
            "group {0} has members ({members}), which would go on where they are: stop them, \
             `chronik group describe {0}` names them",
            self.group
        );
        if self.execute && members > 0 {
            bail!(why_not);
        }
        let topic = client.topic(&self.topic, false).await?;
        let offsets = self.offsets(client, &topic).await?;
        let committed = client.committed(&self.group).await?;
        if self.execute {
            client.commit(&self.group, Committer::OUTSIDE, &topic.name, &offsets).await?;
        }
        let rows = offsets.iter().map(|(partition, new)| {
            let old = committed.get(&(topic.name.clone(), *partition));
            json!({"topic": topic.name, "partition": partition, "old": old, "new": new})
        });
        let rows: Vec<_> = rows.collect();
        if output.json {
            return output.document(&json!({"group": self.group, "executed": self.execute, "partitions": rows}));
        }
        output.rows(&["topic", "partition", "old", "new"], &rows)?;
        match self.execute {
            true => output.line(&format!("\ngroup {} goes on at the new offsets", self.group)),
            false if members > 0 => output.line(&format!("\nnothing was changed, nor can be now: {why_not}")),
            false => output.line("\nnothing was changed; --execute does it"),
        }
    }

    async fn offsets(&self, client: &mut KafkaClient, topic: &TopicLeaders) -> Result<BTreeMap<PartitionId, Offset>> {
        let all: Vec<_> = (0..topic.leaders.len() as PartitionId).collect();
        let partitions = if self.partitions.is_empty() { &all } else { &self.partitions };
        let mut found = match self.to {
            ResetTarget::Earliest => client.offsets(topic, partitions, EARLIEST_TIMESTAMP).await?,
            ResetTarget::Latest => client.offsets(topic, partitions, LATEST_TIMESTAMP).await?,
            ResetTarget::Since(time) => client.offsets(topic, partitions, time).await?,
            ResetTarget::At(offset) if partitions.len() > 1 => bail!(
                "an offset is one partition's, and {} are meant: name one, as in --partition 0 --to {offset}",
                partitions.len()
            ),
            ResetTarget::At(offset) => {
                let first = client.offsets(topic, partitions, EARLIEST_TIMESTAMP).await?;
                let ends = client.offsets(topic, partitions, LATEST_TIMESTAMP).await?;
                for (partition, end) in ends {
                    let first = first.get(&partition).copied().unwrap_or(0);
                    if !(first..=end).contains(&offset) {
                        bail!("partition {partition} of {} has offsets {first} to {end}, not {offset}", topic.name);
                    }
                }
                partitions.iter().map(|partition| (*partition, offset)).collect()
            }
        };
        // No record is that young: the next one will be.
        let young: Vec<_> = found.iter().filter(|(_, offset)| **offset < 0).map(|(partition, _)| *partition).collect();
        if !young.is_empty() {
            found.extend(client.offsets(topic, &young, LATEST_TIMESTAMP).await?);
        }
        Ok(found.into_iter().collect())
    }
}

fn target(text: &str) -> Result<ResetTarget, String> {
    match text {
        "earliest" => return Ok(ResetTarget::Earliest),
        "latest" => return Ok(ResetTarget::Latest),
        _ => {}
    }
    if let Some(offset) = text.parse().ok().filter(|offset| *offset >= 0) {
        return Ok(ResetTarget::At(offset));
    }
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) if time.timestamp_millis() >= 0 => Ok(ResetTarget::Since(time.timestamp_millis())),
        _ => Err(format!(
            "{text:?} is no place to go on; accepted are earliest, latest, offsets (0) and times since 1970 \
             (2026-01-31T12:00:00Z)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_word_an_offset_or_a_time() {
        for (text, to) in [
            ("earliest", ResetTarget::Earliest),
            ("latest", ResetTarget::Latest),
            ("7", ResetTarget::At(7)),
            ("1970-01-01T01:00:01+01:00", ResetTarget::Since(1000)),
        ] {
            assert_eq!(target(text), Ok(to));
        }
        for text in ["-1", "beginning", "1969-12-31T23:59:59Z", "2026-01-31"] {
            assert!(target(text).is_err_and(|told| told.contains("earliest, latest")), "{text}");
        }
    }
}
