//! The tails' memory: whatever it forgets is found in the log, and it stays within its limit.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use chronik_format::batch::{self, BatchBuilder, Codec};
use chronik_format::ids::{Incarnation, LaneId};
use proptest::prelude::*;

use super::memory::TailMemory;
use super::replay::LaneReplay;
use super::ship_policy::{FrameWeight, ShipLimits, UnshippedLog};
use super::stretch::{FrameSpan, StretchMemory};
use super::tail::{BatchBytes, PartitionTail, TailBatch, TailRead};
use super::*;
use crate::disk::memory::MemoryDisk;
use crate::log::{Frame, FrameError, FramePlace, FramePurpose};
use crate::reading::{LogRead, ReadError};
use crate::state::command::{Append, CreateTopic, Urgency};
use crate::state::topic_config::TopicConfig;
use crate::wal::{self, DurableFloor, WalError, WalHandle, WalOptions, WalReader, WrittenFrames};

const PARTITIONS: usize = 4;
const TOPIC: TopicId = TopicId(uuid::Uuid::from_u128(1));

fn options() -> WalOptions {
    WalOptions {
        file_bytes: 8 << 10,
        max_bytes: 8 << 20,
        ..WalOptions::new("/wal", "/wal.mark", LaneId(0), Incarnation(1))
    }
}

/// A lane with one topic, at index 1.
fn created() -> (LaneState, Command) {
    let command = Command::CreateTopic(CreateTopic {
        id: TOPIC,
        name: "t".into(),
        partitions: PARTITIONS as i32,
        config: TopicConfig::default(),
    });
    (LaneState::new(Incarnation(1)), command)
}

/// A real log and the tails over it, and what they should hold.
struct World {
    disk: MemoryDisk,
    wal: WalHandle,
    reader: WalReader,
    written: Receiver<Result<WrittenFrames, WalError>>,
    topics: TopicTable,
    memory: TailMemory,
    index: LogIndex,
    released: LogIndex,
    /// By partition: last offset -> (frame, bytes).
    model: HashMap<usize, BTreeMap<Offset, (LogIndex, Bytes)>>,
}

impl World {
    fn new(memory_max: usize) -> Self {
        let disk = MemoryDisk::default();
        wal::create(&disk, &options(), 0).unwrap();
        let open = wal::open(Arc::new(disk.clone()), options(), DurableFloor::default(), &mut |_, _| Ok(())).unwrap();
        let (send, written) = channel();
        let wal = open.writer.start(move |report| drop(send.send(report))).unwrap();
        let (mut state, create) = created();
        state.apply_frame(1, std::slice::from_ref(&create));
        let mut world = Self {
            disk,
            wal,
            reader: open.reader,
            written,
            topics: TopicTable::of(&state),
            memory: TailMemory::new(memory_max, StretchMemory::new(memory_max)),
            index: 0,
            released: 0,
            model: HashMap::new(),
        };
        world.write(create.encoded(), Vec::new());
        world
    }

    fn write(&mut self, commands: Vec<u8>, batches: Vec<Bytes>) -> FrameSpan {
        self.index += 1;
        let frame = Frame {
            index: self.index,
            incarnation: Incarnation(1),
            epoch: 1,
            kind: 0,
            flags: 0,
            commands: commands.into(),
            batches,
        };
        let length = frame.length();
        self.wal.reserve_waiting(length, FramePurpose::Append).unwrap();
        self.wal.append(frame);
        let place = self.written.recv().unwrap().unwrap().places[0];
        self.memory.stretches.next_frame(&place)
    }

    /// One frame with a batch for each of these partitions, of so many records.
    fn append(&mut self, batches: &[(usize, usize)]) -> FrameSpan {
        let (mut commands, mut all, mut position) = (Vec::new(), Vec::new(), 0);
        let mut appends = Vec::new();
        for (partition, records) in batches {
            let known = self.model.entry(*partition).or_default();
            let base_offset = known.last_key_value().map_or(0, |(last, _)| last + 1);
            let last_offset = base_offset + *records as Offset - 1;
            let mut builder = BatchBuilder::new(Codec::None);
            (0..*records).for_each(|at| builder.push(at as i64, None, Some(&[7; 40]), &[]));
            let mut bytes = bytes::BytesMut::from(&builder.finish()[..]);
            batch::stamp(&mut bytes, base_offset, 1);
            let bytes = bytes.freeze();
            known.insert(last_offset, (self.index + 1, bytes.clone()));
            let append = Append {
                topic: TOPIC,
                partition: *partition as PartitionId,
                base_offset,
                last_offset,
                position,
                length: bytes.len() as u32,
                producer: None,
            };
            position += bytes.len() as u32;
            commands.extend(Command::Append(append).encoded());
            appends.push(append);
            all.push(bytes);
        }
        let span = self.write(commands, all.clone());
        for (append, bytes) in appends.iter().zip(all) {
            let partition = self.topics.partition(TOPIC, append.partition).unwrap().clone();
            self.memory.hold(&partition, TailBatch::new(append, span, BatchBytes::from_whole(bytes)));
        }
        self.memory.shrink(&self.topics);
        span
    }

    fn release(&mut self, up_to: LogIndex) {
        self.released = self.released.max(up_to);
        let mut stretches = 0;
        for number in 0..PARTITIONS {
            let shipped = self.start(number);
            stretches += self.tail(number).release(self.released, shipped);
        }
        self.memory.release(self.released, stretches);
        self.memory.shrink(&self.topics);
        self.wal.recycle(self.released);
    }

    fn tail(&self, number: usize) -> &Arc<PartitionTail> {
        self.topics.partition(TOPIC, number as PartitionId).unwrap()
    }

    /// First offset that is not released.
    fn start(&self, number: usize) -> Offset {
        let Some(known) = self.model.get(&number) else { return 0 };
        let released = known.iter().filter(|(_, (index, _))| *index <= self.released);
        released.last().map_or(0, |(last, _)| last + 1)
    }

    /// Every offset is read as it was written, from tails over this log.
    fn check(&self, topics: &TopicTable, max_bytes: usize) {
        for number in 0..PARTITIONS {
            let tail = topics.partition(TOPIC, number as PartitionId).unwrap();
            let known = self.model.get(&number).cloned().unwrap_or_default();
            let end = known.last_key_value().map_or(0, |(last, _)| last + 1);
            let (start, bounds) = (self.start(number), tail.bounds());
            assert_eq!((bounds.tail_start, bounds.end), (start, end));
            for from in 0..end {
                let read = match tail.read(from, max_bytes) {
                    Err(below) => {
                        assert!(from < start, "{from} is in the tail");
                        assert_eq!(below.start, start);
                        continue;
                    }
                    Ok(TailRead::Held(batches)) => batches,
                    Ok(TailRead::Logged(stretches)) => {
                        let mut read = LogRead::new(TOPIC, number as PartitionId, from, max_bytes);
                        read.run(&self.reader, &stretches).unwrap().unwrap()
                    }
                };
                assert!(from >= start && !read.is_empty());
                let expected = known.range(from..).map(|(_, (_, bytes))| bytes.clone());
                let expected: Vec<Bytes> = expected.take(read.len()).collect();
                let read: Vec<Bytes> = read.iter().map(BatchBytes::contiguous).collect();
                assert_eq!(read, expected);
                assert!(read.len() == 1 || read.iter().map(Bytes::len).sum::<usize>() <= max_bytes);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(usize, usize)>),
    Release(f64),
}

fn step() -> impl Strategy<Value = Step> {
    let batches = prop::collection::vec((0..PARTITIONS, 1..4_usize), 1..6);
    prop_oneof![
        12 => batches.prop_map(Step::Append),
        1 => (0.0..1.0).prop_map(Step::Release),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_offset_is_read_as_it_was_written_whatever_was_forgotten(
        steps in prop::collection::vec(step(), 1..80),
        memory_max in 0..20_000_usize,
        max_bytes in 1..2_000_usize,
    ) {
        let mut world = World::new(memory_max);
        for step in steps {
            match step {
                Step::Append(batches) => {
                    world.append(&batches);
                }
                Step::Release(share) => {
                    let up_to = world.released + ((world.index - world.released) as f64 * share) as LogIndex;
                    world.release(up_to);
                }
            }
        }
        world.check(&world.topics, max_bytes);
    }

    #[test]
    fn a_replayed_log_is_read_as_it_was_written(
        frames in prop::collection::vec(prop::collection::vec((0..PARTITIONS, 1..4_usize), 1..6), 1..60),
        max_bytes in 1..2_000_usize,
    ) {
        let mut world = World::new(0);
        for batches in &frames {
            world.append(batches);
        }
        let World { disk, .. } = &world;
        let mut replay = LaneReplay::new(created().0);
        let copy = disk.clone();
        drop(std::mem::replace(&mut world.wal, {
            let spare = MemoryDisk::default();
            wal::create(&spare, &options(), 0).unwrap();
            let open = wal::open(Arc::new(spare), options(), DurableFloor::default(), &mut |_, _| Ok(())).unwrap();
            open.writer.start(|_| ()).unwrap()
        }));
        let open = wal::open(Arc::new(copy), options(), DurableFloor::default(), &mut |frame, place| {
            replay.take(frame, place).unwrap();
            Ok(())
        });
        world.reader = open.unwrap().reader;
        let replayed = replay.finish();
        prop_assert_eq!(replayed.unshipped.len() as u64, world.index);
        world.check(&replayed.topics, max_bytes);
    }
}

/// What lies before and behind the damage is served, and the damage is neither skipped nor taken for what the bucket
/// has.
#[test]
fn a_read_ends_before_a_damaged_frame_and_only_what_lies_in_it_can_not_be_read() {
    let last_byte = |span: &FrameSpan| span.end - span.start - 1;
    let places: [&dyn Fn(&FrameSpan) -> u64; 4] = [&|_| 0, &|_| 9, &|_| 28, &last_byte];
    for (place, is_cut) in places.into_iter().flat_map(|place| [(place, false), (place, true)]) {
        let mut world = World::new(0);
        let spans: Vec<FrameSpan> = (0..6).map(|_| world.append(&[(0, 2), (1, 1)])).collect();
        let file = options().directory.join("00000001-0000000000000001.wal");
        for damaged in [1, 4] {
            world.disk.flip(&file, spans[damaged].position + place(&spans[damaged]));
        }
        if is_cut {
            world.release(2);
        }
        let read = |from| {
            let Ok(TailRead::Logged(stretches)) = world.tail(0).read(from, 1 << 20) else {
                panic!("offset {from} is not in the log")
            };
            assert_eq!(stretches.len(), 1);
            LogRead::new(TOPIC, 0, from, 1 << 20).run(&world.reader, &stretches)
        };
        for (frame, readable) in [(0, 1), (1, 0), (2, 2), (3, 1), (4, 0), (5, 1)] {
            for from in [2 * frame, 2 * frame + 1].into_iter().filter(|from| !is_cut || *from >= 2) {
                match read(from) {
                    Ok(batches) => assert_eq!(batches.unwrap().len(), readable, "from {from}"),
                    Err(ReadError::Log(FrameError::Damaged(_))) => assert_eq!(readable, 0, "from {from}"),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

/// Many more batches than there are bytes of memory, over many partitions. What a day of an outage brings is no
/// different: the memory is looked at after every frame, and what is beyond the limit is thinned to half of it.
#[test]
fn memory_stays_within_its_limit_however_much_the_log_holds() {
    const MEMORY_MAX: usize = 1 << 20;
    const MANY: usize = 1000;
    let (mut state, create) = created();
    let Command::CreateTopic(create) = create else { unreachable!() };
    let create = Command::CreateTopic(CreateTopic { partitions: MANY as i32, ..create });
    state.apply_frame(1, &[create]);
    let topics = TopicTable::of(&state);
    let mut memory = TailMemory::new(MEMORY_MAX, StretchMemory::new(MEMORY_MAX));
    let bytes = BatchBytes { head: Bytes::from_static(&[0; 61]), body: Bytes::from_static(&[0; 100]) };
    for at in 0..400_000_u64 {
        let place = FramePlace { index: at + 2, file: 1, position: 4096 + at * 300, length: 269 };
        let frame = memory.stretches.next_frame(&place);
        let partition = (at * at) as usize % MANY;
        let tail = topics.partition(TOPIC, partition as PartitionId).unwrap();
        let base_offset = tail.bounds().end;
        let batch = TailBatch { base_offset, last_offset: base_offset, frame, bytes: bytes.clone() };
        memory.hold(tail, batch);
        let taken = memory.shrink(&topics);
        assert!(taken <= MEMORY_MAX, "{taken} bytes after {at} batches");
    }
    let held = topics.partitions().map(|tail| tail.held()).sum::<usize>();
    assert!(held * 400 < MEMORY_MAX && held > 1000, "{held} batches are held");
    assert!(memory.stretches.memory() <= MEMORY_MAX / 4);
    let stretches: usize = topics.partitions().map(|tail| tail.thin(0)).sum();
    assert!(stretches <= memory.stretches.memory() && stretches > MEMORY_MAX / 32);
}

/// A thousand small batches a second, each second in one frame. All count as bytes of the log; of each thousand only
/// some are given to the tails. That is honest because the limit is kept after each frame, whatever came before it:
/// what memory takes does not depend on how many there were.
#[test]
fn a_day_without_the_bucket_stays_within_the_memory_that_there_is() {
    const MEMORY_MAX: usize = 1 << 20;
    const BATCH_BYTES: u64 = 161;
    const MANY: usize = 1000;
    const HELD: usize = 10;
    let ship = ShipLimits { bytes: 64 << 20, age: Duration::from_secs(10) };
    let (mut state, create) = created();
    let Command::CreateTopic(create) = create else { unreachable!() };
    state.apply_frame(1, &[Command::CreateTopic(CreateTopic { partitions: MANY as i32, ..create })]);
    let topics = TopicTable::of(&state);
    let mut memory = TailMemory::new(MEMORY_MAX, StretchMemory::new(MEMORY_MAX));
    let mut unshipped = UnshippedLog::new(ship, 1);
    let bytes = BatchBytes { head: Bytes::from_static(&[0; 61]), body: Bytes::from_static(&[0; 100]) };
    let (start, weight) = (Instant::now(), FrameWeight { bytes: 1000 * BATCH_BYTES, urgency: Urgency::Records });
    let mut orders = 0;
    for second in 0..24 * 3600_u64 {
        let now = start + Duration::from_secs(second);
        if unshipped.is_full_before(&weight) || unshipped.is_due(now) {
            unshipped.cut(second + 1);
            orders += 1;
        }
        unshipped.add(&weight, now);
        let place = FramePlace { index: second + 2, file: 1, position: 4096, length: weight.bytes + 48 };
        let frame = memory.stretches.next_frame(&place);
        for at in 0..HELD {
            let tail = topics.partition(TOPIC, ((second as usize * HELD + at) % MANY) as PartitionId).unwrap();
            let base_offset = tail.bounds().end;
            memory.hold(tail, TailBatch { base_offset, last_offset: base_offset, frame, bytes: bytes.clone() });
        }
        let taken = memory.shrink(&topics);
        assert!(taken <= MEMORY_MAX, "{taken} bytes after {second} s");
    }
    assert_eq!(unshipped.bytes(), 86_400_000 * BATCH_BYTES);
    assert!(orders < 64 + unshipped.bytes() / (ship.bytes - weight.bytes) + 1, "{orders} orders");
}
