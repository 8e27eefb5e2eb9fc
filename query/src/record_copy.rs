//! How much memory kept records use.

use bytes::Bytes;
use chronik_format::batch::{Record, RecordHeader};

/// About as many bytes as the copy of a record takes.
pub(crate) fn bytes_of(record: &Record) -> usize {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = record.headers.iter().map(|header| 72 + header.key.len() + length(&header.value)).sum();
    length(&record.key) + length(&record.value) + headers + 64
}

/// A copy: the record itself would keep all of its batch in memory.
pub(crate) fn copy_of(record: &Record) -> Record {
    let own = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    let headers = record
        .headers
        .iter()
        .map(|header| RecordHeader { key: own(&header.key), value: header.value.as_ref().map(own) });
    Record {
        key: record.key.as_ref().map(own),
        value: record.value.as_ref().map(own),
        headers: headers.collect(),
        ..*record
    }
}
