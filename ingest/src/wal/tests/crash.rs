//! The power goes at every single operation of the disk, and takes with it any part of what was not synced.

use std::collections::BTreeMap;

use futures::FutureExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::io::Errno;

use super::*;
use crate::disk::memory::DiskOperation;

/// What the log must hold.
#[derive(Clone, Default)]
struct Model {
    /// Everything appended that was not lost, by index.
    appended: BTreeMap<LogIndex, Frame>,
    /// The last index that was reported durable.
    durable: LogIndex,
    /// What may be recycled.
    checkpoint: LogIndex,
    /// The log was created; before that, nothing is opened.
    created: bool,
}

/// Reserves, allocating what that takes here and not on the log's thread: the operations of the disk have one order.
fn reserve(handle: &WalHandle, bytes: u64) -> Result<(), NoSpace> {
    loop {
        match handle.reserve(bytes, FramePurpose::Append) {
            Err(NoSpace::Allocating { bytes }) => handle.shared.allocate(bytes),
            reserved => return reserved,
        }
        handle.decided().now_or_never().unwrap()?;
    }
}

impl Model {
    /// Opens the log and compares all that it has. An error is the disk's, for the power may go here as well.
    fn open(&mut self, disk: &MemoryDisk) -> Result<OpenWal, WalError> {
        let floor = DurableFloor { checkpoint: self.checkpoint, shipped: self.checkpoint };
        if !self.created {
            create(disk, &options(), 0)?;
            self.created = true;
        }
        let (open, replayed) = open_on(disk, options(), floor)?;
        let oldest = replayed.first().map_or(open.last + 1, |(frame, _)| frame.index);
        assert!(open.last >= self.durable, "frame {} was durable, the log ends at {}", self.durable, open.last);
        assert!(oldest <= self.checkpoint + 1, "the log begins at {oldest}, behind {}", self.checkpoint);
        let expected: Vec<Frame> = self.appended.range(oldest..open.last + 1).map(|(_, frame)| frame.clone()).collect();
        let frames: Vec<Frame> = replayed.iter().map(|(frame, _)| frame.clone()).collect();
        assert_eq!(frames, expected, "what is replayed is what was appended, from {oldest} on");
        let read: Vec<Frame> = open.reader.frames(oldest, open.last).collect::<Result<_, _>>()?;
        assert_eq!(read, expected);
        for (frame, place) in replayed {
            assert_eq!(read_at(&open.reader, &place)?, frame);
        }
        self.appended.split_off(&(open.last + 1));
        self.durable = open.last;
        Ok(open)
    }

    /// Opens, appends, recycles, until the work is done or the power goes.
    fn work(&mut self, disk: &MemoryDisk, random: &mut StdRng, rounds: usize) -> Result<(), WalError> {
        let OpenWal { mut writer, .. } = self.open(disk)?;
        let handle = WalHandle { shared: writer.shared.clone(), threads: Vec::new() };
        for _ in 0..rounds {
            for _ in 0..random.random_range(1..5) {
                let length = match random.random_range(0..20) {
                    0 => 0,
                    1 => random.random_range(16 << 10..24 << 10),
                    _ => random.random_range(1..3000),
                };
                let next = self.appended.last_key_value().map_or(self.durable, |(index, _)| *index) + 1;
                let mut frame = frame(next, length);
                // A lost frame's index is used again, by another frame.
                frame.epoch = random.random();
                if reserve(&handle, frame.length()).is_err() {
                    break;
                }
                self.appended.insert(next, joined(frame.clone()));
                handle.append(frame);
            }
            if random.random_bool(0.3) {
                self.checkpoint = random.random_range(self.checkpoint..=self.durable);
                handle.recycle(self.checkpoint);
            }
            let idle = !handle.shared.lock().has_work();
            if !idle {
                let work = handle.shared.wait().unwrap();
                let durable = &mut self.durable;
                writer.work(work, &mut |written| *durable = written.unwrap().durable)?;
            }
            // Its outcome does not matter.
            if random.random_bool(0.3) {
                let _ = writer.shared.mark_durable();
            }
        }
        if random.random_bool(0.3) {
            writer.shared.mark_durable()?;
        }
        Ok(())
    }
}

#[test]
fn what_was_reported_durable_survives_a_power_cut_at_any_operation() {
    let mut crashes = 0;
    for seed in 0..20 {
        let disk = MemoryDisk::default();
        Model::default().work(&disk, &mut StdRng::seed_from_u64(seed), 12).unwrap();
        for cut in 1..=disk.operations() {
            let context = format!("seed {seed}, operation {cut}");
            let mut random = StdRng::seed_from_u64(seed);
            let mut model = Model::default();
            let mut disk = MemoryDisk::default();
            disk.cut_power_at(cut);
            let ended = model.work(&disk, &mut random, 12);
            assert!(matches!(ended, Ok(()) | Err(WalError::Io { .. })), "{context}: {ended:?}");

            // Again and again on what is left, sometimes in the middle of recovering, sometimes only killed.
            let mut random = StdRng::seed_from_u64(seed << 32 | cut);
            for again in 0..4 {
                disk = if random.random_bool(0.2) { disk.kill() } else { disk.crash(random.random()) };
                crashes += 1;
                disk.cut_power_at(random.random_range(1..60));
                let ended = model.work(&disk, &mut random, 6);
                let io = matches!(ended, Ok(()) | Err(WalError::Io { .. }));
                assert!(io, "{context}, {again}: {ended:?}");
            }
            model.work(&disk.crash(cut), &mut random, 2).unwrap_or_else(|error| panic!("{context}: {error}"));
        }
    }
    assert!(crashes > 4000, "only {crashes} crashes");
}

/// A sync fails, the process ends, the next one finds all as if nothing had happened: until the power goes.
#[test]
fn what_is_acknowledged_after_a_failed_sync_survives_a_power_cut() {
    let mut failures = 0;
    for seed in 0..120 {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut model, mut disk) = (Model::default(), MemoryDisk::default());
        for life in 0..6 {
            disk.fail(DiskOperation::Sync, random.random_range(0..40), Errno::IO);
            let ended = model.work(&disk, &mut random, 12);
            assert!(matches!(ended, Ok(()) | Err(WalError::Io { .. })), "seed {seed}, life {life}: {ended:?}");
            failures += usize::from(ended.is_err());
            disk = if random.random_bool(0.7) { disk.kill() } else { disk.crash(random.random()) };
        }
        let last = model.work(&disk.crash(seed), &mut random, 2);
        last.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    assert!(failures > 150, "only {failures} failures");
}

/// The same, step by step: two frames of which the second's sync failed, and a third after the restart.
#[test]
fn frames_that_a_failed_sync_left_in_memory_are_written_anew_before_anything_follows_them() {
    let disk = MemoryDisk::default();
    let (open, _) = open_on(&disk, options(), DurableFloor::default()).unwrap();
    let (handle, reports) = start(open.writer);
    append_each(&handle, &reports, [frame(1, 100)]);
    disk.fail(DiskOperation::Sync, 0, Errno::IO);
    handle.append(frame(2, 100));
    assert!(matches!(reports.recv().unwrap(), Err(WalError::Io { .. })));
    kill(handle);

    let disk = disk.kill();
    let (open, replayed) = open_on(&disk, options(), DurableFloor::default()).unwrap();
    let places: Vec<(LogIndex, u64)> = replayed.iter().map(|(_, place)| (place.index, place.file)).collect();
    assert_eq!(places, [(1, 1), (2, 2)], "what nothing proves to be on disk stands in a new file");
    let (handle, reports) = start(open.writer);
    append_each(&handle, &reports, [frame(3, 100)]);
    kill(handle);

    let (open, replayed) = open_on(&disk.crash(0), options(), DurableFloor::default()).unwrap();
    let frames: Vec<Frame> = replayed.into_iter().map(|(frame, _)| frame).collect();
    let expected: Vec<Frame> = (1..=3).map(|index| joined(frame(index, 100))).collect();
    assert_eq!((open.last, frames), (3, expected));
}
