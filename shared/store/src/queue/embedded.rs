//! The queue of a process that runs everything itself.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use prometheus::IntCounter;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Queue, QueueDelivery, QueueDepth, QueueError, check_size};
use chronik_service::telemetry::Metrics;

/// What a message takes besides its body.
const MESSAGE_OVERHEAD: usize = 128;
/// Bytes of the dead letters that are kept; older ones go first.
const DEAD_BYTES_MAX: usize = 4 << 20;

/// A message that no indexer could work on, kept for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message.
    pub body: String,
    /// Why it was buried.
    pub reason: String,
}

/// A queue in memory, bounded by bytes. What it holds ends with the process, which is no loss: the lane's state knows
/// what is pending.
#[derive(Debug)]
pub struct EmbeddedQueue {
    bytes_max: usize,
    state: Mutex<State>,
    /// Rung when a message may have become visible earlier than a waiting receiver knows.
    sooner: Notify,
    buried: IntCounter,
}

#[derive(Debug, Default)]
struct State {
    /// By the number that they were sent under.
    messages: BTreeMap<u64, Message>,
    bytes: usize,
    sent: u64,
    hand_outs: u64,
    dead: VecDeque<DeadLetter>,
    dead_bytes: usize,
}

#[derive(Debug)]
struct Message {
    body: String,
    receives: u32,
    /// The last hand-out and when it ends; the message is visible from then on.
    hidden: Option<(u64, Instant)>,
}

impl Message {
    fn bytes(&self) -> usize {
        MESSAGE_OVERHEAD + self.body.len()
    }

    fn is_visible(&self, now: Instant) -> bool {
        self.hidden.is_none_or(|(_, until)| until <= now)
    }
}

impl EmbeddedQueue {
    /// An empty queue that takes up to `bytes_max` bytes of messages.
    pub fn new(bytes_max: usize) -> Self {
        Self::with_metrics(bytes_max, &Metrics::new())
    }

    /// As [`Self::new`]; the count of dead letters shows among `metrics`.
    pub fn with_metrics(bytes_max: usize, metrics: &Metrics) -> Self {
        let buried = metrics.counter("chronik_queue_buried_total", "Messages moved to the dead letters.");
        Self { bytes_max, state: Mutex::default(), sooner: Notify::new(), buried }
    }

    /// The newest dead letters, oldest first.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.state().dead.iter().cloned().collect()
    }

    /// How many messages were ever buried.
    pub fn buried(&self) -> u64 {
        self.buried.get()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn hand_out(&mut self, most: usize, visibility: Duration, now: Instant) -> Vec<QueueDelivery> {
        let visible = self.messages.iter_mut().filter(|(_, message)| message.is_visible(now));
        let hand_out = |(number, message): (&u64, &mut Message)| {
            self.hand_outs += 1;
            message.receives = message.receives.saturating_add(1);
            message.hidden = Some((self.hand_outs, now + visibility));
            let receipt = format!("{number}-{}", self.hand_outs);
            QueueDelivery { receipt, body: message.body.clone(), receives: message.receives }
        };
        visible.take(most).map(hand_out).collect()
    }

    /// When the next hidden message becomes visible.
    fn next_visible(&self) -> Option<Instant> {
        self.messages.values().filter_map(|message| message.hidden.map(|(_, until)| until)).min()
    }

    /// The message that `receipt` holds: handed out under it, and still hidden.
    fn held(&mut self, receipt: &str, now: Instant) -> Option<(u64, &mut Message)> {
        let (number, hand_out) = receipt.split_once('-')?;
        let (number, hand_out): (u64, u64) = (number.parse().ok()?, hand_out.parse().ok()?);
        let message = self.messages.get_mut(&number)?;
        let (holder, until) = message.hidden?;
        (holder == hand_out && until > now).then_some((number, message))
    }

    fn remove(&mut self, receipt: &str, now: Instant) -> Option<Message> {
        let number = self.held(receipt, now)?.0;
        let message = self.messages.remove(&number)?;
        self.bytes -= message.bytes();
        Some(message)
    }

    fn keep_dead(&mut self, letter: DeadLetter) {
        let bytes = |letter: &DeadLetter| letter.body.len() + letter.reason.len();
        self.dead_bytes += bytes(&letter);
        self.dead.push_back(letter);
        while self.dead_bytes > DEAD_BYTES_MAX
            && let Some(oldest) = self.dead.pop_front()
        {
            self.dead_bytes -= bytes(&oldest);
        }
    }
}

#[async_trait]
impl Queue for EmbeddedQueue {
    async fn send(&self, body: String) -> Result<(), QueueError> {
        check_size(&body)?;
        let message = Message { body, receives: 0, hidden: None };
        let mut state = self.state();
        if state.bytes + message.bytes() > self.bytes_max {
            return Err(QueueError::Full { bytes: state.bytes, limit: self.bytes_max });
        }
        state.bytes += message.bytes();
        state.sent += 1;
        let number = state.sent;
        state.messages.insert(number, message);
        drop(state);
        self.sooner.notify_waiters();
        Ok(())
    }

    async fn receive(
        &self,
        most: usize,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<QueueDelivery>, QueueError> {
        let deadline = Instant::now() + wait;
        loop {
            // Made before the look, so that nothing sent in between is missed.
            let sooner = self.sooner.notified();
            let now = Instant::now();
            let (deliveries, next_visible) = {
                let mut state = self.state();
                (state.hand_out(most, visibility, now), state.next_visible())
            };
            if !deliveries.is_empty() || now >= deadline {
                return Ok(deliveries);
            }
            let wake = next_visible.map_or(deadline, |next| next.min(deadline));
            let _ = tokio::time::timeout_at(wake, sooner).await;
        }
    }

    async fn extend(&self, receipt: &str, visibility: Duration) -> Result<(), QueueError> {
        let now = Instant::now();
        if let Some((_, message)) = self.state().held(receipt, now)
            && let Some((_, until)) = &mut message.hidden
        {
            *until = now + visibility;
        }
        self.sooner.notify_waiters();
        Ok(())
    }

    async fn acknowledge(&self, receipt: &str) -> Result<(), QueueError> {
        self.state().remove(receipt, Instant::now());
        Ok(())
    }

    async fn release(&self, receipt: &str) -> Result<(), QueueError> {
        if let Some((_, message)) = self.state().held(receipt, Instant::now()) {
            message.hidden = None;
        }
        self.sooner.notify_waiters();
        Ok(())
    }

    async fn bury(&self, delivery: &QueueDelivery, reason: &str) -> Result<(), QueueError> {
        let mut state = self.state();
        if let Some(message) = state.remove(&delivery.receipt, Instant::now()) {
            self.buried.inc();
            tracing::warn!("a job went to the dead letters: {reason}");
            state.keep_dead(DeadLetter { body: message.body, reason: reason.to_owned() });
        }
        Ok(())
    }

    async fn depth(&self) -> Result<QueueDepth, QueueError> {
        let now = Instant::now();
        let state = self.state();
        let visible = state.messages.values().filter(|message| message.is_visible(now)).count();
        Ok(QueueDepth { visible, in_flight: state.messages.len() - visible })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::sync::Arc;

    use super::*;
    use crate::queue::suite::queue_suite;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn it_passes_the_suite() {
        queue_suite(Arc::new(EmbeddedQueue::new(1 << 20))).await;
    }

    #[tokio::test]
    async fn it_takes_no_more_than_its_bytes() {
        let queue = EmbeddedQueue::new(3 * (MESSAGE_OVERHEAD + 10));
        for _ in 0..3 {
            queue.send("0123456789".into()).await.unwrap();
        }
        assert!(matches!(queue.send(String::new()).await, Err(QueueError::Full { .. })));
        let delivery = queue.receive(1, MINUTE, Duration::ZERO).await.unwrap().remove(0);
        assert!(queue.send(String::new()).await.is_err(), "a message in flight still takes its place");
        queue.acknowledge(&delivery.receipt).await.unwrap();
        queue.send("0123456789".into()).await.unwrap();
    }

    #[tokio::test]
    async fn dead_letters_are_counted_and_bounded() {
        let queue = EmbeddedQueue::new(16 << 20);
        for number in 0..30 {
            queue.send(format!("{number:02}").repeat(80 << 10)).await.unwrap();
            let delivery = queue.receive(1, MINUTE, Duration::ZERO).await.unwrap().remove(0);
            queue.bury(&delivery, "kind").await.unwrap();
            queue.bury(&delivery, "twice").await.unwrap();
        }
        assert_eq!(queue.buried(), 30);
        let kept: Vec<_> = queue.dead_letters().iter().map(|letter| letter.body[..2].to_owned()).collect();
        assert_eq!((kept.len(), kept[0].as_str(), kept[24].as_str()), (25, "05", "29"));
        assert_eq!(queue.depth().await.unwrap(), QueueDepth::default());
    }

    #[tokio::test]
    async fn receipts_of_others_do_nothing() {
        let queue = EmbeddedQueue::new(1 << 20);
        queue.send("a".into()).await.unwrap();
        queue.receive(1, MINUTE, Duration::ZERO).await.unwrap();
        for receipt in ["", "1", "1-0", "1-2", "2-1", "x-y", "-"] {
            let delivery = QueueDelivery { receipt: receipt.into(), body: "a".into(), receives: 1 };
            queue.acknowledge(receipt).await.unwrap();
            queue.bury(&delivery, "no").await.unwrap();
            queue.release(receipt).await.unwrap();
        }
        assert_eq!(queue.depth().await.unwrap(), QueueDepth { visible: 0, in_flight: 1 });
    }
}
