//! Room for the records of answers, of all connections together.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// A connection has at most this part of all room, and less the less is free.
const SHARES: usize = 4;

/// How many bytes of records may be in answers that are in the making or not yet sent.
///
/// A connection's share shrinks with the square of what is free, so that n clients that take nothing of their answers
/// leave 1 / (1 + n/4) of all room to others. Nobody waits for room as long as a first batch finds some, for without it a
/// reader would never get past it; beyond that one answer at a time may have what is not there.
pub struct AnswerRoom {
    bytes_max: usize,
    books: Mutex<Books>,
    freed: Notify,
    held_bytes: IntGauge,
}

#[derive(Default)]
struct Books {
    held: usize,
    by_connection: HashMap<SocketAddr, usize>,
    overdrawn: bool,
}

/// Room that an answer has, given back when it is dropped.
pub struct HeldRoom {
    room: Arc<AnswerRoom>,
    connection: SocketAddr,
    bytes: usize,
    /// Whether this is the answer that has what was not there.
    overdraws: bool,
}

impl AnswerRoom {
    /// Room for `bytes_max` bytes; `held_bytes` shows how many are taken.
    pub fn new(bytes_max: usize, held_bytes: IntGauge) -> Arc<Self> {
        Arc::new(Self { bytes_max, books: Mutex::default(), freed: Notify::new(), held_bytes })
    }

    /// Takes up to `most` bytes and no less than `least`, which is what the answer's first batch may need; waits for
    /// them until `deadline`.
    pub async fn take(
        self: &Arc<Self>,
        connection: SocketAddr,
        least: usize,
        most: usize,
        deadline: Instant,
    ) -> Option<HeldRoom> {
        loop {
            // Taken before the books are looked at, so that nothing freed falls between the two.
            let freed = self.freed.notified();
            let taken = self.try_take(connection, least, most);
            if taken.is_some() || timeout_at(deadline, freed).await.is_err() {
                return taken.or_else(|| self.try_take(connection, least, most));
            }
        }
    }

    fn try_take(self: &Arc<Self>, connection: SocketAddr, least: usize, most: usize) -> Option<HeldRoom> {
        let mut books = self.books();
        let free = self.bytes_max.saturating_sub(books.held);
        let held = books.by_connection.get(&connection).copied().unwrap_or(0);
        let share = (free * free / self.bytes_max.max(1) / SHARES).saturating_sub(held);
        let (bytes, overdraws) = if share >= least {
            (most.min(share).max(least), false)
        } else if held > 0 {
            return None;
        } else if free >= least {
            (least, false)
        } else if books.overdrawn {
            return None;
        } else {
            (least, true)
        };
        books.overdrawn |= overdraws;
        self.book(&mut books, connection, 0, bytes);
        Some(HeldRoom { room: self.clone(), connection, bytes, overdraws })
    }

    /// Changes what an answer of a connection holds.
    fn book(&self, books: &mut Books, connection: SocketAddr, before: usize, after: usize) {
        books.held = books.held - before + after;
        let held = books.by_connection.entry(connection).or_default();
        *held = *held - before + after;
        if *held == 0 {
            books.by_connection.remove(&connection);
        }
        self.held_bytes.set(books.held as i64);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldRoom {
    /// How much it is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps what the answer has turned out to need.
    pub fn keep(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        let mut books = self.room.books();
        self.room.book(&mut books, self.connection, before, bytes);
        if self.overdraws && (bytes == 0 || books.held <= self.room.bytes_max) {
            self.overdraws = false;
            books.overdrawn = false;
        }
        drop(books);
        self.room.freed.notify_waiters();
    }

    /// Ties the room to an encoded answer: it is given back once the last bytes are sent, or thrown away.
    pub fn until_sent(self, mut answer: Vec<Bytes>) -> Vec<Bytes> {
        if let Some(bytes) = answer.pop() {
            answer.push(Bytes::from_owner(LastChunk { bytes, _room: self }));
        }
        answer
    }
}

impl Drop for HeldRoom {
    fn drop(&mut self) {
        self.keep(0);
    }
}

/// The end of an answer, and the room of the whole of it.
struct LastChunk {
    bytes: Bytes,
    _room: HeldRoom,
}

impl AsRef<[u8]> for LastChunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::time::Duration;

    use futures::{FutureExt, poll};

    use super::*;

    fn room(bytes: usize) -> (Arc<AnswerRoom>, IntGauge) {
        let held = IntGauge::new("held", "bytes held").unwrap();
        (AnswerRoom::new(bytes, held.clone()), held)
    }

    fn client(number: u16) -> SocketAddr {
        ([127, 0, 0, 1], number).into()
    }

    impl AnswerRoom {
        fn now(self: &Arc<Self>, number: u16, least: usize, most: usize) -> Option<HeldRoom> {
            self.try_take(client(number), least, most)
        }
    }

    #[test]
    fn clients_that_take_as_much_as_they_can_leave_room_for_others() {
        let (room, gauge) = room(1 << 20);
        let mut held = Vec::new();
        for n in 0..100 {
            held.push(room.now(n, 1, 1 << 20).unwrap());
            let left = (1 << 20) - gauge.get();
            let promised = f64::from(1 << 20) / (1.0 + f64::from(n + 1) / 4.0);
            assert!(left as f64 >= promised * 0.7, "{n}: {left} of {promised}");
        }
        assert_eq!(held[0].bytes(), (1 << 20) / 4);
        drop(held);
        assert_eq!(gauge.get(), 0);
        assert_eq!(room.now(0, 1, 1 << 20).unwrap().bytes(), (1 << 20) / 4);
    }

    #[test]
    fn a_connection_has_one_share_however_many_requests_it_sends() {
        let (room, gauge) = room(1000);
        let _first = room.now(1, 10, 1000).unwrap();
        assert!(room.now(1, 10, 1000).is_none());
        assert_eq!(gauge.get(), 250);
        assert_eq!(room.now(2, 10, 1000).unwrap().bytes(), 140);
    }

    #[test]
    fn what_an_answer_does_not_need_is_free_again() {
        let (room, gauge) = room(1000);
        let mut first = room.now(1, 10, 1000).unwrap();
        first.keep(5);
        assert_eq!(gauge.get(), 5);
        assert_eq!(room.now(1, 10, 1000).unwrap().bytes(), 242);
    }

    #[test]
    fn a_first_batch_larger_than_the_share_has_what_is_free_and_one_at_a_time_what_is_not() {
        let (room, gauge) = room(1000);
        let first = room.now(1, 900, 900).unwrap();
        let large = room.now(2, 2000, 2000).unwrap();
        assert_eq!(gauge.get(), 2900);
        assert!(room.now(3, 2000, 2000).is_none());
        drop(first);
        assert!(room.now(3, 2000, 2000).is_none());
        drop(large);
        let mut large = room.now(3, 2000, 2000).unwrap();
        large.keep(300);
        // It has turned out to fit, so another may overdraw.
        assert!(room.now(4, 2000, 2000).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_waits_for_it_until_its_deadline() {
        let (room, _) = room(1000);
        let (first, second) = (room.now(1, 1000, 1000).unwrap(), room.now(2, 10, 10).unwrap());
        let deadline = Instant::now() + Duration::from_secs(5);
        assert!(room.take(client(3), 10, 10, deadline).await.is_none());
        assert_eq!(Instant::now(), deadline);

        let mut waiting = Box::pin(room.take(client(3), 10, 10, deadline + Duration::from_secs(5)));
        assert!(poll!(&mut waiting).is_pending());
        drop(first);
        assert_eq!(waiting.await.unwrap().bytes(), 10);
        assert_eq!(Instant::now(), deadline, "as soon as there is room");
        drop(second);
    }

    #[test]
    fn room_is_free_again_once_the_last_bytes_of_an_answer_are_gone() {
        let (room, gauge) = room(1000);
        let answer = vec![Bytes::from_static(b"ab"), Bytes::from_static(b"cd")];
        let mut answer = room.now(1, 4, 4).unwrap().until_sent(answer);
        assert_eq!(answer.concat(), b"abcd");
        let end = answer.pop().unwrap();
        drop(answer);
        assert_eq!(gauge.get(), 4);
        drop(end);
        assert_eq!(gauge.get(), 0);
        assert!(room.take(client(1), 1, 1, Instant::now()).now_or_never().is_some());
    }
}
