//! The records inside of a batch.

use bytes::Bytes;

use super::{BatchError, BatchHeader, DECOMPRESSED_BYTES_MAX, HEADER_LENGTH, varint};
use crate::ids::{Offset, Timestamp};

/// Headers that a record may have to be read. Kafka knows no limit, and stores and fetches are not bound by it.
pub const HEADERS_MAX: usize = 65_536;

/// A record. Keys, values and headers share the memory of the batch, or of its decompressed records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its position in the partition.
    pub offset: Offset,
    /// Of the producer, or of the append, ms; -1 if the producer gave none.
    pub timestamp: Timestamp,
    /// The key, if any.
    pub key: Option<Bytes>,
    /// The value; a record without is a tombstone.
    pub value: Option<Bytes>,
    /// In the producer's order; names may repeat.
    pub headers: Vec<RecordHeader>,
}

/// A header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The name, by custom UTF-8.
    pub key: Bytes,
    /// The value, if any.
    pub value: Option<Bytes>,
}

/// Opens a whole batch. Slices of an uncompressed batch are returned without a copy; a compressed one is decompressed
/// at once and refused beyond `decompressed_bytes_max`. The CRC is not looked at: see [`verify`](super::verify).
pub fn records(batch: &Bytes, decompressed_bytes_max: usize) -> Result<Records, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if batch.len() < header.total_length() {
        return Err(BatchError::CUT_OFF);
    }
    let left = u32::try_from(header.record_count).map_err(|_| corrupt("its record count is negative"))?;
    let body = batch.slice(HEADER_LENGTH..header.total_length());
    let body = header.codec()?.decompress(body, decompressed_bytes_max)?;
    Ok(Records { header, reader: Reader { bytes: body, at: 0 }, left, lowest_delta: 0 })
}

/// Whether the records of a whole batch unpack to at most [`DECOMPRESSED_BYTES_MAX`], found out without holding them:
/// what to ask about a batch that [`records`] refused because of a lower limit.
pub fn check_unpacks(batch: &[u8]) -> Result<(), BatchError> {
    let header = BatchHeader::parse(batch)?;
    let body = batch.get(HEADER_LENGTH..header.total_length()).ok_or(BatchError::CUT_OFF)?;
    header.codec()?.check(body, DECOMPRESSED_BYTES_MAX)
}

/// The records of a batch in offset order; ends after the first error.
#[derive(Debug)]
pub struct Records {
    header: BatchHeader,
    reader: Reader,
    left: u32,
    /// The least offset delta that the next record may have.
    lowest_delta: i64,
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            let behind = std::mem::take(&mut self.reader).rest();
            return (behind != 0).then(|| Err(corrupt("bytes follow its last record")));
        }
        self.left -= 1;
        let record = self.record();
        if record.is_err() {
            self.left = 0;
            self.reader = Reader::default();
        }
        Some(record)
    }
}

impl Records {
    /// `length varint | attributes i8 | timestamp delta varlong | offset delta varint | key | value | header count
    /// varint | headers`
    fn record(&mut self) -> Result<Record, BatchError> {
        let length = self.reader.length()?;
        let end = self.reader.at + length;
        self.reader.skip(1)?;
        let timestamp = self.header.base_timestamp.wrapping_add(self.reader.integer()?);
        let delta = self.reader.integer()?;
        if delta < self.lowest_delta || delta > i64::from(self.header.last_offset_delta) {
            return Err(corrupt("offsets of its records are out of order"));
        }
        self.lowest_delta = delta + 1;
        let record = Record {
            offset: self.header.base_offset.saturating_add(delta),
            timestamp: if self.header.is_log_append_time() { self.header.max_timestamp } else { timestamp },
            key: self.reader.nullable()?,
            value: self.reader.nullable()?,
            headers: self.headers()?,
        };
        if self.reader.at != end {
            return Err(corrupt("a record is not as long as it says"));
        }
        Ok(record)
    }

    fn headers(&mut self) -> Result<Vec<RecordHeader>, BatchError> {
        let count = self.reader.length()?;
        if count > HEADERS_MAX {
            return Err(BatchError::InvalidRecord { reason: "a record has more than 65536 headers" });
        }
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let key = self.reader.nullable()?.ok_or(corrupt("a header has no name"))?;
            headers.push(RecordHeader { key, value: self.reader.nullable()? });
        }
        Ok(headers)
    }
}

const fn corrupt(reason: &'static str) -> BatchError {
    BatchError::Corrupt { reason }
}

#[derive(Debug, Default)]
struct Reader {
    bytes: Bytes,
    at: usize,
}

impl Reader {
    fn rest(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn skip(&mut self, length: usize) -> Result<(), BatchError> {
        if length > self.rest() {
            return Err(BatchError::CUT_OFF);
        }
        self.at += length;
        Ok(())
    }

    fn integer(&mut self) -> Result<i64, BatchError> {
        let (value, length) = varint::read(&self.bytes[self.at..]).ok_or(corrupt("an integer is cut off"))?;
        self.at += length;
        Ok(value)
    }

    /// A number of bytes, or of things that take at least one byte each: never more than what is left.
    fn length(&mut self) -> Result<usize, BatchError> {
        let length = self.integer()?;
        usize::try_from(length).ok().filter(|length| *length <= self.rest()).ok_or(corrupt("a length is impossible"))
    }

    /// A length, -1 for null, and that many bytes.
    fn nullable(&mut self) -> Result<Option<Bytes>, BatchError> {
        if self.bytes.get(self.at) == Some(&1) {
            self.at += 1;
            return Ok(None);
        }
        let length = self.length()?;
        let from = self.at;
        self.at += length;
        Ok(Some(self.bytes.slice(from..self.at)))
    }
}

/// What the fuzz target calls: any bytes are batches or an error.
pub fn fuzz_records(bytes: &[u8]) {
    for batch in super::split(Bytes::copy_from_slice(bytes)).flatten() {
        let _ = super::verify(&batch);
        if let Ok(records) = records(&batch, 1 << 20) {
            records.for_each(drop);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::batch::produced::write_crc;
    use crate::batch::{BatchBuilder, CONTROL, Codec, stamp, verify};

    fn field() -> impl Strategy<Value = Option<Bytes>> {
        prop::option::of(prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from))
    }

    fn record() -> impl Strategy<Value = Record> {
        let header = (prop::collection::vec(any::<u8>(), 0..8), field())
            .prop_map(|(key, value)| RecordHeader { key: key.into(), value });
        (any::<i32>(), field(), field(), prop::collection::vec(header, 0..4)).prop_map(
            |(timestamp, key, value, headers)| Record { offset: 0, timestamp: timestamp.into(), key, value, headers },
        )
    }

    fn build(codec: Codec, base: Offset, records: &mut [(Record, i32)]) -> Bytes {
        let mut builder = BatchBuilder::new(codec);
        let mut offset = base;
        for (record, gap) in records {
            builder.leave_gap(*gap);
            offset += Offset::from(*gap);
            record.offset = offset;
            offset += 1;
            builder.push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers);
        }
        let mut bytes = builder.finish().to_vec();
        stamp(&mut bytes, base, 3);
        bytes.into()
    }

    proptest! {
        #[test]
        fn records_come_back_in_every_codec(mut list in prop::collection::vec((record(), 0i32..3), 1..30), base in 0i64..1 << 50) {
            for codec in Codec::ALL {
                let batch = build(codec, base, &mut list);
                let header = verify(&batch).unwrap();
                prop_assert_eq!(header.codec(), Ok(codec));
                prop_assert_eq!(header.record_count as usize, list.len());
                prop_assert_eq!(header.last_offset(), list.last().unwrap().0.offset);
                prop_assert_eq!(header.max_timestamp, list.iter().map(|(record, _)| record.timestamp).max().unwrap());
                let read: Vec<Record> = records(&batch, 1 << 20).unwrap().collect::<Result<_, _>>().unwrap();
                prop_assert!(read.iter().eq(list.iter().map(|(record, _)| record)));
            }
        }

        #[test]
        fn any_damage_to_an_uncompressed_body_is_an_error_or_other_records(
            mut list in prop::collection::vec((record(), 0i32..3), 1..8),
            at: prop::sample::Index,
            byte: u8,
        ) {
            let mut bytes = build(Codec::None, 0, &mut list).to_vec();
            let at = HEADER_LENGTH + at.index(bytes.len() - HEADER_LENGTH);
            bytes[at] = byte;
            write_crc(&mut bytes);
            fuzz_records(&bytes);
            let read = records(&Bytes::from(bytes), 1 << 20).unwrap();
            prop_assert!(read.filter_map(Result::ok).count() <= list.len());
        }

        #[test]
        fn any_bytes_behind_a_header_never_panic(body: Vec<u8>, attributes in 0i16..64, count: i32, last: i32) {
            let mut bytes = vec![0; HEADER_LENGTH];
            bytes[16] = 2;
            bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
            bytes[23..27].copy_from_slice(&last.to_be_bytes());
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            bytes.extend_from_slice(&body);
            let length = bytes.len() as i32 - 12;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            fuzz_records(&bytes);
        }
    }

    #[test]
    fn an_uncompressed_batch_is_not_copied() {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(0, None, Some(b"value"), &[]);
        let batch = builder.finish();
        let value = records(&batch, 1_000).unwrap().next().unwrap().unwrap().value.unwrap();
        assert!(batch.as_ptr_range().contains(&value.as_ptr()));
    }

    #[test]
    fn a_count_that_does_not_fit_is_an_error() {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(0, None, None, &[]);
        builder.push(0, None, None, &[]);
        for count in [1i32, 3] {
            let mut bytes = builder.clone().finish().to_vec();
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            let read: Vec<_> = records(&bytes.into(), 1_000).unwrap().collect();
            assert!(matches!(read.last(), Some(Err(BatchError::Corrupt { .. }))), "{count}: {read:?}");
        }
    }

    #[test]
    fn a_transaction_marker_can_be_read() {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.set_attributes(CONTROL);
        builder.push(5, Some(&[0, 0, 0, 1]), Some(&[0; 6]), &[]);
        let batch = builder.finish();
        assert!(verify(&batch).unwrap().is_control());
        assert_eq!(records(&batch, 100).unwrap().count(), 1);
    }
}
