use std::sync::Arc;

use chronik_format::ids::LogIndex;

use super::error::{FrameDamage, WalError};
use super::files::LogFile;
use super::handle::WalShared;
use super::scan::FrameScan;
use crate::log::Frame;

/// Reads what is durable, beside the writer. Every read blocks on the disk.
#[derive(Clone)]
pub struct WalReader {
    shared: Arc<WalShared>,
}

impl WalReader {
    pub(super) fn new(shared: Arc<WalShared>) -> Self {
        Self { shared }
    }

    /// The oldest frame that the log still holds.
    pub fn oldest(&self) -> Option<LogIndex> {
        self.shared.files.oldest()
    }

    /// The frames from `from` to `to`, both included, verified, one in memory at a time. Ends after the first error,
    /// unless told to [go on](WalFrames::go_on) behind damage; [`WalError::Absent`] where a frame was recycled or is
    /// not durable yet.
    pub fn frames(&self, from: LogIndex, to: LogIndex) -> WalFrames {
        WalFrames { shared: self.shared.clone(), next: from, position: None, to, open: None, failed: false }
    }

    /// The same, if it is known where the first one starts in its file, bytes: what lies before it is not looked at.
    pub fn frames_at(&self, from: LogIndex, position: u64, to: LogIndex) -> WalFrames {
        WalFrames { position: Some(position), ..self.frames(from, to) }
    }
}

/// Frames of the log in order.
pub struct WalFrames {
    shared: Arc<WalShared>,
    next: LogIndex,
    /// Where that starts in its file, if no file is open yet.
    position: Option<u64>,
    to: LogIndex,
    open: Option<(Arc<LogFile>, FrameScan)>,
    failed: bool,
}

impl Iterator for WalFrames {
    type Item = Result<Frame, WalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.next > self.to {
            return None;
        }
        let frame = self.read_next();
        match &frame {
            Ok(_) => self.next += 1,
            Err(_) => self.failed = true,
        }
        Some(frame)
    }
}

impl WalFrames {
    /// After damage: goes on with the next frame that is whole. False if there is none.
    pub fn go_on(&mut self) -> Result<bool, WalError> {
        let Some((file, scan)) = &mut self.open else { return Ok(false) };
        let last = file.last().min(self.to);
        let found = scan.find(&*file.file, self.next..=last).map_err(WalError::io("read", &file.path))?;
        self.next = found.unwrap_or(last + 1);
        self.failed = self.next > self.to;
        Ok(!self.failed)
    }

    fn read_next(&mut self) -> Result<Frame, WalError> {
        let index = self.next;
        let (file, mut scan) = match self.open.take() {
            Some((file, scan)) if file.last() >= index => (file, scan),
            _ => {
                let file = self.shared.files.holding(index).ok_or(WalError::Absent { index })?;
                let scan = match self.position.take() {
                    Some(position) => FrameScan::at(position, file.salt, file.end()),
                    None => FrameScan::new(file.salt, file.end()),
                };
                (file, scan)
            }
        };
        scan.extend(file.end());
        let frame = read_frame(&file, &mut scan, index);
        self.open = Some((file, scan));
        frame
    }
}

fn read_frame(file: &LogFile, scan: &mut FrameScan, index: LogIndex) -> Result<Frame, WalError> {
    let found = loop {
        match scan.peek(&*file.file).map_err(WalError::io("read", &file.path))? {
            Ok(header) if header.index() < index => scan.skip(&header),
            Ok(header) if header.index() == index => {
                break scan.take(&*file.file, &header).map_err(WalError::io("read", &file.path))?;
            }
            Ok(_) => break Err(FrameDamage::Index),
            Err(damage) => break Err(damage),
        }
    };
    let (path, position, durable) = (file.path.clone(), scan.position(), file.last());
    found.map_err(|damage| WalError::Damaged { file: path, position, index, durable, damage })
}
