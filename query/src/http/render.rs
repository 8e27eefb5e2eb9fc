//! Records as JSON, and answers that have room until they are sent.
//!
//! An answer is written from its records without anything between: first to be counted, then, if there is room for so
//! many bytes, to be sent.

use std::io::{self, Write};

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chronik_format::batch::{Record, RecordHeader};
use chronik_format::ids::{Offset, PartitionId, Timestamp};
use serde::{Serialize, Serializer};

use crate::answer_room::HeldRoom;
use crate::search::{Hit, SearchError};

/// `{"topic","partition","offset","timestamp","key","value","headers":[{"key","value"}]}`, and `highlights` of a hit:
/// [from, to) byte ranges of its value.
#[derive(Serialize)]
pub(super) struct RecordDocument<'a> {
    topic: &'a str,
    partition: PartitionId,
    offset: Offset,
    timestamp: Timestamp,
    key: Option<Text<'a>>,
    value: Option<Text<'a>>,
    #[serde(serialize_with = "headers")]
    headers: &'a [RecordHeader],
    #[serde(skip_serializing_if = "Option::is_none")]
    highlights: Option<Vec<(usize, usize)>>,
}

impl<'a> RecordDocument<'a> {
    pub(super) fn new(topic: &'a str, partition: PartitionId, record: &'a Record) -> Self {
        Self {
            topic,
            partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.as_ref().map(Text),
            value: record.value.as_ref().map(Text),
            headers: &record.headers,
            highlights: None,
        }
    }

    pub(super) fn of_hit(hit: &'a Hit) -> Self {
        let highlights = hit.highlights.iter().map(|range| (range.start, range.end)).collect();
        Self { highlights: Some(highlights), ..Self::new(&hit.topic, hit.partition, &hit.record) }
    }
}

#[derive(Serialize)]
struct HeaderDocument<'a> {
    key: Text<'a>,
    value: Option<Text<'a>>,
}

fn headers<S: Serializer>(headers: &[RecordHeader], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(
        headers.iter().map(|header| HeaderDocument { key: Text(&header.key), value: header.value.as_ref().map(Text) }),
    )
}

/// A string if it is UTF-8, else `{"base64":"..."}`.
struct Text<'a>(&'a Bytes);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_map([("base64", Base64(self.0))]),
        }
    }
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

/// A JSON document that has its room until it is sent.
pub(super) fn answer(document: &impl Serialize, mut room: HeldRoom) -> Result<Response, SearchError> {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, document)?;
    room.resize(length.0)?;
    let mut bytes = Vec::with_capacity(length.0);
    serde_json::to_writer(&mut bytes, document)?;
    Ok(([(CONTENT_TYPE, "application/json")], room.until_sent(bytes)).into_response())
}

/// Counts what is written.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nulls_texts_and_bytes_are_told_apart() {
        let header = |key: &'static [u8], value: Option<&'static [u8]>| RecordHeader {
            key: Bytes::from_static(key),
            value: value.map(Bytes::from_static),
        };
        let record = Record {
            offset: 5,
            timestamp: -1,
            key: None,
            value: Some(Bytes::from_static("grüße".as_bytes())),
            headers: vec![header(b"a", None), header(b"a", Some(b"")), header(b"\xff", Some(b"\x00\xff"))],
        };
        assert_eq!(
            json!(RecordDocument::new("t", 2, &record)),
            json!({
                "topic": "t", "partition": 2, "offset": 5, "timestamp": -1, "key": null, "value": "grüße",
                "headers": [
                    {"key": "a", "value": null},
                    {"key": "a", "value": ""},
                    {"key": {"base64": "/w=="}, "value": {"base64": "AP8="}},
                ],
            })
        );
    }
}
