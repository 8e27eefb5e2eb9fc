//! What every way to old records has to do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use uuid::Uuid;

use super::{ColdError, ColdReader};
use chronik_format::batch::{BatchHeader, records};
use chronik_format::ids::{Offset, TopicId};

/// Runs the whole suite over partition 0 of a topic, which has `batches` from `log_start` on and is the topic's only
/// one; panics at the first thing that is not as promised.
pub async fn cold_suite(reader: &dyn ColdReader, topic: TopicId, log_start: Offset, batches: &[Bytes]) {
    let end = batches.last().map_or(0, last_of) + 1;
    for offset in log_start..end {
        for max_bytes in [0, 1, 200, 100_000, 1 << 30] {
            serves_without_a_gap(reader, topic, batches, offset, max_bytes).await;
        }
    }
    finds_by_time(reader, topic, batches, log_start..end).await;
    for (topic, partition, offset) in [
        (topic, 0, -1),
        (topic, 0, log_start - 1),
        (topic, 0, end),
        (topic, 1, log_start),
        (topic, -1, log_start),
        (TopicId(Uuid::nil()), 0, log_start),
    ] {
        let error = reader.fetch(topic, partition, offset, 1).await.unwrap_err();
        assert!(matches!(error, ColdError::NotInCatalog { offset: told, .. } if told == offset), "{error}");
        let error = reader.offset_for_time(topic, partition, offset, 0).await.unwrap_err();
        assert!(matches!(error, ColdError::NotInCatalog { offset: told, .. } if told == offset), "{error}");
    }
}

async fn serves_without_a_gap(
    reader: &dyn ColdReader,
    topic: TopicId,
    batches: &[Bytes],
    offset: Offset,
    max_bytes: usize,
) {
    let fetched = reader.fetch(topic, 0, offset, max_bytes).await.unwrap();
    let start = batches.iter().position(|batch| last_of(batch) >= offset).unwrap();
    assert_eq!(fetched, batches[start..start + fetched.len()], "{offset} {max_bytes}");
    let bytes: usize = fetched.iter().map(Bytes::len).sum();
    assert!(!fetched.is_empty() && (fetched.len() == 1 || bytes <= max_bytes));
}

async fn finds_by_time(reader: &dyn ColdReader, topic: TopicId, batches: &[Bytes], offsets: std::ops::Range<Offset>) {
    let all: Vec<_> = batches.iter().flat_map(|batch| records(batch, 1 << 20).unwrap()).map(Result::unwrap).collect();
    let latest = all.iter().map(|record| record.timestamp).max().unwrap_or(0);
    for from in offsets {
        for timestamp in (0..=latest + 1).step_by(5).chain([latest, latest + 1]) {
            let mut later = all.iter();
            let expected = later.find(|record| record.offset >= from && record.timestamp >= timestamp);
            let found = reader.offset_for_time(topic, 0, from, timestamp).await.unwrap();
            assert_eq!(found, expected.map(|record| (record.offset, record.timestamp)), "{from} {timestamp}");
        }
    }
}

fn last_of(batch: &Bytes) -> Offset {
    BatchHeader::parse(batch).unwrap().last_offset()
}
