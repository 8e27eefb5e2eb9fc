use std::collections::HashMap;
use std::io::{self, Write};

use anyhow::{Result, bail};
use chronik_format::batch::Record;
use chronik_format::ids::{Offset, PartitionId};
use chronik_wire::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use clap::Args;

use crate::kafka::{KafkaClient, TopicLeaders};
use crate::output::{CommandOutput, record_document};
use crate::server::ServerOptions;

/// `chronik consume`
#[derive(Args, Debug)]
pub struct ConsumeCommand {
    topic: String,
    /// Where to start: beginning, end, or an offset, which needs --partition where there are several.
    #[arg(long, value_name = "WHERE", default_value = "beginning", value_parser = start)]
    from: Start,
    /// Only this partition; may be repeated.
    #[arg(long = "partition", value_name = "NUMBER")]
    partitions: Vec<PartitionId>,
    /// Stop after this many records.
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    /// Wait for new records instead of stopping at the end.
    #[arg(long)]
    follow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Beginning,
    End,
    At(Offset),
}

impl ConsumeCommand {
    /// Prints values line by line, byte for byte, or whole records as JSON.
    pub async fn run(self, server: &ServerOptions, output: &CommandOutput) -> Result<()> {
        tokio::select! {
            result = self.print(server, output) => result,
            // The usual way to end `--follow`.
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    }

    async fn print(&self, server: &ServerOptions, output: &CommandOutput) -> Result<()> {
        let mut client = KafkaClient::connect(&server.bootstrap).await?;
        let topic = client.topic(&self.topic, false).await?;
        if let (Start::At(offset), [], 2..) = (self.from, &self.partitions[..], topic.leaders.len()) {
            bail!(
                "an offset is one partition's, and {} has {} of them: name it, as in --partition 0 --from {offset}",
                topic.name,
                topic.leaders.len()
            );
        }
        let mut left = self.count.unwrap_or(u64::MAX);
        let (mut from, ends) = self.ranges(&mut client, &topic).await?;
        while left > 0 && !from.is_empty() {
            let mut failure = None;
            for read in client.fetch(&topic, &from).await? {
                for record in read.records.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                    if self.is_past(&ends, read.partition, record.offset) {
                        break;
                    }
                    print_record(output, &topic.name, read.partition, record)?;
                    left -= 1;
                }
                if !self.is_past(&ends, read.partition, read.next) {
                    failure = failure.or(read.failure);
                }
                from.insert(read.partition, read.next);
            }
            if let Some(failure) = failure.filter(|_| left > 0) {
                return Err(failure.into());
            }
            from.retain(|partition, next| !self.is_past(&ends, *partition, *next));
        }
        Ok(())
    }

    fn is_past(&self, ends: &HashMap<PartitionId, Offset>, partition: PartitionId, offset: Offset) -> bool {
        !self.follow && ends.get(&partition).is_some_and(|end| offset >= *end)
    }

    /// Where to read from, and the ends as they are now.
    async fn ranges(
        &self,
        client: &mut KafkaClient,
        topic: &TopicLeaders,
    ) -> Result<(HashMap<PartitionId, Offset>, HashMap<PartitionId, Offset>)> {
        let all: Vec<PartitionId> = (0..topic.leaders.len() as PartitionId).collect();
        let partitions = if self.partitions.is_empty() { &all } else { &self.partitions };
        let first = client.offsets(topic, partitions, EARLIEST_TIMESTAMP).await?;
        let ends = client.offsets(topic, partitions, LATEST_TIMESTAMP).await?;
        let mut from = match self.from {
            Start::Beginning => first,
            Start::End => ends.clone(),
            Start::At(offset) => {
                for (partition, first) in first {
                    let end = ends.get(&partition).copied().unwrap_or(first);
                    if !(first..=end).contains(&offset) {
                        bail!("partition {partition} of {} has offsets {first} to {end}, not {offset}", topic.name);
                    }
                }
                partitions.iter().map(|partition| (*partition, offset)).collect()
            }
        };
        from.retain(|partition, next| !self.is_past(&ends, *partition, *next));
        Ok((from, ends))
    }
}

fn print_record(output: &CommandOutput, topic: &str, partition: PartitionId, record: &Record) -> Result<()> {
    if output.json {
        return output.document(&record_document(topic, partition, record));
    }
    let mut out = io::stdout().lock();
    out.write_all(record.value.as_deref().unwrap_or_default())?;
    Ok(out.write_all(b"\n")?)
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "beginning" => Ok(Start::Beginning),
        "end" => Ok(Start::End),
        _ => match text.parse::<Offset>() {
            Ok(offset) if offset >= 0 => Ok(Start::At(offset)),
            _ => Err(format!("{text:?} is not a place in a topic; accepted are beginning, end and offsets (0)")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_a_word_or_an_offset() {
        assert_eq!(start("end"), Ok(Start::End));
        assert_eq!(start("42"), Ok(Start::At(42)));
        assert!(start("-1").is_err_and(|told| told.contains("beginning, end")));
    }
}
