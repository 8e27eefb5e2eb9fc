use chronik_wire::{DeleteTopicsRequest, EpochEndOffset, ReplicaState};
use futures::{FutureExt, poll};

use super::*;

fn offsets(partition: &PartitionData) -> Vec<i64> {
    let batches = chronik_format::batch::split(records(partition));
    batches.map(|batch| chronik_format::batch::verify(&batch.unwrap()).unwrap().base_offset).collect()
}

fn waiting(asked: FetchRequest, min_bytes: usize) -> FetchRequest {
    FetchRequest { max_wait_ms: LONG_MS, min_bytes: min_bytes as i32, ..asked }
}

#[tokio::test]
async fn a_waiting_fetch_wakes_once_there_is_enough() {
    let served = Served::start().await;
    served.create("t", 2, &[]).await;
    let sent = batch(&[(1, "a")]);
    let mut fetching = served.call(12, &waiting(fetch("t", &[(0, 0), (1, 0)]), 2 * sent.len()));
    assert!(poll!(&mut fetching).is_pending());
    served.produce(9, "t", &sent).await;
    assert!(poll!(&mut fetching).is_pending());
    served.ask(9, produce(1, "t", &[(1, &sent)])).await;
    let answer = response::<FetchRequest>(12, fetching.await);
    let read: Vec<_> = answer.responses[0].partitions.iter().map(offsets).collect();
    assert_eq!(read, [[0], [0]]);
}

#[tokio::test]
async fn a_fetch_that_nothing_comes_for_ends_at_its_time() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    let asked = FetchRequest { max_wait_ms: 1, ..waiting(fetch("t", &[(0, 0)]), 1) };
    let partition = served.ask(12, asked).await.responses.remove(0).partitions.remove(0);
    assert_eq!((partition.high_watermark, records(&partition)), (0, Bytes::new()));
}

#[tokio::test]
async fn nothing_is_waited_for_where_waiting_is_of_no_use() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    served.produce(9, "t", &batch(&[(1, "a")])).await;
    served.produce(9, "t", &batch(&[(1, "b")])).await;
    let no_partition = FetchRequest { topics: vec![], ..fetch("t", &[]) };
    let small = FetchRequest { max_bytes: 1, ..fetch("t", &[(0, 0)]) };
    for asked in
        [fetch("t", &[(0, 2), (7, 0)]), fetch("t", &[(0, 9)]), fetch("nothing", &[(0, 0)]), no_partition, small]
    {
        let shown = format!("{asked:?}");
        assert!(served.call(12, &waiting(asked, 1_000_000)).now_or_never().is_some(), "{shown}");
    }
}

#[tokio::test]
async fn limits_hold_in_the_requests_order_but_for_the_first_batch() {
    let served = Served::start().await;
    served.create("t", 3, &[]).await;
    let sent = batch(&[(1, &"x".repeat(1_000))]);
    for _ in 0..3 {
        served.ask(9, produce(1, "t", &[(1, &sent), (2, &sent)])).await;
    }
    let length = sent.len() as i32;
    for (max_bytes, partition_max_bytes, expected) in [
        (0, 0, [vec![0], vec![]]),
        (length, length - 1, [vec![0], vec![]]),
        (2 * length, 1, [vec![0], vec![]]),
        (2 * length, length, [vec![0], vec![0]]),
        (4 * length + 5, 3 * length, [vec![0, 1, 2], vec![0]]),
        (i32::MAX, i32::MAX, [vec![0, 1, 2], vec![0, 1, 2]]),
        (i32::MIN, -1, [vec![0], vec![]]),
    ] {
        let mut asked = FetchRequest { max_bytes, ..fetch("t", &[(0, 0), (1, 0), (2, 0)]) };
        asked.topics[0].partitions.iter_mut().for_each(|p| p.partition_max_bytes = partition_max_bytes);
        let answer = served.ask(12, asked).await;
        let read: Vec<_> = answer.responses[0].partitions.iter().map(offsets).collect();
        assert_eq!(read, [&[vec![]], &expected[..]].concat(), "{max_bytes} {partition_max_bytes}");
    }
}

#[tokio::test]
async fn an_offset_that_nothing_has_is_out_of_range() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    served.produce(9, "t", &batch(&[(1, "a")])).await;
    for offset in [-1, 2, i64::MAX, i64::MIN] {
        let refused = served.fetch(12, "t", offset).await;
        assert_eq!(refused.error_code, ErrorCode::OFFSET_OUT_OF_RANGE, "{offset}");
        assert_eq!((refused.high_watermark, refused.log_start_offset), (1, 0));
    }
    assert_eq!(records(&served.fetch(12, "t", 1).await), Bytes::new());
    let unknown = served.fetch(12, "nothing", 0).await;
    assert_eq!((unknown.error_code, unknown.high_watermark), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1));
    assert_eq!(served.fetch(13, "t", 0).await.error_code, ErrorCode::UNKNOWN_TOPIC_ID);
}

#[tokio::test]
async fn readers_of_another_epoch_are_told() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    served.produce(9, "t", &batch(&[(1, "a")])).await;
    let asked = |current_leader_epoch, last_fetched_epoch, offset| {
        let mut asked = fetch("t", &[(0, offset)]);
        let partition = &mut asked.topics[0].partitions[0];
        partition.current_leader_epoch = current_leader_epoch;
        partition.last_fetched_epoch = last_fetched_epoch;
        asked
    };
    let none = EpochEndOffset::default();
    let forked = EpochEndOffset { epoch: 1, end_offset: 1 };
    for (current, last, offset, code, diverging) in [
        (1, 1, 1, ErrorCode::NONE, &none),
        (0, -1, 0, ErrorCode::FENCED_LEADER_EPOCH, &none),
        (2, -1, 0, ErrorCode::UNKNOWN_LEADER_EPOCH, &none),
        (-1, 1, 5, ErrorCode::NONE, &forked),
        (-1, 3, 1, ErrorCode::OFFSET_OUT_OF_RANGE, &none),
    ] {
        let answer = served.ask(12, asked(current, last, offset)).await;
        let partition = &answer.responses[0].partitions[0];
        assert_eq!((partition.error_code, &partition.diverging_epoch), (code, diverging), "{current} {last} {offset}");
    }
    assert_eq!(served.ask(8, asked(0, 9, 0)).await.responses[0].partitions[0].error_code, ErrorCode::NONE);
}

#[tokio::test]
async fn followers_are_refused() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    let follower = FetchRequest { replica_id: 2, ..fetch("t", &[(0, 0)]) };
    assert!(matches!(served.call(12, &follower).await, RequestOutcome::Close { .. }));
    let replica_state = ReplicaState { replica_id: 2, replica_epoch: 1 };
    let follower = FetchRequest { replica_state, ..fetch("t", &[(0, 0)]) };
    assert!(matches!(served.call(15, &follower).await, RequestOutcome::Close { .. }));
}

#[tokio::test]
async fn who_reads_committed_records_is_told_that_none_were_aborted() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    let answer = served.ask(12, FetchRequest { isolation_level: 1, ..fetch("t", &[(0, 0)]) }).await;
    assert_eq!(answer.responses[0].partitions[0].aborted_transactions, Some(vec![]));
}

#[tokio::test]
async fn what_memory_no_longer_holds_comes_from_the_write_ahead_log() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    let sent = batch(&[(1, &"x".repeat(700_000))]);
    for _ in 0..4 {
        served.produce(9, "t", &sent).await;
    }
    for offset in 0..4 {
        assert_eq!(records(&served.fetch(12, "t", offset).await)[21..], sent[21..]);
    }
}

#[tokio::test]
async fn shipped_records_are_fetched_from_the_bucket() {
    let mut served = Served::start().await;
    served.create("t", 1, &[]).await;
    let sent = batch(&[(1, "a"), (2, "b")]);
    for _ in 0..3 {
        served.produce(9, "t", &sent).await;
    }
    served.ship().await;
    served.produce(9, "t", &sent).await;
    let mut read = Vec::new();
    let mut next = 1;
    while next < 8 {
        let partition = served.fetch(12, "t", next).await;
        assert_eq!(partition.high_watermark, 8);
        for stored in chronik_format::batch::split(records(&partition)) {
            let stored = stored.unwrap();
            assert_eq!(stored[21..], sent[21..]);
            let header = chronik_format::batch::verify(&stored).unwrap();
            read.push(header.base_offset);
            next = header.last_offset() + 1;
        }
    }
    assert_eq!(read, [0, 2, 4, 6]);
}

#[tokio::test]
async fn a_fetch_whose_topic_is_deleted_tells_at_once_to_look_again() {
    let served = Served::start().await;
    let id = served.create("t", 1, &[]).await;
    served.create("u", 1, &[]).await;
    let by_id = |topic_id| {
        let mut asked = fetch("", &[(0, 0)]);
        asked.topics[0].topic_id = topic_id;
        asked
    };
    let mut by_name = waiting(fetch("t", &[(0, 0)]), 1);
    by_name.topics.extend(fetch("u", &[(0, 0)]).topics);
    let mut by_name = served.call(12, &by_name);
    let mut by_id = served.call(13, &waiting(by_id(id), 1));
    assert!(poll!(&mut by_name).is_pending() && poll!(&mut by_id).is_pending());

    let deleted = DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() };
    served.ask(5, deleted).await;
    served.create("t", 1, &[]).await;
    served.produce(9, "t", &batch(&[(1, "a")])).await;
    let answer = response::<FetchRequest>(12, by_name.await);
    let codes: Vec<_> = answer.responses.iter().map(|t| t.partitions[0].error_code).collect();
    assert_eq!(codes, [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::NONE]);
    let answer = response::<FetchRequest>(13, by_id.await);
    assert_eq!(answer.responses[0].partitions[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
}

#[tokio::test]
async fn one_partition_that_can_not_be_read_does_not_spoil_the_others() {
    let mut served = Served::start().await;
    served.create("t", 2, &[]).await;
    let sent = batch(&[(1, "a")]);
    served.produce(9, "t", &sent).await;
    served.ship().await;
    std::fs::remove_dir_all(served._folder.path().join("bucket")).unwrap();
    served.ask(9, produce(1, "t", &[(0, &sent), (1, &sent)])).await;
    let answer = served.ask(12, fetch("t", &[(0, 0), (1, 0)])).await;
    let [lost, read] = &answer.responses[0].partitions[..] else { panic!("{answer:?}") };
    assert_eq!(lost.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
    assert_eq!(offsets(read), [0]);
    assert_eq!(offsets(&served.fetch(12, "t", 1).await), [1]);
}

#[tokio::test]
async fn answers_that_are_not_taken_leave_room_for_other_clients() {
    for from_bucket in [false, true] {
        let mut served = Served::start().await;
        served.create("t", 2, &[("max.message.bytes", "100000")]).await;
        let sent = batch(&[(1, &"x".repeat(90_000))]);
        for _ in 0..20 {
            served.ask(9, produce(1, "t", &[(0, &sent), (1, &sent)])).await;
        }
        if from_bucket {
            served.ship().await;
        }
        let mut asked = fetch("t", &[(0, 0), (1, 0)]);
        asked.max_bytes = i32::MAX;
        // All room is 4 MiB; each of 20 connections asks for 3.6 MB three times.
        let requests = (0..60).map(|n| served.call_from(1_000 + n % 20, 12, &asked));
        let unread = futures::future::join_all(requests).await;
        let held = served.answer_bytes.get();
        assert!((2 << 20..4 << 20).contains(&held), "{held}");

        let mut next = 0;
        while next < 20 {
            let partition = served.fetch(12, "t", next).await;
            let read = offsets(&partition);
            assert_eq!(read, (next..next + read.len() as i64).collect::<Vec<_>>());
            assert!(!read.is_empty());
            next += read.len() as i64;
        }
        assert_eq!(served.answer_bytes.get(), held);
        drop(unread);
        assert_eq!(served.answer_bytes.get(), 0);
    }
}
