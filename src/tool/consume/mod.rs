mod group;
mod reading;

use anyhow::{Result, bail};
use chronik_format::ids::{Offset, PartitionId};
use chronik_wire::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use clap::Args;
use futures::FutureExt;
use futures::future::select_all;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::reading::Reading;
use crate::kafka::KafkaClient;
use crate::output::CommandOutput;
use crate::server::ServerOptions;
use crate::tool::values::{named_once, not_empty, partition};

/// `chronik consume`
#[derive(Args, Debug)]
pub struct ConsumeCommand {
    #[arg(value_parser = not_empty())]
    topic: String,
    /// Read as a member of this group: from where it is, sharing the partitions with its other members, and commit
    /// what is printed.
    #[arg(long, value_name = "GROUP", conflicts_with = "partitions", value_parser = not_empty())]
    group: Option<String>,
    /// Where to start: beginning, end, or an offset, which needs --partition where there are several. With --group
    /// it is beginning or end, and counts only for partitions that the group has no offset of: elsewhere the group goes
    /// on where it is, and `chronik group reset` sets that. With --follow it counts again where records were deleted
    /// before they were read [default: beginning].
    #[arg(long, value_name = "WHERE", value_parser = start, allow_negative_numbers = true)]
    from: Option<Start>,
    /// Only this partition; may be repeated.
    #[arg(long = "partition", value_name = "NUMBER", value_parser = partition(), allow_negative_numbers = true)]
    partitions: Vec<PartitionId>,
    /// Stop after this many records.
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    count: Option<u64>,
    /// Wait for new records instead of stopping at the end, for the broker where the connection breaks, and for the
    /// topic where it is deleted: one that is made anew is read from its first record.
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
        named_once("--partition", &self.partitions)?;
        if let Some(group) = &self.group {
            return group::run(&self, group, KafkaClient::connect(&server.bootstrap).await?, output).await;
        }
        tokio::select! {
            result = self.print(server, output) => result,
            // The usual way to end `--follow`.
            _ = told_to_stop() => Ok(()),
        }
    }

    async fn print(&self, server: &ServerOptions, output: &CommandOutput) -> Result<()> {
        let mut client = KafkaClient::connect(&server.bootstrap).await?;
        let topic = client.topic(&self.topic, false).await?;
        if let (Some(Start::At(offset)), [], 2..) = (self.from, &self.partitions[..], topic.leaders.len()) {
            bail!(
                "an offset is one partition's, and {} has {} of them: name it, as in --partition 0 --from {offset}",
                topic.name,
                topic.leaders.len()
            );
        }
        let mut reading = Reading::new(self, topic);
        self.begin(&mut client, &mut reading).await?;
        while !reading.is_done() {
            if let Err(failure) = self.read_on(&mut client, &mut reading, output).await {
                reading.outlast(failure, &mut client).await?;
            }
        }
        Ok(())
    }

    async fn read_on(&self, client: &mut KafkaClient, reading: &mut Reading<'_>, output: &CommandOutput) -> Result<()> {
        if self.follow {
            let added = reading.added_partitions(client).await?;
            let is_wanted = |partition: &_| self.partitions.is_empty() || self.partitions.contains(partition);
            let wanted: Vec<_> = added.clone().filter(is_wanted).collect();
            if !wanted.is_empty() {
                let first = client.offsets(&reading.topic, &wanted, EARLIEST_TIMESTAMP).await?;
                reading.next.extend(first);
            }
            reading.partitions += added.len();
        }
        reading.print_next(client, output).await
    }

    /// Finds out where to read from, and the ends as they are now.
    async fn begin(&self, client: &mut KafkaClient, reading: &mut Reading<'_>) -> Result<()> {
        let topic = &reading.topic;
        let all: Vec<PartitionId> = (0..topic.leaders.len() as PartitionId).collect();
        let partitions = if self.partitions.is_empty() { &all } else { &self.partitions };
        let first = client.offsets(topic, partitions, EARLIEST_TIMESTAMP).await?;
        let ends = client.offsets(topic, partitions, LATEST_TIMESTAMP).await?;
        for (partition, first) in first {
            let end = ends.get(&partition).copied().unwrap_or(first);
            let start = reading.start_of(partition, first, end);
            if let Some(Start::At(offset)) = self.from
                && offset != start
            {
                bail!("partition {partition} of {} has offsets {first} to {end}, not {offset}", topic.name);
            }
            reading.next.insert(partition, start);
        }
        reading.ends = ends;
        Ok(())
    }
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

/// Waits for a signal that ends programs in good order: from a keyboard, a supervisor, or a terminal that is gone.
async fn told_to_stop() {
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let mut signals: Vec<Signal> = signals.into_iter().flatten().collect();
    match signals.is_empty() {
        true => std::future::pending().await,
        false => drop(select_all(signals.iter_mut().map(|signal| signal.recv().boxed())).await),
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
