//! Room for answers that carry records, of all HTTP clients together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use chronik_service::held::holding;
use prometheus::{IntCounter, IntGauge};

/// How many bytes of answers may be held until they are sent.
///
/// An answer gets at most half of what is free, so that small ones get in beside clients that take nothing of large
/// ones. One answer at a time has what it needs beside the room, however large it is: a page is never smaller than one
/// record, and a reader would never get past it. So what is held is at most all room and one answer.
#[derive(Debug)]
pub(crate) struct AnswerRoom {
    bytes_max: usize,
    books: Mutex<Books>,
    held_bytes: IntGauge,
    refused: IntCounter,
}

#[derive(Debug, Default)]
struct Books {
    /// Bytes of answers within the room.
    within: usize,
    /// Bytes of the one beside it.
    beside: Option<usize>,
}

impl Books {
    fn held(&self) -> i64 {
        (self.within + self.beside.unwrap_or(0)) as i64
    }
}

/// What one answer has; given back when dropped.
#[derive(Debug)]
pub(crate) struct HeldRoom {
    room: Arc<AnswerRoom>,
    bytes: usize,
    is_beside: bool,
}

/// Answers that are not sent yet leave no room for this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom {
    pub(crate) bytes: usize,
    pub(crate) bytes_max: usize,
}

impl AnswerRoom {
    /// Room for `bytes_max` bytes; `held_bytes` shows how many are taken, `refused` how often there was none.
    pub(crate) fn new(bytes_max: usize, held_bytes: IntGauge, refused: IntCounter) -> Arc<Self> {
        Arc::new(Self { bytes_max, books: Mutex::default(), held_bytes, refused })
    }

    /// For an answer that has nothing yet.
    pub(crate) fn answer(self: &Arc<Self>) -> HeldRoom {
        HeldRoom { room: Arc::clone(self), bytes: 0, is_beside: false }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldRoom {
    /// Changes how much it is.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let bytes_max = self.room.bytes_max;
        let mut books = self.room.books();
        if self.is_beside {
            books.beside = Some(bytes);
        } else if bytes.saturating_sub(self.bytes) <= (bytes_max - books.within) / 2 {
            books.within = books.within - self.bytes + bytes;
        } else if books.beside.is_none() {
            books.within -= self.bytes;
            books.beside = Some(bytes);
            self.is_beside = true;
        } else {
            self.room.refused.inc();
            return Err(NoRoom { bytes, bytes_max });
        }
        self.bytes = bytes;
        self.room.held_bytes.set(books.held());
        Ok(())
    }

    /// Bytes that keep the room until they are dropped.
    pub(crate) fn until_sent(self, bytes: Vec<u8>) -> Bytes {
        holding(bytes, self)
    }
}

impl Drop for HeldRoom {
    fn drop(&mut self) {
        let mut books = self.room.books();
        if self.is_beside {
            books.beside = None;
        } else {
            books.within -= self.bytes;
        }
        self.room.held_bytes.set(books.held());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn room() -> (Arc<AnswerRoom>, IntGauge) {
        let held = IntGauge::new("held", "bytes held").unwrap();
        let refused = IntCounter::new("refused", "answers refused").unwrap();
        (AnswerRoom::new(1000, held.clone(), refused), held)
    }

    fn take(room: &Arc<AnswerRoom>, bytes: usize) -> Result<HeldRoom, NoRoom> {
        let mut held = room.answer();
        held.resize(bytes).map(|()| held)
    }

    #[test]
    fn large_answers_that_are_not_taken_leave_room_for_small_ones() {
        let (room, gauge) = room();
        let large: Vec<_> = (0..20).map_while(|_| take(&room, 150).ok()).collect();
        assert_eq!((large.len(), gauge.get()), (6, 900), "five within half of what is free, one beside");
        let small: Vec<_> = (0..5).map(|_| take(&room, 10).unwrap()).collect();
        assert_eq!(room.refused.get(), 1, "the seventh large one");
        assert_eq!(take(&room, 150).unwrap_err(), NoRoom { bytes: 150, bytes_max: 1000 });
        assert_eq!(room.refused.get(), 2);
        drop((large, small));
        assert_eq!(gauge.get(), 0);
        take(&room, 150).unwrap();
    }

    #[test]
    fn one_answer_at_a_time_is_larger_than_all_room() {
        let (room, gauge) = room();
        let first = take(&room, 400).unwrap();
        let mut large = take(&room, 1500).unwrap();
        assert!(take(&room, 700).is_err());
        take(&room, 300).unwrap();
        large.resize(2000).unwrap();
        assert_eq!(gauge.get(), 2400);
        drop(large);
        let next = take(&room, 700).unwrap();
        assert_eq!(gauge.get(), 1100);
        drop((first, next));
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn room_is_held_until_the_last_byte_of_an_answer_is_gone() {
        let (room, gauge) = room();
        let mut body = take(&room, 4).unwrap().until_sent(b"body".to_vec());
        let rest = body.split_off(2);
        drop(body);
        assert_eq!((&rest[..], gauge.get()), (&b"dy"[..], 4));
        drop(rest);
        assert_eq!(gauge.get(), 0);
    }
}
