use chronik_format::batch::{LOG_APPEND_TIME, TRANSACTIONAL, verify};
use chronik_wire::{FetchResponse, ProduceRequest, ProduceResponse};
use futures::future::join_all;

use super::*;

#[tokio::test]
async fn batches_come_back_as_they_came_in_every_version() {
    let served = Served::start().await;
    let id = served.create("t", 1, &[]).await;
    let mut offset = 0;
    for version in 3..=11 {
        let sent = batch(&[(1_000, "a"), (1_001, "bb")]);
        let produced = served.produce(version, "t", &sent).await;
        assert_eq!((produced.error_code, produced.base_offset), (ErrorCode::NONE, offset), "v{version}");
        assert_eq!((produced.log_append_time_ms, produced.error_message), (-1, None));
        offset += 2;
    }
    for version in 4..=17 {
        let mut asked = fetch("t", &[(0, 3)]);
        asked.topics[0].topic_id = id;
        let fetched: FetchResponse = served.ask(version, asked).await;
        assert_eq!((fetched.error_code, fetched.session_id), (ErrorCode::NONE, 0));
        let partition = &fetched.responses[0].partitions[0];
        assert_eq!((partition.high_watermark, partition.last_stable_offset), (offset, offset), "v{version}");
        assert_eq!((partition.aborted_transactions.as_ref(), partition.preferred_read_replica), (None, -1));
        let mut expected = 2;
        for stored in chronik_format::batch::split(records(partition)) {
            let stored = stored.unwrap();
            let header = verify(&stored).unwrap();
            assert_eq!((header.base_offset, header.leader_epoch), (expected, 1));
            assert_eq!(stored[21..], batch(&[(1_000, "a"), (1_001, "bb")])[21..]);
            expected += 2;
        }
        assert_eq!(expected, offset);
    }
}

#[tokio::test]
async fn what_arrives_first_comes_first_though_its_client_did_not_wait() {
    let served = Served::start().await;
    served.create("t", 2, &[]).await;
    let values: Vec<String> = (0..100).map(|number| format!("{number:03}")).collect();
    let batches: Vec<Bytes> = values.iter().map(|value| batch(&[(1, value)])).collect();
    let request = |pair: &[Bytes]| produce(-1, "t", &[(0, &pair[0]), (1, &pair[0]), (0, &pair[1])]);
    let calls: Vec<_> = batches.chunks(2).map(|pair| served.call(9, &request(pair))).collect();
    // The futures are polled last call first: what counts is the order of the calls.
    let mut outcomes = join_all(calls.into_iter().rev()).await;
    outcomes.reverse();
    for (at, outcome) in (0i64..).zip(outcomes) {
        let mut answer: ProduceResponse = response::<ProduceRequest>(9, outcome);
        let offsets: Vec<_> = answer.responses.remove(0).partition_responses.iter().map(|p| p.base_offset).collect();
        assert_eq!(offsets, [2 * at, at, 2 * at + 1]);
    }
    let stored = records(&served.fetch(12, "t", 0).await);
    let read: Vec<_> = chronik_format::batch::split(stored)
        .flat_map(|batch| chronik_format::batch::records(&batch.unwrap(), 1_000).unwrap())
        .map(|record| String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap())
        .collect();
    assert_eq!(read, values);
}

#[tokio::test]
async fn a_refused_batch_has_its_code_and_its_reason_and_no_offset() {
    let served = Served::start().await;
    served.create("t", 1, &[("max.message.bytes", "1000")]).await;
    let good = batch(&[(1, "a")]);
    let zstd = {
        let mut builder = BatchBuilder::new(Codec::Zstd);
        builder.push(1, None, Some(&[0; 500]), &[]);
        builder.finish()
    };
    let with_bit = |bit: i16| changed(&good, |bytes| bytes[22] |= bit as u8);
    let damaged = {
        let mut bytes = good.to_vec();
        bytes[40] ^= 1;
        Bytes::from(bytes)
    };
    for (sent, version, code) in [
        (damaged, 9, ErrorCode::CORRUPT_MESSAGE),
        (Bytes::new(), 9, ErrorCode::INVALID_RECORD),
        ([good.clone(), good.clone()].concat().into(), 9, ErrorCode::INVALID_RECORD),
        (changed(&good, |bytes| bytes[16] = 1), 9, ErrorCode::INVALID_RECORD),
        (with_bit(0x20), 9, ErrorCode::INVALID_RECORD),
        (with_bit(LOG_APPEND_TIME), 9, ErrorCode::INVALID_TIMESTAMP),
        (with_bit(TRANSACTIONAL), 9, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        (with_bit(7), 9, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
        (zstd.clone(), 6, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
        (batch(&[(1, &"x".repeat(1_000))]), 9, ErrorCode::MESSAGE_TOO_LARGE),
        // A producer id without a sequence number.
        (changed(&good, |bytes| bytes[43..51].fill(0)), 9, ErrorCode::INVALID_RECORD),
    ] {
        let refused = served.produce(version, "t", &sent).await;
        assert_eq!((refused.error_code, refused.base_offset), (code, -1));
        assert_eq!(refused.error_message.is_some(), version >= 8, "{code}");
    }
    assert_eq!(served.produce(7, "t", &zstd).await.base_offset, 0);
}

#[tokio::test]
async fn a_request_is_refused_partition_by_partition() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    let good = batch(&[(1, "a")]);
    let codes = |response: ProduceResponse| -> Vec<ErrorCode> {
        response.responses.iter().flat_map(|topic| &topic.partition_responses).map(|p| p.error_code).collect()
    };
    let mut asked = produce(1, "t", &[(0, &good), (1, &good), (-1, &good)]);
    asked.topic_data.extend(produce(1, "nothing", &[(0, &good)]).topic_data);
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(codes(served.ask(9, asked).await), [ErrorCode::NONE, unknown, unknown, unknown]);

    for acks in [-2, 2, i16::MAX] {
        let answer = served.ask(9, produce(acks, "t", &[(0, &good)])).await;
        assert_eq!(codes(answer), [ErrorCode::INVALID_REQUIRED_ACKS]);
    }
    let transactional = ProduceRequest { transactional_id: Some("x".into()), ..produce(1, "t", &[(0, &good)]) };
    assert_eq!(codes(served.ask(9, transactional).await), [ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED]);
    assert_eq!(served.fetch(12, "t", 0).await.high_watermark, 1);
}

#[tokio::test]
async fn without_acks_there_is_no_answer_and_an_error_ends_the_connection() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    let good = batch(&[(1, "a")]);
    let sent = served.call(9, &produce(0, "t", &[(0, &good)])).await;
    assert!(matches!(sent, RequestOutcome::NoAnswer), "{sent:?}");
    assert_eq!(served.fetch(12, "t", 0).await.high_watermark, 1);
    let refused = served.call(9, &produce(0, "t", &[(0, &good), (5, &good)])).await;
    assert!(matches!(&refused, RequestOutcome::Close { reason } if reason.contains("partition 5")), "{refused:?}");
}

#[tokio::test]
async fn the_broker_sets_the_time_where_the_topic_says_so() {
    let served = Served::start().await;
    served.create("t", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let produced = served.produce(9, "t", &batch(&[(1_000, "a"), (2_000, "b")])).await;
    assert!(produced.log_append_time_ms > 2_000);
    let stored = records(&served.fetch(12, "t", 0).await);
    assert!(verify(&stored).unwrap().is_log_append_time());
    for record in chronik_format::batch::records(&stored, 1_000).unwrap() {
        assert_eq!(record.unwrap().timestamp, produced.log_append_time_ms);
    }
}

#[tokio::test]
async fn records_go_from_request_to_answer_without_a_copy_unless_they_would_keep_much_else_in_memory() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    let large = batch(&[(1, &"x".repeat(100_000))]);
    for (frame_bytes, shares) in [(100_200, true), (1_000_000, false)] {
        let body = Bytes::from(produce(1, "t", &[(0, &large)]).encode(9).concat());
        let frame = body.as_ptr_range();
        let request = arrived::<ProduceRequest>(9, body.clone(), frame_bytes);
        let produced: ProduceResponse = response::<ProduceRequest>(9, served.table.call(request).await);
        let offset = produced.responses[0].partition_responses[0].base_offset;
        let RequestOutcome::Answer(chunks) = served.call(12, &fetch("t", &[(0, offset)])).await else {
            panic!("no answer")
        };
        let longest = chunks.iter().max_by_key(|chunk| chunk.len()).unwrap();
        assert!(longest.len() > 100_000);
        assert_eq!(frame.contains(&longest.as_ptr()), shares);
    }
}
