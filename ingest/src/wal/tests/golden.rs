//! The bytes of format version 0. They change only with a reason, until version 1 freezes them.

use super::*;

#[test]
fn the_format_is_what_the_golden_file_holds() {
    let disk = MemoryDisk::default();
    let options = WalOptions { salt: || 0x5a17_c0de, file_bytes: 8 << 10, ..options() };
    let (open, _) = open_on(&disk, options.clone(), DurableFloor::default()).unwrap();
    let (handle, reports) = start(open.writer);
    let empty = Frame { commands: Bytes::new(), batches: vec![], kind: 7, flags: 0x8001, ..frame(2, 0) };
    append_each(&handle, &reports, [frame(1, 90), empty.clone(), frame(3, 10)]);
    handle.close();
    let bytes = disk.bytes(&file_path(1)).unwrap();
    chronik_format::golden::check("wal-v0.wal", &bytes);

    let disk = MemoryDisk::default();
    disk.put(&file_path(1), bytes);
    let (open, replayed) = open_on(&disk, options, DurableFloor::default()).unwrap();
    let frames: Vec<Frame> = replayed.into_iter().map(|(frame, _)| frame).collect();
    assert_eq!((open.last, frames), (3, vec![joined(frame(1, 90)), empty, joined(frame(3, 10))]));
}
