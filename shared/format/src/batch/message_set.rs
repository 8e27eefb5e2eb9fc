//! Message sets of magic 0 and 1: how clients older than Kafka 0.11 write and read records.
//!
//! None is kept: one that arrives becomes a batch ([`batch_of_messages`]), and batches become one again for who reads
//! like that ([`messages_of_batches`]). A set is messages, one behind the other; all integers are big-endian:
//!
//! ```text
//! offset i64 | length i32 of what follows | CRC-32 u32 of what follows | magic i8 | attributes i8
//!     | timestamp i64, of magic 1 | key | value
//! ```
//! Key and value are a length i32, -1 for none, and so many bytes. A message whose attributes name a codec has a
//! compressed set as its value and is the only one of its own set.

use std::ops::ControlFlow;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::Crc;
use twox_hash::XxHash32;

use super::{BatchBuilder, BatchError, BatchHeader, CONTROL, Codec, LOG_APPEND_TIME, Record, records};
use crate::ids::{Offset, Timestamp};

/// Bytes that the records of one batch, or a compressed message, may have, unpacked, to be turned into the other. It is
/// the most that a topic's `max.message.bytes` can be.
const UNPACKED_BYTES_MAX: usize = 32 << 20;
/// Offset and length, which the length does not count.
const PREFIX_LENGTH: usize = 12;
/// The bit of an lz4 frame's flags for a content size, and that for a dictionary.
const LZ4_CONTENT_SIZE: u8 = 0x08;
const LZ4_DICTIONARY: u8 = 0x01;

/// The two forms of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageMagic {
    /// Without a timestamp.
    V0 = 0,
    /// With one.
    V1 = 1,
}

impl MessageMagic {
    /// Bytes of a message with neither key nor value.
    const fn message_length(self) -> usize {
        PREFIX_LENGTH
            + match self {
                Self::V0 => 14,
                Self::V1 => 22,
            }
    }
}

/// The magic of a partition's records in a Produce request, whatever it is; `None` if they are cut off before.
pub fn magic(records: &[u8]) -> Option<i8> {
    records.get(16).map(|magic| *magic as i8)
}

/// Makes one batch of a partition's message set in a Produce request, compressed as the set was. No message, as it
/// came, has more than `max_message_bytes`; the batch may.
pub fn batch_of_messages(set: &Bytes, max_message_bytes: usize) -> Result<Bytes, BatchError> {
    let mut rest = set.clone();
    let first = Message::take(&mut rest, max_message_bytes)?;
    let codec = first.codec()?;
    let mut builder = BatchBuilder::new(codec);
    match codec {
        Codec::None => push_all(&mut builder, set.clone(), max_message_bytes)?,
        _ if !rest.is_empty() => return Err(NOT_ALONE),
        _ => push_all(&mut builder, first.unpack(codec)?, usize::MAX)?,
    }
    if builder.record_count() == 0 {
        return Err(BatchError::InvalidRecord { reason: "a compressed message holds none" });
    }
    Ok(builder.finish())
}

const NOT_ALONE: BatchError =
    BatchError::InvalidRecord { reason: "a compressed message is not the only one of its set" };

fn push_all(builder: &mut BatchBuilder, mut set: Bytes, message_bytes_max: usize) -> Result<(), BatchError> {
    while !set.is_empty() {
        let message = Message::take(&mut set, message_bytes_max)?;
        if message.codec()? != Codec::None {
            return Err(NOT_ALONE);
        }
        builder.push(message.timestamp, message.key.as_deref(), message.value.as_deref(), &[]);
    }
    Ok(())
}

struct Message {
    magic: MessageMagic,
    attributes: i8,
    /// -1 of magic 0.
    timestamp: Timestamp,
    key: Option<Bytes>,
    value: Option<Bytes>,
}

impl Message {
    /// Takes the first message off a set.
    fn take(set: &mut Bytes, bytes_max: usize) -> Result<Self, BatchError> {
        let length = set.get(8..PREFIX_LENGTH).ok_or(BatchError::CUT_OFF)?.get_i32();
        let length = usize::try_from(length).map_err(|_| BatchError::SHORT)?;
        let bytes = PREFIX_LENGTH + length;
        if bytes > bytes_max {
            return Err(BatchError::TooLarge { bytes, limit: bytes_max });
        }
        if bytes > set.len() {
            return Err(BatchError::CUT_OFF);
        }
        let mut message = set.split_to(bytes).split_off(PREFIX_LENGTH);
        let crc = message.try_get_u32().map_err(|_| BatchError::SHORT)?;
        if crc != crc32(&message) {
            return Err(BatchError::Corrupt { reason: "the CRC of a message does not fit" });
        }
        Self::parse(message).ok_or(BatchError::Corrupt { reason: "a message is not as long as it says" })?
    }

    /// Reads what the CRC covers; `None` if its lengths do not fit.
    fn parse(mut bytes: Bytes) -> Option<Result<Self, BatchError>> {
        let magic = match bytes.try_get_i8().ok()? {
            0 => MessageMagic::V0,
            1 => MessageMagic::V1,
            magic => return Some(Err(BatchError::UnsupportedMagic { magic })),
        };
        let attributes = bytes.try_get_i8().ok()?;
        let timestamp = match magic {
            MessageMagic::V0 => -1,
            MessageMagic::V1 => bytes.try_get_i64().ok()?,
        };
        if magic == MessageMagic::V1 && i16::from(attributes) & LOG_APPEND_TIME != 0 {
            return Some(Err(BatchError::InvalidTimestamp { reason: "only the broker sets the time of the append" }));
        }
        let (key, value) = (take_nullable(&mut bytes)?, take_nullable(&mut bytes)?);
        bytes.is_empty().then_some(Ok(Self { magic, attributes, timestamp, key, value }))
    }

    /// How its value is compressed. Zstd is younger than messages.
    fn codec(&self) -> Result<Codec, BatchError> {
        match Codec::from_attributes(self.attributes.into())? {
            Codec::Zstd => Err(ZSTD),
            codec => Ok(codec),
        }
    }

    /// The messages that a compressed one holds.
    fn unpack(self, codec: Codec) -> Result<Bytes, BatchError> {
        let value = self.value.ok_or(BatchError::InvalidRecord { reason: "a compressed message has no value" })?;
        let value = match (codec, self.magic) {
            (Codec::Lz4, MessageMagic::V0) => with_lz4_checksum(&value).ok_or(BatchError::CUT_OFF)?,
            _ => value,
        };
        codec.decompress(value, UNPACKED_BYTES_MAX)
    }
}

const ZSTD: BatchError = BatchError::UnsupportedCompression { codec: Codec::Zstd as i16 };

/// The frame with the checksum in its header that is right. That of clients of magic 0 takes in the frame's magic
/// number, and that of others is as wrong for Kafka, which does not look at it.
fn with_lz4_checksum(frame: &[u8]) -> Option<Bytes> {
    let flags = *frame.get(4)?;
    let length_of = |bit: u8, length: usize| if flags & bit == 0 { 0 } else { length };
    let at = 6 + length_of(LZ4_CONTENT_SIZE, 8) + length_of(LZ4_DICTIONARY, 4);
    let checksum = (XxHash32::oneshot(0, frame.get(4..at)?) >> 8) as u8;
    let mut frame = BytesMut::from(frame);
    *frame.get_mut(at)? = checksum;
    Some(frame.freeze())
}

/// The outer `None` if the bytes are cut off.
fn take_nullable(bytes: &mut Bytes) -> Option<Option<Bytes>> {
    match bytes.try_get_i32().ok()? {
        -1 => Some(None),
        length => {
            let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len())?;
            Some(Some(bytes.split_to(length)))
        }
    }
}

/// Makes a message set of the records of whole batches from offset `from` on, not compressed and without their headers:
/// as many as fit in `bytes_max`, and with `at_least_one` the first in any case. What comes before a batch that can't
/// be turned into messages (zstd has no place in them) is returned: only one at `from` itself is an error.
pub fn messages_of_batches(
    batches: impl IntoIterator<Item = Bytes>,
    magic: MessageMagic,
    from: Offset,
    bytes_max: usize,
    at_least_one: bool,
) -> Result<Bytes, BatchError> {
    let mut set = MessageSet { magic, bytes: BytesMut::new(), bytes_max, at_least_one };
    for batch in batches {
        match set.push_batch(&batch, from) {
            Ok(ControlFlow::Continue(())) => {}
            Err(error) if set.bytes.is_empty() => return Err(error),
            Ok(ControlFlow::Break(())) | Err(_) => break,
        }
    }
    Ok(set.bytes.freeze())
}

struct MessageSet {
    magic: MessageMagic,
    bytes: BytesMut,
    bytes_max: usize,
    at_least_one: bool,
}

impl MessageSet {
    /// Breaks off where it is full.
    fn push_batch(&mut self, batch: &Bytes, from: Offset) -> Result<ControlFlow<()>, BatchError> {
        let header = BatchHeader::parse(batch)?;
        if header.attributes & CONTROL != 0 {
            return Ok(ControlFlow::Continue(()));
        }
        if header.codec()? == Codec::Zstd {
            return Err(ZSTD);
        }
        for record in records(batch, UNPACKED_BYTES_MAX)? {
            let record = record?;
            if record.offset >= from && self.push(&record, header.is_log_append_time()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn push(&mut self, record: &Record, is_log_append_time: bool) -> ControlFlow<()> {
        let length_of = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
        let bytes = self.magic.message_length() + length_of(&record.key) + length_of(&record.value);
        let is_needed = self.at_least_one && self.bytes.is_empty();
        if !is_needed && self.bytes.len() + bytes > self.bytes_max {
            return ControlFlow::Break(());
        }
        self.bytes.put_i64(record.offset);
        self.bytes.put_i32((bytes - PREFIX_LENGTH) as i32);
        let crc_at = self.bytes.len();
        self.bytes.put_u32(0);
        self.bytes.put_i8(self.magic as i8);
        match self.magic {
            MessageMagic::V0 => self.bytes.put_i8(0),
            MessageMagic::V1 => {
                self.bytes.put_i8(if is_log_append_time { LOG_APPEND_TIME as i8 } else { 0 });
                self.bytes.put_i64(record.timestamp);
            }
        }
        for field in [&record.key, &record.value] {
            self.bytes.put_i32(field.as_ref().map_or(-1, |field| field.len() as i32));
            self.bytes.put_slice(field.as_deref().unwrap_or_default());
        }
        let crc = crc32(&self.bytes[crc_at + 4..]);
        self.bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_be_bytes());
        ControlFlow::Continue(())
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// What the fuzz target calls: any bytes are a batch or an error, and a batch's records become messages again.
pub fn fuzz_message_set(bytes: &[u8]) {
    if let Ok(batch) = batch_of_messages(&Bytes::copy_from_slice(bytes), usize::MAX) {
        let _ = messages_of_batches([batch], MessageMagic::V1, 0, usize::MAX, true);
    }
}

#[cfg(test)]
mod tests;
