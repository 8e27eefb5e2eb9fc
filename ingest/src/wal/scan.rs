use std::io;
use std::ops::RangeInclusive;

use bytes::Bytes;
use chronik_format::ids::LogIndex;

use super::error::FrameDamage;
use super::frame::{FRAME_HEADER_BYTES, FrameHeader};
use super::header::{FRAMES_START, FileHeader, HEADER_BYTES, VERSION};
use crate::disk::{ReadAt, read_full_at};
use crate::log::Frame;

/// Bytes that are read ahead.
const WINDOW_BYTES: u64 = 256 << 10;

/// Reads the frames of one file in order, holding one of them and a window.
pub(super) struct FrameScan {
    salt: u32,
    position: u64,
    end: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl FrameScan {
    /// From the file's first frame up to `end`.
    pub(super) fn new(salt: u32, end: u64) -> Self {
        Self::at(FRAMES_START, salt, end)
    }

    /// From a frame's position up to `end`.
    pub(super) fn at(position: u64, salt: u32, end: u64) -> Self {
        Self { salt, position, end, window: Vec::new(), window_start: 0 }
    }

    /// Where the next frame begins.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Frames up to `end` can be read now.
    pub(super) fn extend(&mut self, end: u64) {
        self.end = end;
    }

    /// The next frame's fixed part, not verified yet.
    pub(super) fn peek(&mut self, file: &dyn ReadAt) -> io::Result<Result<FrameHeader, FrameDamage>> {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        if !self.read(file, self.position, &mut bytes)? {
            return Ok(Err(FrameDamage::Magic));
        }
        let header = FrameHeader::parse(bytes);
        let fits = |header: &FrameHeader| self.position + header.length() <= self.end;
        Ok(header.and_then(|header| if fits(&header) { Ok(header) } else { Err(FrameDamage::Length) }))
    }

    /// The whole frame, verified; the scan moves behind it if it is good.
    pub(super) fn take(&mut self, file: &dyn ReadAt, header: &FrameHeader) -> io::Result<Result<Frame, FrameDamage>> {
        let mut body = vec![0; header.length() as usize - FRAME_HEADER_BYTES];
        if !self.read(file, self.position + FRAME_HEADER_BYTES as u64, &mut body)? {
            return Ok(Err(FrameDamage::Length));
        }
        let frame = header.with_body(Bytes::from(body), self.salt);
        if frame.is_ok() {
            self.skip(header);
        }
        Ok(frame)
    }

    /// Moves on to the next whole frame of `wanted` behind whatever lies here, and says which it is; `None` if there is
    /// none. A frame is known by its checksum, which has this file's salt.
    pub(super) fn find(&mut self, file: &dyn ReadAt, wanted: RangeInclusive<LogIndex>) -> io::Result<Option<LogIndex>> {
        while self.position < self.end {
            self.position += 1;
            let Ok(header) = self.peek(file)? else { continue };
            let position = self.position;
            if wanted.contains(&header.index()) && self.take(file, &header)?.is_ok() {
                self.position = position;
                return Ok(Some(header.index()));
            }
        }
        Ok(None)
    }

    /// Moves behind a frame without reading it.
    pub(super) fn skip(&mut self, header: &FrameHeader) {
        self.position += header.length();
    }

    /// Fills `buffer`; false if the file does not reach that far.
    fn read(&mut self, file: &dyn ReadAt, position: u64, buffer: &mut [u8]) -> io::Result<bool> {
        let wanted = buffer.len() as u64;
        if position + wanted > self.end {
            return Ok(false);
        }
        if wanted > WINDOW_BYTES {
            return Ok(read_full_at(file, position, buffer)? == buffer.len());
        }
        if position < self.window_start || position + wanted > self.window_start + self.window.len() as u64 {
            self.window.resize(WINDOW_BYTES.min(self.end - position) as usize, 0);
            let read = read_full_at(file, position, &mut self.window)?;
            self.window.truncate(read);
            self.window_start = position;
        }
        let start = (position - self.window_start) as usize;
        match self.window.get(start..start + buffer.len()) {
            Some(bytes) => buffer.copy_from_slice(bytes),
            None => return Ok(false),
        }
        Ok(true)
    }
}

/// A file's header; None if it is damaged or was never written whole.
pub(super) fn read_header(file: &dyn ReadAt) -> io::Result<Option<FileHeader>> {
    let mut bytes = [0; HEADER_BYTES];
    let whole = read_full_at(file, 0, &mut bytes)? == HEADER_BYTES;
    Ok(whole.then(|| FileHeader::decode(&bytes)).flatten())
}

/// The good frames at the start of a log file that is held in memory, and the position behind them; None if it has
/// no header of a version that is known.
pub fn wal_scan(bytes: &[u8]) -> Option<(Vec<Frame>, u64)> {
    let bytes = bytes.to_vec();
    let header = read_header(&bytes).ok()?.filter(|header| header.version == VERSION)?;
    let mut scan = FrameScan::new(header.salt, bytes.len() as u64);
    let mut frames = Vec::new();
    while let Ok(Ok(next)) = scan.peek(&bytes) {
        match scan.take(&bytes, &next) {
            Ok(Ok(frame)) => frames.push(frame),
            _ => break,
        }
    }
    Some((frames, scan.position()))
}
