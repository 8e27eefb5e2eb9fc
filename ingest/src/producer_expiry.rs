//! Forgets idempotent producers that have been silent for long enough (`producer.id.expiration.ms`): what is remembered of
//! them would otherwise grow with every client that ever wrote.

use std::time::Duration;

use chronik_format::ids::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::lane::Lane;
use crate::state::LaneState;
use crate::state::command::{Command, ForgetProducers, SilentProducer};

/// Producers that one command forgets.
const FORGOTTEN_MAX: usize = 10_000;
/// Bounds of how often they are looked through; a tenth of the time after which they expire.
const CHECK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10 * 60));

/// Forgets silent producers, again and again, until it is stopped.
pub async fn run(lane: Lane, expiration: Duration, stop: CancellationToken) {
    let every = (expiration / 10).clamp(CHECK.0, CHECK.1);
    while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
        let Ok(state) = lane.snapshot().await else { return };
        let silent_since = now_ms().saturating_sub(i64::try_from(expiration.as_millis()).unwrap_or(i64::MAX));
        for forget in silent(&state, silent_since) {
            if let Err(error) = lane.propose(Command::ForgetProducers(forget)).await {
                tracing::warn!("producers that are silent were not forgotten: {error}");
            }
        }
    }
}

/// The producers whose last batch arrived at `since` or before.
fn silent(state: &LaneState, since: Timestamp) -> Vec<ForgetProducers> {
    let mut forget = Vec::new();
    for topic in state.topics.values() {
        for (number, partition) in topic.partitions.iter().enumerate() {
            let producers = partition.producers.iter().map(|(id, window)| (id, window.last_at()));
            let silent = producers.filter(|(_, last_at)| *last_at <= since);
            let silent: Vec<_> = silent.map(|(id, last_at)| SilentProducer { id, last_at }).collect();
            forget.extend(silent.chunks(FORGOTTEN_MAX).map(|producers| ForgetProducers {
                topic: topic.id,
                partition: number as i32,
                producers: producers.to_vec(),
            }));
        }
    }
    forget
}

#[cfg(test)]
mod tests {
    use chronik_format::ids::{Incarnation, TopicId};
    use uuid::Uuid;

    use super::*;
    use crate::state::command::{Append, CreateTopic};
    use crate::state::producer::ProducerStamp;
    use crate::state::topic_config::TopicConfig;

    #[test]
    fn only_producers_that_are_silent_are_forgotten() {
        let topic = TopicId(Uuid::from_u128(1));
        let mut state = LaneState::new(Incarnation(1));
        let config = TopicConfig::default();
        let create = CreateTopic { id: topic, name: "t".into(), partitions: 2, config };
        let append = |partition, id, base_offset, base_sequence, at| {
            let producer = Some(ProducerStamp { id, epoch: 0, base_sequence, at });
            let last_offset = base_offset;
            Command::Append(Append { topic, partition, base_offset, last_offset, position: 0, length: 9, producer })
        };
        let appends =
            [append(0, 1, 0, 0, 100), append(0, 2, 1, 0, 200), append(1, 1, 0, 0, 50), append(1, 1, 1, 1, 300)];
        let commands: Vec<_> = [Command::CreateTopic(create)].into_iter().chain(appends).collect();
        state.apply_frame(1, &commands);
        let forget = silent(&state, 199);
        let producers = vec![SilentProducer { id: 1, last_at: 100 }];
        assert_eq!(forget, [ForgetProducers { topic, partition: 0, producers }]);
        let again = append(0, 1, 2, 1, 400);
        state.apply_frame(2, &[again, Command::ForgetProducers(forget[0].clone())]);
        assert_eq!(state.topics[&topic].partitions[0].producers.iter().count(), 2, "it wrote meanwhile");
        let later = silent(&state, 399);
        state.apply_frame(3, &later.into_iter().map(Command::ForgetProducers).collect::<Vec<_>>());
        let left: Vec<_> =
            state.topics[&topic].partitions.iter().map(|partition| partition.producers.iter().count()).collect();
        assert_eq!(left, [1, 0]);
    }
}
