use std::sync::Arc;

use bytes::Bytes;
use chronik_format::batch::MessageMagic;
use chronik_format::ids::Offset;
use chronik_wire::{EpochEndOffset, FetchPartition, PartitionData};

use super::budget::AnswerBudget;
use super::messages;
use super::session::{DuePartition, FoundPartition, PartitionKey, TopicKey};
use crate::api::epochs::{self, EpochAgreement};
use crate::api::error::ApiError;
use crate::api::live_partition::LivePartition;
use crate::lane::tail::{BatchBytes, OffsetBounds, PartitionTail, TopicTable};
use crate::lane::tail_watch::TailWatch;
use crate::lane::watcher::TailWatcher;
use crate::reading::RecordReader;

/// Clients know KAFKA_STORAGE_ERROR from this version on.
const STORAGE_ERROR_FROM: i16 = 6;

/// What is read of one partition. Nothing is read while the request waits for more, only counted.
pub struct PartitionRead {
    /// What its request knows it by.
    pub number: u64,
    /// Its place in the order in which partitions get their share of the answer.
    pub order: u64,
    pub key: PartitionKey,
    place: Result<LivePartition, ApiError>,
    /// Of the partition that was found, whatever became of reading it.
    tail: Option<Arc<PartitionTail>>,
    watch: Option<Arc<TailWatch>>,
    diverging: Option<EpochEndOffset>,
    from: Offset,
    bytes_max: usize,
    ahead: Ahead,
    chunks: Vec<Bytes>,
}

/// What can be read, as far as it was looked at.
#[derive(Clone, Copy)]
enum Ahead {
    /// Batches in memory: their bytes, and the offset after them.
    Tail { bytes: usize, end: Offset },
    /// Older ones, of unknown size.
    Unread,
}

impl PartitionRead {
    /// Finds the partition and checks what is asked of it; nothing is read yet.
    pub fn begin(topics: &TopicTable, due: DuePartition) -> Self {
        let DuePartition { number, order, key, asked, watch } = due;
        let checked = place(topics, &key).and_then(|place| check(&place, &asked).map(|diverging| (place, diverging)));
        let (place, diverging) = match checked {
            Ok((place, diverging)) => (Ok(place), diverging),
            Err(error) => (Err(error), None),
        };
        let tail = place.as_ref().ok().map(|place| place.tail.clone());
        Self {
            number,
            order,
            key,
            watch: watch.filter(|watch| tail.as_ref().is_some_and(|tail| watch.is_of(tail))),
            tail,
            place,
            diverging,
            from: asked.fetch_offset,
            bytes_max: usize::try_from(asked.partition_max_bytes).unwrap_or(0),
            ahead: Ahead::Tail { bytes: 0, end: asked.fetch_offset },
            chunks: Vec::new(),
        }
    }

    /// Has the partition watched, if it is not: look at it afterwards.
    pub fn watch(&mut self, watcher: &Arc<TailWatcher>) {
        if let (Some(tail), None) = (&self.tail, &self.watch) {
            self.watch = Some(Arc::new(TailWatch::new(watcher, tail, self.number)));
        }
    }

    /// Counts what has come since the last look, and notices if the topic is gone or the offset's record was deleted.
    pub fn look(&mut self) {
        self.notice_deletion();
        let (Ok(place), Ahead::Tail { bytes, end }) = (&self.place, self.ahead) else {
            return;
        };
        if self.diverging.is_none() && !self.is_full() {
            self.ahead = match place.tail.ahead(end, self.bytes_max.saturating_sub(bytes)) {
                Some((more, end)) => Ahead::Tail { bytes: bytes + more, end },
                None => Ahead::Unread,
            };
        }
    }

    /// Whether waiting can bring nothing that the client needs more than what the answer has now.
    pub fn is_urgent(&self) -> bool {
        self.place.is_err() || self.diverging.is_some() || self.is_full()
    }

    /// More is there than the partition may have of the answer, or enough of it.
    fn is_full(&self) -> bool {
        match self.ahead {
            Ahead::Tail { bytes, .. } => bytes > 0 && bytes >= self.bytes_max,
            Ahead::Unread => true,
        }
    }

    /// Bytes that can be read of the partition, as far as they are known and fit.
    pub fn bytes_ahead(&self) -> usize {
        match self.ahead {
            _ if self.place.is_err() => 0,
            Ahead::Tail { bytes, .. } => bytes.min(self.bytes_max),
            Ahead::Unread => self.bytes_max,
        }
    }

    /// Bytes that the next batch may have; 0 if there was none at the last look.
    pub fn next_batch_bytes_max(&self) -> usize {
        let Ok(place) = &self.place else { return 0 };
        let batch_bytes_max = place.topic.batch_bytes_max;
        match self.ahead {
            _ if self.diverging.is_some() => 0,
            Ahead::Tail { bytes, .. } => bytes.min(batch_bytes_max),
            Ahead::Unread => batch_bytes_max,
        }
    }

    /// Reads what there was at the last look, as far as it fits: batches, or messages of a magic.
    pub async fn read(&mut self, reader: &RecordReader, budget: &mut AnswerBudget, magic: Option<MessageMagic>) {
        let batch_bytes = self.next_batch_bytes_max();
        let Ok(place) = &self.place else { return };
        if batch_bytes == 0 {
            return;
        }
        let Some(room) = budget.room(self.bytes_max, batch_bytes) else {
            return;
        };
        let read = async {
            let batches = reader.read(&place.topic, place.partition, self.from, room).await?;
            match magic {
                Some(magic) => messages::take(batches, magic, self.from, budget, room).await.map(|set| vec![set]),
                None => {
                    let parts = |BatchBytes { head, body }: BatchBytes| [head, body];
                    Ok(budget.take(batches, room).into_iter().flat_map(parts).collect())
                }
            }
        };
        match read.await {
            Ok(chunks) => self.chunks = chunks,
            Err(error) => {
                if let ApiError::Read(error) = &error {
                    reader.tell(error, &place.topic.name, place.partition, self.from);
                }
                self.place = Err(error);
            }
        }
        self.notice_deletion();
    }

    /// A topic that is gone, though another may have its name, has nothing more to answer: the client must refresh its
    /// metadata. Where records were deleted, it must choose another offset.
    fn notice_deletion(&mut self) {
        let Some(tail) = &self.tail else { return };
        let bounds = tail.bounds();
        if tail.is_gone() {
            self.place = Err(unknown(&self.key.topic));
        } else if self.diverging.is_none() && self.from < bounds.log_start {
            self.place = Err(out_of_range(self.from, bounds));
        }
    }

    /// What was found, for the response and the session.
    pub fn into_found(self, version: i16, read_committed: bool) -> FoundPartition {
        let (number, topic, watch) = (self.number, self.key.topic.clone(), self.watch.clone());
        let is_quiet = !self.is_urgent() && self.bytes_ahead() == 0;
        FoundPartition { number, topic, response: self.into_response(version, read_committed), is_quiet, watch }
    }

    /// The partition's part of the response.
    fn into_response(self, version: i16, read_committed: bool) -> PartitionData {
        let mut response = PartitionData {
            partition_index: self.key.partition,
            high_watermark: -1,
            aborted_transactions: read_committed.then(Vec::new),
            ..Default::default()
        };
        match self.place {
            Ok(place) => {
                let bounds = place.tail.bounds();
                response.high_watermark = bounds.end;
                response.last_stable_offset = bounds.end;
                response.log_start_offset = bounds.log_start;
                response.diverging_epoch = self.diverging.unwrap_or_default();
                response.records = self.chunks.into();
            }
            Err(error) => {
                response.error_code = error.code_in(version, STORAGE_ERROR_FROM);
                if let ApiError::OffsetOutOfRange { log_start, end, .. } = error {
                    response.high_watermark = end;
                    response.last_stable_offset = end;
                    response.log_start_offset = log_start;
                }
            }
        }
        response
    }
}

/// The partition of a living topic.
fn place(topics: &TopicTable, key: &PartitionKey) -> Result<LivePartition, ApiError> {
    let topic = match &key.topic {
        TopicKey::Name(name) => topics.named(name),
        TopicKey::Id(id) => topics.get(*id),
    };
    LivePartition::of(topic.ok_or_else(|| unknown(&key.topic))?, key.partition)
}

fn unknown(topic: &TopicKey) -> ApiError {
    match topic {
        TopicKey::Name(_) => ApiError::UnknownTopic,
        TopicKey::Id(_) => ApiError::UnknownTopicId,
    }
}

/// Whether the reader's past is that of the partition, and its next offset lies within; or where the two part.
fn check(place: &LivePartition, asked: &FetchPartition) -> Result<Option<EpochEndOffset>, ApiError> {
    place.check_leader_epoch(asked.current_leader_epoch)?;
    let bounds = place.tail.bounds();
    let offset = asked.fetch_offset;
    if asked.last_fetched_epoch >= 0 {
        match epochs::compare(&place.tail.epochs(), bounds.end, asked.last_fetched_epoch, offset) {
            EpochAgreement::Agreed => {}
            EpochAgreement::Diverged(epoch, end_offset) => return Ok(Some(EpochEndOffset { epoch, end_offset })),
            EpochAgreement::Unknown => return Err(out_of_range(offset, bounds)),
        }
    }
    if (bounds.log_start..=bounds.end).contains(&offset) { Ok(None) } else { Err(out_of_range(offset, bounds)) }
}

fn out_of_range(offset: Offset, OffsetBounds { log_start, end, .. }: OffsetBounds) -> ApiError {
    ApiError::OffsetOutOfRange { offset, log_start, end }
}
