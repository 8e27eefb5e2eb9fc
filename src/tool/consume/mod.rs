mod group;

use std::collections::HashMap;
use std::io::{self, Write};
use std::ops::Range;
use std::time::Duration;

use anyhow::{Result, bail};
use chronik_format::batch::Record;
use chronik_format::ids::{Offset, PartitionId};
use chronik_service::backoff::Backoff;
use chronik_service::telemetry::print_error;
use chronik_wire::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use clap::Args;
use futures::FutureExt;
use futures::future::select_all;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::kafka::{KafkaClient, KafkaError, TopicLeaders};
use crate::output::{CommandOutput, record_document};
use crate::server::ServerOptions;

/// Between two tries to reach a broker that was lost, at first and at most; the latter is that of Kafka's consumers.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long partitions that are added to the topic may go unnoticed.
const TOPIC_AGE: Duration = Duration::from_secs(10);

/// `chronik consume`
#[derive(Args, Debug)]
pub struct ConsumeCommand {
    topic: String,
    /// Read as a member of this group: from where it is, sharing the partitions with its other members, and commit
    /// what is printed.
    #[arg(long, value_name = "GROUP", conflicts_with = "partitions")]
    group: Option<String>,
    /// Where to start: beginning, end, or an offset, which needs --partition where there are several. With --group
    /// only where the group has no offset yet.
    #[arg(long, value_name = "WHERE", default_value = "beginning", value_parser = start)]
    from: Start,
    /// Only this partition; may be repeated.
    #[arg(long = "partition", value_name = "NUMBER")]
    partitions: Vec<PartitionId>,
    /// Stop after this many records.
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    /// Wait for new records instead of stopping at the end, and for the broker where the connection breaks.
    #[arg(long)]
    follow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Beginning,
    End,
    At(Offset),
}

/// Where reading stands.
struct Reading {
    topic: TopicLeaders,
    /// How many of its partitions are known to be read, by this member or by others.
    partitions: usize,
    /// When the topic was looked at last for others.
    looked_at: Instant,
    /// The offset after the last record that was printed, in each partition that is read.
    next: HashMap<PartitionId, Offset>,
    /// The ends as they were at the start.
    ends: HashMap<PartitionId, Offset>,
    /// Records to print yet.
    left: u64,
    /// While nothing can be read: the pause before the next try.
    outage: Option<Backoff>,
}

impl ConsumeCommand {
    /// Prints values line by line, byte for byte, or whole records as JSON.
    pub async fn run(self, server: &ServerOptions, output: &CommandOutput) -> Result<()> {
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
        if let (Start::At(offset), [], 2..) = (self.from, &self.partitions[..], topic.leaders.len()) {
            bail!(
                "an offset is one partition's, and {} has {} of them: name it, as in --partition 0 --from {offset}",
                topic.name,
                topic.leaders.len()
            );
        }
        let mut reading = Reading::new(topic, self.count);
        self.begin(&mut client, &mut reading).await?;
        while !reading.is_done(self.follow) {
            if let Err(failure) = self.read_on(&mut client, &mut reading, output).await {
                reading.outlast(failure, self.follow, &mut client).await?;
            }
        }
        Ok(())
    }

    async fn read_on(&self, client: &mut KafkaClient, reading: &mut Reading, output: &CommandOutput) -> Result<()> {
        if self.follow && self.partitions.is_empty() {
            let added: Vec<_> = reading.added_partitions(client).await?.collect();
            if !added.is_empty() {
                let first = client.offsets(&reading.topic, &added, EARLIEST_TIMESTAMP).await?;
                reading.next.extend(first);
                reading.partitions += added.len();
            }
        }
        reading.print_next(client, self.follow, output).await
    }

    /// Finds out where to read from, and the ends as they are now.
    async fn begin(&self, client: &mut KafkaClient, reading: &mut Reading) -> Result<()> {
        let topic = &reading.topic;
        let all: Vec<PartitionId> = (0..topic.leaders.len() as PartitionId).collect();
        let partitions = if self.partitions.is_empty() { &all } else { &self.partitions };
        let first = client.offsets(topic, partitions, EARLIEST_TIMESTAMP).await?;
        let ends = client.offsets(topic, partitions, LATEST_TIMESTAMP).await?;
        reading.next = match self.from {
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
        reading.ends = ends;
        Ok(())
    }
}

impl Reading {
    fn new(topic: TopicLeaders, count: Option<u64>) -> Self {
        Self {
            partitions: topic.leaders.len(),
            topic,
            looked_at: Instant::now(),
            next: HashMap::new(),
            ends: HashMap::new(),
            left: count.unwrap_or(u64::MAX),
            outage: None,
        }
    }

    /// The partitions that were added to the topic; looks for them every now and then.
    async fn added_partitions(&mut self, client: &mut KafkaClient) -> Result<Range<PartitionId>> {
        if self.looked_at.elapsed() >= TOPIC_AGE {
            self.topic = client.topic(&self.topic.name, false).await?;
            self.looked_at = Instant::now();
        }
        Ok(self.partitions as PartitionId..self.topic.leaders.len() as PartitionId)
    }

    fn is_done(&self, follow: bool) -> bool {
        self.left == 0 || !follow && self.unread(follow).is_empty()
    }

    /// Prints what one fetch brings, up to the ends unless it follows. What it returns with is printed, even with an
    /// error.
    async fn print_next(&mut self, client: &mut KafkaClient, follow: bool, output: &CommandOutput) -> Result<()> {
        let mut failure = None;
        for read in client.fetch(&self.topic, &self.unread(follow)).await? {
            let partition = read.partition;
            let end = if follow { Offset::MAX } else { self.ends.get(&partition).copied().unwrap_or(Offset::MAX) };
            for record in read.records.iter().take_while(|record| record.offset < end) {
                if self.left == 0 {
                    return Ok(());
                }
                print_record(output, &self.topic.name, partition, record)?;
                self.next.insert(partition, record.offset + 1);
                self.left -= 1;
            }
            if read.next < end {
                failure = failure.or(read.failure);
            }
            self.next.insert(partition, read.next.min(end));
        }
        match failure.filter(|_| self.left > 0) {
            Some(failure) => Err(failure.into()),
            None => {
                self.end_outage();
                Ok(())
            }
        }
    }

    /// Waits until the topic can be read again, where that is to be expected and the command follows; else the failure
    /// is the command's.
    async fn outlast(&mut self, failure: anyhow::Error, follow: bool, client: &mut KafkaClient) -> Result<()> {
        if !follow || !may_pass(&failure) {
            return Err(failure);
        }
        if self.outage.is_none() {
            print_error(format_args!("chronik: {failure}; trying again until it can be read, Ctrl-C ends this"));
        }
        let backoff = self.outage.get_or_insert_with(|| Backoff::new(RETRY_PAUSE, RETRY_PAUSE_MAX));
        loop {
            client.disconnect();
            backoff.wait().await;
            match client.topic(&self.topic.name, false).await {
                Err(error) if error.may_pass() => {}
                found => {
                    // Another broker may lead by now.
                    self.topic = found?;
                    return Ok(());
                }
            }
        }
    }

    /// Says that reading goes on, if it had come to a halt.
    fn end_outage(&mut self) {
        if self.outage.take().is_some() {
            print_error(format_args!("chronik: going on with {}", self.topic.name));
        }
    }

    fn unread(&self, follow: bool) -> HashMap<PartitionId, Offset> {
        let mut unread = self.next.clone();
        unread.retain(|partition, next| follow || self.ends.get(partition).is_none_or(|end| *next < *end));
        unread
    }
}

fn may_pass(failure: &anyhow::Error) -> bool {
    failure.downcast_ref::<KafkaError>().is_some_and(KafkaError::may_pass)
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
