use chronik_format::batch;
use chronik_format::ids::{Offset, Timestamp};
use chronik_wire::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsTopic,
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};

use proptest::prelude::*;

use super::*;

async fn list(served: &Served, version: i16, partition: ListOffsetsPartition) -> ListOffsetsPartitionResponse {
    let topics = vec![ListOffsetsTopic { name: "t".into(), partitions: vec![partition] }];
    let mut answer = served.ask(version, ListOffsetsRequest { topics, ..Default::default() }).await;
    answer.topics.remove(0).partitions.remove(0)
}

fn at(timestamp: i64) -> ListOffsetsPartition {
    ListOffsetsPartition { timestamp, ..Default::default() }
}

async fn with_records() -> Served {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    for records in [&[(10, "a"), (20, "b")][..], &[(40, "c")], &[(30, "d"), (40, "e")]] {
        served.produce(9, "t", &batch(records)).await;
    }
    served
}

#[tokio::test]
async fn an_offset_is_found_by_its_time_or_at_an_end() {
    let served = with_records().await;
    for (timestamp, version, offset, found) in [
        (-1, 1, 5, -1),
        (-2, 1, 0, -1),
        (0, 1, 0, 10),
        (10, 1, 0, 10),
        (11, 2, 1, 20),
        (21, 4, 2, 40),
        (40, 9, 2, 40),
        (41, 9, -1, -1),
        (i64::MAX, 9, -1, -1),
        (-3, 7, 2, 40),
        (-4, 8, 0, -1),
        (-5, 9, -1, -1),
    ] {
        let answer = list(&served, version, at(timestamp)).await;
        assert_eq!(answer.error_code, ErrorCode::NONE, "{timestamp}");
        assert_eq!((answer.offset, answer.timestamp), (offset, found), "{timestamp}");
        let epoch = if version >= 4 && offset >= 0 { 1 } else { -1 };
        assert_eq!(answer.leader_epoch, epoch, "{timestamp}");
    }
}

#[tokio::test]
async fn the_oldest_version_gets_the_offset_and_the_logs_start() {
    let served = with_records().await;
    for (timestamp, max_num_offsets, offsets) in [
        (-1, 1, &[5][..]),
        (-1, 2, &[5, 0]),
        (-2, 9, &[0]),
        (11, 9, &[1, 0]),
        (10, 9, &[0]),
        (41, 1, &[5]),
        (-1, 0, &[]),
        (-1, i32::MIN, &[]),
    ] {
        let answer = list(&served, 0, ListOffsetsPartition { max_num_offsets, ..at(timestamp) }).await;
        assert_eq!((answer.error_code, &answer.old_style_offsets[..]), (ErrorCode::NONE, offsets), "{timestamp}");
    }
    let unknown = ListOffsetsPartition { partition_index: 1, ..at(-1) };
    let refused = list(&served, 0, unknown).await;
    assert_eq!((refused.error_code, refused.old_style_offsets), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, vec![]));
}

#[tokio::test]
async fn shipped_records_are_found_by_their_time_like_new_ones() {
    let mut served = with_records().await;
    served.ship().await;
    served.produce(9, "t", &batch(&[(35, "f"), (50, "g")])).await;
    for (timestamp, offset, found) in [
        (-1, 7, -1),
        (-2, 0, -1),
        (11, 1, 20),
        (40, 2, 40),
        (41, 6, 50),
        (51, -1, -1),
        (-3, 6, 50),
        (-4, 5, -1),
        (-5, 4, -1),
    ] {
        let answer = list(&served, 9, at(timestamp)).await;
        assert_eq!(
            (answer.error_code, answer.offset, answer.timestamp),
            (ErrorCode::NONE, offset, found),
            "{timestamp}"
        );
    }
    served.ship().await;
    for (timestamp, offset) in [(41, 6), (-3, 6), (-4, 7), (-5, 6)] {
        assert_eq!(list(&served, 9, at(timestamp)).await.offset, offset, "{timestamp}");
    }
}

/// A batch, and what its header claims: base and maximum.
type Lie = (Vec<Timestamp>, Option<Timestamp>, Timestamp);

fn lies() -> impl Strategy<Value = Vec<Lie>> {
    let time = || prop_oneof![8 => 0..60i64, 1 => Just(-1), 1 => Just(i64::MIN), 1 => Just(i64::MAX)];
    let lie = (prop::collection::vec(time(), 1..4), prop::option::weighted(0.2, time()), time());
    prop::collection::vec(lie, 0..4)
}

fn lying((times, base, max): &Lie) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::Lz4);
    times.iter().for_each(|time| builder.push(*time, None, None, &[]));
    batch::forged(&builder.finish(), |bytes| {
        if let Some(base) = base {
            bytes[27..35].copy_from_slice(&base.to_be_bytes());
        }
        bytes[35..43].copy_from_slice(&max.to_be_bytes());
    })
}

/// Offsets and timestamps of all records, as a consumer sees them.
async fn times(served: &Served) -> Vec<(Offset, Timestamp)> {
    let log_start = list(served, 9, at(-2)).await.offset;
    let mut times: Vec<(Offset, Timestamp)> = Vec::new();
    loop {
        let next = times.last().map_or(log_start, |(offset, _)| offset + 1);
        let fetched = records(&served.fetch(11, "t", next).await);
        if fetched.is_empty() {
            return times;
        }
        for batch in batch::split(fetched) {
            let records = batch::records(&batch.unwrap(), 1 << 20).unwrap().map(Result::unwrap);
            let records = records.filter(|record| record.offset >= log_start);
            times.extend(records.map(|record| (record.offset, record.timestamp)));
        }
    }
}

async fn finds_by_the_records_times(served: &Served) {
    let times = times(served).await;
    let latest = times.iter().map(|(_, time)| *time).max().filter(|time| *time > -1);
    let asked = times.iter().flat_map(|(_, time)| [*time, time.saturating_add(1)]);
    for timestamp in asked.chain([0, 30]).filter(|timestamp| *timestamp >= 0) {
        let expected = times.iter().find(|(_, time)| *time >= timestamp).copied();
        let answer = list(served, 9, at(timestamp)).await;
        assert_eq!((answer.offset, answer.timestamp), expected.unwrap_or((-1, -1)), "{timestamp}");
    }
    let youngest = latest.and_then(|latest| times.iter().find(|(_, time)| *time == latest).copied());
    let answer = list(served, 9, at(-3)).await;
    assert_eq!((answer.offset, answer.timestamp), youngest.unwrap_or((-1, -1)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 50, ..ProptestConfig::default() })]
    #[test]
    fn offsets_are_found_by_the_records_times_whatever_headers_claim(
        shipped in lies(),
        more in lies(),
        kept in lies(),
        log_starts in prop::collection::vec(0..24i64, 3),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut served = Served::start().await;
            served.create("t", 1, &[]).await;
            for ((lies, ship), log_start) in [(shipped, true), (more, true), (kept, false)].into_iter().zip(log_starts) {
                for lie in &lies {
                    assert_eq!(served.produce(9, "t", &lying(lie)).await.error_code, ErrorCode::NONE);
                }
                finds_by_the_records_times(&served).await;
                if ship && !lies.is_empty() {
                    served.ship().await;
                    finds_by_the_records_times(&served).await;
                }
                let end = list(&served, 9, at(-1)).await.offset;
                served.delete_below(log_start.min(end)).await;
                finds_by_the_records_times(&served).await;
            }
        });
    }
}

#[tokio::test]
async fn the_time_of_the_append_is_looked_up_whatever_the_producer_sent() {
    let mut served = Served::start().await;
    served.create("t", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    served.produce(9, "t", &lying(&(vec![5, i64::MAX], None, -1))).await;
    served.produce(9, "t", &lying(&(vec![-1], Some(7), i64::MAX))).await;
    finds_by_the_records_times(&served).await;
    served.ship().await;
    finds_by_the_records_times(&served).await;
}

#[tokio::test]
async fn a_batch_that_does_not_open_answers_by_what_it_claims_wherever_it_lies() {
    let mut served = Served::start().await;
    served.create("t", 1, &[]).await;
    let garbage = batch::forged(&lying(&(vec![10, 30], None, 30)), |bytes| bytes[61] ^= 0xff);
    for batch in [&lying(&(vec![20], None, -1)), &garbage, &lying(&(vec![25], None, -1))] {
        assert_eq!(served.produce(9, "t", batch).await.error_code, ErrorCode::NONE);
    }
    for _ in 0..2 {
        for (timestamp, offset, found) in [(0, 0, 20), (21, 1, 30), (30, 1, 30), (31, -1, -1), (-3, 1, 30)] {
            let answer = list(&served, 9, at(timestamp)).await;
            assert_eq!((answer.offset, answer.timestamp), (offset, found), "{timestamp}");
        }
        served.ship().await;
    }
}

#[tokio::test]
async fn a_question_of_a_later_version_is_refused() {
    let served = with_records().await;
    for (timestamp, version) in [(-3, 0), (-3, 6), (-4, 7), (-5, 8), (-6, 9), (i64::MIN, 9)] {
        let answer = list(&served, version, at(timestamp)).await;
        assert_eq!((answer.error_code, answer.offset), (ErrorCode::UNSUPPORTED_VERSION, -1), "{timestamp}");
    }
}

#[tokio::test]
async fn an_empty_partition_has_ends_and_no_record() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    for (timestamp, offset) in [(-1, 0), (-2, 0), (-3, -1), (-4, 0), (-5, -1), (0, -1)] {
        assert_eq!(list(&served, 9, at(timestamp)).await.offset, offset, "{timestamp}");
    }
}

#[tokio::test]
async fn outdated_clients_are_told_by_list_offsets() {
    let served = with_records().await;
    for (current_leader_epoch, code) in
        [(1, ErrorCode::NONE), (0, ErrorCode::FENCED_LEADER_EPOCH), (2, ErrorCode::UNKNOWN_LEADER_EPOCH)]
    {
        let asked = ListOffsetsPartition { current_leader_epoch, ..at(-1) };
        assert_eq!(list(&served, 4, asked).await.error_code, code);
    }
    let unknown = ListOffsetsPartition { partition_index: 1, ..at(-1) };
    assert_eq!(list(&served, 9, unknown).await.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[tokio::test]
async fn an_epochs_end_is_the_partitions_end_until_the_next_one() {
    let served = with_records().await;
    for version in 2..=4 {
        for (partition, current_leader_epoch, leader_epoch, expected) in [
            (0, -1, 1, (ErrorCode::NONE, 1, 5)),
            (0, 1, 0, (ErrorCode::NONE, 0, 0)),
            (0, 1, 2, (ErrorCode::NONE, -1, -1)),
            (0, 0, 1, (ErrorCode::FENCED_LEADER_EPOCH, -1, -1)),
            (0, 2, 1, (ErrorCode::UNKNOWN_LEADER_EPOCH, -1, -1)),
            (3, -1, 1, (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1, -1)),
        ] {
            let partitions = vec![OffsetForLeaderPartition { partition, current_leader_epoch, leader_epoch }];
            let topics = vec![OffsetForLeaderTopic { topic: "t".into(), partitions }];
            let answer = served.ask(version, OffsetForLeaderEpochRequest { topics, ..Default::default() }).await;
            let found = &answer.topics[0].partitions[0];
            assert_eq!((found.error_code, found.leader_epoch, found.end_offset), expected);
        }
    }
}
