//! Records as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chronik_format::batch::Record;
use chronik_format::ids::PartitionId;
use serde_json::{Map, Value, json};

/// `{"topic","partition","offset","timestamp","key","value","headers":[{"key","value"}]}`
pub(super) fn record(topic: &str, partition: PartitionId, record: &Record) -> Map<String, Value> {
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|header| json!({"key": text(&header.key), "value": nullable(header.value.as_ref())}))
        .collect();
    let mut object = Map::new();
    object.insert("topic".into(), topic.into());
    object.insert("partition".into(), partition.into());
    object.insert("offset".into(), record.offset.into());
    object.insert("timestamp".into(), record.timestamp.into());
    object.insert("key".into(), nullable(record.key.as_ref()));
    object.insert("value".into(), nullable(record.value.as_ref()));
    object.insert("headers".into(), headers.into());
    object
}

fn nullable(bytes: Option<&Bytes>) -> Value {
    bytes.map_or(Value::Null, text)
}

/// A string if it is UTF-8, else `{"base64":"..."}`.
fn text(bytes: &Bytes) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({"base64": STANDARD.encode(bytes)}),
    }
}

#[cfg(test)]
mod tests {
    use chronik_format::batch::Header;

    use super::*;

    #[test]
    fn nulls_texts_and_bytes_are_told_apart() {
        let header = |key: &'static [u8], value: Option<&'static [u8]>| Header {
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
            Value::Object(super::record("t", 2, &record)),
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
