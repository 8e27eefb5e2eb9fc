//! When the records of a batch happened.
//!
//! A producer's `max_timestamp` is a claim that the broker does not check on arrival (some clients always send -1), and
//! its `base_timestamp` bounds nothing. Only a header whose times the broker wrote is believed; else the records are
//! asked.

use std::io::BufRead;
use std::ops::ControlFlow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::record::HEADERS_MAX;
use super::{BatchHeader, BatchUnpacker, Codec, HEADER_LENGTH, varint};
use crate::ids::{Offset, Timestamp};

/// Bytes that the records of one batch may have, unpacked, to be looked at by anybody here.
pub const DECOMPRESSED_BYTES_MAX: usize = 128 << 20;

/// Bounds, both inclusive, of records' timestamps, ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeSpan {
    /// No record is earlier.
    pub earliest: Timestamp,
    /// No record is later.
    pub latest: Timestamp,
}

impl TimeSpan {
    /// Of records whose timestamps are unknown.
    pub const ANY: Self = Self { earliest: Timestamp::MIN, latest: Timestamp::MAX };
    /// Of no records: nothing lies in it, and [`Self::union`] with it changes nothing.
    pub const NONE: Self = Self { earliest: Timestamp::MAX, latest: Timestamp::MIN };

    /// Of records of one time.
    pub fn at(timestamp: Timestamp) -> Self {
        Self { earliest: timestamp, latest: timestamp }
    }

    /// Of the records of both.
    pub fn union(self, other: Self) -> Self {
        Self { earliest: self.earliest.min(other.earliest), latest: self.latest.max(other.latest) }
    }
}

impl BatchHeader {
    /// What the header alone proves of the records' times: all if the broker set them, else nothing.
    pub fn time_span(&self) -> TimeSpan {
        if self.is_log_append_time() { TimeSpan::at(self.max_timestamp) } else { TimeSpan::ANY }
    }

    /// The latest time that the producer claims. Some clients send the base timestamp only.
    fn claimed_latest(&self) -> Timestamp {
        self.max_timestamp.max(self.base_timestamp)
    }
}

/// The exact bounds of the timestamps in a whole batch; `None` if [`records`](super::records) can't read all of it, or
/// it unpacks to more than [`DECOMPRESSED_BYTES_MAX`].
pub fn time_span(batch: &[u8], unpacker: &mut BatchUnpacker) -> Option<TimeSpan> {
    let header = BatchHeader::parse(batch).ok()?;
    if header.is_log_append_time() {
        return Some(header.time_span());
    }
    let mut span = TimeSpan::NONE;
    look_through(&header, batch, unpacker, |_, timestamp| {
        span = span.union(TimeSpan::at(timestamp));
        ControlFlow::Continue(())
    })?;
    Some(span)
}

/// The latest timestamp of the records at or after `from` in a whole batch that has some; of a batch that can't be read
/// what its producer claims.
pub fn latest_timestamp(batch: &[u8], from: Offset) -> Option<Timestamp> {
    let header = BatchHeader::parse(batch).ok()?;
    if header.is_log_append_time() {
        return Some(header.time_span().latest);
    }
    let mut span = TimeSpan::NONE;
    let whole = look_through(&header, batch, &mut BatchUnpacker::default(), |offset, timestamp| {
        if offset >= from {
            span = span.union(TimeSpan::at(timestamp));
        }
        ControlFlow::Continue(())
    });
    Some(whole.map_or(header.claimed_latest(), |()| span.latest))
}

/// Offset and timestamp of the first record of a whole batch at or after `from` whose timestamp is at least
/// `timestamp`. A batch that can't be read answers with its first offset if its producer claims such a time: clients
/// may know how to read it.
pub fn find_time(batch: &[u8], from: Offset, timestamp: Timestamp) -> Option<(Offset, Timestamp)> {
    let header = BatchHeader::parse(batch).ok()?;
    if header.last_offset() < from || header.time_span().latest < timestamp {
        return None;
    }
    let mut found = None;
    let whole = look_through(&header, batch, &mut BatchUnpacker::default(), |offset, at| {
        if offset < from || at < timestamp {
            return ControlFlow::Continue(());
        }
        found = Some((offset, at));
        ControlFlow::Break(())
    });
    let latest = header.claimed_latest();
    if whole.is_none() && latest >= timestamp {
        return Some((header.base_offset.max(from), latest));
    }
    found
}

/// Shows offset and timestamp of each record until `see` breaks off; `None` if the records can't be read. Compressed
/// ones pass by in pieces (snappy's as one), others are not copied.
fn look_through(
    header: &BatchHeader,
    batch: &[u8],
    unpacker: &mut BatchUnpacker,
    see: impl FnMut(Offset, Timestamp) -> ControlFlow<()>,
) -> Option<()> {
    let body = batch.get(HEADER_LENGTH..header.total_length())?;
    let left = DECOMPRESSED_BYTES_MAX;
    match header.codec().ok()? {
        Codec::None => Walk { body, left }.records(header, see),
        codec => {
            let body = codec.reader(body, left, unpacker).ok()?;
            Walk { body, left }.records(header, see)
        }
    }
}

/// Reads over records, all of whose bytes are looked at only as far as needed to know that [`records`](super::records)
/// can read them.
struct Walk<R> {
    body: R,
    /// Bytes that may still come.
    left: usize,
}

impl<R: BufRead> Walk<R> {
    fn records(
        mut self,
        header: &BatchHeader,
        mut see: impl FnMut(Offset, Timestamp) -> ControlFlow<()>,
    ) -> Option<()> {
        let mut lowest_delta = 0;
        for _ in 0..u32::try_from(header.record_count).ok()? {
            let (time_delta, offset_delta) = self.record()?;
            if offset_delta < lowest_delta || offset_delta > i64::from(header.last_offset_delta) {
                return None;
            }
            lowest_delta = offset_delta + 1;
            let timestamp = if header.is_log_append_time() {
                header.max_timestamp
            } else {
                header.base_timestamp.wrapping_add(time_delta)
            };
            if see(header.base_offset.saturating_add(offset_delta), timestamp).is_break() {
                return Some(());
            }
        }
        self.is_at_end().then_some(())
    }

    /// Timestamp and offset of the next record, relative to those of the batch.
    fn record(&mut self) -> Option<(i64, i64)> {
        let length = self.length()?;
        let end = self.left.checked_sub(length)?;
        self.skip(1)?;
        let deltas = (self.integer()?, self.integer()?);
        self.nullable()?;
        self.nullable()?;
        let headers = self.length().filter(|count| *count <= HEADERS_MAX)?;
        for _ in 0..headers {
            self.nullable()?.then_some(())?;
            self.nullable()?;
        }
        (self.left == end).then_some(deltas)
    }

    /// Goes past a length and that many bytes; false for null.
    fn nullable(&mut self) -> Option<bool> {
        const NULL: u8 = 1;
        if *self.body.fill_buf().ok()?.first()? == NULL {
            self.consume(1)?;
            return Some(false);
        }
        let length = self.length()?;
        self.skip(length)?;
        Some(true)
    }

    fn length(&mut self) -> Option<usize> {
        self.integer()?.try_into().ok()
    }

    fn integer(&mut self) -> Option<i64> {
        let buffered = self.body.fill_buf().ok()?;
        if buffered.len() >= varint::LENGTH_MAX {
            let (value, length) = varint::read(buffered)?;
            self.consume(length)?;
            return Some(value);
        }
        let mut bytes = [0; varint::LENGTH_MAX];
        for at in 0..bytes.len() {
            bytes[at] = *self.body.fill_buf().ok()?.first()?;
            self.consume(1)?;
            if let Some((value, _)) = varint::read(&bytes[..=at]) {
                return Some(value);
            }
        }
        None
    }

    fn skip(&mut self, mut length: usize) -> Option<()> {
        while length > 0 {
            let buffered = self.body.fill_buf().ok()?.len().min(length);
            if buffered == 0 {
                return None;
            }
            self.consume(buffered)?;
            length -= buffered;
        }
        Some(())
    }

    fn consume(&mut self, length: usize) -> Option<()> {
        self.left = self.left.checked_sub(length)?;
        self.body.consume(length);
        Some(())
    }

    fn is_at_end(&mut self) -> bool {
        self.body.fill_buf().is_ok_and(<[u8]>::is_empty)
    }
}

/// What the fuzz target calls: the span of any bytes is that of their records, and there is one if they can be read.
pub fn fuzz_time_span(bytes: &[u8]) {
    let mut unpacker = BatchUnpacker::default();
    for batch in super::split(Bytes::copy_from_slice(bytes)).flatten() {
        let read = super::records(&batch, DECOMPRESSED_BYTES_MAX).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let span = |records: Vec<super::Record>| {
            let spans = records.iter().map(|record| TimeSpan::at(record.timestamp));
            spans.fold(TimeSpan::NONE, TimeSpan::union)
        };
        let set_by_the_broker = BatchHeader::parse(&batch).is_ok_and(|header| header.is_log_append_time());
        assert!(set_by_the_broker || time_span(&batch, &mut unpacker) == read.ok().map(span));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::batch::{BatchBuilder, LOG_APPEND_TIME, forged, records, stamp_log_append_time};

    fn batch(codec: Codec, times: &[Timestamp], value: &[u8]) -> Bytes {
        let mut builder = BatchBuilder::new(codec);
        for time in times {
            builder.push(*time, Some(b"key"), Some(value), &[]);
        }
        builder.finish()
    }

    fn span(batch: &[u8]) -> Option<TimeSpan> {
        time_span(batch, &mut BatchUnpacker::default())
    }

    fn claims(batch: &Bytes, base: Timestamp, max: Timestamp) -> Bytes {
        forged(batch, |bytes| {
            bytes[27..35].copy_from_slice(&base.to_be_bytes());
            bytes[35..43].copy_from_slice(&max.to_be_bytes());
        })
    }

    /// Times that honest and other producers send.
    fn time() -> impl Strategy<Value = Timestamp> {
        prop_oneof![0..1_000i64, -5..5i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)]
    }

    proptest! {
        #[test]
        fn the_span_is_that_of_the_records_whatever_the_header_claims(
            times in prop::collection::vec(time(), 1..20),
            value in prop::collection::vec(any::<u8>(), 0..3_000),
            base in prop::option::of(time()),
            max in time(),
        ) {
            for codec in Codec::ALL {
                let batch = batch(codec, &times, &value);
                let batch = claims(&batch, base.unwrap_or(times[0]), max);
                let read: Vec<_> = records(&batch, 1 << 20).unwrap().map(|record| record.unwrap().timestamp).collect();
                prop_assert!(base.is_some() || read == times);
                let (earliest, latest) = (*read.iter().min().unwrap(), *read.iter().max().unwrap());
                prop_assert_eq!(span(&batch), Some(TimeSpan { earliest, latest }));
                prop_assert_eq!(latest_timestamp(&batch, 0), Some(latest));
                for asked in [latest, earliest, times[0], max] {
                    let first = (0..).zip(&read).find(|(_, time)| **time >= asked);
                    prop_assert_eq!(find_time(&batch, 0, asked), first.map(|(offset, time)| (offset, *time)));
                }
            }
        }

        #[test]
        fn what_can_be_read_has_a_span_and_nothing_else_has(
            times in prop::collection::vec(time(), 1..8),
            codec in 0usize..5,
            at: prop::sample::Index,
            byte: u8,
        ) {
            let batch = batch(Codec::ALL[codec], &times, b"some value");
            fuzz_time_span(&forged(&batch, |bytes| {
                let at = 21 + at.index(bytes.len() - 21);
                bytes[at] = byte;
            }));
        }
    }

    #[test]
    fn the_broker_is_believed() {
        let mut bytes = batch(Codec::None, &[5, 900], b"v").to_vec();
        stamp_log_append_time(&mut bytes, 77);
        let header = BatchHeader::parse(&bytes).unwrap();
        assert_eq!(header.attributes & LOG_APPEND_TIME, LOG_APPEND_TIME);
        assert_eq!(header.time_span(), TimeSpan::at(77));
        assert_eq!(span(&bytes), Some(TimeSpan::at(77)));
        let bytes = Bytes::from(bytes);
        assert_eq!((find_time(&bytes, 0, 77), find_time(&bytes, 0, 78)), (Some((0, 77)), None));
    }

    #[test]
    fn of_what_cannot_be_read_nothing_is_known_and_its_claim_answers() {
        let whole = batch(Codec::Zstd, &[10, 20, 30], &[b'x'; 1_000]);
        let garbage = forged(&whole, |bytes| bytes[HEADER_LENGTH] ^= 0xff);
        assert_eq!((span(&garbage), latest_timestamp(&garbage, 0)), (None, Some(30)));
        assert_eq!(find_time(&garbage, 1, 30), Some((1, 30)));
        assert_eq!(find_time(&garbage, 0, 31), None);
        let as_sarama_sends_it = claims(&garbage, 10, -1);
        assert_eq!(find_time(&as_sarama_sends_it, 0, 10), Some((0, 10)));
        assert_eq!(find_time(&as_sarama_sends_it, 0, 11), None);
        assert_eq!(span(&whole[..whole.len() - 1]), None, "cut off");
    }

    #[test]
    fn a_batch_that_was_not_read_to_its_end_leaves_nothing_to_the_next() {
        let mut unpacker = BatchUnpacker::default();
        for codec in Codec::ALL {
            let batch = batch(codec, &[7; 3], &vec![b'x'; 1 << 20]);
            let half = forged(&batch, |bytes| bytes[57..61].copy_from_slice(&1i32.to_be_bytes()));
            for _ in 0..2 {
                assert_eq!(time_span(&half, &mut unpacker), None);
                assert_eq!(time_span(&batch, &mut unpacker), Some(TimeSpan::at(7)));
            }
        }
    }

    #[test]
    fn a_bomb_has_no_span() {
        for codec in Codec::ALL {
            let batch = batch(codec, &[7; 3], &vec![0; 1 << 20]);
            let header = BatchHeader::parse(&batch).unwrap();
            let body = &batch[HEADER_LENGTH..];
            let whole = (3 << 20) + 100;
            let within = |left| {
                let mut unpacker = BatchUnpacker::default();
                let body = codec.reader(body, whole, &mut unpacker).unwrap();
                Walk { body, left }.records(&header, |_, _| ControlFlow::Continue(()))
            };
            assert_eq!((within(whole), within(3 << 20)), (Some(()), None), "{codec:?}");
        }
    }
}
