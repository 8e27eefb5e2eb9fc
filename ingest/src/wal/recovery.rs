use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use chronik_format::ids::{Incarnation, LogIndex};

use super::directory::WalDirectory;
use super::error::{FrameDamage, WalError};
use super::files::LogFile;
use super::header::{FRAMES_START, FileHeader, FileName, VERSION};
use super::mark::{LogMark, MarkedEnd};
use super::renewal::{renew, spare_for};
use super::scan::{FrameScan, read_header};
use super::space::SpareFile;
use super::torn_check::BadFrame;
use super::{DurableFloor, WalOptions};
use crate::disk::DiskFile;
use crate::log::{Frame, FramePlace};

/// Spares of an earlier run that are kept.
const SPARES_KEPT: usize = 2;

/// Takes the frames of the log, in order.
type Replay<'a> = dyn FnMut(Frame, FramePlace) -> Result<(), WalError> + 'a;

/// A frame that is not whole, behind all that is known to have been durable: a write was under way when the log was
/// last left, and was not acknowledged. Damage to what was written in the last moment, before it was marked, looks the
/// same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornEnd {
    /// The file that was cut, or dropped because nothing in it was whole.
    pub file: PathBuf,
    /// Where the torn frame begins.
    pub position: u64,
    /// The index it would have had; 0 if that can't be told.
    pub index: LogIndex,
}

impl fmt::Display for TornEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, position, index } = self;
        let file = file.display();
        write!(
            f,
            "the write-ahead log was cut off in {file} at byte {position}, where frame {index} is not whole: a write that \
             the last end interrupted, and that was not acknowledged, looks like this, and so would damage to the last \
             second's writes"
        )
    }
}

pub(super) struct RecoveredLog {
    pub files: Vec<LogFile>,
    pub mark: LogMark,
    /// The last good frame; where the log begins if it has none.
    pub last: LogIndex,
    /// The highest sequence of any file, dropped ones included.
    pub sequence: u64,
    pub spares: Vec<SpareFile>,
    /// Bytes of files and spares.
    pub allocated: u64,
    pub torn: Option<TornEnd>,
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

/// Reads the log up to its last good frame, decides whether what follows is a torn write or damage, writes anew what is
/// not known to be on disk, and cuts the rest. Nothing is changed before everything was read and found in order.
pub(super) fn recover(
    directory: &WalDirectory,
    options: &WalOptions,
    mut mark: LogMark,
    floor: DurableFloor,
    replay: &mut Replay<'_>,
) -> Result<RecoveredLog, WalError> {
    let reached = mark.reached();
    let names = directory.list()?;
    let mut found = Vec::new();
    for name in &names {
        if let FileName::Log { incarnation, sequence } = *name {
            found.push(Found::open(directory, options, *name, incarnation, sequence)?);
        }
    }
    let highest = found.iter().map(|found| found.sequence).max().unwrap_or(0);
    // A header that was never written whole can only be the newest file's.
    let begun = found.iter().rposition(|found| found.header.is_some()).map_or(0, |at| at + 1);
    let unfinished = found.split_off(begun);
    let mut log = Log::read(found, options, reached, floor, replay)?;
    for file in &unfinished {
        file.check_unfinished(&log, options, reached)?;
    }
    if highest < reached.sequence {
        let (incarnation, sequence) = (options.incarnation, reached.sequence);
        return Err(WalError::Behind {
            directory: directory.path.clone(),
            end: log.last(),
            reached: log.durable,
            newest: Some(directory.path(FileName::Log { incarnation, sequence })),
        });
    }
    if log.last() < log.durable {
        return Err(WalError::Behind {
            directory: directory.path.clone(),
            end: log.last(),
            reached: log.durable,
            newest: None,
        });
    }
    let torn = log.torn.clone().or_else(|| {
        let file = unfinished.first()?;
        Some(TornEnd { file: file.path.clone(), position: 0, index: log.next.unwrap_or(0) })
    });

    let (mut spares, in_spares) = keep_spares(directory, options, &names, highest)?;
    // A crash may have taken back the name that a spare had got, but not its header.
    let mut sequence = highest.max(in_spares);
    let last = log.last();
    log.cut_torn()?;
    // Durably, before a newer file follows them.
    for file in unfinished {
        directory.remove(file.name)?;
    }
    directory.sync()?;
    let renewed = if log.loose.is_empty() {
        None
    } else {
        sequence += 1;
        Some(log.renew(directory, options, &mut spares, sequence, replay)?)
    };
    let newest = renewed.as_ref().map(|file| file.sequence).or_else(|| log.newest_sequence());
    mark.reach(newest.unwrap_or(0), last)?;
    let mut files = log.keep_durable(directory)?;
    directory.sync()?;
    files.extend(renewed);
    let in_files: u64 = files.iter().map(|file| file.allocated).sum();
    let in_spares: u64 = spares.iter().map(|spare| spare.allocated).sum();
    Ok(RecoveredLog { files, mark, last, sequence, spares, allocated: in_files + in_spares, torn })
}

impl Found {
    fn open(
        directory: &WalDirectory,
        options: &WalOptions,
        name: FileName,
        incarnation: Incarnation,
        sequence: u64,
    ) -> Result<Self, WalError> {
        let path = directory.path(name);
        let foreign =
            |lane, incarnation, sequence| WalError::Foreign { file: path.clone(), lane, incarnation, sequence };
        if incarnation != options.incarnation {
            return Err(foreign(options.lane, incarnation, sequence));
        }
        let file = directory.open_file(name)?;
        let length = file.length().map_err(WalError::io("read", &path))?;
        let header = read_header(&*file).map_err(WalError::io("read", &path))?;
        if let Some(header) = &header {
            if header.version != VERSION {
                return Err(WalError::Version { file: path, version: header.version });
            }
            let same_log = (header.lane, header.incarnation) == (options.lane, incarnation);
            if !same_log || header.sequence > sequence {
                return Err(foreign(header.lane, header.incarnation, header.sequence));
            }
        }
        // A recycled file may have got its new name before its new header.
        let header = header.filter(|header| header.sequence == sequence);
        Ok(Self { name, sequence, path, file, length, header })
    }

    /// A header is durable before the mark names its file, and before a frame follows it. So where the log's next frame
    /// follows a bad one, or any frame does in a log that has no other file, the header is not unfinished but damaged.
    fn check_unfinished(&self, log: &Log, options: &WalOptions, reached: MarkedEnd) -> Result<(), WalError> {
        if self.sequence <= reached.sequence {
            let next = log.next.unwrap_or(0);
            return Err(self.damaged(0, next, log.durable, FrameDamage::Header));
        }
        let frame = FrameScan::new(0, self.length).peek(&*self.file).map_err(WalError::io("read", &self.path))?;
        match frame {
            Ok(frame)
                if frame.incarnation() == options.incarnation && log.next.is_none_or(|next| next == frame.index()) =>
            {
                Err(self.damaged(0, frame.index(), frame.index(), FrameDamage::Header))
            }
            _ => Ok(()),
        }
    }

    fn damaged(&self, position: u64, index: LogIndex, durable: LogIndex, damage: FrameDamage) -> WalError {
        WalError::Damaged { file: self.path.clone(), position, index, durable, damage }
    }
}

/// The files with headers, read up to the last good frame.
struct Log {
    files: Vec<(Found, LogFile)>,
    /// The index that comes next; None if there are no files.
    next: Option<LogIndex>,
    /// Where the log begins.
    base: LogIndex,
    /// The last index that is known to be on disk, or to have been.
    durable: LogIndex,
    /// Good frames at the newest file's end that are not known to be: the last sync may have failed. As many as were
    /// written together.
    loose: VecDeque<Loose>,
    torn: Option<TornEnd>,
}

/// A frame that waits for what says that it is on disk.
struct Loose {
    frame: Frame,
    place: FramePlace,
    position: u64,
}

impl Log {
    fn read(
        found: Vec<Found>,
        options: &WalOptions,
        reached: MarkedEnd,
        floor: DurableFloor,
        replay: &mut Replay<'_>,
    ) -> Result<Self, WalError> {
        let mut log = Self {
            files: Vec::new(),
            next: None,
            base: reached.base,
            durable: reached.end.max(floor.checkpoint).max(floor.shipped),
            loose: VecDeque::new(),
            torn: None,
        };
        // Where the files read so far end, and why.
        let mut end: Option<(u64, FrameDamage)> = None;
        let mut found = found.into_iter().peekable();
        while let Some(file) = found.next() {
            let Some(header) = file.header.clone() else {
                let next = log.next.unwrap_or(0);
                return Err(file.damaged(0, next, next, FrameDamage::Header));
            };
            // Everything behind what is in a registered segment is needed, to ship it; what is behind the checkpoint is
            // needed for the state.
            let needed = floor.checkpoint.min(floor.shipped).max(reached.base);
            match (log.next, log.files.last(), end) {
                (Some(next), Some((before, _)), Some((position, damage))) if next != header.first => {
                    return Err(before.damaged(position, next, header.first.saturating_sub(1), damage));
                }
                (None, ..) if header.first > needed + 1 => {
                    return Err(WalError::Hole { file: file.path, first: header.first, needed });
                }
                _ => {}
            }
            log.durable = log.durable.max(header.first.saturating_sub(1));
            log.settle(replay)?;
            let until = found.peek().and_then(|next| Some(next.header.as_ref()?.first));
            end = Some(log.read_file(file, &header, options, until, replay)?);
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
            log.durable = log.durable.max(later.unwrap_or(0));
            // Where the file that the mark names is gone, this one's end is not what is wrong.
            if log.durable >= next && newest.sequence >= reached.sequence {
                return Err(newest.damaged(position, next, log.durable, damage));
            }
            let torn = bad.was_begun().map_err(WalError::io("read", &newest.path))?;
            log.torn = torn.then(|| TornEnd { file: newest.path.clone(), position, index: next });
        }
        Ok(log)
    }

    /// Replays the good frames of one file, up to the one that the next file begins with: where frames were written
    /// anew, both have them. Gives where and how the file ends.
    fn read_file(
        &mut self,
        found: Found,
        header: &FileHeader,
        options: &WalOptions,
        until: Option<LogIndex>,
        replay: &mut Replay<'_>,
    ) -> Result<(u64, FrameDamage), WalError> {
        let read = || WalError::io("read", &found.path);
        let mut scan = FrameScan::new(header.salt, found.length);
        let mut next = header.first;
        let damage = loop {
            if until == Some(next) {
                break FrameDamage::Index;
            }
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
                return Err(found.damaged(position, next, frame.index, FrameDamage::Index));
            }
            let place = FramePlace { index: next, file: found.sequence, position, length: frame.length() };
            self.loose.push_back(Loose { frame, place, position });
            self.durable = self.durable.max(frame_header.durable());
            self.settle(replay)?;
            next += 1;
        };
        let (path, file) = (found.path.clone(), found.file.clone());
        let log_file = LogFile::new(found.name, found.sequence, path, file, header.salt, header.first, found.length);
        log_file.extend(next.saturating_sub(1), scan.position());
        self.next = Some(next);
        self.files.push((found, log_file));
        Ok((scan.position(), damage))
    }

    /// Replays what is known to be on disk.
    fn settle(&mut self, replay: &mut Replay<'_>) -> Result<(), WalError> {
        while let Some(Loose { frame, place, .. }) = self.loose.pop_front_if(|loose| loose.place.index <= self.durable)
        {
            replay(frame, place)?;
        }
        Ok(())
    }

    /// The last good frame.
    fn last(&self) -> LogIndex {
        self.next.map_or(self.base, |next| next.saturating_sub(1))
    }

    /// Ends the newest file at its last good frame, which gives its free space back.
    fn cut_torn(&mut self) -> Result<(), WalError> {
        match self.files.last_mut() {
            Some((found, file)) if file.end() > FRAMES_START => cut(found, file),
            _ => Ok(()),
        }
    }

    /// Writes the loose frames into a new file, and replays them from there.
    fn renew(
        &mut self,
        directory: &WalDirectory,
        options: &WalOptions,
        spares: &mut Vec<SpareFile>,
        sequence: u64,
        replay: &mut Replay<'_>,
    ) -> Result<LogFile, WalError> {
        let position = self.loose.front().map_or(FRAMES_START, |first| first.position);
        let frames: Vec<Frame> = self.loose.drain(..).map(|loose| loose.frame).collect();
        let spare = spare_for(directory, spares, &frames)?;
        let durable = self.last() - frames.len() as LogIndex;
        let (renewed, places) = renew(directory, options, spare, sequence, durable, &frames)?;
        if let Some((_, newest)) = self.files.last() {
            newest.extend(durable, position);
        }
        for (frame, place) in frames.into_iter().zip(places) {
            replay(frame, place)?;
        }
        Ok(renewed)
    }

    /// The newest file that holds a frame.
    fn newest_sequence(&self) -> Option<u64> {
        let mut files = self.files.iter().rev();
        files.find(|(_, file)| file.end() > FRAMES_START).map(|(found, _)| found.sequence)
    }

    /// Cuts the newest file behind its last frame that counts, and removes files without one.
    fn keep_durable(self, directory: &WalDirectory) -> Result<Vec<LogFile>, WalError> {
        let mut files = Vec::new();
        let newest = self.files.len();
        for (at, (found, mut file)) in (1..).zip(self.files) {
            if file.end() == FRAMES_START {
                directory.remove(found.name)?;
                continue;
            }
            if at == newest && file.allocated > file.end() {
                cut(&found, &mut file)?;
            }
            files.push(file);
        }
        Ok(files)
    }
}

fn cut(found: &Found, file: &mut LogFile) -> Result<(), WalError> {
    found.file.truncate(file.end()).map_err(WalError::io("cut", &found.path))?;
    file.allocated = file.end();
    Ok(())
}

/// Opens spares of the right size, and removes the others. One whose header is newer than the log's newest file is a
/// copy that was not finished: it goes too, since it may hold the index that comes next. Gives the highest sequence in
/// a header as well.
fn keep_spares(
    directory: &WalDirectory,
    options: &WalOptions,
    names: &[FileName],
    newest: u64,
) -> Result<(Vec<SpareFile>, u64), WalError> {
    let mut spares = Vec::new();
    let mut highest = 0;
    for name in names {
        let FileName::Spare { number } = *name else { continue };
        let file = directory.open_file(*name)?;
        let read = || WalError::io("read", directory.path(*name));
        let allocated = file.length().map_err(read())?;
        let header = read_header(&*file).map_err(read())?;
        let sequence = header.as_ref().map_or(0, |header| header.sequence);
        highest = highest.max(sequence);
        if allocated == options.file_bytes && sequence <= newest && spares.len() < SPARES_KEPT {
            spares.push(SpareFile { number, file, allocated, former_salt: header.map(|header| header.salt) });
        } else {
            directory.remove(*name)?;
        }
    }
    Ok((spares, highest))
}
