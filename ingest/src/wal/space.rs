use std::sync::Arc;

use super::WalOptions;
use super::header::FRAMES_START;
use crate::disk::DiskFile;
use crate::log::{FramePurpose, NoSpace};

/// How many files of the regular size are kept allocated ahead: one for what comes next, one for bookkeeping.
const SPARES: usize = 2;

/// A file that is allocated and not in use.
pub(super) struct SpareFile {
    pub number: u64,
    pub file: Arc<dyn DiskFile>,
    pub allocated: u64,
    /// The salt of its last life, which its next one must not have.
    pub former_salt: Option<u32>,
}

impl SpareFile {
    pub(super) fn room(&self) -> u64 {
        self.allocated - FRAMES_START
    }
}

/// Where a frame goes.
pub(super) enum FrameTarget {
    /// Behind the frame before.
    OpenFile,
    /// To the start of a new file.
    File(SpareFile),
    /// To a new file that is still to be allocated: no space was reserved for it.
    Unallocated,
}

/// Which file the next frame goes to, decided when it is appended: then whatever was reserved is there when it is
/// written, and a full disk is noticed before a frame is taken.
pub(super) struct LogSpace {
    file_bytes: u64,
    max_bytes: u64,
    /// Bytes left in the file of the last frame appended.
    left: u64,
    /// Reserved since the last append.
    reserved: u64,
    spares: Vec<SpareFile>,
    /// Bytes of all files, in use, spare, or being allocated.
    allocated: u64,
    next_number: u64,
    /// A frame that found no space: its bytes, and what it is for. A file for it comes before those that are kept
    /// ahead.
    wanted: Option<(u64, FramePurpose)>,
    /// The last allocation failed: none is tried ahead until a frame wants one, or a file was deleted.
    refused: bool,
}

impl LogSpace {
    pub(super) fn new(options: &WalOptions, spares: Vec<SpareFile>, allocated: u64) -> Self {
        let next_number = spares.iter().map(|spare| spare.number + 1).max().unwrap_or(0);
        Self {
            file_bytes: options.file_bytes,
            max_bytes: options.max_bytes,
            left: 0,
            reserved: 0,
            spares,
            allocated,
            next_number,
            wanted: None,
            refused: false,
        }
    }

    /// Whether a spare file of this size is kept when a file is recycled.
    pub(super) fn keeps(&self, allocated: u64) -> bool {
        allocated == self.file_bytes && self.regular() < SPARES && self.allocated <= self.max_bytes
    }

    /// Counts `bytes` to the next append; where a file must be allocated first, that is the next one to be.
    pub(super) fn reserve(&mut self, bytes: u64, purpose: FramePurpose) -> Result<(), NoSpace> {
        let frame = self.reserved + bytes;
        let shortage = self.shortage(frame, purpose);
        let within = purpose == FramePurpose::Bookkeeping || self.allocated + shortage.unwrap_or(0) <= self.max_bytes;
        if !within {
            return Err(NoSpace::Limit { max_bytes: self.max_bytes });
        }
        if let Some(bytes) = shortage {
            self.wanted = Some((frame, purpose));
            return Err(NoSpace::Allocating { bytes });
        }
        self.reserved = frame;
        Ok(())
    }

    /// Bytes reserved since the last append.
    pub(super) fn reserved(&self) -> u64 {
        self.reserved
    }

    fn shortage(&self, bytes: u64, purpose: FramePurpose) -> Option<u64> {
        let kept = usize::from(purpose == FramePurpose::Append);
        let regular_room = self.file_bytes - FRAMES_START;
        if bytes > self.left && bytes > regular_room && !self.spares.iter().any(|spare| spare.room() >= bytes) {
            return Some(FRAMES_START + bytes.next_multiple_of(FRAMES_START));
        }
        let needed = kept + usize::from(bytes > self.left && bytes <= regular_room);
        (self.regular() < needed).then_some(self.file_bytes)
    }

    fn regular(&self) -> usize {
        self.spares.iter().filter(|spare| spare.allocated == self.file_bytes).count()
    }

    /// The size of the file that should be allocated now.
    pub(super) fn next_file(&self) -> Option<u64> {
        let within = self.regular() == 0 || self.allocated + self.file_bytes <= self.max_bytes;
        let ahead = (self.regular() < SPARES && within && !self.refused).then_some(self.file_bytes);
        self.wanted.and_then(|(bytes, purpose)| self.shortage(bytes, purpose)).or(ahead)
    }

    /// Takes the frame in, whether reserved or not.
    pub(super) fn place(&mut self, bytes: u64) -> FrameTarget {
        self.reserved = 0;
        if bytes <= self.left {
            self.left -= bytes;
            return FrameTarget::OpenFile;
        }
        let fitting = self.spares.iter().enumerate().filter(|(_, spare)| spare.room() >= bytes);
        match fitting.min_by_key(|(_, spare)| spare.allocated != self.file_bytes).map(|(at, _)| at) {
            Some(at) => {
                let spare = self.spares.swap_remove(at);
                self.left = spare.room() - bytes;
                FrameTarget::File(spare)
            }
            None => {
                self.left = self.unallocated(bytes) - FRAMES_START - bytes;
                FrameTarget::Unallocated
            }
        }
    }

    /// The size of the file for a frame without one.
    pub(super) fn unallocated(&self, bytes: u64) -> u64 {
        self.file_bytes.max(FRAMES_START + bytes)
    }

    /// The number of a spare file that is about to be allocated, or made of a file in use (of 0 more bytes).
    pub(super) fn begin(&mut self, bytes: u64) -> u64 {
        self.allocated += bytes;
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// An allocation ended well. Returns a spare that is not needed any more, already taken off the account.
    pub(super) fn add(&mut self, spare: SpareFile) -> Option<SpareFile> {
        (self.refused, self.wanted) = (false, None);
        let outgrown = self.spares.iter().position(|other| {
            spare.allocated > self.file_bytes && other.allocated != self.file_bytes && other.allocated < spare.allocated
        });
        self.spares.push(spare);
        let outgrown = self.spares.swap_remove(outgrown?);
        self.allocated -= outgrown.allocated;
        Some(outgrown)
    }

    /// An allocation did not end well.
    pub(super) fn refuse(&mut self, bytes: u64) {
        self.refused = true;
        self.allocated -= bytes;
    }

    /// There will be no space for what found none; says whether anything did.
    pub(super) fn give_up(&mut self) -> bool {
        self.wanted.take().is_some()
    }

    /// A file was deleted.
    pub(super) fn release(&mut self, bytes: u64) {
        self.refused = false;
        self.allocated -= bytes;
    }

    pub(super) fn allocated(&self) -> u64 {
        self.allocated
    }

    pub(super) fn spares(&self) -> usize {
        self.spares.len()
    }
}
