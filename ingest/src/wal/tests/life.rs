//! Appending, reading, recycling, and what happens when the disk fails or is full.

use std::sync::mpsc::TryRecvError;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::*;
use crate::disk::LocalDisk;
use crate::disk::memory::DiskOperation;

#[test]
fn frames_that_queue_up_during_a_sync_share_the_next_one() {
    let disk = MemoryDisk::default();
    let (open, _) = open_on(&disk, options(), DurableFloor::default()).unwrap();
    let (send, reports) = channel();
    let (go, wait) = channel::<()>();
    let on_written = move |written: Result<WrittenFrames, WalError>| {
        send.send(written.unwrap()).unwrap();
        wait.recv().unwrap();
    };
    let handle = open.writer.start(on_written).unwrap();
    handle.append(frame(1, 10));
    assert_eq!(reports.recv().unwrap().durable, 1);
    for index in 2..=9 {
        handle.append(frame(index, 10));
    }
    go.send(()).unwrap();
    let second = reports.recv().unwrap();
    assert_eq!(second.places.iter().map(|place| place.index).collect::<Vec<_>>(), (2..=9).collect::<Vec<_>>());
    go.send(()).unwrap();
    let shared = handle.shared.clone();
    handle.close();
    assert_eq!(shared.lock().fsyncs, 2);
}

#[test]
fn short_and_interrupted_writes_are_finished() {
    let disk = MemoryDisk::default();
    let (open, _) = open_on(&disk, options(), DurableFloor::default()).unwrap();
    disk.set_most_per_write(7);
    let (handle, reports) = start(open.writer);
    append_each(&handle, &reports, (1..=5).map(|index| frame(index, 500)));
    handle.close();
    let (_, replayed) = open_on(&disk.crash(1), options(), DurableFloor::default()).unwrap();
    let frames: Vec<Frame> = replayed.into_iter().map(|(frame, _)| frame).collect();
    assert_eq!(frames, (1..=5).map(|index| joined(frame(index, 500))).collect::<Vec<_>>());
}

#[test]
fn a_failed_write_or_sync_is_reported_once_and_nothing_is_acknowledged_after_it() {
    for (operation, well) in [
        (DiskOperation::Write, 1),
        (DiskOperation::Sync, 1),
        (DiskOperation::Sync, 0),
        (DiskOperation::SyncDirectory, 0),
    ] {
        let disk = MemoryDisk::default();
        let (open, _) = open_on(&disk, options(), DurableFloor::default()).unwrap();
        let (handle, reports) = start(open.writer);
        disk.fail(operation, well, Errno::IO);
        handle.append(frame(1, 10));
        handle.append(frame(2, 10));
        assert!(matches!(reports.recv().unwrap(), Err(WalError::Io { .. })));
        handle.append(frame(3, 10));
        assert!(matches!(handle.reserve_waiting(1, FramePurpose::Bookkeeping), Err(NoSpace::Closed)));
        handle.close();
        assert!(reports.recv().is_err(), "the error was the last report");
    }
}

#[test]
fn a_frame_out_of_order_ends_the_log() {
    let disk = MemoryDisk::default();
    let (open, _) = open_on(&disk, options(), DurableFloor::default()).unwrap();
    let (handle, reports) = start(open.writer);
    append_each(&handle, &reports, [frame(1, 10), frame(2, 10)]);
    handle.append(frame(4, 10));
    assert!(matches!(reports.recv().unwrap(), Err(WalError::Order { expected: 3, found: 4 })));
}

#[test]
fn files_are_allocated_ahead_while_the_writer_is_busy() {
    let disk = MemoryDisk::default();
    let (open, _) = open_on(&disk, options(), DurableFloor::default()).unwrap();
    let (send, reports) = channel();
    let (go, wait) = channel::<()>();
    let on_written = move |written: Result<WrittenFrames, WalError>| {
        send.send(written.unwrap().durable).unwrap();
        let _ = wait.recv();
    };
    let handle = open.writer.start(on_written).unwrap();
    let full = || {
        let deadline = Instant::now() + Duration::from_secs(30);
        while handle.stats().spares < 2 {
            assert!(Instant::now() < deadline, "no file was allocated ahead: {:?}", handle.stats());
            thread::yield_now();
        }
    };
    full();
    handle.append(frame(1, 10_000));
    assert_eq!(reports.recv().unwrap(), 1);
    // From here on the writer is kept from its work.
    for index in 2..=6 {
        full();
        let created = disk.operations();
        handle.reserve(frame(index, 10_000).length(), FramePurpose::Append).unwrap();
        assert_eq!(disk.operations(), created, "reserving does not touch the disk");
        handle.append(frame(index, 10_000));
    }
    drop(go);
    handle.close();
}

#[test]
fn a_full_disk_leaves_room_for_bookkeeping_and_passes_by_itself() {
    let disk = MemoryDisk::default();
    disk.set_capacity(4 * (16 << 10));
    let (open, _) = open_on(&disk, options(), DurableFloor::default()).unwrap();
    let (handle, reports) = start(open.writer);
    let mut index = 0;
    let refusal = loop {
        match handle.reserve_waiting(frame(index + 1, 1000).length(), FramePurpose::Append) {
            Ok(()) => index += 1,
            Err(refusal) => break refusal,
        }
        handle.append(frame(index, 1000));
        reports.recv().unwrap().unwrap();
    };
    assert!(matches!(refusal, NoSpace::Disk { .. }), "{refusal}");
    assert!(index > 20, "three files were filled");
    let mut bookkept = 0;
    while handle.reserve_waiting(frame(index + 1, 1000).length(), FramePurpose::Bookkeeping).is_ok() {
        index += 1;
        bookkept += 1;
        handle.append(frame(index, 1000));
        reports.recv().unwrap().unwrap();
    }
    assert!(bookkept >= 11, "a whole file was left for bookkeeping, it took {bookkept} frames");

    disk.set_capacity(1 << 20);
    handle.reserve_waiting(1000, FramePurpose::Append).unwrap();
    append_each(&handle, &reports, [frame(index + 1, 100)]);
    handle.close();
    assert_eq!(open_on(&disk.crash(0), options(), DurableFloor::default()).unwrap().0.last, index + 1);
}

#[test]
fn recycling_makes_room_below_the_limit() {
    let disk = MemoryDisk::default();
    let options = WalOptions { max_bytes: 4 * (16 << 10), ..options() };
    let (open, _) = open_on(&disk, options, DurableFloor::default()).unwrap();
    let (handle, reports) = start(open.writer);
    let mut index = 0;
    let fill = |index: &mut LogIndex| loop {
        match handle.reserve_waiting(frame(*index + 1, 1000).length(), FramePurpose::Append) {
            Ok(()) => *index += 1,
            Err(NoSpace::Limit { .. }) => break,
            Err(other) => panic!("{other}"),
        }
        handle.append(frame(*index, 1000));
        reports.recv().unwrap().unwrap();
    };
    fill(&mut index);
    let full = index;
    for _ in 0..20 {
        handle.recycle(index);
        while handle.reserve_waiting(frame(index + 1, 1000).length(), FramePurpose::Append).is_err() {
            thread::yield_now();
        }
        let before = index;
        fill(&mut index);
        assert!(index > before, "nothing more could be appended after {before}");
        assert!(handle.stats().allocated <= 5 * (16 << 10), "{:?}", handle.stats());
    }
    assert!(index > full * 3);
    handle.close();
}

#[test]
fn a_frame_larger_than_a_file_gets_one_of_its_own() {
    let disk = MemoryDisk::default();
    let (open, _) = open_on(&disk, options(), DurableFloor::default()).unwrap();
    let (handle, reports) = start(open.writer);
    let lengths = [100, 100_000, 100, 16 << 10, 12 << 10, 50_000];
    let frames: Vec<Frame> = lengths.iter().zip(1..).map(|(length, index)| frame(index, *length)).collect();
    let places = append_each(&handle, &reports, frames.clone());
    for (place, frame) in places.iter().zip(frames) {
        assert_eq!(read_at(&open.reader, place).unwrap(), joined(frame));
    }
    assert!(matches!(handle.reserve_waiting(41 << 20, FramePurpose::Append), Err(NoSpace::Frame { .. })));
    handle.reserve_waiting(10_000, FramePurpose::Append).unwrap();
    let rest = FRAME_BYTES_MAX as u64 - 9_999;
    let refused = handle.reserve_waiting(rest, FramePurpose::Bookkeeping);
    assert!(matches!(refused, Err(NoSpace::Frame { .. })), "what is reserved goes into one frame: {refused:?}");
    handle.close();
    assert_eq!(open_on(&disk.crash(0), options(), DurableFloor::default()).unwrap().1.len(), lengths.len());
}

#[test]
fn more_than_may_wait_in_memory_is_refused() {
    let disk = MemoryDisk::default();
    let options = WalOptions { queue_bytes: 3000, ..options() };
    let (open, _) = open_on(&disk, options, DurableFloor::default()).unwrap();
    // Nothing is written, so everything waits.
    let shared = open.writer.shared.clone();
    let allocating = thread::spawn({
        let shared = shared.clone();
        move || shared.allocate_ahead()
    });
    let handle = WalHandle { shared, threads: vec![allocating] };
    handle.reserve_waiting(2000, FramePurpose::Append).unwrap();
    handle.append(frame(1, 1900));
    assert!(matches!(handle.reserve_waiting(2000, FramePurpose::Append), Err(NoSpace::Queue { .. })));
    handle.reserve_waiting(2000, FramePurpose::Bookkeeping).unwrap();
    drop(open.writer);
    assert!(matches!(handle.reserve_waiting(1, FramePurpose::Append), Err(NoSpace::Closed)));
}

#[test]
fn a_file_that_is_being_read_is_deleted_and_never_written_over() {
    let disk = MemoryDisk::default();
    let (open, _) = open_on(&disk, options(), DurableFloor::default()).unwrap();
    let (handle, reports) = start(open.writer);
    let places = append_each(&handle, &reports, (1..=40).map(|index| frame(index, 1000)));
    let mut frames = open.reader.frames(1, 40);
    assert_eq!(frames.next().unwrap().unwrap(), joined(frame(1, 1000)));

    handle.recycle(40);
    append_each(&handle, &reports, (41..=120).map(|index| frame(index, 1000)));
    assert!(matches!(read_at(&open.reader, &places[0]), Err(WalError::Absent { index: 1 })));
    let in_first = places.iter().filter(|place| place.file == 1).count() as u64;
    for index in 2..=in_first {
        assert_eq!(frames.next().unwrap().unwrap(), joined(frame(index, 1000)), "still there for who was reading");
    }
    assert!(matches!(frames.next().unwrap(), Err(WalError::Absent { index }) if index == in_first + 1));
    assert!(frames.next().is_none());
}

#[test]
fn readers_beside_the_writer_see_the_right_bytes_or_that_they_are_gone() {
    let disk = MemoryDisk::default();
    let (open, _) = open_on(&disk, options(), DurableFloor::default()).unwrap();
    let (handle, reports) = start(open.writer);
    thread::scope(|scope| {
        let (send, places) = channel::<FramePlace>();
        // Gone when this thread is done, also by a panic.
        let (done, going_on) = channel::<()>();
        let reader = open.reader.clone();
        let reading = scope.spawn(move || {
            let (mut read, mut seen) = (0, Vec::new());
            for place in places {
                seen.push(place);
                for place in seen.iter().rev().take(30) {
                    match read_at(&reader, place) {
                        Ok(found) => {
                            assert_eq!(found, joined(frame(place.index, 1000)));
                            read += 1;
                        }
                        Err(WalError::Absent { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            }
            read
        });
        let reader = open.reader.clone();
        scope.spawn(move || {
            let mut next = 1;
            while going_on.try_recv() == Err(TryRecvError::Empty) {
                for found in reader.frames(next, LogIndex::MAX) {
                    match found {
                        Ok(found) => {
                            assert_eq!(found, joined(frame(next, 1000)));
                            next += 1;
                        }
                        Err(WalError::Absent { index }) => assert_eq!(index, next),
                        Err(other) => panic!("{other}"),
                    }
                }
                // What was recycled meanwhile is left out.
                next = next.max(reader.oldest().unwrap_or(next));
            }
        });
        for index in 1..=600 {
            for place in append_each(&handle, &reports, [frame(index, 1000)]) {
                send.send(place).unwrap();
            }
            handle.recycle(index.saturating_sub(15));
        }
        drop(send);
        assert!(reading.join().unwrap() > 0);
        drop(done);
    });
}

#[test]
fn reads_beyond_what_is_durable_are_refused() {
    let (disk, _) = written_log(2, 100);
    let (open, replayed) = open_on(&disk, options(), DurableFloor::default()).unwrap();
    let last = replayed[1].1;
    assert!(read_at(&open.reader, &last).is_ok());
    for position in [0, last.position - 1, last.position + 1, 1 << 40] {
        assert!(matches!(read_at(&open.reader, &FramePlace { position, ..last }), Err(WalError::Damaged { .. })));
    }
    assert!(matches!(open.reader.frames(3, 3).next(), Some(Err(WalError::Absent { index: 3 }))));
    assert!(open.reader.frames(3, 2).next().is_none());
}

#[test]
fn sizes_that_cannot_work_are_refused() {
    for (file_bytes, max_bytes) in [(4096, 1 << 20), (16 << 10, 3 * (16 << 10) - 1)] {
        let options = WalOptions { file_bytes, max_bytes, ..options() };
        assert!(matches!(
            open_on(&MemoryDisk::default(), options, DurableFloor::default()),
            Err(WalError::Sizes { .. })
        ));
    }
}

#[test]
fn what_replay_refuses_ends_the_opening() {
    let (disk, _) = written_log(3, 100);
    let refuse = &mut |frame: Frame, _| match frame.index {
        2 => Err(WalError::Replay { index: 2, source: "unknown command".into() }),
        _ => Ok(()),
    };
    let error = open(Arc::new(disk), options(), DurableFloor::default(), refuse).err().unwrap();
    assert_eq!(error.to_string(), "frame 2 of the write-ahead log can't be replayed: unknown command");
}

#[test]
fn a_log_on_a_real_disk_comes_back_file_after_file() {
    let directory = tempfile::tempdir().unwrap();
    let options = WalOptions {
        directory: directory.path().join("wal/00000000"),
        mark: directory.path().join("checkpoints/00000000/wal.mark"),
        ..options()
    };
    create(&LocalDisk, &options, 0).unwrap();
    for life in 0..4u64 {
        let mut replayed = 0;
        let floor = DurableFloor { checkpoint: life * 20, shipped: life * 20 };
        let open = open(Arc::new(LocalDisk), options.clone(), floor, &mut |found, _| {
            assert_eq!(found, joined(frame(found.index, 1500)));
            replayed += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!((open.last, open.torn), (life * 40, None));
        assert!(replayed >= life * 20, "all behind the checkpoint is replayed");
        let (handle, reports) = start(open.writer);
        append_each(&handle, &reports, (life * 40 + 1..=life * 40 + 40).map(|index| frame(index, 1500)));
        handle.recycle((life + 1) * 20);
        handle.close();
    }
}
