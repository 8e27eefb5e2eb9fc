//! Memory for requests: whose bytes may be read off the socket now.
//!
//! Every connection has a small budget of its own, so that a small request never waits for another client's. A larger
//! one draws on what all connections share, step by step as its bytes arrive: announcing much takes nothing. What
//! one request may have of it is limited, and requests that have a part and wait for the rest could wait for each
//! other. So one of them at a time, the oldest that waits, goes beyond both limits until it is answered: there is
//! always one that can go on.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::NetStats;
use crate::stats::{count, uncount};

/// A connection's own budget, bytes.
pub const OWN_BYTES: usize = 16 << 10;
/// The part of what all share that one request may have.
const SHARE: usize = 4;

/// The budget of a server for the bytes of requests.
pub struct RequestAdmission {
    share: usize,
    books: Mutex<Books>,
    stats: Arc<NetStats>,
}

struct Books {
    free: usize,
    /// Some request goes beyond the limits.
    is_exceeded: bool,
    next: u64,
    /// By age.
    waiting: BTreeMap<u64, Waiting>,
}

struct Waiting {
    bytes: usize,
    is_within_share: bool,
    granted: Option<Grant>,
    waker: Waker,
}

#[derive(Clone, Copy)]
enum Grant {
    /// So many bytes of what all share.
    Shared,
    /// Whatever the request needs.
    Beyond,
}

impl RequestAdmission {
    /// `bytes` for all connections together, besides what each has of its own.
    pub fn new(bytes: usize, stats: Arc<NetStats>) -> Arc<Self> {
        let books = Books { free: bytes, is_exceeded: false, next: 0, waiting: BTreeMap::new() };
        Arc::new(Self { share: bytes / SHARE, books: Mutex::new(books), stats })
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Gives what there is, the oldest first.
    fn settle(&mut self) {
        for waiting in self.waiting.values_mut().filter(|waiting| waiting.granted.is_none()) {
            if waiting.is_within_share && waiting.bytes <= self.free {
                self.free -= waiting.bytes;
                waiting.granted = Some(Grant::Shared);
            } else if !self.is_exceeded {
                self.is_exceeded = true;
                waiting.granted = Some(Grant::Beyond);
            } else {
                continue;
            }
            waiting.waker.wake_by_ref();
        }
    }

    fn give_back(&mut self, grant: Grant, bytes: usize) {
        match grant {
            Grant::Shared => self.free += bytes,
            Grant::Beyond => self.is_exceeded = false,
        }
    }
}

/// What one connection has.
pub struct ConnectionRoom {
    admission: Arc<RequestAdmission>,
    own_in_use: Arc<AtomicUsize>,
}

impl ConnectionRoom {
    pub fn new(admission: Arc<RequestAdmission>) -> Self {
        Self { admission, own_in_use: Arc::default() }
    }

    /// For one request; older ones go before younger ones.
    pub fn request(&self) -> RequestRoom {
        let mut books = self.admission.lock();
        books.next += 1;
        RequestRoom {
            number: books.next,
            admission: self.admission.clone(),
            own_in_use: self.own_in_use.clone(),
            own: 0,
            shared: 0,
            is_beyond: false,
            bytes: 0,
        }
    }
}

/// The bytes of one request, from its first until it is answered.
pub struct RequestRoom {
    admission: Arc<RequestAdmission>,
    number: u64,
    own_in_use: Arc<AtomicUsize>,
    own: usize,
    shared: usize,
    is_beyond: bool,
    bytes: usize,
}

impl RequestRoom {
    /// Takes a permit for more bytes, once there is one.
    pub async fn take(&mut self, bytes: usize) {
        if self.own_in_use.load(Ordering::Relaxed) + bytes <= OWN_BYTES {
            self.own_in_use.fetch_add(bytes, Ordering::Relaxed);
            self.own += bytes;
        } else if !self.is_beyond {
            match poll_fn(|cx| self.poll_take(bytes, cx)).await {
                Grant::Shared => self.shared += bytes,
                Grant::Beyond => self.is_beyond = true,
            }
        }
        self.bytes += bytes;
        count(&self.admission.stats.in_flight_bytes, bytes);
    }

    fn poll_take(&self, bytes: usize, cx: &mut Context<'_>) -> Poll<Grant> {
        let mut books = self.admission.lock();
        let waiting = books.waiting.entry(self.number).or_insert_with(|| Waiting {
            bytes,
            is_within_share: self.shared + bytes <= self.admission.share,
            granted: None,
            waker: cx.waker().clone(),
        });
        waiting.waker.clone_from(cx.waker());
        books.settle();
        let granted = books.waiting.get(&self.number).and_then(|waiting| waiting.granted);
        match granted {
            Some(grant) => {
                books.waiting.remove(&self.number);
                Poll::Ready(grant)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for RequestRoom {
    fn drop(&mut self) {
        uncount(&self.admission.stats.in_flight_bytes, self.bytes);
        self.own_in_use.fetch_sub(self.own, Ordering::Relaxed);
        let mut books = self.admission.lock();
        if let Some(Waiting { granted: Some(grant), bytes, .. }) = books.waiting.remove(&self.number) {
            books.give_back(grant, bytes);
        }
        books.give_back(Grant::Shared, self.shared);
        if self.is_beyond {
            books.give_back(Grant::Beyond, 0);
        }
        books.settle();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures::FutureExt;
    use proptest::prelude::*;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    const MIB: usize = 1 << 20;

    fn room(bytes: usize) -> (Arc<RequestAdmission>, Arc<NetStats>) {
        let stats = Arc::<NetStats>::default();
        (RequestAdmission::new(bytes, stats.clone()), stats)
    }

    fn connection(admission: &Arc<RequestAdmission>) -> ConnectionRoom {
        ConnectionRoom::new(admission.clone())
    }

    #[test]
    fn a_small_request_never_waits_and_a_connection_has_only_so_much_of_its_own() {
        let (admission, _) = room(0);
        let mut hog = connection(&admission).request();
        hog.take(90 * MIB).now_or_never().unwrap();
        let neighbour = connection(&admission);
        let mut small = [neighbour.request(), neighbour.request(), neighbour.request()];
        for request in &mut small[..2] {
            request.take(OWN_BYTES / 2).now_or_never().unwrap();
        }
        assert!(small[2].take(1).now_or_never().is_none());
        drop(small);
        neighbour.request().take(OWN_BYTES).now_or_never().unwrap();
    }

    #[test]
    fn one_request_at_a_time_goes_beyond_its_share() {
        let (admission, _) = room(40 * MIB);
        let mut large = [0; 3].map(|_| connection(&admission).request());
        for request in &mut large {
            request.take(10 * MIB).now_or_never().unwrap();
        }
        large[0].take(50 * MIB).now_or_never().unwrap();
        assert!(large[2].take(MIB).now_or_never().is_none());
        assert!(large[1].take(MIB).now_or_never().is_none());
        connection(&admission).request().take(10 * MIB).now_or_never().unwrap();
        let [first, mut second, mut third] = large;
        drop(first);
        assert!(third.take(MIB).now_or_never().is_none(), "the older one goes first");
        second.take(MIB).now_or_never().unwrap();
        drop(second);
        third.take(MIB).now_or_never().unwrap();
    }

    #[test]
    fn room_granted_to_a_request_that_has_ended_is_not_lost() {
        let (admission, stats) = room(40 * MIB);
        let mut held = [0; 5].map(|_| connection(&admission).request());
        for request in &mut held {
            request.take(10 * MIB).now_or_never().unwrap();
        }
        let mut waits = connection(&admission).request();
        assert!(waits.take(10 * MIB).now_or_never().is_none());
        drop(held);
        drop(waits);
        assert_eq!(stats.in_flight_bytes.load(Relaxed), 0);
        let books = admission.lock();
        assert_eq!((books.free, books.is_exceeded, books.waiting.len()), (40 * MIB, false, 0));
    }

    proptest! {
        #[test]
        fn whatever_requests_come_all_are_admitted_in_the_end_and_never_too_much_at_once(
            sizes in prop::collection::vec(1usize..30 * MIB, 1..40),
            order in prop::collection::vec(any::<prop::sample::Index>(), 2000),
        ) {
            const STEP: usize = MIB;
            let (admission, stats) = room(20 * MIB);
            let mut under_way: Vec<_> =
                sizes.iter().map(|size| (*size, connection(&admission).request())).collect();
            let mut order = order.into_iter().cycle();
            let mut idle = 0;
            while !under_way.is_empty() {
                let at = order.next().unwrap().index(under_way.len());
                let (left, request) = &mut under_way[at];
                let step = STEP.min(*left);
                if request.take(step).now_or_never().is_some() {
                    idle = 0;
                    *left -= step;
                    if *left == 0 {
                        under_way.swap_remove(at);
                    }
                } else {
                    idle += 1;
                }
                prop_assert!(idle < 20_000, "no connection can go on");
                let most = 20 * MIB + 30 * MIB + sizes.len() * OWN_BYTES;
                prop_assert!(stats.in_flight_bytes.load(Relaxed) <= most as u64);
            }
            prop_assert_eq!(admission.lock().free, 20 * MIB);
        }
    }
}
