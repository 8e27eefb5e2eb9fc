//! A tail over batches in memory, moved by hand.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::{Tail, TailError, TailTopic};
use chronik_format::batch::BatchHeader;
use chronik_format::ids::{Offset, PartitionId, TopicId};

/// A tail that a test moves.
#[derive(Default)]
pub struct MemoryTail {
    state: Mutex<MemoryState>,
    changed: Notify,
}

/// What it answers from.
#[derive(Default)]
pub struct MemoryState {
    /// By name.
    pub topics: BTreeMap<String, TailTopic>,
    /// Batches in offset order.
    pub batches: BTreeMap<(TopicId, PartitionId), Vec<Bytes>>,
    /// Nothing is answered but [`TailError::Unavailable`].
    pub unplugged: bool,
    /// Moves every start up to the end when read, as if everything was shipped just now.
    pub ship_on_read: bool,
    /// Calls of [`Tail::read`].
    pub reads: usize,
}

impl MemoryTail {
    /// Changes what it answers from, and wakes who waits for that.
    pub fn change<T>(&self, change: impl FnOnce(&mut MemoryState) -> T) -> T {
        let changed = change(&mut self.state.lock().unwrap());
        self.changed.notify_waiters();
        changed
    }

    fn look<T>(&self, look: impl FnOnce(&mut MemoryState) -> Result<T, TailError>) -> Result<T, TailError> {
        let mut state = self.state.lock().unwrap();
        if state.unplugged {
            return Err(TailError::Unavailable { message: "unplugged".into() });
        }
        look(&mut state)
    }
}

impl MemoryState {
    fn by_id(&self, id: TopicId) -> Result<&TailTopic, TailError> {
        let mut topics = self.topics.values();
        topics.find(|topic| topic.id == id).ok_or(TailError::UnknownTopic { id })
    }
}

#[async_trait]
impl Tail for MemoryTail {
    async fn topics(&self) -> Result<Vec<String>, TailError> {
        self.look(|state| Ok(state.topics.keys().cloned().collect()))
    }

    async fn topic(&self, name: &str) -> Result<Option<TailTopic>, TailError> {
        self.look(|state| Ok(state.topics.get(name).cloned()))
    }

    async fn moved(&self, topic: TopicId, reach: i64, wait: Duration) -> Result<TailTopic, TailError> {
        let deadline = Instant::now() + wait;
        loop {
            let changed = self.changed.notified();
            let position = self.look(|state| state.by_id(topic).cloned())?;
            if position.reach() > reach || timeout_at(deadline, changed).await.is_err() {
                return Ok(position);
            }
        }
    }

    async fn read(
        &self,
        topic: TopicId,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, TailError> {
        self.look(|state| {
            state.reads += 1;
            if std::mem::take(&mut state.ship_on_read) {
                for partition in state.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
                    partition.start = partition.end;
                }
            }
            let known = &state.by_id(topic)?.partitions;
            let Some(known) = known.iter().find(|known| known.partition == partition) else {
                return Err(TailError::UnknownTopic { id: topic });
            };
            let start = known.start;
            if from < start {
                return Err(TailError::TooOld { from, start });
            }
            let batches = state.batches.get(&(topic, partition)).cloned().unwrap_or_default();
            let behind = batches.into_iter().filter(|batch| BatchHeader::parse(batch).unwrap().last_offset() >= from);
            let mut bytes = 0;
            Ok(behind
                .take_while(|batch| {
                    let fits = bytes == 0 || bytes + batch.len() <= max_bytes;
                    bytes += batch.len();
                    fits
                })
                .collect())
        })
    }
}
