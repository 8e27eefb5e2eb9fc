use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use chronik_core::batch::BatchHeader;
use chronik_core::ids::{Offset, PartitionId, TopicId};
use chronik_core::tail::{Tail, TailError, TailTopic};

/// A tail over batches in memory.
#[derive(Default)]
pub struct MovableTail {
    state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    pub topics: BTreeMap<String, TailTopic>,
    pub batches: BTreeMap<(TopicId, PartitionId), Vec<Bytes>>,
    pub unplugged: bool,
    /// Moves every start up to the end when read, as if everything was shipped just now.
    pub ship_on_read: bool,
}

impl MovableTail {
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }
}

impl State {
    fn plugged(&self) -> Result<(), TailError> {
        if self.unplugged {
            Err(TailError::Unavailable {
                message: "unplugged".into(),
            })
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl Tail for MovableTail {
    async fn topics(&self) -> Result<Vec<String>, TailError> {
        let state = self.state.lock().unwrap();
        state.plugged()?;
        Ok(state.topics.keys().cloned().collect())
    }

    async fn topic(&self, name: &str) -> Result<Option<TailTopic>, TailError> {
        let state = self.state.lock().unwrap();
        state.plugged()?;
        Ok(state.topics.get(name).cloned())
    }

    async fn read(
        &self,
        topic: TopicId,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, TailError> {
        let mut state = self.state.lock().unwrap();
        state.plugged()?;
        if std::mem::take(&mut state.ship_on_read) {
            for partition in state.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
                partition.start = partition.end;
            }
        }
        let known = state
            .topics
            .values()
            .find(|known| known.id == topic)
            .ok_or(TailError::UnknownTopic { id: topic })?;
        let start = known
            .partitions
            .iter()
            .find(|known| known.partition == partition)
            .unwrap()
            .start;
        if from < start {
            return Err(TailError::TooOld { from, start });
        }
        let batches = state.batches.get(&(topic, partition)).cloned().unwrap_or_default();
        let behind = batches
            .into_iter()
            .filter(|batch| BatchHeader::parse(batch).unwrap().last_offset() >= from);
        let mut bytes = 0;
        Ok(behind
            .take_while(|batch| {
                let fits = bytes == 0 || bytes + batch.len() <= max_bytes;
                bytes += batch.len();
                fits
            })
            .collect())
    }
}
