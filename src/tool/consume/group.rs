//! `chronik consume --group`: reads what the group's other members don't, and commits what it has printed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use chronik_format::ids::{Offset, PartitionId};
use chronik_service::telemetry::print_error;
use chronik_wire::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP};
use tokio::time::Instant;

use super::reading::Reading;
use super::{ConsumeCommand, Start, told_to_stop};
use crate::kafka::{GroupMember, KafkaClient, KafkaError};
use crate::output::CommandOutput;

/// Between two signs of life, and two commits, as with Kafka's consumers.
const HEARTBEAT_PAUSE: Duration = Duration::from_secs(3);

/// A member and what it reads.
struct GroupReading<'a> {
    group: &'a str,
    member: GroupMember,
    reading: Reading<'a>,
    committed: BTreeMap<PartitionId, Offset>,
    /// When the member last gave a sign of life in its generation; `None` before it is in one.
    last_sign: Option<Instant>,
    /// Whether standard error has to say yet where `--from` does not count.
    is_from_given: bool,
}

/// Reads until the end, `--count`, an error or a signal; then commits and leaves.
pub async fn run(command: &ConsumeCommand, group: &str, mut client: KafkaClient, output: &CommandOutput) -> Result<()> {
    if let Some(Start::At(offset)) = command.from {
        bail!(
            "a group goes on where it is; to have it go on elsewhere: \
             chronik group reset {group} --topic {} --to {offset} --execute",
            command.topic
        );
    }
    let mut consumer = GroupReading {
        group,
        member: GroupMember::new(group, &command.topic),
        reading: Reading::new(command, client.topic(&command.topic, false).await?),
        committed: BTreeMap::new(),
        last_sign: None,
        is_from_given: command.from.is_some(),
    };
    let ended = tokio::select! {
        ended = consumer.read(&mut client, output) => ended,
        _ = told_to_stop() => Ok(()),
    };
    // Answers may be on their way that nobody waits for.
    client.disconnect();
    tokio::select! {
        closed = consumer.close(&mut client) => ended.and(closed),
        _ = told_to_stop() => ended,
    }
}

impl GroupReading<'_> {
    /// One generation of the group after the other. A member that has lost its broker goes on in its generation: the
    /// broker knows it still, unless it was away for longer than a session.
    async fn read(&mut self, client: &mut KafkaClient, output: &CommandOutput) -> Result<()> {
        loop {
            match self.read_generation(client, output).await {
                Ok(true) => return Ok(()),
                Ok(false) => self.last_sign = None,
                Err(failure) => {
                    self.reading.outlast(failure, client).await?;
                    // The topic may have been made anew.
                    if self.reading.next.is_empty() {
                        self.last_sign = None;
                    }
                }
            }
        }
    }

    /// Joins the next generation, and finds out where to read the member's partitions from. The group's offsets count
    /// as long as the log has them.
    async fn enter_generation(&mut self, client: &mut KafkaClient) -> Result<()> {
        // Other members may have them from now on.
        self.reading.next.clear();
        self.reading.look(client).await?;
        self.reading.partitions = self.reading.topic.leaders.len();
        let partitions = &self.member.join(client).await?;
        let topic = &self.reading.topic;
        let committed = client.committed(self.group).await?;
        let committed = committed.into_iter().filter(|((name, _), _)| *name == topic.name);
        self.committed = committed.map(|((_, partition), offset)| (partition, offset)).collect();
        let first = client.offsets(topic, partitions, EARLIEST_TIMESTAMP).await?;
        let ends = client.offsets(topic, partitions, LATEST_TIMESTAMP).await?;
        let start = |(partition, end): (&PartitionId, &Offset)| {
            let first = first.get(partition).copied().unwrap_or(0);
            let start = match self.committed.get(partition) {
                Some(committed) => self.reading.start_instead(*partition, *committed, first, *end),
                None => self.reading.start_of(*partition, first, *end),
            };
            (*partition, start)
        };
        self.reading.next = ends.iter().map(start).collect();
        self.reading.ends = ends;
        self.last_sign = Some(Instant::now());
        self.tell_unused_from();
        Ok(())
    }

    /// Says once where `--from` was given in vain.
    fn tell_unused_from(&mut self) {
        let goes_on = self.reading.next.keys().filter(|partition| self.committed.contains_key(partition)).count();
        if std::mem::take(&mut self.is_from_given) && goes_on > 0 {
            print_error(format_args!(
                "chronik: --from counts only where group {0} has no offset yet: it goes on where it is in {1} of {2} \
                 partitions; to have it go on elsewhere: chronik group reset {0} --topic {3} --to earliest|latest --execute",
                self.group,
                goes_on,
                self.reading.next.len(),
                self.reading.topic.name
            ));
        }
    }

    /// Reads as a member of one generation, the one that it is in or the next; `false` if there is to be another one.
    async fn read_generation(&mut self, client: &mut KafkaClient, output: &CommandOutput) -> Result<bool> {
        if self.last_sign.is_none() {
            self.enter_generation(client).await?;
            // Where it begins is the group's from now on: the end that --from names would lie further when it joins
            // again.
            if !self.commit(client).await? {
                return Ok(false);
            }
        }
        loop {
            if self.last_sign.is_none_or(|sign| sign.elapsed() >= HEARTBEAT_PAUSE) {
                let stays = self.member.heartbeat(client).await?;
                // Before others go on.
                if !self.commit(client).await? || !stays {
                    return Ok(false);
                }
                self.last_sign = Some(Instant::now());
                // The group's leader assigns anew as it joins.
                if !self.reading.added_partitions(client).await?.is_empty() {
                    return Ok(false);
                }
            }
            if self.reading.is_done() {
                return Ok(true);
            }
            self.reading.print_next(client, output).await?;
        }
    }

    async fn close(mut self, client: &mut KafkaClient) -> Result<()> {
        let committed = self.commit(client).await;
        self.member.leave(client).await?;
        if !committed? {
            bail!("group {} went on without this member: what it printed last will be read again", self.group);
        }
        Ok(())
    }

    /// Commits what has been printed; `false` if the member can't, because it has to join again.
    async fn commit(&mut self, client: &mut KafkaClient) -> Result<bool> {
        if self.uncommitted().is_empty() {
            return Ok(true);
        }
        // Offsets go by the topic's name: those of a topic that is gone must not become its successor's.
        match self.reading.look(client).await {
            Err(KafkaError::UnknownTopic { .. }) => return Ok(true),
            looked => looked?,
        }
        let offsets = self.uncommitted();
        if offsets.is_empty() {
            return Ok(true);
        }
        match client.commit(self.group, self.member.committer(), &self.reading.topic.name, &offsets).await {
            Err(KafkaError::Refused { code, .. }) => Ok(self.member.stays(code)?),
            committed => {
                committed?;
                self.committed.extend(offsets);
                Ok(true)
            }
        }
    }

    fn uncommitted(&self) -> BTreeMap<PartitionId, Offset> {
        let is_new = |(partition, next): &(&PartitionId, &Offset)| self.committed.get(partition) != Some(*next);
        self.reading.next.iter().filter(is_new).map(|(partition, next)| (*partition, *next)).collect()
    }
}
