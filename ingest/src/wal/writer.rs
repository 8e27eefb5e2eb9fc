use std::io::IoSlice;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use chronik_format::ids::LogIndex;

use super::WrittenFrames;
use super::error::WalError;
use super::files::LogFile;
use super::frame::FRAME_BYTES_MAX;
use super::handle::{QueuedWork, WalHandle, WalShared};
use super::header::{FRAMES_START, FileHeader, FileName};
use super::space::{FrameTarget, SpareFile};
use crate::disk::write_all_at;
use crate::log::{Frame, FramePlace};

/// The one who writes a log. It does nothing until it is started.
pub struct WalWriter {
    pub(super) shared: Arc<WalShared>,
    /// The file being written, and where its next frame goes.
    current: Option<(Arc<LogFile>, u64)>,
    /// The highest sequence of any file so far.
    sequence: u64,
    /// The last durable index.
    durable: LogIndex,
}

impl WalWriter {
    pub(super) fn new(shared: Arc<WalShared>, sequence: u64, durable: LogIndex) -> Self {
        Self { shared, current: None, sequence, durable }
    }

    /// Starts the log's threads. `on_written` is called on the writing one after each sync; what it does delays the
    /// next sync. An error is its last call: whatever was appended and not reported is lost, and nothing is written any
    /// more.
    pub fn start(
        self,
        mut on_written: impl FnMut(Result<WrittenFrames, WalError>) + Send + 'static,
    ) -> Result<WalHandle, WalError> {
        let shared = self.shared.clone();
        let name = format!("wal-{}", shared.options.lane.0);
        let failed = || WalError::io("start a thread for", &shared.directory.path);
        let allocator = shared.clone();
        let allocating = thread::Builder::new()
            .name(format!("{name}-room"))
            .spawn(move || allocator.allocate_ahead())
            .map_err(failed())?;
        let marker = shared.clone();
        let marking =
            thread::Builder::new().name(format!("{name}-mark")).spawn(move || marker.mark_behind()).map_err(failed())?;
        let writing = thread::Builder::new().name(name).spawn(move || self.run(&mut on_written)).map_err(failed())?;
        Ok(WalHandle { threads: vec![writing, allocating, marking], shared })
    }

    fn run(mut self, on_written: &mut dyn FnMut(Result<WrittenFrames, WalError>)) {
        while let Some(work) = self.shared.wait() {
            if let Err(error) = self.work(work, on_written) {
                self.shared.end();
                return on_written(Err(error));
            }
        }
        if self.shared.lock().ends_well()
            && let Err(error) = self.shared.mark_durable()
        {
            tracing::warn!(%error, "the end of the write-ahead log was not marked, so the next start copies its last frames");
        }
    }

    pub(super) fn work(
        &mut self,
        work: QueuedWork,
        on_written: &mut dyn FnMut(Result<WrittenFrames, WalError>),
    ) -> Result<(), WalError> {
        let mut run = Vec::new();
        for queued in work.frames {
            if !matches!(queued.place, FrameTarget::OpenFile) {
                self.write(std::mem::take(&mut run), on_written)?;
                let spare = self.spare(queued.place, queued.frame.length())?;
                self.begin_file(spare, queued.frame.index)?;
            }
            run.push(queued.frame);
        }
        self.write(run, on_written)?;
        self.shared.done(work.bytes);
        if let Some(up_to) = work.recycle {
            self.recycle(up_to)?;
        }
        Ok(())
    }

    /// Writes frames behind each other into the current file, syncs, reports.
    fn write(
        &mut self,
        frames: Vec<Frame>,
        on_written: &mut dyn FnMut(Result<WrittenFrames, WalError>),
    ) -> Result<(), WalError> {
        let (Some((file, position)), Some(newest)) = (&mut self.current, frames.last()) else {
            return Ok(());
        };
        let headers: Vec<_> = frames.iter().map(|frame| frame.encode_header(self.durable, file.salt)).collect();
        let mut places = Vec::with_capacity(frames.len());
        let mut parts = Vec::with_capacity(frames.len() * 3);
        let mut end = *position;
        let mut expected = self.durable + 1;
        for (frame, header) in frames.iter().zip(&headers) {
            if frame.index != expected {
                return Err(WalError::Order { expected, found: frame.index });
            }
            let (bytes, max) = (frame.length(), FRAME_BYTES_MAX as u64);
            if bytes > max {
                return Err(WalError::TooLarge { bytes, max });
            }
            parts.push(IoSlice::new(header));
            parts.push(IoSlice::new(&frame.commands));
            parts.extend(frame.batches.iter().map(|batch| IoSlice::new(batch)));
            places.push(FramePlace { index: frame.index, file: file.sequence, position: end, length: bytes });
            end += bytes;
            expected = frame.index + 1;
        }
        write_all_at(&*file.file, *position, &mut parts).map_err(WalError::io("write", &file.path))?;
        let started = Instant::now();
        file.file.sync_data().map_err(WalError::io("sync", &file.path))?;
        let fsync = started.elapsed();

        file.extend(newest.index, end);
        if *position == FRAMES_START {
            self.shared.files.insert(file.clone());
        }
        *position = end;
        self.durable = newest.index;
        self.shared.wrote(newest.index, fsync);
        on_written(Ok(WrittenFrames { durable: newest.index, places, fsync }));
        Ok(())
    }

    /// Makes a spare the current file. Its name, header and mark are durable before any frame follows; all frames
    /// before it are durable already.
    fn begin_file(&mut self, spare: SpareFile, first: LogIndex) -> Result<(), WalError> {
        let WalShared { directory, options, .. } = &*self.shared;
        self.sequence += 1;
        let (incarnation, sequence) = (options.incarnation, self.sequence);
        let name = FileName::Log { incarnation, sequence };
        let header = FileHeader::begin(options, sequence, first, spare.former_salt);
        let path = directory.path(name);
        directory.rename(FileName::Spare { number: spare.number }, name)?;
        write_all_at(&*spare.file, 0, &mut [IoSlice::new(&header.encode())]).map_err(WalError::io("write", &path))?;
        spare.file.sync_data().map_err(WalError::io("sync", &path))?;
        directory.sync()?;
        self.shared.mark_file(sequence)?;
        let file = LogFile::new(name, sequence, path, spare.file, header.salt, first, spare.allocated);
        self.current = Some((Arc::new(file), FRAMES_START));
        Ok(())
    }

    /// The spare that was chosen for a frame. Without one, waits until one can be allocated.
    fn spare(&mut self, place: FrameTarget, bytes: u64) -> Result<SpareFile, WalError> {
        if let FrameTarget::File(spare) = place {
            return Ok(spare);
        }
        loop {
            let mut queue = self.shared.lock();
            let allocated = queue.room.unallocated(bytes);
            let number = queue.room.begin(allocated);
            let recycle = queue.take_recycle();
            drop(queue);
            let path = self.shared.directory.path(FileName::Spare { number });
            match self.shared.directory.disk.create(&path, allocated) {
                Ok(file) => {
                    return Ok(SpareFile { number, file, allocated, former_salt: None });
                }
                Err(source) => {
                    self.shared.lock().room.refuse(allocated);
                    if let Some(up_to) = recycle {
                        self.recycle(up_to)?;
                    } else if !self.shared.wait_for_room() {
                        return Err(WalError::Io { operation: "preallocate", file: path, source });
                    }
                }
            }
        }
    }

    /// Takes files out of use, the oldest first, each one durably before the next: what is left is always the end
    /// of the log, without a gap.
    fn recycle(&mut self, up_to: LogIndex) -> Result<(), WalError> {
        let WalShared { directory, files, .. } = &*self.shared;
        while let Some(file) = files.take_oldest(up_to) {
            let (name, allocated) = (file.name, file.allocated);
            let keep = self.shared.lock().room.keeps(allocated);
            // A file that is being read is not written over: only its name goes.
            match Arc::try_unwrap(file) {
                Ok(LogFile { file, salt, .. }) if keep => {
                    let number = self.shared.lock().room.begin(0);
                    directory.rename(name, FileName::Spare { number })?;
                    directory.sync()?;
                    self.shared.add(SpareFile { number, file, allocated, former_salt: Some(salt) });
                }
                _ => {
                    directory.remove(name)?;
                    directory.sync()?;
                    self.shared.release(allocated);
                }
            }
        }
        Ok(())
    }
}

impl Drop for WalWriter {
    fn drop(&mut self) {
        self.shared.end();
    }
}
