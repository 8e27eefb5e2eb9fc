//! Idempotent producers.

use chronik_wire::{InitProducerIdRequest, ProduceResponse};

use super::*;

async fn new_id(served: &Served, version: i16) -> i64 {
    let asked = InitProducerIdRequest { transactional_id: None, ..Default::default() };
    let given = served.ask(version, asked).await;
    assert_eq!((given.error_code, given.producer_epoch), (ErrorCode::NONE, 0));
    given.producer_id
}

/// Two records under a producer's numbers.
fn numbered(id: i64, epoch: i16, sequence: i32) -> Bytes {
    changed(&batch(&[(1, "a"), (2, "b")]), |bytes| {
        bytes[43..51].copy_from_slice(&id.to_be_bytes());
        bytes[51..53].copy_from_slice(&epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&sequence.to_be_bytes());
    })
}

#[tokio::test]
async fn every_producer_has_an_id_of_its_own_and_transactions_are_refused() {
    let served = Served::start().await;
    let mut ids = Vec::new();
    for version in InitProducerIdRequest::VERSIONS {
        ids.push(new_id(&served, version).await);
    }
    assert!(ids.is_sorted_by(|before, next| before < next) && ids[0] > 0, "{ids:?}");
    let asked = InitProducerIdRequest { transactional_id: Some("x".into()), ..Default::default() };
    let refused = served.ask(5, asked).await;
    assert_eq!(refused.error_code, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    assert_eq!((refused.producer_id, refused.producer_epoch), (-1, -1));
}

#[tokio::test]
async fn a_batch_sent_again_has_the_offset_that_it_has_and_is_written_once() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    let id = new_id(&served, 4).await;
    for (epoch, sequence, code, offset) in [
        (0, 0, ErrorCode::NONE, 0),
        (0, 2, ErrorCode::NONE, 2),
        (0, 0, ErrorCode::NONE, 0),
        (0, 2, ErrorCode::NONE, 2),
        (0, 6, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1),
        (0, 4, ErrorCode::NONE, 4),
        (1, 6, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1),
        (1, 0, ErrorCode::NONE, 6),
        (0, 6, ErrorCode::INVALID_PRODUCER_EPOCH, -1),
        (1, 0, ErrorCode::NONE, 6),
    ] {
        let produced = served.produce(9, "t", &numbered(id, epoch, sequence)).await;
        assert_eq!((produced.error_code, produced.base_offset), (code, offset), "epoch {epoch}, sequence {sequence}");
        assert_eq!(produced.log_start_offset, if code.is_none() { 0 } else { -1 });
    }
    assert_eq!(served.fetch(12, "t", 0).await.high_watermark, 8);
}

#[tokio::test]
async fn five_in_flight_and_all_sent_again_are_five() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    let id = new_id(&served, 4).await;
    let send = |sequence| served.call(9, &produce(-1, "t", &[(0, &numbered(id, 0, sequence))]));
    let calls: Vec<_> = (0..5).chain(0..5).map(|number| send(2 * number)).collect();
    for (at, outcome) in futures::future::join_all(calls).await.into_iter().enumerate() {
        let answer: ProduceResponse = response::<ProduceRequest>(9, outcome);
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (ErrorCode::NONE, 2 * (at as i64 % 5)));
    }
    assert_eq!(served.fetch(12, "t", 0).await.high_watermark, 10);
}

#[tokio::test]
async fn a_batch_sent_again_has_the_broker_s_time_that_it_has() {
    let served = Served::start().await;
    served.create("t", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let id = new_id(&served, 4).await;
    let first = served.produce(9, "t", &numbered(id, 0, 0)).await;
    let stored = records(&served.fetch(12, "t", 0).await);
    let again = served.produce(9, "t", &numbered(id, 0, 0)).await;
    assert_eq!(again, first);
    assert_eq!(chronik_format::batch::verify(&stored).unwrap().max_timestamp, first.log_append_time_ms);
}
