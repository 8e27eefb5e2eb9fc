//! Appends that are written once, however often they have to be sent.

use std::collections::BTreeMap;
use std::time::Duration;

use chronik_format::batch::BatchBuilder;
use chronik_format::ids::{Offset, PartitionId};
use chronik_service::telemetry::print_error;
use chronik_wire::{InitProducerIdRequest, Message};
use tokio::time::Instant;

use super::KafkaError;
use super::client::{KafkaClient, LEADER_PAUSE, LEADER_TRIES, TopicLeaders};
use super::connection::is_passing;

/// How long a batch is sent again before its append has failed: as long as a producer of Kafka's does it by default.
const DELIVERY_TIME_MAX: Duration = Duration::from_secs(120);

/// An idempotent producer for one topic, with one batch on its way at a time. Who dropped a call to
/// [`append`](Self::append) or got an error from it can't go on: whether that batch is written is not known.
#[derive(Debug)]
pub struct IdempotentProducer {
    topic: TopicLeaders,
    id: i64,
    epoch: i16,
    /// The sequence number of the next record, where it is not 0.
    sequences: BTreeMap<PartitionId, i32>,
}

impl IdempotentProducer {
    /// A producer with an id of its own.
    pub async fn new(client: &mut KafkaClient, topic: TopicLeaders) -> Result<Self, KafkaError> {
        let request =
            InitProducerIdRequest { transactional_id: None, transaction_timeout_ms: i32::MAX, ..Default::default() };
        let mut tries = LEADER_TRIES;
        loop {
            let answer = client.home().await?.call(InitProducerIdRequest::VERSIONS, &request).await?;
            tries -= 1;
            if tries == 0 || !is_passing(answer.error_code) {
                KafkaError::check(answer.error_code, None, || "asking for a producer id".to_owned())?;
                let (id, epoch) = (answer.producer_id, answer.producer_epoch);
                return Ok(Self { topic, id, epoch, sequences: BTreeMap::new() });
            }
            tokio::time::sleep(LEADER_PAUSE).await;
        }
    }

    /// How many partitions the topic has.
    pub fn partitions(&self) -> usize {
        self.topic.leaders.len()
    }

    /// Appends a batch, durably and once, even if connections break or the broker starts again meanwhile; returns the
    /// offset of its first record. Standard error says that it waits, and for what.
    pub async fn append(
        &mut self,
        client: &mut KafkaClient,
        partition: PartitionId,
        mut batch: BatchBuilder,
    ) -> Result<Offset, KafkaError> {
        self.topic.leader(partition)?;
        let sequence = self.sequences.entry(partition).or_default();
        batch.set_producer(self.id, self.epoch, *sequence);
        let next = after(*sequence, batch.record_count());
        let batch = batch.finish();
        let give_up = Instant::now() + DELIVERY_TIME_MAX;
        let mut is_told = false;
        loop {
            match client.append(&self.topic, partition, batch.clone()).await {
                Err(error) if error.may_pass() && Instant::now() < give_up => {
                    if !std::mem::replace(&mut is_told, true) {
                        let seconds = DELIVERY_TIME_MAX.as_secs();
                        print_error(format_args!("chronik: {error}; sending again for {seconds} s, Ctrl-C ends this"));
                    }
                    client.disconnect();
                    tokio::time::sleep(LEADER_PAUSE).await;
                    // Another broker may lead by now; one that is not back yet is asked again.
                    if let Ok(topic) = client.topic(&self.topic.name, false).await {
                        self.topic = topic;
                    }
                }
                Ok(first) => {
                    if is_told {
                        print_error(format_args!("chronik: going on with {}", self.topic.name));
                    }
                    *sequence = next;
                    return Ok(first);
                }
                // Nothing of it was written: what comes instead has its number.
                Err(error) => return Err(error),
            }
        }
    }
}

/// Sequence numbers begin at 0 again after the largest.
fn after(sequence: i32, records: usize) -> i32 {
    ((sequence as usize + records) % (1 << 31)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_go_round() {
        assert_eq!(after(0, 5), 5);
        assert_eq!(after(i32::MAX - 1, 1), i32::MAX);
        assert_eq!(after(i32::MAX, 3), 2);
    }
}
