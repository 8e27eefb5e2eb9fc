//! Room for the records of answers, of all connections together.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chronik_net::AnswerDelivery;
use chronik_service::held::holding;
use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// A connection has at most this part of all room, and less the less is free.
const SHARES: usize = 4;
/// While others wait for room, a client that takes nothing of its answers for longer than this loses its connection.
const UNTAKEN_MAX: Duration = Duration::from_secs(3);

/// How many bytes of records may be in answers that are in the making or not yet sent.
///
/// A connection's share shrinks with the square of what is free, so that n clients that take nothing of their answers
/// leave 1 / (1 + n/4) of all room to others. No client waits for room as long as a first batch finds some, for without
/// it a reader would never get past it; beyond that one answer at a time may have what is not there. Who has to wait,
/// has the connections closed that hold room and take nothing, those first that have done so for the longest time.
pub struct FetchRoom {
    bytes_max: usize,
    books: Mutex<Books>,
    freed: Notify,
    held_bytes: IntGauge,
}

#[derive(Default)]
struct Books {
    held: usize,
    by_connection: HashMap<SocketAddr, Holder>,
}

/// A connection that has room.
struct Holder {
    bytes: usize,
    delivery: Arc<AnswerDelivery>,
}

/// A connection that wants room for an answer.
#[derive(Clone)]
pub struct AnswerClient {
    /// Its address.
    pub peer: SocketAddr,
    /// How it takes its answers.
    pub delivery: Arc<AnswerDelivery>,
}

/// Room that an answer or a part of it has, given back when it is dropped.
pub struct HeldFetchRoom {
    room: Arc<FetchRoom>,
    client: AnswerClient,
    bytes: usize,
}

impl FetchRoom {
    /// Room for `bytes_max` bytes; `held_bytes` shows how many are taken.
    pub fn new(bytes_max: usize, held_bytes: IntGauge) -> Arc<Self> {
        Arc::new(Self { bytes_max, books: Mutex::default(), freed: Notify::new(), held_bytes })
    }

    /// Takes up to `most` bytes and no less than `least`, which is what the answer's first batch may need; waits for
    /// them until `deadline`.
    pub async fn take(
        self: &Arc<Self>,
        client: &AnswerClient,
        least: usize,
        most: usize,
        deadline: Instant,
    ) -> Option<HeldFetchRoom> {
        loop {
            // Taken before the books are looked at, so that nothing freed falls between the two.
            let freed = self.freed.notified();
            let taken = self.try_take(client, least, most);
            if taken.is_some() {
                return taken;
            }
            let until = deadline.min(self.close_untaken(client, least));
            if timeout_at(until, freed).await.is_err() && until == deadline {
                return self.try_take(client, least, most);
            }
        }
    }

    fn try_take(self: &Arc<Self>, client: &AnswerClient, least: usize, most: usize) -> Option<HeldFetchRoom> {
        let mut books = self.books();
        let free = self.bytes_max.saturating_sub(books.held);
        let held = books.by_connection.get(&client.peer).map_or(0, |holder| holder.bytes);
        let share = (free * free / self.bytes_max.max(1) / SHARES).saturating_sub(held);
        let bytes = if share >= least {
            most.min(share).max(least)
        } else if held > 0 || free < least && books.held > self.bytes_max {
            return None;
        } else {
            least
        };
        self.book(&mut books, client, 0, bytes);
        Some(HeldFetchRoom { room: self.clone(), client: client.clone(), bytes })
    }

    /// Closes the connections that have taken nothing for the longest time, and for too long, as far as others must end
    /// for `least` bytes to be free; returns when to look again. A client that holds room itself has only its own
    /// answers to wait for.
    fn close_untaken(&self, client: &AnswerClient, least: usize) -> Instant {
        let books = self.books();
        let (now, mut held, mut untaken) = (Instant::now(), books.held, Vec::new());
        for holder in books.by_connection.values() {
            if holder.delivery.is_given_up() {
                held -= holder.bytes;
            } else if let Some(since) = holder.delivery.untaken_since() {
                untaken.push((since, holder));
            }
        }
        untaken.sort_by_key(|(since, _)| *since);
        for (since, holder) in untaken {
            if held + least <= self.bytes_max || books.by_connection.contains_key(&client.peer) {
                break;
            }
            if since + UNTAKEN_MAX > now {
                return since + UNTAKEN_MAX;
            }
            holder.delivery.give_up();
            held -= holder.bytes;
        }
        now + UNTAKEN_MAX
    }

    /// Changes what an answer of a connection holds.
    fn book(&self, books: &mut Books, client: &AnswerClient, before: usize, after: usize) {
        books.held = books.held - before + after;
        let holder = || Holder { bytes: 0, delivery: client.delivery.clone() };
        let holder = books.by_connection.entry(client.peer).or_insert_with(holder);
        holder.bytes = holder.bytes - before + after;
        if holder.bytes == 0 {
            books.by_connection.remove(&client.peer);
        }
        self.held_bytes.set(books.held as i64);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldFetchRoom {
    /// How much it is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps what the answer has turned out to need.
    pub fn keep(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        let mut books = self.room.books();
        self.room.book(&mut books, &self.client, before, bytes);
        drop(books);
        self.room.freed.notify_waiters();
    }

    /// Ties the room to an encoded answer: that of each part is given back once it is sent, or thrown away.
    pub fn until_sent(mut self, answer: Vec<Bytes>) -> Vec<Bytes> {
        answer
            .into_iter()
            .map(|bytes| {
                let room = self.split(bytes.len());
                holding(bytes, room)
            })
            .collect()
    }

    /// A part of it, of up to so many bytes.
    fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { room: self.room.clone(), client: self.client.clone(), bytes }
    }
}

impl Drop for HeldFetchRoom {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.keep(0);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use futures::{FutureExt, poll};

    use super::*;

    fn room(bytes: usize) -> (Arc<FetchRoom>, IntGauge) {
        let held = IntGauge::new("held", "bytes held").unwrap();
        (FetchRoom::new(bytes, held.clone()), held)
    }

    fn client(number: u16) -> AnswerClient {
        AnswerClient { peer: ([127, 0, 0, 1], number).into(), delivery: Arc::default() }
    }

    impl FetchRoom {
        fn now(self: &Arc<Self>, number: u16, least: usize, most: usize) -> Option<HeldFetchRoom> {
            self.try_take(&client(number), least, most)
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
        assert!(room.take(&client(3), 10, 10, deadline).await.is_none());
        assert_eq!(Instant::now(), deadline);

        let third = client(3);
        let mut waiting = Box::pin(room.take(&third, 10, 10, deadline + Duration::from_secs(5)));
        assert!(poll!(&mut waiting).is_pending());
        drop(first);
        assert_eq!(waiting.await.unwrap().bytes(), 10);
        assert_eq!(Instant::now(), deadline, "as soon as there is room");
        drop(second);
    }

    /// The records of an answer have room, what stands around them has none.
    #[test]
    fn room_is_free_again_as_the_bytes_of_an_answer_go() {
        let (room, gauge) = room(1000);
        let answer = vec![Bytes::from_static(b"ab"), Bytes::from_static(b"cde"), Bytes::from_static(b"f")];
        let mut answer = room.now(1, 4, 4).unwrap().until_sent(answer);
        assert_eq!(answer.concat(), b"abcdef");
        for left in [2, 0, 0] {
            drop(answer.remove(0));
            assert_eq!(gauge.get(), left);
        }
        assert!(room.take(&client(1), 1, 1, Instant::now()).now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_has_those_closed_that_take_nothing_the_longest_idle_first() {
        let (room, _) = room(1000);
        let clients: Vec<AnswerClient> = (0..5).map(client).collect();
        let mut held: Vec<_> = clients.iter().map(|client| room.try_take(client, 300, 300)).collect();
        assert!(held.iter().flatten().map(HeldFetchRoom::bytes).eq([300; 4]), "the last but one overdraws");
        for of in [2, 0, 1] {
            clients[of].delivery.offered();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        // Two must go for 300 bytes to be free. The one that goes on taking is not among them.
        clients[2].delivery.offered();
        let reader = client(9);
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut waiting = Box::pin(room.take(&reader, 300, 300, deadline));
        for closed in [0, 1] {
            assert!(poll!(&mut waiting).is_pending());
            assert!(!clients[closed].delivery.is_given_up(), "not yet");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(poll!(&mut waiting).is_pending());
            assert!(clients[closed].delivery.is_given_up());
        }
        held[0] = None;
        assert_eq!(waiting.await.unwrap().bytes(), 300);
        let closed: Vec<_> = clients.iter().map(|client| client.delivery.is_given_up()).collect();
        assert_eq!(closed, [true, true, false, false, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_client_is_closed_for_one_that_waits_for_its_own_answers_to_be_taken() {
        let (room, _) = room(1000);
        let (idle, greedy) = (client(1), client(2));
        let _held = (room.try_take(&idle, 600, 600).unwrap(), room.try_take(&greedy, 300, 300).unwrap());
        idle.delivery.offered();
        let deadline = Instant::now() + Duration::from_secs(20);
        assert!(room.take(&greedy, 300, 300, deadline).await.is_none());
        assert!(!idle.delivery.is_given_up());
    }
}
