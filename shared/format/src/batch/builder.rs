use bytes::{BufMut, Bytes, BytesMut};

use super::produced::write_crc;
use super::{Codec, HEADER_LENGTH, RecordHeader, varint};
use crate::ids::Timestamp;

/// Makes a batch as a producer does: base offset 0, no leader epoch, and no producer id unless it is given one.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    codec: Codec,
    attributes: i16,
    /// Id, epoch and first sequence number.
    producer: (i64, i16, i32),
    records: BytesMut,
    count: i32,
    next_delta: i32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

impl BatchBuilder {
    /// An empty batch to be compressed with `codec`.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            attributes: 0,
            producer: (-1, -1, -1),
            records: BytesMut::new(),
            count: 0,
            next_delta: 0,
            base_timestamp: -1,
            max_timestamp: -1,
        }
    }

    /// Sets attribute bits ([`TRANSACTIONAL`](super::TRANSACTIONAL), [`CONTROL`](super::CONTROL), ...) beside the
    /// codec.
    pub fn set_attributes(&mut self, bits: i16) {
        self.attributes |= bits & !0x07;
    }

    /// Numbers the records for an idempotent producer, from `sequence` on.
    pub fn set_producer(&mut self, id: i64, epoch: i16, sequence: i32) {
        self.producer = (id, epoch, sequence);
    }

    /// Leaves out `offsets` offsets before the next record, as compaction does.
    pub fn leave_gap(&mut self, offsets: i32) {
        self.next_delta = self.next_delta.saturating_add(offsets);
    }

    /// Adds a record; `timestamp` in ms, -1 for none.
    pub fn push(&mut self, timestamp: Timestamp, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[RecordHeader]) {
        if self.count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let mut record = BytesMut::new();
        record.put_u8(0);
        varint::write(&mut record, timestamp.wrapping_sub(self.base_timestamp));
        varint::write(&mut record, self.next_delta.into());
        put_nullable(&mut record, key);
        put_nullable(&mut record, value);
        varint::write(&mut record, headers.len() as i64);
        for header in headers {
            put_nullable(&mut record, Some(&header.key));
            put_nullable(&mut record, header.value.as_deref());
        }
        varint::write(&mut self.records, record.len() as i64);
        self.records.extend_from_slice(&record);
        self.count += 1;
        self.next_delta += 1;
    }

    /// Records so far.
    pub fn record_count(&self) -> usize {
        self.count as usize
    }

    /// Bytes of the batch so far, as if it were not compressed.
    pub fn uncompressed_bytes(&self) -> usize {
        HEADER_LENGTH + self.records.len()
    }

    /// The batch. Records that don't compress (a codec out of memory) go uncompressed.
    pub fn finish(self) -> Bytes {
        let (codec, records) = match self.codec {
            Codec::None => (Codec::None, self.records.freeze()),
            codec => match codec.compress(&self.records) {
                Ok(compressed) => (codec, compressed.into()),
                Err(_) => (Codec::None, self.records.freeze()),
            },
        };
        let mut batch = BytesMut::with_capacity(HEADER_LENGTH + records.len());
        batch.put_i64(0);
        batch.put_i32((HEADER_LENGTH - 12 + records.len()) as i32);
        batch.put_i32(-1);
        batch.put_i8(2);
        batch.put_u32(0);
        batch.put_i16(self.attributes | codec as i16);
        batch.put_i32((self.next_delta - 1).max(0));
        batch.put_i64(self.base_timestamp);
        batch.put_i64(self.max_timestamp);
        let (producer_id, producer_epoch, sequence) = self.producer;
        batch.put_i64(producer_id);
        batch.put_i16(producer_epoch);
        batch.put_i32(sequence);
        batch.put_i32(self.count);
        batch.put(records);
        write_crc(&mut batch);
        batch.freeze()
    }
}

fn put_nullable(buffer: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::write(buffer, -1),
        Some(bytes) => {
            varint::write(buffer, bytes.len() as i64);
            buffer.extend_from_slice(bytes);
        }
    }
}
