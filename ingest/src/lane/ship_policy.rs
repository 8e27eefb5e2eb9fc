//! When the unshipped log becomes a segment.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use chronik_format::ids::LogIndex;

use crate::state::command::Urgency;

/// Topics that are created and deleted wait longer than records do.
const TOPICS_AGE: Duration = Duration::from_secs(60);
/// What consumer groups and producers do waits until much of it is together: consumers that go on reading what was written
/// long ago would otherwise make a segment every minute. A disk that is lost takes it along; records it never takes longer.
const CLIENTS_AGE: Duration = Duration::from_secs(10 * 60);
/// Ranges that may be on their way to the bucket before age draws no more borders. What is behind then goes out in large
/// segments, and their number is bounded by the log's bytes, not by the length of an outage.
const AGED_RANGES_MAX: usize = 64;

/// The limits of the unshipped log.
#[derive(Clone, Copy, Debug)]
pub struct ShipLimits {
    /// Bytes of frames that make a segment.
    pub bytes: u64,
    /// How long the oldest batch waits.
    pub age: Duration,
}

/// The log beyond the last registered segment: the ranges that are being shipped, and what is beyond the last border.
#[derive(Debug)]
pub struct UnshippedLog {
    limits: ShipLimits,
    being_shipped: VecDeque<Range>,
    being_shipped_bytes: u64,
    first: LogIndex,
    bytes: u64,
    oldest_append: Option<Instant>,
    /// When age asks for a border; `None` while nothing but bookkeeping lies beyond the last one.
    due_at: Option<Instant>,
}

/// A range that is to become a segment and is not registered yet.
#[derive(Debug)]
struct Range {
    last: LogIndex,
    bytes: u64,
    oldest_append: Option<Instant>,
}

/// What a frame means for shipping.
#[derive(Clone, Copy, Debug)]
pub struct FrameWeight {
    /// Bytes of its commands and batches.
    pub bytes: u64,
    /// Of its most urgent command.
    pub urgency: Urgency,
}

impl FrameWeight {
    /// Of a frame whose commands are of these urgencies; commands and batches take so many bytes.
    pub fn of(urgencies: impl Iterator<Item = Urgency>, command_bytes: u64, batch_bytes: u64) -> Self {
        Self { bytes: command_bytes + batch_bytes, urgency: urgencies.max().unwrap_or_default() }
    }

    /// Merges with the frame that follows if both together have no more than `bytes`.
    pub fn absorb(&mut self, next: &FrameWeight, bytes: u64) -> bool {
        let fits = self.bytes + next.bytes <= bytes;
        if fits {
            self.bytes += next.bytes;
            self.urgency = self.urgency.max(next.urgency);
        }
        fits
    }
}

impl UnshippedLog {
    /// Nothing is unshipped; the next frame is `first`.
    pub fn new(limits: ShipLimits, first: LogIndex) -> Self {
        let being_shipped = VecDeque::new();
        Self { limits, being_shipped, being_shipped_bytes: 0, first, bytes: 0, oldest_append: None, due_at: None }
    }

    /// The first index beyond the last border.
    pub fn first(&self) -> LogIndex {
        self.first
    }

    /// Whether nothing lies beyond the last border.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes of all frames beyond the last registered segment.
    pub fn bytes(&self) -> u64 {
        self.being_shipped_bytes + self.bytes
    }

    /// Since when the oldest batch waits that is not in a registered segment.
    pub fn oldest(&self) -> Option<Instant> {
        self.being_shipped.iter().find_map(|range| range.oldest_append).or(self.oldest_append)
    }

    /// Whether a border must come before a frame of this size, so that the segment stays within the limit.
    pub fn is_full_before(&self, frame: &FrameWeight) -> bool {
        self.bytes > 0 && self.bytes + frame.bytes > self.limits.bytes
    }

    /// Counts a frame that was applied at `now`.
    pub fn add(&mut self, frame: &FrameWeight, now: Instant) {
        self.bytes += frame.bytes;
        let age = match frame.urgency {
            Urgency::Bookkeeping => return,
            Urgency::Clients => CLIENTS_AGE.max(self.limits.age),
            Urgency::Topics => TOPICS_AGE.max(self.limits.age),
            Urgency::Records => self.limits.age,
        };
        if frame.urgency == Urgency::Records {
            self.oldest_append.get_or_insert(now);
        }
        self.due_at = Some(self.due_at.map_or(now + age, |due| due.min(now + age)));
    }

    /// Whether there is anything but bookkeeping beyond the last border.
    pub fn is_worth_shipping(&self) -> bool {
        self.due_at.is_some()
    }

    /// When the age limits ask for a border.
    pub fn due_at(&self) -> Option<Instant> {
        self.due_at.filter(|_| self.being_shipped.len() < AGED_RANGES_MAX)
    }

    /// Whether size or age ask for a border now.
    pub fn is_due(&self, now: Instant) -> bool {
        (self.bytes >= self.limits.bytes && self.is_worth_shipping()) || self.due_at().is_some_and(|due| due <= now)
    }

    /// Draws a border after `last`.
    pub fn cut(&mut self, last: LogIndex) {
        let oldest_append = self.oldest_append.take();
        self.being_shipped.push_back(Range { last, bytes: self.bytes, oldest_append });
        self.being_shipped_bytes += self.bytes;
        self.first = last + 1;
        self.bytes = 0;
        self.due_at = None;
    }

    /// Everything up to `shipped` is in registered segments.
    pub fn registered(&mut self, shipped: LogIndex) {
        while let Some(range) = self.being_shipped.pop_front_if(|range| range.last <= shipped) {
            self.being_shipped_bytes -= range.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ShipLimits = ShipLimits { bytes: 100, age: Duration::from_secs(10) };

    fn frame(bytes: u64, urgency: Urgency) -> FrameWeight {
        FrameWeight { bytes, urgency }
    }

    #[test]
    fn a_border_comes_before_the_frame_that_would_exceed_the_limit() {
        let mut unshipped = UnshippedLog::new(LIMITS, 1);
        assert!(!unshipped.is_full_before(&frame(1000, Urgency::Records)), "one frame may be larger than the limit");
        unshipped.add(&frame(60, Urgency::Records), Instant::now());
        assert!(!unshipped.is_full_before(&frame(40, Urgency::Records)));
        assert!(unshipped.is_full_before(&frame(41, Urgency::Records)));
        unshipped.cut(7);
        assert_eq!((unshipped.first(), unshipped.is_empty(), unshipped.due_at()), (8, true, None));
        assert!(unshipped.bytes() == 60 && unshipped.oldest().is_some(), "it waits for its registration");
        unshipped.registered(7);
        assert_eq!((unshipped.bytes(), unshipped.oldest()), (0, None));
    }

    #[test]
    fn a_day_of_outage_costs_orders_by_bytes_and_not_by_time() {
        let start = Instant::now();
        let mut unshipped = UnshippedLog::new(LIMITS, 1);
        let mut orders = 0;
        for second in 0..24 * 3600 {
            let now = start + Duration::from_secs(second);
            unshipped.add(&frame(1, Urgency::Records), now);
            if unshipped.is_due(now) {
                unshipped.cut(second);
                orders += 1;
            }
        }
        assert_eq!(unshipped.bytes(), 24 * 3600);
        assert_eq!(orders, AGED_RANGES_MAX as u64 + (24 * 3600 - 64 * 11) / LIMITS.bytes);
        unshipped.registered(24 * 3600);
        assert_eq!(unshipped.bytes(), (24 * 3600 - 64 * 11) % LIMITS.bytes);
        assert!(unshipped.due_at().is_some(), "age counts again");
    }

    #[test]
    fn records_wait_less_long_than_topics_these_than_groups_and_bookkeeping_for_ever() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut bookkeeping = UnshippedLog::new(LIMITS, 1);
        bookkeeping.add(&frame(500, Urgency::Bookkeeping), start);
        assert!(!bookkeeping.is_due(after(1_000_000)) && !bookkeeping.is_worth_shipping());
        let mut clients = UnshippedLog::new(LIMITS, 1);
        clients.add(&frame(5, Urgency::Clients), start);
        assert!(!clients.is_due(after(599)) && clients.is_due(after(600)) && clients.is_worth_shipping());
        let mut other = UnshippedLog::new(LIMITS, 1);
        other.add(&frame(5, Urgency::Topics), start);
        assert!(!other.is_due(after(59)) && other.is_due(after(60)));
        other.add(&frame(5, Urgency::Records), after(20));
        assert!(!other.is_due(after(29)) && other.is_due(after(30)));
        other.add(&frame(90, Urgency::Records), after(20));
        assert!(other.is_due(after(20)), "full");
    }
}
