use chronik_wire::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsTopic,
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic, OffsetForLeaderEpochRequest, OffsetForLeaderPartition,
    OffsetForLeaderTopic,
};

use proptest::prelude::*;

use super::*;

fn asked(topics: &[(&str, &[(i32, i64)])]) -> DeleteRecordsRequest {
    let partition = |(partition_index, offset): &(i32, i64)| DeleteRecordsPartition {
        partition_index: *partition_index,
        offset: *offset,
    };
    let topic = |(name, partitions): &(&str, &[(i32, i64)])| DeleteRecordsTopic {
        name: (*name).into(),
        partitions: partitions.iter().map(partition).collect(),
    };
    DeleteRecordsRequest { topics: topics.iter().map(topic).collect(), timeout_ms: 30_000 }
}

impl Served {
    /// Deletes what lies below an offset of partition 0 of topic `t`; where its log starts then.
    pub(super) async fn delete_below(&self, offset: i64) -> i64 {
        let mut answer = self.ask(2, asked(&[("t", &[(0, offset)])])).await;
        let partition = answer.topics.remove(0).partitions.remove(0);
        assert_eq!(partition.error_code, ErrorCode::NONE);
        partition.low_watermark
    }
}

async fn list(served: &Served, timestamp: i64) -> (i64, i64) {
    let partitions = vec![ListOffsetsPartition { timestamp, ..Default::default() }];
    let topics = vec![ListOffsetsTopic { name: "t".into(), partitions }];
    let mut answer = served.ask(9, ListOffsetsRequest { topics, ..Default::default() }).await;
    let partition = answer.topics.remove(0).partitions.remove(0);
    assert_eq!(partition.error_code, ErrorCode::NONE);
    (partition.offset, partition.timestamp)
}

/// Base offsets of the batches that a fetch brings.
async fn read(served: &Served, offset: i64) -> Vec<i64> {
    let fetched = records(&served.fetch(11, "t", offset).await);
    let headers = chronik_format::batch::split(fetched).map(|batch| BatchHeader::parse(&batch.unwrap()).unwrap());
    headers.map(|header| header.base_offset).collect()
}

#[tokio::test]
async fn records_are_deleted_in_every_version_wherever_they_lie() {
    let mut served = Served::start().await;
    served.create("t", 1, &[]).await;
    // Two of these don't fit into memory together: the first of three lies in the log only.
    let large = "x".repeat(600 << 10);
    for version in DeleteRecordsRequest::VERSIONS {
        let base = i64::from(version) * 6;
        for _ in 0..3 {
            served.produce(9, "t", &batch(&[(1, &large), (2, "b")])).await;
        }
        if version == 2 {
            served.ship().await;
        }
        for (offset, log_start, batches) in [
            (base + 1, base + 1, vec![base, base + 2, base + 4]),
            (base, base + 1, vec![base, base + 2, base + 4]),
            (base + 4, base + 4, vec![base + 4]),
            (-1, base + 6, vec![]),
        ] {
            let answer = served.ask(version, asked(&[("t", &[(0, offset)])])).await;
            let deleted = DeleteRecordsPartitionResult { low_watermark: log_start, ..Default::default() };
            assert_eq!(answer.topics[0].partitions, [deleted], "{version} {offset}");
            let below = served.fetch(11, "t", log_start - 1).await;
            assert_eq!(below.error_code, ErrorCode::OFFSET_OUT_OF_RANGE, "{version} {offset}");
            assert_eq!((below.log_start_offset, below.high_watermark), (log_start, base + 6));
            let mut found = Vec::new();
            while let next = found.last().map_or(log_start, |last| last + 2)
                && next < base + 6
            {
                found.extend(read(&served, next).await);
            }
            assert_eq!(found, batches, "{version} {offset}: the first batch is given whole");
        }
    }
    assert_eq!(served.produce(9, "t", &batch(&[(1, "a")])).await.log_start_offset, 18);
    let partition = served.lane.snapshot().await.unwrap().topic_named("t").unwrap().partitions[0].clone();
    assert!(partition.runs.is_empty() && partition.shipped_to == 18, "{partition:?}");
}

/// Something that changes where records lie, or which there are.
#[derive(Clone, Debug)]
enum Step {
    /// So many batches of two records each.
    Produce(usize),
    /// Deletes what lies below this part of all offsets.
    Delete(prop::sample::Index),
    Ship,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..9usize).prop_map(Step::Produce),
        2 => any::<prop::sample::Index>().prop_map(Step::Delete),
        2 => Just(Step::Ship),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 100, ..ProptestConfig::default() })]
    /// Ten batches fit into memory, and two into a stretch of the log.
    #[test]
    fn what_is_kept_is_read_and_what_is_deleted_is_not(steps in prop::collection::vec(step(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut served = Served::start().await;
            served.create("t", 1, &[]).await;
            let sent = batch(&[(1, &"x".repeat(100 << 10)), (2, "b")]);
            let (mut log_start, mut end) = (0, 0);
            for step in steps {
                match step {
                    Step::Ship => served.ship().await,
                    Step::Produce(batches) => for _ in 0..batches {
                        served.produce(9, "t", &sent).await;
                        end += 2;
                    }
                    Step::Delete(below) => {
                        let offset = below.index(end as usize + 1) as i64;
                        log_start = log_start.max(offset);
                        assert_eq!(served.delete_below(offset).await, log_start);
                    }
                }
                assert_eq!(served.fetch(11, "t", log_start - 1).await.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
                let mut next = log_start;
                while next < end {
                    let bases = read(&served, next).await;
                    let expected: Vec<_> = (next / 2..).take(bases.len().max(1)).map(|batch| batch * 2).collect();
                    assert_eq!(bases, expected);
                    next = bases.last().unwrap() + 2;
                }
            }
        });
    }
}

#[tokio::test]
async fn offsets_are_looked_up_above_the_logs_start_only() {
    let mut served = Served::start().await;
    served.create("t", 1, &[]).await;
    for records in [&[(90, "a"), (20, "b"), (30, "c")][..], &[(10, "d"), (20, "e")]] {
        served.produce(9, "t", &batch(records)).await;
    }
    for _ in 0..2 {
        assert_eq!(served.delete_below(1).await, 1);
        for (timestamp, found) in
            [(-2, (1, -1)), (-1, (5, -1)), (0, (1, 20)), (30, (2, 30)), (31, (-1, -1)), (-3, (2, 30))]
        {
            assert_eq!(list(&served, timestamp).await, found, "{timestamp}");
        }
        served.ship().await;
    }
    assert_eq!(served.delete_below(3).await, 3);
    assert_eq!((list(&served, -3).await, list(&served, 20).await, list(&served, 0).await), ((4, 20), (4, 20), (3, 10)));
    let partitions = vec![OffsetForLeaderPartition { leader_epoch: 0, current_leader_epoch: -1, partition: 0 }];
    let topics = vec![OffsetForLeaderTopic { topic: "t".into(), partitions }];
    let answer = served.ask(4, OffsetForLeaderEpochRequest { topics, ..Default::default() }).await;
    assert_eq!(answer.topics[0].partitions[0].end_offset, 3, "no older epoch ends below the log's start");
    assert_eq!(served.delete_below(-1).await, 5);
    for (timestamp, found) in [(-2, (5, -1)), (-3, (-1, -1)), (0, (-1, -1)), (-4, (5, -1)), (-5, (-1, -1))] {
        assert_eq!(list(&served, timestamp).await, found, "{timestamp}");
    }
}

#[tokio::test]
async fn who_waits_for_more_than_what_was_deleted_is_told_at_once() {
    let served = Served::start().await;
    served.create("t", 1, &[]).await;
    served.produce(9, "t", &batch(&[(1, "a")])).await;
    let waiting = FetchRequest { max_wait_ms: LONG_MS, min_bytes: 1 << 20, ..fetch("t", &[(0, 0)]) };
    let mut answer = served.call(11, &waiting);
    assert!(futures::poll!(&mut answer).is_pending());
    assert_eq!(served.delete_below(-1).await, 1);
    let read = response::<FetchRequest>(11, answer.await);
    assert_eq!(read.responses[0].partitions[0].error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
}

#[tokio::test]
async fn each_partition_has_its_own_outcome() {
    let served = Served::start().await;
    served.create("t", 3, &[]).await;
    served.create("u", 1, &[]).await;
    served.produce(9, "t", &batch(&[(1, "a"), (2, "b")])).await;
    let request = asked(&[
        ("t", &[(0, 9), (1, 0), (2, -2), (3, 0), (-1, -1)]),
        ("absent", &[(0, -1)]),
        ("t", &[(0, 3), (1, 1)]),
        ("u", &[]),
        ("t", &[(0, 2)]),
    ]);
    let answer = served.ask(2, request).await;
    let found: Vec<_> = answer.topics.iter().map(|topic| (topic.name.as_str(), outcomes(&topic.partitions))).collect();
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(
        found,
        [
            ("absent", vec![(0, -1, unknown)]),
            (
                "t",
                vec![
                    (0, 2, ErrorCode::NONE),
                    (1, -1, ErrorCode::OFFSET_OUT_OF_RANGE),
                    (2, -1, ErrorCode::OFFSET_OUT_OF_RANGE),
                    (-1, -1, unknown),
                    (3, -1, unknown),
                ]
            ),
            ("u", vec![]),
        ]
    );
}

#[tokio::test]
async fn what_would_delete_nothing_is_not_written() {
    let served = Served::start().await;
    served.create("t", 2, &[]).await;
    served.produce(9, "t", &batch(&[(1, "a"), (2, "b")])).await;
    served.delete_below(1).await;
    let applied = || served.lane.progress().borrow().applied;
    let before = applied();
    let answer = served.ask(2, asked(&[("t", &[(0, 1), (1, -1)])])).await;
    assert_eq!(outcomes(&answer.topics[0].partitions), [(0, 1, ErrorCode::NONE), (1, 0, ErrorCode::NONE)]);
    let answer = served.ask(2, asked(&[("t", &[(0, 3), (1, 0)])])).await;
    let refused = (0, -1, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(outcomes(&answer.topics[0].partitions), [refused, (1, 0, ErrorCode::NONE)]);
    assert_eq!(applied(), before);
    assert_eq!(served.delete_below(-1).await, 2);
    assert_eq!(applied(), before + 1);
}

fn outcomes(partitions: &[DeleteRecordsPartitionResult]) -> Vec<(i32, i64, ErrorCode)> {
    partitions.iter().map(|part| (part.partition_index, part.low_watermark, part.error_code)).collect()
}
