//! Idempotent producers: the last batches of each, so that one sent again is not written again (`ProducerStateEntry` and
//! `ProducerAppendInfo` of Apache Kafka).

use std::sync::Arc;

use chronik_format::batch::BatchHeader;
use chronik_format::ids::{Incarnation, Offset, Timestamp};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};

/// Batches that a producer may have in flight; as many are known again.
const BATCHES_KEPT: usize = 5;
/// Producers that a partition remembers. Beyond it, the one that has been silent longest is forgotten.
const PRODUCERS_MAX: usize = 10_000;
/// A producer's id is its number within an incarnation, and above these bits the incarnation, as far as there is room.
const NUMBER_BITS: u32 = 40;
const INCARNATION_BITS: u32 = i64::BITS - 1 - NUMBER_BITS;

/// The id of a producer by its number in an incarnation: none that was given out by a broker whose disk is lost is given out
/// again.
pub fn producer_id(incarnation: Incarnation, number: i64) -> i64 {
    let incarnation = i64::from(incarnation.0) % (1 << INCARNATION_BITS);
    (incarnation << NUMBER_BITS) + number
}

/// An idempotent producer's stamp on a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerStamp {
    /// Its id, 0 or above.
    pub id: i64,
    /// Raised when it begins anew under its id.
    pub epoch: i16,
    /// The sequence number of the first record; of the partition, and goes on at 0 after [`i32::MAX`].
    pub base_sequence: i32,
    /// When the batch arrived, ms since the epoch.
    pub at: Timestamp,
}

impl ProducerStamp {
    /// The stamp in the header of a batch that arrived at `at`.
    pub fn of(header: &BatchHeader, at: Timestamp) -> Option<Self> {
        let BatchHeader { producer_id: id, producer_epoch: epoch, base_sequence, .. } = *header;
        (id >= 0).then_some(Self { id, epoch, base_sequence, at })
    }
}

/// A partition's producers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producers {
    /// By id.
    #[serde(deserialize_with = "super::decode::map")]
    windows: OrdMap<i64, Arc<ProducerWindow>>,
    /// The largest id of a producer that may have written here and is not known any more.
    forgotten: i64,
}

/// What is known of a producer in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerWindow {
    pub epoch: i16,
    /// Its last batches, at most five, ascending.
    pub batches: Vec<NumberedBatch>,
}

/// A batch by its producer's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberedBatch {
    /// Of the first record.
    pub first_sequence: i32,
    /// Of the last record.
    pub last_sequence: i32,
    /// Of the first record.
    pub base_offset: Offset,
    /// When it arrived, ms since the epoch.
    pub at: Timestamp,
}

/// What a numbered batch is to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// The next one.
    Next,
    /// One that was appended before.
    Duplicate(NumberedBatch),
}

/// Why a numbered batch can't be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// Another producer goes on under this id.
    #[error("producer epoch {epoch} is over, now it is {current}")]
    OldEpoch { epoch: i16, current: i16 },
    /// It was appended before. Such a batch is not staged, so this is not told to a client.
    #[error("the batch was appended before, at offset {base_offset}")]
    Duplicate { base_offset: Offset },
    /// Batches before it are missing, or it is older than the last five.
    #[error("sequence number {sequence} does not follow; expected is {expected}")]
    OutOfOrder { sequence: i32, expected: i32 },
}

impl NumberedBatch {
    /// `records` from `base_offset` on.
    pub fn new(stamp: &ProducerStamp, base_offset: Offset, records: i64) -> Self {
        let last_sequence = advance(stamp.base_sequence, records - 1);
        Self { first_sequence: stamp.base_sequence, last_sequence, base_offset, at: stamp.at }
    }

    fn has_numbers_of(&self, other: &Self) -> bool {
        (self.first_sequence, self.last_sequence) == (other.first_sequence, other.last_sequence)
    }
}

impl ProducerWindow {
    /// What a batch is, given what is known of its producer. One of which nothing is known begins at 0, unless it may have
    /// been forgotten: then it goes on anywhere. Else the batches behind a first one that was refused for now would be
    /// taken, and that one never again.
    pub fn place(
        known: Option<&Self>,
        may_be_forgotten: bool,
        epoch: i16,
        batch: &NumberedBatch,
    ) -> Result<Sequence, SequenceError> {
        let sequence = batch.first_sequence;
        let Some(known) = known else {
            let begins = may_be_forgotten || sequence == 0;
            return if begins { Ok(Sequence::Next) } else { Err(SequenceError::OutOfOrder { sequence, expected: 0 }) };
        };
        if epoch < known.epoch {
            return Err(SequenceError::OldEpoch { epoch, current: known.epoch });
        }
        let is_new = epoch > known.epoch;
        let expected = known.batches.last().filter(|_| !is_new).map_or(0, |last| advance(last.last_sequence, 1));
        let before = known.batches.iter().find(|before| !is_new && before.has_numbers_of(batch));
        match before {
            Some(before) => Ok(Sequence::Duplicate(*before)),
            None if sequence == expected => Ok(Sequence::Next),
            None => Err(SequenceError::OutOfOrder { sequence, expected }),
        }
    }

    /// What is known once a batch is appended.
    pub fn with(known: Option<&Self>, epoch: i16, batch: NumberedBatch) -> Self {
        let before = known.filter(|known| known.epoch == epoch).map(|known| known.batches.as_slice());
        let before = before.unwrap_or_default();
        let kept = &before[(before.len() + 1).saturating_sub(BATCHES_KEPT)..];
        Self { epoch, batches: kept.iter().copied().chain([batch]).collect() }
    }

    /// Of the first record of its last batch.
    fn last_offset(&self) -> Offset {
        self.batches.last().map_or(0, |last| last.base_offset)
    }

    /// When its last batch arrived, ms since the epoch.
    pub fn last_at(&self) -> Timestamp {
        self.batches.last().map_or(0, |last| last.at)
    }
}

impl Producers {
    /// Nobody has written here; producers up to the id `forgotten` may have written to what was here before.
    pub fn new(forgotten: i64) -> Self {
        Self { windows: OrdMap::new(), forgotten }
    }

    /// What is known of a producer.
    pub fn get(&self, id: i64) -> Option<&ProducerWindow> {
        self.windows.get(&id).map(Arc::as_ref)
    }

    /// Whether a producer of which nothing is known may have been known.
    pub fn may_have_forgotten(&self, id: i64) -> bool {
        id <= self.forgotten
    }

    /// Those that are known, by id.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &ProducerWindow)> {
        self.windows.iter().map(|(id, window)| (*id, window.as_ref()))
    }

    /// Remembers a producer, and no more than so many.
    pub fn remember(&mut self, id: i64, window: ProducerWindow) {
        if !self.windows.contains_key(&id) && self.windows.len() >= PRODUCERS_MAX {
            let silent = self.windows.iter().min_by_key(|(_, window)| window.last_offset()).map(|(id, _)| *id);
            silent.into_iter().for_each(|id| self.forget(id));
        }
        self.windows.insert(id, Arc::new(window));
    }

    /// Forgets a producer.
    pub fn forget(&mut self, id: i64) {
        self.windows.remove(&id);
        self.forget_up_to(id);
    }

    /// What producers up to an id have written here may be lost.
    pub fn forget_up_to(&mut self, id: i64) {
        self.forgotten = self.forgotten.max(id);
    }
}

/// Sequence numbers go on at 0 after the largest.
fn advance(sequence: i32, by: i64) -> i32 {
    let past_largest = i64::from(i32::MAX) + 1;
    ((i64::from(sequence) + by) % past_largest) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first_sequence: i32, records: i64) -> NumberedBatch {
        let stamp = ProducerStamp { id: 1, epoch: 0, base_sequence: first_sequence, at: 0 };
        NumberedBatch::new(&stamp, i64::from(first_sequence) * 10, records)
    }

    fn window(epoch: i16, batches: &[NumberedBatch]) -> Option<ProducerWindow> {
        batches.iter().fold(None, |known, batch| Some(ProducerWindow::with(known.as_ref(), epoch, *batch)))
    }

    #[test]
    fn batches_follow_each_other_and_the_last_five_are_known_again() {
        let sent: Vec<_> = (0..7).map(|number| batch(number * 3, 3)).collect();
        let known = window(2, &sent);
        let place = |epoch, batch| ProducerWindow::place(known.as_ref(), false, epoch, &batch);
        assert_eq!(place(2, batch(21, 4)), Ok(Sequence::Next));
        for before in &sent[2..] {
            assert_eq!(place(2, *before), Ok(Sequence::Duplicate(*before)));
        }
        let out_of_order = |sequence, expected| Err(SequenceError::OutOfOrder { sequence, expected });
        assert_eq!(place(2, sent[1]), out_of_order(3, 21), "older than the last five");
        assert_eq!(place(2, batch(18, 2)), out_of_order(18, 21), "not the same batch");
        assert_eq!(place(2, batch(24, 1)), out_of_order(24, 21), "one is missing");
        assert_eq!(place(1, batch(21, 1)), Err(SequenceError::OldEpoch { epoch: 1, current: 2 }));
        assert_eq!(place(3, batch(0, 1)), Ok(Sequence::Next));
        assert_eq!(place(3, batch(21, 1)), out_of_order(21, 0), "a new epoch begins at 0");
        assert_eq!(ProducerWindow::with(known.as_ref(), 3, batch(0, 1)).batches, [batch(0, 1)]);
    }

    #[test]
    fn a_producer_that_was_never_known_begins_at_0_and_one_that_may_be_forgotten_anywhere() {
        assert_eq!(ProducerWindow::place(None, false, 5, &batch(0, 1)), Ok(Sequence::Next));
        let late = ProducerWindow::place(None, false, 5, &batch(77, 1));
        assert_eq!(late, Err(SequenceError::OutOfOrder { sequence: 77, expected: 0 }));
        assert_eq!(ProducerWindow::place(None, true, 5, &batch(77, 1)), Ok(Sequence::Next));
    }

    #[test]
    fn sequence_numbers_go_on_at_zero() {
        let last = batch(i32::MAX - 1, 2);
        assert_eq!(last.last_sequence, i32::MAX);
        let across = batch(i32::MAX, 3);
        assert_eq!(across.last_sequence, 1);
        let known = window(0, &[last]);
        assert_eq!(ProducerWindow::place(known.as_ref(), false, 0, &batch(0, 1)), Ok(Sequence::Next));
        let known = window(0, &[across]);
        assert_eq!(ProducerWindow::place(known.as_ref(), false, 0, &batch(2, 1)), Ok(Sequence::Next));
    }

    #[test]
    fn beyond_the_limit_the_one_that_is_silent_longest_is_forgotten() {
        let mut producers = Producers::new(3);
        let window = |base_offset, at| ProducerWindow::with(None, 0, NumberedBatch { base_offset, at, ..batch(0, 1) });
        for id in 4..PRODUCERS_MAX as i64 + 4 {
            producers.remember(id, window(if id == 77 { 0 } else { id }, i64::MAX - id));
        }
        producers.remember(5, window(1_000_000, 0));
        assert_eq!((producers.iter().count(), producers.may_have_forgotten(4)), (PRODUCERS_MAX, false));
        producers.remember(1_000_000, window(1_000_001, 0));
        assert_eq!((producers.iter().count(), producers.get(77)), (PRODUCERS_MAX, None), "whatever the clock says");
        assert!(producers.may_have_forgotten(77) && !producers.may_have_forgotten(78));
    }
}
