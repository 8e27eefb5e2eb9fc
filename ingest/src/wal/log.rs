//! The write-ahead log as a lane's [`Log`]: what one sync makes durable is committed with that.

use std::sync::Arc;

use chronik_format::ids::LogIndex;
use tokio::sync::mpsc;

use super::{OpenWal, WalError, WalFrames, WalHandle, WalReader, WrittenFrames};
use crate::log::{Frame, FrameError, FramePurpose, Log, LogEvent, LogFrames, LogReader, NoSpace, SharedLogReader};

/// A log that is being written.
pub struct WalLog {
    handle: WalHandle,
    reader: WalReader,
    written: mpsc::UnboundedReceiver<Result<WrittenFrames, WalError>>,
    /// Something found no space until a file is allocated, and has not been answered since.
    allocating: bool,
}

impl OpenWal {
    /// Starts the log's threads.
    pub fn start(self) -> Result<WalLog, WalError> {
        let (sender, written) = mpsc::unbounded_channel();
        let handle = self.writer.start(move |report| drop(sender.send(report)))?;
        Ok(WalLog { handle, reader: self.reader, written, allocating: false })
    }
}

impl Log for WalLog {
    type Error = WalError;

    fn reserve(&mut self, bytes: u64, purpose: FramePurpose) -> Result<(), NoSpace> {
        let reserved = self.handle.reserve(bytes, purpose);
        self.allocating |= matches!(reserved, Err(NoSpace::Allocating { .. }));
        reserved
    }

    fn append(&mut self, frame: Frame) {
        self.handle.append(frame);
    }

    async fn event(&mut self) -> Option<Result<LogEvent, WalError>> {
        tokio::select! {
            biased;
            written = self.written.recv() => {
                Some(written?.map(|WrittenFrames { places, fsync, .. }| LogEvent::Committed { places, fsync }))
            }
            decided = self.handle.decided(), if self.allocating => {
                self.allocating = false;
                Some(Ok(LogEvent::Space(decided)))
            }
        }
    }

    fn purge(&mut self, up_to: LogIndex) {
        self.handle.recycle(up_to);
    }

    fn reader(&self) -> SharedLogReader {
        Arc::new(self.reader.clone())
    }

    fn close(self) {
        self.handle.close();
    }
}

impl LogReader for WalReader {
    fn frames(&self, from: LogIndex, position: Option<u64>, to: LogIndex) -> Box<dyn LogFrames> {
        Box::new(match position {
            Some(position) => self.frames_at(from, position, to),
            None => self.frames(from, to),
        })
    }
}

impl LogFrames for WalFrames {
    fn next_frame(&mut self) -> Option<Result<Frame, FrameError>> {
        Some(self.next()?.map_err(FrameError::from))
    }

    fn go_on(&mut self) -> Result<bool, FrameError> {
        Ok(self.go_on()?)
    }
}

impl From<WalError> for FrameError {
    fn from(error: WalError) -> Self {
        match error {
            WalError::Absent { index } => Self::Absent { index },
            WalError::Damaged { .. } => Self::Damaged(error.into()),
            _ => Self::Failed(error.into()),
        }
    }
}
