use std::collections::{BTreeMap, HashMap};

use anyhow::{Result, bail};
use chronik_format::ids::{Offset, PartitionId};
use chronik_wire::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use clap::Args;
use serde_json::json;

use crate::kafka::{KafkaClient, TopicLeaders};
use crate::output::CommandOutput;
use crate::tool::values::{named_once, not_empty, partition};

/// `chronik topic delete-records`
#[derive(Args, Debug)]
pub struct DeleteRecordsCommand {
    /// The topic's name.
    #[arg(value_parser = not_empty())]
    topic: String,
    /// Only of this partition; may be repeated.
    #[arg(long = "partition", value_name = "NUMBER", value_parser = partition(), allow_negative_numbers = true)]
    partitions: Vec<PartitionId>,
    /// The first offset to keep, which needs --partition where there are several; or latest, to keep none of the
    /// records that are there now.
    #[arg(long, value_name = "WHERE", value_parser = first_kept, allow_negative_numbers = true)]
    before: FirstKept,
    /// Do it. What is deleted does not come back.
    #[arg(long)]
    execute: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstKept {
    At(Offset),
    Latest,
}

/// Where a partition's log starts, and where it is to.
struct LogStart {
    old: Offset,
    new: Offset,
}

impl DeleteRecordsCommand {
    pub async fn run(self, client: &mut KafkaClient, output: &CommandOutput) -> Result<()> {
        named_once("--partition", &self.partitions)?;
        let topic = client.topic(&self.topic, false).await?;
        let mut partitions = self.log_starts(client, &topic).await?;
        let mut refusals = Vec::new();
        if self.execute {
            let before = partitions.iter().map(|(partition, log_start)| (*partition, log_start.new)).collect();
            let log_starts;
            (log_starts, refusals) = client.delete_records(&topic, &before).await?;
            partitions.retain(|partition, _| log_starts.contains_key(partition));
            partitions.iter_mut().for_each(|(partition, log_start)| log_start.new = log_starts[partition]);
        }
        self.show(&topic, &partitions, output)?;
        if !refusals.is_empty() {
            let refusals: Vec<_> = refusals.iter().map(ToString::to_string).collect();
            bail!("{}", refusals.join("\n"));
        }
        Ok(())
    }

    fn show(
        &self,
        topic: &TopicLeaders,
        partitions: &BTreeMap<PartitionId, LogStart>,
        output: &CommandOutput,
    ) -> Result<()> {
        if output.json {
            let rows = partitions.iter().map(|(partition, LogStart { old, new })| {
                json!({"topic": topic.name, "partition": partition, "old_log_start": old, "log_start": new})
            });
            return output.document(&json!({"executed": self.execute, "partitions": rows.collect::<Vec<_>>()}));
        }
        let row = |(partition, LogStart { old, new }): (&PartitionId, &LogStart)| {
            vec![topic.name.clone(), partition.to_string(), old.to_string(), new.to_string()]
        };
        output.table(&["topic", "partition", "old log start", "log start"], partitions.iter().map(row))?;
        output.line(match self.execute {
            true => "\nwhat lies below is deleted",
            false => "\nnothing was deleted; --execute does it, and what is deleted does not come back",
        })
    }

    async fn log_starts(
        &self,
        client: &mut KafkaClient,
        topic: &TopicLeaders,
    ) -> Result<BTreeMap<PartitionId, LogStart>> {
        let all: Vec<_> = (0..topic.leaders.len() as PartitionId).collect();
        let partitions = if self.partitions.is_empty() { &all } else { &self.partitions };
        if let FirstKept::At(offset) = self.before
            && partitions.len() > 1
        {
            bail!(
                "an offset is one partition's, and {} are meant: name one, as in --partition 0 --before {offset}",
                partitions.len()
            );
        }
        let old = client.offsets(topic, partitions, EARLIEST_TIMESTAMP).await?;
        let ends: HashMap<_, _> = client.offsets(topic, partitions, LATEST_TIMESTAMP).await?;
        let mut log_starts = BTreeMap::new();
        for (partition, old) in old {
            let end = ends.get(&partition).copied().unwrap_or(old);
            let new = match self.before {
                FirstKept::Latest => end,
                FirstKept::At(offset) if offset > end => {
                    bail!("partition {partition} of {} has offsets {old} to {end}, not {offset}", topic.name)
                }
                FirstKept::At(offset) => offset.max(old),
            };
            log_starts.insert(partition, LogStart { old, new });
        }
        Ok(log_starts)
    }
}

fn first_kept(text: &str) -> Result<FirstKept, String> {
    match text.parse() {
        Ok(offset) if offset >= 0 => Ok(FirstKept::At(offset)),
        _ if text == "latest" => Ok(FirstKept::Latest),
        _ => Err(format!("{text:?} is no offset to keep records from; accepted are latest and offsets (0)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_record_to_keep_is_an_offset_or_the_next_one() {
        assert_eq!(first_kept("7"), Ok(FirstKept::At(7)));
        assert_eq!(first_kept("latest"), Ok(FirstKept::Latest));
        for text in ["-1", "earliest", ""] {
            assert!(first_kept(text).is_err_and(|told| told.contains("latest and offsets")), "{text}");
        }
    }
}
