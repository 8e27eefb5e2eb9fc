//! The log as a whole, over a disk in memory, and over a real one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod crash;
mod damage;
mod golden;
mod life;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;
use chronik_format::ids::{Incarnation, LaneId, LogIndex};

use super::header::FileName;
use super::*;
use crate::disk::memory::MemoryDisk;
use crate::log::{FramePurpose, NoSpace};

const INCARNATION: Incarnation = Incarnation(3);

fn options() -> WalOptions {
    WalOptions {
        file_bytes: 16 << 10,
        max_bytes: 1 << 20,
        // Never, in the time that a test takes.
        mark_after: Duration::from_secs(3600),
        ..WalOptions::new("/data/wal/00000000", "/data/checkpoints/00000000/wal.mark", LaneId(0), INCARNATION)
    }
}

/// A frame whose bytes say which one it is.
fn frame(index: LogIndex, length: usize) -> Frame {
    let batch: Vec<u8> = (0..length).map(|at| (at as u64 ^ (index * 31)) as u8).collect();
    let (first, second) = batch.split_at(length / 3);
    Frame {
        index,
        incarnation: INCARNATION,
        epoch: 3,
        kind: 1,
        flags: 0,
        commands: Bytes::from(format!("commands of {index}")),
        batches: vec![Bytes::copy_from_slice(first), Bytes::copy_from_slice(second)],
    }
}

/// As it comes back: its batches in one part.
fn joined(mut frame: Frame) -> Frame {
    let bytes = frame.batches.concat();
    frame.batches = if bytes.is_empty() { Vec::new() } else { vec![bytes.into()] };
    frame
}

fn read_at(reader: &WalReader, place: &FramePlace) -> Result<Frame, WalError> {
    reader.frames_at(place.index, place.position, place.index).next().unwrap()
}

fn file_path(sequence: u64) -> PathBuf {
    options().directory.join(FileName::Log { incarnation: INCARNATION, sequence }.to_string())
}

impl WalHandle {
    /// As [`WalHandle::reserve`], once any file for it is allocated.
    pub(crate) fn reserve_waiting(&self, bytes: u64, purpose: FramePurpose) -> Result<(), NoSpace> {
        loop {
            match self.reserve(bytes, purpose) {
                Err(NoSpace::Allocating { .. }) => futures::executor::block_on(self.decided())?,
                reserved => return reserved,
            }
        }
    }
}

type Reports = Receiver<Result<WrittenFrames, WalError>>;

/// Opens, giving what was replayed too. A disk without a log gets one.
fn open_on(
    disk: &MemoryDisk,
    options: WalOptions,
    floor: DurableFloor,
) -> Result<(OpenWal, Vec<(Frame, FramePlace)>), WalError> {
    if disk.bytes(&options.mark).is_none() {
        create(disk, &options, 0)?;
    }
    let mut replayed = Vec::new();
    let open = open(Arc::new(disk.clone()), options, floor, &mut |frame, place| {
        replayed.push((frame, place));
        Ok(())
    })?;
    Ok((open, replayed))
}

fn start(writer: WalWriter) -> (WalHandle, Reports) {
    let (send, receive) = channel();
    let handle = writer.start(move |written| send.send(written).unwrap()).unwrap();
    (handle, receive)
}

/// Appends frames one at a time, each synced by itself.
fn append_each(handle: &WalHandle, reports: &Reports, frames: impl IntoIterator<Item = Frame>) -> Vec<FramePlace> {
    let one = |frame: Frame| {
        let index = frame.index;
        handle.reserve_waiting(frame.length(), FramePurpose::Append).unwrap();
        handle.append(frame);
        let written = reports.recv().unwrap().unwrap();
        assert_eq!(written.durable, index);
        written.places
    };
    frames.into_iter().flat_map(one).collect()
}

/// Ends the log as a kill would: nothing marks where it ends.
fn kill(mut handle: WalHandle) {
    handle.join();
}

/// A killed log of frames 1 to `count`, each synced by itself.
fn written_log(count: LogIndex, length: usize) -> (MemoryDisk, Vec<FramePlace>) {
    let disk = MemoryDisk::default();
    let (open, _) = open_on(&disk, options(), DurableFloor::default()).unwrap();
    let (handle, reports) = start(open.writer);
    let places = append_each(&handle, &reports, (1..=count).map(|index| frame(index, length)));
    kill(handle);
    (disk, places)
}
