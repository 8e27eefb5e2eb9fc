//! What no power cut leaves behind is refused, with file and position; what one does is cut.

use std::time::Instant;

use proptest::prelude::*;

use super::*;

fn refused(disk: &MemoryDisk, floor: DurableFloor) -> WalError {
    match open_on(disk, options(), floor) {
        Ok((open, _)) => panic!("opened up to frame {}", open.last),
        Err(error) => error,
    }
}

fn flip(disk: &MemoryDisk, sequence: u64, position: u64) {
    let path = file_path(sequence);
    let mut bytes = disk.bytes(&path).unwrap();
    bytes[position as usize] ^= 0x10;
    disk.put(&path, bytes);
}

fn batches_start(place: &FramePlace) -> u64 {
    place.position + (FRAME_HEADER_BYTES + frame(place.index, 0).commands.len()) as u64
}

#[test]
fn a_flipped_bit_in_a_frame_before_a_later_sync_is_refused_wherever_it_is() {
    let (disk, places) = written_log(4, 100);
    assert_eq!(places[3].file, 1);
    for place in &places[..3] {
        let (start, end) = (place.position, batches_start(place) + 100);
        for position in start..end {
            let disk = disk.crash(0);
            flip(&disk, 1, position);
            let error = refused(&disk, DurableFloor::default());
            let WalError::Damaged { file, position: at, index, durable, .. } = error else { panic!("{error}") };
            assert_eq!((file, at, index, durable), (file_path(1), start, place.index, place.index));
        }
    }
}

#[test]
fn a_flipped_bit_in_the_last_sync_is_a_torn_tail_unless_something_else_knows_better() {
    let (disk, places) = written_log(4, 100);
    let start = places[3].position;
    for position in start..batches_start(&places[3]) + 100 {
        let disk = disk.crash(0);
        flip(&disk, 1, position);
        for floor in [DurableFloor { checkpoint: 4, shipped: 0 }, DurableFloor { checkpoint: 0, shipped: 4 }] {
            let error = refused(&disk, floor);
            assert!(matches!(error, WalError::Damaged { position, index: 4, .. } if position == start), "{error}");
        }
        let (open, replayed) = open_on(&disk, options(), DurableFloor { checkpoint: 3, shipped: 3 }).unwrap();
        assert_eq!((open.last, replayed.len()), (3, 3));
        assert_eq!(disk.bytes(&file_path(1)).unwrap().len() as u64, start);
        if position >= start + FRAME_HEADER_BYTES as u64 {
            assert_eq!(open.torn, Some(TornEnd { file: file_path(1), position: start, index: 4 }));
        }
    }
}

#[test]
fn an_untouched_log_opens_again_and_again_and_nothing_is_torn() {
    let (disk, _) = written_log(50, 1000);
    for _ in 0..3 {
        let (open, replayed) = open_on(&disk, options(), DurableFloor { checkpoint: 50, shipped: 20 }).unwrap();
        assert_eq!((open.last, open.torn, replayed.len()), (50, None, 50));
    }
}

#[test]
fn the_message_names_file_and_position_and_what_can_be_done() {
    let (disk, places) = written_log(4, 100);
    flip(&disk, 1, batches_start(&places[1]));
    let text = refused(&disk, DurableFloor::default()).to_string();
    let start = places[1].position.to_string();
    for part in [file_path(1).to_str().unwrap(), &start, "frame 2", "checksum", "Restore", "recover from the bucket"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn a_damaged_header_is_refused_wherever_frames_follow_it() {
    let (disk, places) = written_log(40, 1000);
    let newest = places.last().unwrap().file;
    assert!(newest >= 3);
    for sequence in 1..=newest {
        for position in [0, 20, 40] {
            let disk = disk.crash(0);
            flip(&disk, sequence, position);
            let error = refused(&disk, DurableFloor::default());
            assert!(
                matches!(&error, WalError::Damaged { file, position: 0, damage: FrameDamage::Header, .. } if *file == file_path(sequence)),
                "{error}"
            );
        }
    }
}

#[test]
fn a_damaged_header_of_the_only_file_is_refused() {
    let (disk, _) = written_log(3, 100);
    flip(&disk, 1, 36);
    assert!(matches!(refused(&disk, DurableFloor::default()), WalError::Damaged { damage: FrameDamage::Header, .. }));
}

#[test]
fn a_file_that_was_only_begun_is_dropped() {
    let (disk, places) = written_log(40, 1000);
    let newest = places.last().unwrap().file;
    let stale = disk.bytes(&file_path(1)).unwrap();
    for bytes in [Vec::new(), vec![0; 16 << 10], vec![7; 30], [vec![0; 100], stale[100..].to_vec()].concat()] {
        let disk = disk.crash(0);
        disk.put(&file_path(newest + 1), bytes);
        let (open, _) = open_on(&disk, options(), DurableFloor::default()).unwrap();
        let torn = TornEnd { file: file_path(newest + 1), position: 0, index: 41 };
        assert_eq!((open.last, open.torn), (40, Some(torn)));
        assert_eq!(disk.crash(0).bytes(&file_path(newest + 1)), None);

        let (handle, reports) = start(open.writer);
        assert_eq!(
            append_each(&handle, &reports, [frame(41, 10)])[0].file,
            newest + 3,
            "no sequence is used twice, and the last frame has got a file of its own"
        );
    }
}

#[test]
fn a_file_with_a_header_and_no_whole_frame_is_dropped() {
    let (disk, places) = written_log(40, 1000);
    let newest = places.last().unwrap().file;
    let (before, first) = (newest - 1, places.iter().find(|place| place.file == newest).unwrap().index);
    let bytes = disk.bytes(&file_path(newest)).unwrap();
    disk.put(&file_path(newest), [bytes[..FRAMES_START as usize + 60].to_vec(), vec![0; 9000]].concat());
    let (open, _) = open_on(&disk, options(), DurableFloor::default()).unwrap();
    assert_eq!(open.last, first - 1);
    assert_eq!(open.torn.unwrap().file, file_path(newest));
    assert!(disk.bytes(&file_path(newest)).is_none() && disk.bytes(&file_path(before)).is_some());
}

#[test]
fn a_missing_file_is_a_hole() {
    let (disk, places) = written_log(40, 1000);
    disk.remove(&file_path(2)).unwrap();
    let error = refused(&disk, DurableFloor::default());
    let first_lost = places.iter().find(|place| place.file == 2).unwrap().index;
    assert!(matches!(error, WalError::Damaged { index, .. } if index == first_lost), "{error}");

    disk.remove(&file_path(1)).unwrap();
    let third = places.iter().find(|place| place.file == 3).unwrap().index;
    let error = refused(&disk, DurableFloor { checkpoint: third - 2, shipped: third - 2 });
    assert!(matches!(error, WalError::Hole { first, .. } if first == third), "{error}");
    let error = refused(&disk, DurableFloor { checkpoint: 40, shipped: third - 2 });
    assert!(
        matches!(error, WalError::Hole { first, needed, .. } if first == third && needed == third - 2),
        "the state is there, but not what is still to be shipped: {error}"
    );
    assert_eq!(
        open_on(&disk, options(), DurableFloor { checkpoint: third - 1, shipped: third - 1 }).unwrap().0.last,
        40
    );
}

fn missing(disk: &MemoryDisk, floor: DurableFloor) -> (LogIndex, LogIndex, Option<PathBuf>) {
    match refused(disk, floor) {
        WalError::Behind { end, reached, newest, .. } => (end, reached, newest),
        other => panic!("{other}"),
    }
}

/// A copy of the disk without these files.
fn without(disk: &MemoryDisk, sequences: impl IntoIterator<Item = u64>) -> MemoryDisk {
    let disk = disk.crash(0);
    for sequence in sequences {
        disk.remove(&file_path(sequence)).unwrap();
    }
    disk
}

#[test]
fn a_log_without_its_newest_files_or_without_any_is_refused_and_kept() {
    let (disk, places) = written_log(40, 1000);
    let newest = places.last().unwrap().file;
    let begun = |sequence: u64| places.iter().find(|place| place.file == sequence).unwrap().index;
    for lost in 1..=newest {
        let disk = without(&disk, lost..=newest);
        let expected = (begun(lost) - 1, begun(newest) - 1, Some(file_path(newest)));
        for _ in 0..2 {
            assert_eq!(missing(&disk, DurableFloor::default()), expected, "from {lost} on");
        }
        for sequence in 1..lost {
            assert!(disk.bytes(&file_path(sequence)).is_some());
        }
    }
    let text = refused(&without(&disk, 1..=newest), DurableFloor::default()).to_string();
    for part in [
        options().directory.to_str().unwrap(),
        file_path(newest).to_str().unwrap(),
        "recover from the bucket",
        "--accept-loss",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn a_log_that_was_closed_ends_exactly_where_it_was_closed() {
    let (disk, _) = written_log(40, 1000);
    let (open, _) = open_on(&disk, options(), DurableFloor::default()).unwrap();
    let (handle, reports) = start(open.writer);
    let places = append_each(&handle, &reports, (41..=44).map(|index| frame(index, 100)));
    handle.close();
    let (last, start) = (places[3], places[3].position);
    flip(&disk, last.file, batches_start(&last));
    let error = refused(&disk, DurableFloor::default());
    assert!(
        matches!(error, WalError::Damaged { position, index: 44, durable: 44, .. } if position == start),
        "{error}"
    );
    let bytes = disk.bytes(&file_path(last.file)).unwrap();
    disk.put(&file_path(last.file), bytes[..start as usize].to_vec());
    assert!(matches!(refused(&disk, DurableFloor::default()), WalError::Damaged { index: 44, .. }));
}

#[test]
fn what_was_durable_for_a_while_is_never_cut_off() {
    let disk = MemoryDisk::default();
    let soon = WalOptions { mark_after: Duration::from_millis(1), ..options() };
    let (open, _) = open_on(&disk, soon, DurableFloor::default()).unwrap();
    let (handle, reports) = start(open.writer);
    append_each(&handle, &reports, (1..=3).map(|index| frame(index, 100)));
    let older = disk.bytes(&file_path(1)).unwrap();
    let places = append_each(&handle, &reports, (4..=6).map(|index| frame(index, 100)));
    let began = Instant::now();
    while LogMark::open(&disk, &options()).unwrap().reached().end < 6 {
        assert!(began.elapsed() < Duration::from_secs(60), "frame 6 is never marked");
        std::thread::yield_now();
    }
    kill(handle);
    let disk = disk.crash(0);
    assert_eq!(open_on(&disk.crash(0), options(), DurableFloor::default()).unwrap().0.last, 6);

    let (last, whole) = (places[2], disk.bytes(&file_path(1)).unwrap());
    let (start, end) = (last.position as usize, batches_start(&last) as usize + 100);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        bytes
    };
    for (bytes, first_bad) in [
        (changed(&|bytes| bytes[end - 1] ^= 1), 6),
        (changed(&|bytes| bytes[start..].fill(0)), 6),
        (changed(&|bytes| bytes.truncate(end - 10)), 6),
        (changed(&|bytes| bytes.truncate(start)), 6),
        (older, 4),
    ] {
        let disk = disk.crash(0);
        disk.put(&file_path(1), bytes);
        for _ in 0..2 {
            let error = refused(&disk, DurableFloor::default());
            assert!(
                matches!(&error, WalError::Damaged { file, index, durable: 6, .. } if *file == file_path(1) && *index == first_bad),
                "{error}"
            );
        }
    }
}

#[test]
fn an_end_that_is_missing_is_told_without_contradicting_itself() {
    let (disk, places) = written_log(40, 1000);
    let newest = places.last().unwrap().file;
    let begun = places.iter().find(|place| place.file == newest).unwrap().index;
    let text = refused(&without(&disk, [newest]), DurableFloor::default()).to_string();
    let end = format!("ends with frame {}, its newest file {} is missing: put", begun - 1, file_path(newest).display());
    assert!(text.contains(&end), "{end} is not in: {text}");
    let text = refused(&without(&disk, newest - 1..=newest), DurableFloor::default()).to_string();
    let come = format!(", but had come to frame {}, and its newest file ", begun - 1);
    assert!(text.contains(&come), "{come} is not in: {text}");
}

#[test]
fn a_log_that_ends_before_the_checkpoint_is_refused() {
    let disk = MemoryDisk::default();
    create(&disk, &options(), 7).unwrap();
    let floor = DurableFloor { checkpoint: 7, shipped: 7 };
    let (open, _) = open_on(&disk, options(), floor).unwrap();
    assert_eq!(open.last, 7, "a new log goes on where the bucket ended");
    let floor = DurableFloor { checkpoint: 12, shipped: 7 };
    assert_eq!(missing(&disk, floor), (7, 12, None));
}

#[test]
fn a_log_whose_mark_is_missing_damaged_or_another_ones_is_refused() {
    let (disk, _) = written_log(3, 100);
    let mark = disk.bytes(&options().mark).unwrap();
    let reopen = |disk: MemoryDisk| {
        let opened = open(Arc::new(disk), options(), DurableFloor::default(), &mut |_, _| Ok(()));
        opened.err().unwrap()
    };
    let with = |bytes: Vec<u8>| {
        let disk = disk.crash(0);
        disk.put(&options().mark, bytes);
        reopen(disk)
    };
    for bytes in [Vec::new(), vec![0; mark.len()], mark[8..].to_vec()] {
        let error = with(bytes);
        assert!(matches!(error, WalError::Unmarked { .. }), "{error}");
        assert!(error.to_string().contains(options().mark.to_str().unwrap()));
    }
    let gone = disk.crash(0);
    gone.remove(&options().mark).unwrap();
    assert!(matches!(reopen(gone), WalError::Unmarked { .. }));

    let other = MemoryDisk::default();
    let foreign = WalOptions { incarnation: Incarnation(2), ..options() };
    create(&other, &foreign, 0).unwrap();
    assert!(matches!(with(other.bytes(&options().mark).unwrap()), WalError::Foreign { .. }));
}

#[test]
fn a_cut_file_before_the_newest_is_refused() {
    let (disk, _) = written_log(40, 1000);
    let bytes = disk.bytes(&file_path(2)).unwrap();
    disk.put(&file_path(2), bytes[..9000].to_vec());
    assert!(matches!(refused(&disk, DurableFloor::default()), WalError::Damaged { file, .. } if file == file_path(2)));
}

#[test]
fn files_of_others_are_refused_by_name() {
    let (disk, _) = written_log(3, 100);
    let older = WalOptions { incarnation: Incarnation(2), ..options() };
    let newer = WalOptions { incarnation: Incarnation(4), ..options() };
    let other_lane = WalOptions { lane: LaneId(1), ..options() };
    for options in [older, newer, other_lane] {
        let error = open_on(&disk, options, DurableFloor::default()).err().unwrap();
        assert!(matches!(error, WalError::Foreign { incarnation: INCARNATION, .. }), "{error}");
    }
    disk.rename(&file_path(1), &file_path(0)).unwrap();
    assert!(matches!(refused(&disk, DurableFloor::default()), WalError::Foreign { sequence: 1, .. }));
}

#[test]
fn a_recycled_file_that_still_has_its_old_header_is_dropped() {
    let (disk, places) = written_log(40, 1000);
    let newest = places.last().unwrap().file;
    disk.put(&file_path(newest + 1), disk.bytes(&file_path(1)).unwrap());
    let (open, _) = open_on(&disk, options(), DurableFloor::default()).unwrap();
    assert_eq!((open.last, open.torn.unwrap().position), (40, 0));
    assert_eq!(disk.bytes(&file_path(newest + 1)), None);
}

#[test]
fn another_format_version_is_refused_by_name() {
    let (disk, _) = written_log(3, 100);
    let mut bytes = disk.bytes(&file_path(1)).unwrap();
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..40]);
    bytes[40..44].copy_from_slice(&crc.to_le_bytes());
    disk.put(&file_path(1), bytes);
    let error = refused(&disk, DurableFloor::default());
    assert!(matches!(error, WalError::Version { version: 9, .. }), "{error}");
    assert!(error.to_string().contains(file_path(1).to_str().unwrap()));
}

#[test]
fn frames_inside_record_values_prove_nothing() {
    let disk = MemoryDisk::default();
    let (open, _) = open_on(&disk, options(), DurableFloor::default()).unwrap();
    let (handle, reports) = start(open.writer);
    append_each(&handle, &reports, [frame(1, 100)]);
    // A record full of frames that claim to follow and to know that everything is durable.
    let forged = Frame { index: 9, commands: Bytes::new(), batches: vec![], ..frame(9, 0) };
    let header = forged.encode_header(8, 0);
    let mut bad = frame(2, 0);
    bad.batches = vec![header.repeat(50).into()];
    append_each(&handle, &reports, [bad]);
    kill(handle);
    let position = FRAMES_START + frame(1, 100).length() + 20;
    flip(&disk, 1, position);
    let (open, _) = open_on(&disk, options(), DurableFloor::default()).unwrap();
    assert_eq!(open.last, 1);
}

#[test]
fn scanning_takes_any_bytes() {
    let (disk, _) = written_log(3, 100);
    let good = disk.bytes(&file_path(1)).unwrap();
    let (frames, end) = wal_scan(&good).unwrap();
    assert_eq!(frames, (1..=3).map(|index| joined(frame(index, 100))).collect::<Vec<_>>());
    for length in 0..end as usize {
        let scanned = wal_scan(&good[..length]);
        assert_eq!(scanned.is_some(), length >= 44);
        assert!(scanned.is_none_or(|(frames, _)| frames.len() < 3));
    }
}

#[test]
fn a_spare_that_had_a_name_before_the_crash_does_not_bring_it_back() {
    let (disk, places) = written_log(40, 1000);
    let newest = places.last().unwrap().file;
    let mut bytes = disk.bytes(&file_path(1)).unwrap();
    bytes[20..28].copy_from_slice(&(newest + 5).to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..40]);
    bytes[40..44].copy_from_slice(&crc.to_le_bytes());
    disk.put(&options().directory.join(FileName::Spare { number: 77 }.to_string()), bytes);
    // Under a lower sequence its old header would pass for another file's, were the new one lost.
    for name in disk.list(&options().directory).unwrap() {
        if name.ends_with(".spare") && !name.starts_with("000000000000004d") {
            disk.remove(&options().directory.join(name)).unwrap();
        }
    }
    let (open, _) = open_on(&disk, options(), DurableFloor::default()).unwrap();
    let (handle, reports) = start(open.writer);
    assert_eq!(append_each(&handle, &reports, [frame(41, 10)])[0].file, newest + 7);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn whatever_is_written_over_a_file_what_opens_is_a_prefix(
        sequence in 1..5u64, at: prop::sample::Index, bytes in prop::collection::vec(any::<u8>(), 0..2000), cut: bool,
    ) {
        let (disk, _) = written_log(40, 1000);
        let path = file_path(sequence);
        if let Some(mut file) = disk.bytes(&path) {
            let start = at.index(file.len());
            if cut {
                file.truncate(start);
            } else {
                let end = file.len().min(start + bytes.len());
                file[start..end].copy_from_slice(&bytes[..end - start]);
            }
            disk.put(&path, file);
        }
        if let Ok((open, replayed)) = open_on(&disk, options(), DurableFloor::default()) {
            prop_assert_eq!(replayed.len() as u64, open.last);
            for (found, _) in replayed {
                let index = found.index;
                prop_assert_eq!(found, joined(frame(index, 1000)));
            }
        }
    }
}
