use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use chronik_core::ids::{Incarnation, LogIndex};

use super::directory::Directory;
use super::error::{Damage, WalError};
use super::evidence::BadFrame;
use super::files::LogFile;
use super::frame::Frame;
use super::header::{FRAMES_START, FileHeader, FileName, VERSION};
use super::room::Spare;
use super::scan::{Scan, read_header};
use super::{Floor, FramePlace, WalOptions};
use crate::disk::DiskFile;

/// Spares of an earlier run that are kept.
const SPARES_KEPT: usize = 2;

/// Where a write was under way when the log was last left. Nothing of it was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The file that was cut, or dropped because nothing in it was whole.
    pub file: PathBuf,
    /// Where the torn frame begins.
    pub position: u64,
    /// The index it would have had; 0 if that can't be told.
    pub index: LogIndex,
}

impl fmt::Display for TornTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, position, index } = self;
        let file = file.display();
        write!(
            f,
            "an unfinished write was cut off in {file} at byte {position}, frame {index}: nothing of it was acknowledged"
        )
    }
}

pub(super) struct Recovered {
    pub files: Vec<LogFile>,
    /// The last good frame, 0 if there is none.
    pub last: LogIndex,
    /// The highest sequence of any file, dropped ones included.
    pub sequence: u64,
    pub spares: Vec<Spare>,
    /// Bytes of files and spares.
    pub allocated: u64,
    pub torn: Option<TornTail>,
}

/// A file as it was found.
struct Found {
    name: FileName,
    sequence: u64,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    length: u64,
    /// None if it was never written whole, or is damaged.
    header: Option<FileHeader>,
}

/// Reads the log up to its last good frame, decides whether what follows is a torn write or damage, cuts it, and
/// makes the rest durable.
pub(super) fn recover(
    directory: &Directory,
    options: &WalOptions,
    floor: Floor,
    replay: &mut dyn FnMut(Frame, FramePlace) -> Result<(), WalError>,
) -> Result<Recovered, WalError> {
    let names = directory.list()?;
    let mut found = Vec::new();
    for name in &names {
        if let FileName::Log { incarnation, sequence } = *name {
            found.push(Found::open(directory, options, *name, incarnation, sequence)?);
        }
    }
    let sequence = found.iter().map(|found| found.sequence).max().unwrap_or(0);
    // A header that was never written whole can only be the newest file's.
    let begun = found
        .iter()
        .rposition(|found| found.header.is_some())
        .map_or(0, |at| at + 1);
    let unfinished = found.split_off(begun);
    let log = Log::read(found, options, floor, replay)?;
    for file in &unfinished {
        file.check_unfinished(&log, options)?;
    }
    let torn = log.torn.clone().or_else(|| {
        let file = unfinished.first()?;
        Some(TornTail {
            file: file.path.clone(),
            position: 0,
            index: log.next.unwrap_or(0),
        })
    });
    let (files, last) = log.cut(directory)?;
    for file in unfinished {
        directory.remove(file.name)?;
    }
    let (spares, highest) = keep_spares(directory, options, &names)?;
    directory.sync()?;
    let in_files: u64 = files.iter().map(|file| file.allocated).sum();
    let in_spares: u64 = spares.iter().map(|spare| spare.allocated).sum();
    Ok(Recovered {
        files,
        last,
        // A crash may have taken back the name that a spare had got, but not its header.
        sequence: sequence.max(highest),
        spares,
        allocated: in_files + in_spares,
        torn,
    })
}

impl Found {
    fn open(
        directory: &Directory,
        options: &WalOptions,
        name: FileName,
        incarnation: Incarnation,
        sequence: u64,
    ) -> Result<Self, WalError> {
        let path = directory.path(name);
        let foreign = |lane, incarnation, sequence| WalError::Foreign {
            file: path.clone(),
            lane,
            incarnation,
            sequence,
        };
        if incarnation != options.incarnation {
            return Err(foreign(options.lane, incarnation, sequence));
        }
        let file = directory.open_file(name)?;
        let length = file.length().map_err(WalError::io("read", &path))?;
        let header = read_header(&*file).map_err(WalError::io("read", &path))?;
        if let Some(header) = &header {
            if header.version != VERSION {
                return Err(WalError::Version {
                    file: path,
                    version: header.version,
                });
            }
            let same_log = (header.lane, header.incarnation) == (options.lane, incarnation);
            if !same_log || header.sequence > sequence {
                return Err(foreign(header.lane, header.incarnation, header.sequence));
            }
        }
        // A recycled file may have got its new name before its new header.
        let header = header.filter(|header| header.sequence == sequence);
        Ok(Self {
            name,
            sequence,
            path,
            file,
            length,
            header,
        })
    }

    /// A header is durable before a frame follows it. So where the log's next frame follows a bad one, or any frame
    /// does in a log that has no other file, the header is not unfinished but damaged.
    fn check_unfinished(&self, log: &Log, options: &WalOptions) -> Result<(), WalError> {
        let frame = Scan::new(0, self.length)
            .peek(&*self.file)
            .map_err(WalError::io("read", &self.path))?;
        match frame {
            Ok(frame)
                if frame.incarnation() == options.incarnation && log.next.is_none_or(|next| next == frame.index()) =>
            {
                Err(self.damaged(0, frame.index(), frame.index(), Damage::Header))
            }
            _ => Ok(()),
        }
    }

    fn damaged(&self, position: u64, index: LogIndex, durable: LogIndex, damage: Damage) -> WalError {
        WalError::Damaged {
            file: self.path.clone(),
            position,
            index,
            durable,
            damage,
        }
    }
}

/// The files with headers, read up to the last good frame.
struct Log {
    files: Vec<(Found, LogFile)>,
    /// The index that comes next; None if there are no files.
    next: Option<LogIndex>,
    torn: Option<TornTail>,
}

impl Log {
    fn read(
        found: Vec<Found>,
        options: &WalOptions,
        floor: Floor,
        replay: &mut dyn FnMut(Frame, FramePlace) -> Result<(), WalError>,
    ) -> Result<Self, WalError> {
        let mut log = Self {
            files: Vec::new(),
            next: None,
            torn: None,
        };
        // Where the files read so far end, and why.
        let mut end: Option<(u64, Damage)> = None;
        for found in found {
            let Some(header) = found.header.clone() else {
                let next = log.next.unwrap_or(0);
                return Err(found.damaged(0, next, next, Damage::Header));
            };
            match (log.next, log.files.last(), end) {
                (Some(next), Some((before, _)), Some((position, damage))) if next != header.first => {
                    return Err(before.damaged(position, next, header.first.saturating_sub(1), damage));
                }
                (None, ..) if header.first > floor.checkpoint + 1 => {
                    return Err(WalError::Hole {
                        file: found.path,
                        first: header.first,
                        checkpoint: floor.checkpoint,
                    });
                }
                _ => {}
            }
            let (file, next, found_end) = read_file(&found, &header, options, replay)?;
            log.next = Some(next);
            end = Some(found_end);
            log.files.push((found, file));
        }
        if let (Some(next), Some((position, damage)), Some((newest, file))) = (log.next, end, log.files.last()) {
            let bad = BadFrame {
                file: &*newest.file,
                salt: file.salt,
                position,
                end: newest.length,
                index: next,
                incarnation: options.incarnation,
            };
            let later = bad.durable_later().map_err(WalError::io("read", &newest.path))?;
            let durable = floor.checkpoint.max(floor.shipped).max(later.unwrap_or(0));
            if durable >= next {
                return Err(newest.damaged(position, next, durable, damage));
            }
            let torn = bad.was_begun().map_err(WalError::io("read", &newest.path))?;
            log.torn = torn.then(|| TornTail {
                file: newest.path.clone(),
                position,
                index: next,
            });
        }
        Ok(log)
    }

    /// Ends the newest file at its last good frame, or drops it if it has none: durably, as all files before it are.
    fn cut(mut self, directory: &Directory) -> Result<(Vec<LogFile>, LogIndex), WalError> {
        if let Some((found, _)) = self.files.pop_if(|(_, file)| file.end() == FRAMES_START) {
            directory.remove(found.name)?;
        } else if let Some((found, file)) = self.files.last_mut() {
            found
                .file
                .truncate(file.end())
                .map_err(WalError::io("cut", &found.path))?;
            file.allocated = file.end();
        }
        let files: Vec<LogFile> = self.files.into_iter().map(|(_, file)| file).collect();
        let last = files.last().map_or(0, LogFile::last);
        Ok((files, last))
    }
}

/// Replays the good frames of one file. Gives the index that comes next, and where and how the file ends.
fn read_file(
    found: &Found,
    header: &FileHeader,
    options: &WalOptions,
    replay: &mut dyn FnMut(Frame, FramePlace) -> Result<(), WalError>,
) -> Result<(LogFile, LogIndex, (u64, Damage)), WalError> {
    let read = || WalError::io("read", &found.path);
    let mut scan = Scan::new(header.salt, found.length);
    let mut next = header.first;
    let damage = loop {
        let position = scan.position();
        let frame_header = match scan.peek(&*found.file).map_err(read())? {
            Ok(frame_header) => frame_header,
            Err(damage) => break damage,
        };
        let frame = match scan.take(&*found.file, &frame_header).map_err(read())? {
            Ok(frame) => frame,
            Err(damage) => break damage,
        };
        // The checksum says that it was written here, in this life: no power cut gives it another index.
        if frame.index != next || frame.incarnation != options.incarnation {
            return Err(found.damaged(position, next, frame.index, Damage::Index));
        }
        let batches_position = position + frame_header.commands_end();
        replay(
            frame,
            FramePlace {
                index: next,
                file: found.sequence,
                batches_position,
            },
        )?;
        next += 1;
    };
    let (path, file) = (found.path.clone(), found.file.clone());
    let file = LogFile::new(
        found.name,
        found.sequence,
        path,
        file,
        header.salt,
        header.first,
        found.length,
    );
    file.extend(next.saturating_sub(1), scan.position());
    Ok((file, next, (scan.position(), damage)))
}

/// Opens spares of the right size, and removes the others. Gives the highest sequence in a header, too.
fn keep_spares(directory: &Directory, options: &WalOptions, names: &[FileName]) -> Result<(Vec<Spare>, u64), WalError> {
    let mut spares = Vec::new();
    let mut sequence = 0;
    for name in names {
        let FileName::Spare { number } = *name else { continue };
        let file = directory.open_file(*name)?;
        let allocated = file.length().map_err(WalError::io("read", directory.path(*name)))?;
        if allocated == options.file_bytes && spares.len() < SPARES_KEPT {
            let header = read_header(&*file).map_err(WalError::io("read", directory.path(*name)))?;
            sequence = sequence.max(header.as_ref().map_or(0, |header| header.sequence));
            let former_salt = header.map(|header| header.salt);
            spares.push(Spare {
                number,
                file,
                allocated,
                former_salt,
            });
        } else {
            directory.remove(*name)?;
        }
    }
    Ok((spares, sequence))
}
