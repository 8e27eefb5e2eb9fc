//! Where reading of a topic stands, and what it outlasts: a broker that is away, records that are deleted before they
//! were read, and a topic that is made anew.

use std::collections::HashMap;
use std::io::{self, Write};
use std::ops::Range;
use std::time::Duration;

use anyhow::Result;
use chronik_format::batch::Record;
use chronik_format::ids::{Offset, PartitionId};
use chronik_service::backoff::Backoff;
use chronik_service::telemetry::print_error;
use chronik_wire::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use tokio::time::Instant;

use super::{ConsumeCommand, Start};
use crate::kafka::{KafkaClient, KafkaError, TopicLeaders};
use crate::output::{CommandOutput, record_document};

/// Between two tries to reach a broker that was lost, at first and at most; the latter is that of Kafka's consumers.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long partitions that are added to the topic may go unnoticed.
const TOPIC_AGE: Duration = Duration::from_secs(10);
/// Until it is looked again whether there are partitions.
const IDLE_PAUSE: Duration = Duration::from_millis(500);

pub struct Reading<'a> {
    command: &'a ConsumeCommand,
    pub topic: TopicLeaders,
    /// The topic as `--from` speaks of it.
    first_seen: TopicLeaders,
    /// How many of its partitions are known to be read, by this member or by others.
    pub partitions: usize,
    /// When the topic was looked at last for others.
    looked_at: Instant,
    /// The offset after the last record that was printed, in each partition that is read.
    pub next: HashMap<PartitionId, Offset>,
    /// The ends as they were at the start.
    pub ends: HashMap<PartitionId, Offset>,
    /// Records to print yet.
    left: u64,
    /// While nothing can be read: the pause before the next try.
    outage: Option<Backoff>,
}

impl<'a> Reading<'a> {
    pub fn new(command: &'a ConsumeCommand, topic: TopicLeaders) -> Self {
        Self {
            command,
            partitions: topic.leaders.len(),
            first_seen: topic.clone(),
            topic,
            looked_at: Instant::now(),
            next: HashMap::new(),
            ends: HashMap::new(),
            left: command.count.unwrap_or(u64::MAX),
            outage: None,
        }
    }

    /// Where to begin in a partition with these offsets: as `--from` says if the partition was there when the command
    /// began, else at its first record.
    pub fn start_of(&self, partition: PartitionId, first: Offset, end: Offset) -> Offset {
        let was_there = self.topic.id == self.first_seen.id && (partition as usize) < self.first_seen.leaders.len();
        match self.command.from.filter(|_| was_there) {
            Some(Start::End) => end,
            Some(Start::At(offset)) => offset.min(end).max(first),
            Some(Start::Beginning) | None => first,
        }
    }

    /// Looks who leads the topic. Of one that was made anew nothing is read yet.
    pub async fn look(&mut self, client: &mut KafkaClient) -> Result<(), KafkaError> {
        let topic = client.topic(&self.topic.name, false).await?;
        if topic.id != self.topic.id {
            print_error(format_args!(
                "chronik: {} was deleted and made anew; going on at its first record",
                topic.name
            ));
            self.next.clear();
            self.partitions = 0;
        }
        self.topic = topic;
        self.looked_at = Instant::now();
        Ok(())
    }

    /// The partitions that were added to the topic, or all of them if it was made anew; looks for them every now and
    /// then.
    pub async fn added_partitions(&mut self, client: &mut KafkaClient) -> Result<Range<PartitionId>> {
        if self.looked_at.elapsed() >= TOPIC_AGE {
            self.look(client).await?;
        }
        Ok(self.partitions as PartitionId..self.topic.leaders.len() as PartitionId)
    }

    pub fn is_done(&self) -> bool {
        self.left == 0 || !self.command.follow && self.unread().is_empty()
    }

    /// Prints what one fetch brings, up to the ends unless it follows. What it returns with is printed, even with an
    /// error.
    pub async fn print_next(&mut self, client: &mut KafkaClient, output: &CommandOutput) -> Result<()> {
        if self.next.is_empty() {
            tokio::time::sleep(IDLE_PAUSE).await;
        }
        let (mut failure, mut lost) = (None, Vec::new());
        for read in client.fetch(&self.topic, &self.unread()).await? {
            let partition = read.partition;
            let end = self.end_of(partition);
            for record in read.records.iter().take_while(|record| record.offset < end) {
                if self.left == 0 {
                    return Ok(());
                }
                print_record(output, &self.topic.name, partition, record)?;
                self.next.insert(partition, record.offset + 1);
                self.left -= 1;
            }
            self.next.insert(partition, read.next.min(end));
            match read.failure.filter(|_| read.next < end) {
                Some(error) if self.command.follow && error.is_out_of_range() => lost.push(partition),
                found => failure = failure.or(found),
            }
        }
        if !lost.is_empty() {
            self.begin_again(client, &lost).await?;
        }
        match failure.filter(|_| self.left > 0) {
            Some(failure) => Err(failure.into()),
            None => {
                self.end_outage();
                Ok(())
            }
        }
    }

    /// Goes on in partitions whose logs don't have the offsets that were to be read next.
    async fn begin_again(&mut self, client: &mut KafkaClient, lost: &[PartitionId]) -> Result<()> {
        let firsts = client.offsets(&self.topic, lost, EARLIEST_TIMESTAMP).await?;
        let ends = client.offsets(&self.topic, lost, LATEST_TIMESTAMP).await?;
        for (partition, first) in firsts {
            let end = ends.get(&partition).copied().unwrap_or(first);
            let next = self.next.get(&partition).copied().unwrap_or(first);
            let start = self.start_instead(partition, next, first, end);
            self.next.insert(partition, start);
        }
        Ok(())
    }

    /// Where to read instead of `wanted`: there, if the partition has it; else standard error says what is skipped.
    pub fn start_instead(&self, partition: PartitionId, wanted: Offset, first: Offset, end: Offset) -> Offset {
        if (first..=end).contains(&wanted) {
            return wanted;
        }
        let start = self.start_of(partition, first, end);
        let skipped = match wanted < start {
            true => format!("offsets {wanted} to {} are skipped", start - 1),
            false => format!("going on at {start}"),
        };
        let name = &self.topic.name;
        print_error(format_args!(
            "chronik: partition {partition} of {name} has offsets {first} to {end}, not {wanted}: {skipped}"
        ));
        start
    }

    /// Waits until the topic can be read again, where that is to be expected and the command follows; else the failure
    /// is the command's.
    pub async fn outlast(&mut self, failure: anyhow::Error, client: &mut KafkaClient) -> Result<()> {
        if !self.command.follow || !failure.downcast_ref().is_some_and(may_pass) {
            return Err(failure);
        }
        if self.outage.is_none() {
            print_error(format_args!("chronik: {failure}; trying again until it can be read, Ctrl-C ends this"));
        }
        loop {
            client.disconnect();
            self.outage.get_or_insert_with(|| Backoff::new(RETRY_PAUSE, RETRY_PAUSE_MAX)).wait().await;
            match self.look(client).await {
                Err(error) if may_pass(&error) => {}
                looked => return Ok(looked?),
            }
        }
    }

    /// Says that reading goes on, if it had come to a halt.
    pub fn end_outage(&mut self) {
        if self.outage.take().is_some() {
            print_error(format_args!("chronik: going on with {}", self.topic.name));
        }
    }

    fn end_of(&self, partition: PartitionId) -> Offset {
        let end = self.ends.get(&partition).filter(|_| !self.command.follow);
        end.copied().unwrap_or(Offset::MAX)
    }

    fn unread(&self) -> HashMap<PartitionId, Offset> {
        let mut unread = self.next.clone();
        unread.retain(|partition, next| *next < self.end_of(*partition));
        unread
    }
}

/// Whether the topic may be read later: the broker may be back, or another topic of the name be made.
fn may_pass(error: &KafkaError) -> bool {
    error.may_pass() || matches!(error, KafkaError::UnknownTopic { .. })
}

fn print_record(output: &CommandOutput, topic: &str, partition: PartitionId, record: &Record) -> Result<()> {
    if output.json {
        return output.document(&record_document(topic, partition, record));
    }
    let mut out = io::stdout().lock();
    out.write_all(record.value.as_deref().unwrap_or_default())?;
    Ok(out.write_all(b"\n")?)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn topic(id: u128) -> TopicLeaders {
        TopicLeaders { name: "t".to_owned(), id: Uuid::from_u128(id), leaders: vec!["a:1".to_owned()] }
    }

    #[test]
    fn from_speaks_of_partitions_that_were_there() {
        for (from, was_there, wanted, start) in [
            (None, true, 3, 10),
            (Some(Start::Beginning), true, 30, 10),
            (Some(Start::End), true, 3, 20),
            (Some(Start::End), true, 15, 15),
            (Some(Start::End), true, 20, 20),
            (Some(Start::End), false, 3, 10),
            (Some(Start::At(2)), true, 3, 10),
            (Some(Start::At(12)), true, 30, 12),
            (Some(Start::At(22)), true, 30, 20),
            (Some(Start::At(12)), false, 30, 10),
        ] {
            let command = ConsumeCommand {
                topic: "t".to_owned(),
                group: None,
                from,
                partitions: Vec::new(),
                count: None,
                follow: true,
            };
            let mut reading = Reading::new(&command, topic(1));
            reading.topic = topic(if was_there { 1 } else { 2 });
            assert_eq!(reading.start_instead(0, wanted, 10, 20), start, "{from:?}, {wanted}");
            assert_eq!(reading.start_of(1, 10, 20), 10, "it was added");
        }
    }
}
