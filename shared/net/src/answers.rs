//! The requests in progress on one connection: they run side by side and end in order of arrival.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use chronik_wire::ApiKey;
use futures::future::BoxFuture;
use futures::task::AtomicWaker;

use crate::RequestOutcome;

/// Which request an answer belongs to.
#[derive(Debug, Clone, Copy)]
pub struct RequestKey {
    pub api: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
}

/// A request that the service was called with.
pub struct PendingAnswer {
    pub reply: RequestKey,
    pub frame_bytes: usize,
    pub outcome: BoxFuture<'static, RequestOutcome>,
}

/// Requests in progress, oldest first.
///
/// All are polled as they wake, but while finished answers that wait for an older one reach a limit, only
/// the oldest is: a client that has many large answers coming holds one more than the limit of them.
pub struct AnswerQueue {
    slots: VecDeque<Slot>,
    waiting_bytes: usize,
    waiting_bytes_max: usize,
    request_bytes: usize,
    connection: Arc<AtomicWaker>,
}

struct Slot {
    reply: RequestKey,
    frame_bytes: usize,
    state: State,
    wake: Arc<SlotWake>,
    waker: Waker,
}

enum State {
    Running(BoxFuture<'static, RequestOutcome>),
    Finished(RequestOutcome),
}

/// Notes which request can go on, then wakes the connection.
struct SlotWake {
    woken: AtomicBool,
    connection: Arc<AtomicWaker>,
}

impl Wake for SlotWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.connection.wake();
    }
}

impl AnswerQueue {
    pub fn new(waiting_bytes_max: usize) -> Self {
        Self {
            slots: VecDeque::new(),
            waiting_bytes: 0,
            waiting_bytes_max,
            request_bytes: 0,
            connection: Arc::new(AtomicWaker::new()),
        }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of the frames of all requests in progress.
    pub fn request_bytes(&self) -> usize {
        self.request_bytes
    }

    pub fn push(&mut self, pending: PendingAnswer) {
        let PendingAnswer { reply, frame_bytes, outcome } = pending;
        let wake = Arc::new(SlotWake { woken: AtomicBool::new(true), connection: self.connection.clone() });
        let waker = Waker::from(wake.clone());
        self.request_bytes += frame_bytes;
        self.slots.push_back(Slot { reply, frame_bytes, state: State::Running(outcome), wake, waker });
    }

    /// The outcome of the oldest request, once there is one.
    pub async fn next(&mut self) -> (RequestKey, RequestOutcome) {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The outcome of the oldest request, if it is there already.
    pub fn take_finished(&mut self) -> Option<(RequestKey, RequestOutcome)> {
        if !matches!(self.slots.front()?.state, State::Finished(_)) {
            return None;
        }
        let Slot { reply, frame_bytes, state, .. } = self.slots.pop_front()?;
        self.request_bytes -= frame_bytes;
        match state {
            State::Running(_) => None,
            State::Finished(outcome) => {
                self.waiting_bytes -= answer_bytes(&outcome);
                Some((reply, outcome))
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(RequestKey, RequestOutcome)> {
        // Registered before the flags are read, so that no wake falls between the two.
        self.connection.register(cx.waker());
        for (place, slot) in self.slots.iter_mut().enumerate() {
            if place > 0 && self.waiting_bytes >= self.waiting_bytes_max {
                break;
            }
            self.waiting_bytes += slot.poll();
        }
        match self.take_finished() {
            Some(finished) => Poll::Ready(finished),
            None => Poll::Pending,
        }
    }
}

impl Slot {
    /// Lets the request go on if it was woken; the bytes of its answer if it ends now.
    fn poll(&mut self) -> usize {
        let State::Running(future) = &mut self.state else {
            return 0;
        };
        if !self.wake.woken.swap(false, Ordering::Acquire) {
            return 0;
        }
        match future.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => 0,
            Poll::Ready(outcome) => {
                let bytes = answer_bytes(&outcome);
                self.state = State::Finished(outcome);
                bytes
            }
        }
    }
}

fn answer_bytes(outcome: &RequestOutcome) -> usize {
    match outcome {
        RequestOutcome::Answer(body) => body.iter().map(Bytes::len).sum(),
        RequestOutcome::NoAnswer | RequestOutcome::Close { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::atomic::AtomicUsize;

    use futures::FutureExt;
    use futures::channel::oneshot;
    use proptest::prelude::*;

    use super::*;

    fn pending(number: i32, outcome: BoxFuture<'static, RequestOutcome>) -> PendingAnswer {
        let reply = RequestKey { api: ApiKey::Fetch, version: 4, correlation_id: number };
        PendingAnswer { reply, frame_bytes: 10, outcome }
    }

    fn kilobyte() -> RequestOutcome {
        RequestOutcome::Answer(vec![Bytes::from_static(&[0; 1024])])
    }

    #[test]
    fn while_waiting_answers_reach_the_limit_only_the_oldest_request_goes_on() {
        let finished = Arc::new(AtomicUsize::new(0));
        let mut answers = AnswerQueue::new(3 * 1024);
        let (oldest, outcome) = oneshot::channel();
        answers.push(pending(0, outcome.map(|answer| answer.unwrap()).boxed()));
        for number in 1..10 {
            let finished = finished.clone();
            answers.push(pending(
                number,
                async move {
                    finished.fetch_add(1, Ordering::Relaxed);
                    kilobyte()
                }
                .boxed(),
            ));
        }
        assert!(answers.next().now_or_never().is_none());
        assert_eq!(finished.load(Ordering::Relaxed), 3);

        oldest.send(kilobyte()).unwrap();
        for number in 0..10 {
            let (reply, _) = answers.next().now_or_never().unwrap();
            assert_eq!(reply.correlation_id, number);
            assert!(finished.load(Ordering::Relaxed) <= number as usize + 3);
        }
        assert_eq!((answers.len(), answers.request_bytes(), answers.waiting_bytes), (0, 0, 0));
    }

    proptest! {
        #[test]
        fn answers_leave_in_order_of_arrival(order in Just((0..20).collect::<Vec<i32>>()).prop_shuffle()) {
            let mut answers = AnswerQueue::new(usize::MAX);
            let mut senders = Vec::new();
            for number in 0..20 {
                let (sender, outcome) = oneshot::channel();
                answers.push(pending(number, outcome.map(|answer| answer.unwrap()).boxed()));
                senders.push(Some(sender));
            }
            let mut left = Vec::new();
            for (answered, number) in order.iter().enumerate() {
                senders[*number as usize].take().unwrap().send(kilobyte()).unwrap();
                while let Some(Some((reply, _))) = (!answers.is_empty()).then(|| answers.next().now_or_never()) {
                    left.push(reply.correlation_id);
                }
                let first_unanswered = (0..20).find(|number| !order[..=answered].contains(number)).unwrap_or(20);
                prop_assert_eq!(left.len(), first_unanswered as usize);
            }
            prop_assert_eq!(left, (0..20).collect::<Vec<_>>());
        }
    }
}
