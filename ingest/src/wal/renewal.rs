//! Frames that can be read but are not known to be on disk, written anew.

use std::io::IoSlice;

use chronik_format::ids::LogIndex;

use super::WalOptions;
use super::directory::WalDirectory;
use super::error::WalError;
use super::files::LogFile;
use super::header::{FRAMES_START, FileHeader, FileName};
use super::space::SpareFile;
use crate::disk::write_all_at;
use crate::log::{Frame, FramePlace};

/// Writes frames into a file of their own, which is part of the log once all of it is durable: it gets its name last.
/// What stands behind the first of them in the file before is no longer part of the log from then on.
pub(super) fn renew(
    directory: &WalDirectory,
    options: &WalOptions,
    spare: SpareFile,
    sequence: u64,
    durable: LogIndex,
    frames: &[Frame],
) -> Result<(LogFile, Vec<FramePlace>), WalError> {
    let from = FileName::Spare { number: spare.number };
    let header = FileHeader::begin(options, sequence, durable + 1, spare.former_salt);
    let headers: Vec<_> = frames.iter().map(|frame| frame.encode_header(durable, header.salt)).collect();
    let (mut parts, mut places, mut end) = (Vec::new(), Vec::new(), FRAMES_START);
    for (frame, header) in frames.iter().zip(&headers) {
        parts.push(IoSlice::new(header));
        parts.push(IoSlice::new(&frame.commands));
        parts.extend(frame.batches.iter().map(|batch| IoSlice::new(batch)));
        let length = frame.length();
        places.push(FramePlace { index: frame.index, file: sequence, position: end, length });
        end += length;
    }
    // The header first: a copy that is not finished is known by it.
    for (position, parts) in [(0, &mut [IoSlice::new(&header.encode())][..]), (FRAMES_START, &mut parts[..])] {
        write_all_at(&*spare.file, position, parts).map_err(WalError::io("write", directory.path(from)))?;
        let synced = spare.file.sync_data();
        synced.map_err(WalError::io("sync", directory.path(from)))?;
    }
    let name = FileName::Log { incarnation: options.incarnation, sequence };
    directory.rename(from, name)?;
    directory.sync()?;
    let path = directory.path(name);
    let file = LogFile::new(name, sequence, path, spare.file, header.salt, header.first, spare.allocated);
    file.extend(durable + frames.len() as LogIndex, end);
    Ok((file, places))
}

/// The file that `frames` are written to: a spare, or one of their own length.
pub(super) fn spare_for(
    directory: &WalDirectory,
    spares: &mut Vec<SpareFile>,
    frames: &[Frame],
) -> Result<SpareFile, WalError> {
    let bytes: u64 = frames.iter().map(Frame::length).sum();
    if let Some(at) = spares.iter().position(|spare| spare.room() >= bytes) {
        return Ok(spares.swap_remove(at));
    }
    let number = spares.iter().map(|spare| spare.number + 1).max().unwrap_or(0);
    let allocated = FRAMES_START + bytes.next_multiple_of(FRAMES_START);
    let path = directory.path(FileName::Spare { number });
    let file = directory.disk.create(&path, allocated).map_err(WalError::io("preallocate", path))?;
    Ok(SpareFile { number, file, allocated, former_salt: None })
}
