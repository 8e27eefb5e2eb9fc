use chronik_format::batch::{MessageMagic, messages_of_batches, verify};

use super::*;

/// A message set as an old producer sends it.
fn messages(magic: MessageMagic, records: &[(i64, &str)]) -> Bytes {
    messages_of_batches([batch(records)], magic, 0, usize::MAX, true).unwrap()
}

fn compressed(codec: Codec, value: &str) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    (0..10).for_each(|_| builder.push(1, None, Some(value.as_bytes()), &[]));
    builder.finish()
}

/// Offset, magic and value of each message without a key.
fn read(partition: &PartitionData) -> Vec<(i64, u8, String)> {
    let (set, mut at, mut messages) = (records(partition), 0, Vec::new());
    while at < set.len() {
        let number = |from: usize| i32::from_be_bytes(set[from..from + 4].try_into().unwrap()) as usize;
        let offset = i64::from_be_bytes(set[at..at + 8].try_into().unwrap());
        let (magic, end) = (set[at + 16], at + 12 + number(at + 8));
        let value = at + if magic == 0 { 26 } else { 34 };
        assert_eq!(number(value - 4), end - value);
        messages.push((offset, magic, String::from_utf8(set[value..end].to_vec()).unwrap()));
        at = end;
    }
    messages
}

#[tokio::test]
async fn messages_are_kept_as_batches_and_come_back_as_messages() {
    let mut served = Served::start().await;
    served.create("t", 1, &[]).await;
    for (version, magic) in [(0, MessageMagic::V0), (1, MessageMagic::V0), (2, MessageMagic::V1)] {
        let produced = served.produce(version, "t", &messages(magic, &[(5, "a"), (6, "b")])).await;
        assert_eq!((produced.error_code, produced.base_offset), (ErrorCode::NONE, 2 * i64::from(version)));
    }
    let produced = served.produce(2, "t", &batch(&[(5, "a"), (6, "b")])).await;
    assert_eq!((produced.error_code, produced.base_offset), (ErrorCode::NONE, 6), "a batch in an old request");

    for _ in 0..2 {
        for version in 0..=3 {
            let partition = served.fetch(version, "t", 1).await;
            let magic = u8::from(version >= 2);
            let value = |offset: i64| if offset % 2 == 0 { "a" } else { "b" };
            let expected: Vec<_> = (1..8).map(|offset| (offset, magic, value(offset).to_owned())).collect();
            assert_eq!((partition.high_watermark, read(&partition)), (8, expected), "v{version}");
        }
        let batches = chronik_format::batch::split(records(&served.fetch(4, "t", 0).await));
        let times: Vec<_> = batches
            .flat_map(|batch| chronik_format::batch::records(&batch.unwrap(), 1_000).unwrap())
            .map(|record| record.unwrap().timestamp)
            .collect();
        assert_eq!(times, [-1, -1, -1, -1, 5, 6, 5, 6]);
        served.ship().await;
    }
}

#[tokio::test]
async fn the_broker_sets_the_time_of_messages_too() {
    let served = Served::start().await;
    served.create("t", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let produced = served.produce(2, "t", &messages(MessageMagic::V1, &[(5, "a")])).await;
    assert!(produced.log_append_time_ms > 5);
    let kept = records(&served.fetch(4, "t", 0).await);
    assert_eq!(verify(&kept).unwrap().max_timestamp, produced.log_append_time_ms);
    let message = records(&served.fetch(2, "t", 0).await);
    assert_eq!((message[17], &message[18..26]), (8, &produced.log_append_time_ms.to_be_bytes()[..]));
}

#[tokio::test]
async fn refused_messages_have_their_code() {
    let served = Served::start().await;
    served.create("t", 1, &[("max.message.bytes", "1000")]).await;
    let good = messages(MessageMagic::V1, &[(1, "a")]);
    let damaged = {
        let mut bytes = good.to_vec();
        bytes[20] ^= 1;
        Bytes::from(bytes)
    };
    let half = "x".repeat(600);
    for (sent, version, code) in [
        (damaged, 2, ErrorCode::CORRUPT_MESSAGE),
        (good.slice(..good.len() - 1), 2, ErrorCode::CORRUPT_MESSAGE),
        (Bytes::new(), 2, ErrorCode::INVALID_RECORD),
        (good.clone(), 3, ErrorCode::INVALID_RECORD),
        (messages(MessageMagic::V1, &[(1, &"x".repeat(1_000))]), 2, ErrorCode::MESSAGE_TOO_LARGE),
        // Each is small enough; the batch is not.
        (messages(MessageMagic::V1, &[(1, &half), (1, &half)]), 2, ErrorCode::MESSAGE_TOO_LARGE),
    ] {
        let refused = served.produce(version, "t", &sent).await;
        assert_eq!((refused.error_code, refused.base_offset), (code, -1), "v{version}");
    }
    assert_eq!(served.produce(2, "t", &good).await.base_offset, 0);
}

#[tokio::test]
async fn zstd_is_told_to_who_can_not_know_it() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    served.produce(9, "t", &batch(&[(1, "a")])).await;
    served.produce(9, "t", &compressed(Codec::Zstd, "b")).await;
    for version in 0..=3 {
        assert_eq!(read(&served.fetch(version, "t", 0).await).len(), 1);
        let refused = served.fetch(version, "t", 1).await;
        assert_eq!(refused.error_code, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, "v{version}");
    }
    assert!(!records(&served.fetch(4, "t", 1).await).is_empty());
}

#[tokio::test]
async fn what_unpacks_to_more_than_there_is_room_for_comes_message_by_message() {
    let served = Served::start().await;
    served.create("t", 2, &[]).await;
    let value = "x".repeat(100_000);
    let packed = compressed(Codec::Gzip, &value);
    served.ask(9, produce(1, "t", &[(0, &packed), (1, &packed)])).await;
    let message = value.len() + 34;
    for (max_bytes, partition_max_bytes, expected) in [
        (10 * message, 3 * message, [3, 3]),
        (5 * message, 3 * message, [3, 2]),
        (3 * message + 50_000, 3 * message, [3, 0]),
        (0, 0, [1, 0]),
    ] {
        let mut asked = FetchRequest { max_bytes: max_bytes as i32, ..fetch("t", &[(0, 4), (1, 4)]) };
        asked.topics[0].partitions.iter_mut().for_each(|p| p.partition_max_bytes = partition_max_bytes as i32);
        let outcome = served.call(3, &asked).await;
        let held = served.answer_bytes.get() as usize;
        let answer = response::<FetchRequest>(3, outcome);
        let partitions = &answer.responses[0].partitions;
        let read: Vec<_> = partitions.iter().map(|partition| read(partition).len()).collect();
        assert_eq!(read, expected, "{max_bytes} {partition_max_bytes}");
        assert_eq!(held, read.iter().sum::<usize>() * message);
        assert!(partitions[0].records.0.concat().starts_with(&4i64.to_be_bytes()));
    }
    assert_eq!(served.answer_bytes.get(), 0);
}
