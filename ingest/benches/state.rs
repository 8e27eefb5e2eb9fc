//! What the lane's owner does between two writes of the log, on a state with a long history: `cargo bench -p
//! chronik-ingest --bench state`.

use std::hint::black_box;

use chronik_format::batch::TimeSpan;
use chronik_format::ids::{Incarnation, TopicId};
use chronik_format::span::{ByteSpan, OffsetSpan};
use chronik_ingest::state::LaneState;
use chronik_ingest::state::command::{Append, Command, CreateTopic, RegisterSegment, SegmentRun};
use chronik_ingest::state::topic_config::TopicConfig;
use criterion::{Criterion, criterion_group, criterion_main};
use uuid::Uuid;

const TOPICS: u128 = 100;
const PARTITIONS: i32 = 100;
const SEGMENTS: u64 = 100;

fn topic(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

fn append(state: &LaneState, number: u128, partition: i32) -> Command {
    let base_offset = state.topics[&topic(number)].partitions[partition as usize].next_offset;
    let place = (base_offset, base_offset + 9);
    Command::Append(Append {
        topic: topic(number),
        partition,
        base_offset: place.0,
        last_offset: place.1,
        position: 0,
        length: 1000,
        producer: None,
    })
}

fn append_everywhere(state: &LaneState) -> Vec<Command> {
    (0..TOPICS).flat_map(|number| (0..PARTITIONS).map(move |partition| append(state, number, partition))).collect()
}

fn register(state: &LaneState) -> Command {
    let first = state.shipped_index() + 1;
    let runs = (0..TOPICS).flat_map(|number| (0..PARTITIONS).map(move |partition| (number, partition)));
    let run = |(number, partition): (u128, i32)| {
        let known = &state.topics[&topic(number)].partitions[partition as usize];
        SegmentRun {
            topic: topic(number),
            partition,
            offsets: OffsetSpan { first: known.shipped_to, last: known.next_offset - 1 },
            bytes: ByteSpan { position: 56, length: 1000 },
            times: TimeSpan { earliest: 0, latest: 1000 },
        }
    };
    Command::RegisterSegment(RegisterSegment {
        incarnation: Incarnation(1),
        first,
        last: state.applied,
        key: format!("segments/00000000/{first:020}"),
        size: 1 << 24,
        crc: 1,
        directory_position: 1 << 23,
        named_at: 0,
        at: 0,
        runs: runs.map(run).collect(),
    })
}

/// 10,000 partitions with a million runs.
fn long_history() -> LaneState {
    let mut state = LaneState::new(Incarnation(1));
    let apply = |state: &mut LaneState, commands: &[Command]| {
        state.apply_frame(state.applied + 1, commands).into_iter().for_each(|result| assert!(result.is_ok()));
    };
    for number in 0..TOPICS {
        let config = TopicConfig::default();
        let create = CreateTopic { id: topic(number), name: format!("topic-{number}"), partitions: PARTITIONS, config };
        apply(&mut state, &[Command::CreateTopic(create)]);
    }
    for _ in 0..SEGMENTS {
        let batches = append_everywhere(&state);
        apply(&mut state, &batches);
        let segment = register(&state);
        apply(&mut state, &[segment]);
    }
    state
}

fn owner(criterion: &mut Criterion) {
    let mut state = long_history();
    criterion.bench_function("a snapshot", |bencher| bencher.iter(|| black_box(state.clone())));
    criterion.bench_function("one batch", |bencher| {
        bencher.iter(|| {
            let command = append(&state, 7, 7);
            black_box(state.apply_frame(state.applied + 1, &[command]))
        });
    });
    criterion.bench_function("one batch, the first after a snapshot", |bencher| {
        let mut snapshot = state.clone();
        bencher.iter(|| {
            let command = append(&state, 7, 7);
            black_box(state.apply_frame(state.applied + 1, &[command]));
            snapshot = state.clone();
        });
    });
    criterion.bench_function("a batch for each of 10,000 partitions", |bencher| {
        bencher.iter(|| {
            let commands = append_everywhere(&state);
            black_box(state.apply_frame(state.applied + 1, &commands))
        });
    });
    criterion.bench_function("a batch for each of 10,000 partitions, the first after a snapshot", |bencher| {
        let mut snapshot = state.clone();
        bencher.iter(|| {
            let commands = append_everywhere(&state);
            black_box(state.apply_frame(state.applied + 1, &commands));
            snapshot = state.clone();
        });
    });
    criterion.bench_function("a segment with a run of each of 10,000 partitions", |bencher| {
        bencher.iter(|| {
            let commands = append_everywhere(&state);
            state.apply_frame(state.applied + 1, &commands);
            let segment = register(&state);
            black_box(state.apply_frame(state.applied + 1, &[segment]))
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = owner
}
criterion_main!(benches);
