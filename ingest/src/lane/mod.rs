//! The lane: one ordered log of commands and the state that results from it.
//!
//! A request enters through a [`Lane`]. The [`owner`] task stages it ([`stage`]), puts it into a frame, and hands the
//! frame to the [`log`](crate::log); once that says that the frame is committed, the owner applies it to the state,
//! publishes what others may see ([`tail`]), and answers. It also draws the borders between segments ([`ship_policy`]).

mod frame;
mod memory;
pub mod owner;
pub mod presence;
pub mod replay;
pub mod ship_policy;
pub mod stage;
pub mod stretch;
pub mod tail;
pub mod tail_watch;
#[cfg(test)]
mod tests;
mod waiting;
pub mod watcher;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use chronik_format::batch::BatchHeader;
use chronik_format::ids::{LogIndex, Offset, PartitionId, Timestamp, TopicId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::lane::presence::OwnerPresence;
use crate::log::SharedLogReader;
use crate::state::LaneState;
use crate::state::apply::LogStarts;
use crate::state::command::{Command, DeleteRecords};
use crate::state::refusal::CommandRefusal;

use self::tail::TopicTable;

/// The lane's owner has ended: the process is about to.
#[derive(Debug, thiserror::Error)]
#[error("the broker is stopping")]
pub struct LaneGone;

/// A batch that passed the produce checks.
#[derive(Debug)]
pub struct ProducedBatch {
    pub topic: TopicId,
    pub partition: PartitionId,
    pub header: BatchHeader,
    /// The whole batch as it came.
    pub bytes: Bytes,
    /// Whether the broker sets the records' timestamps.
    pub log_append_time: bool,
}

/// Where an acknowledged batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedBatch {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// The broker's timestamp if it set one, ms.
    pub log_append_time: Option<Timestamp>,
    /// First offset of the partition that can be read.
    pub log_start: Offset,
}

/// Why a command had no effect.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// The state does not allow it.
    #[error(transparent)]
    Refused(#[from] CommandRefusal),
    /// The write-ahead log has no space: shipping is behind, or the disk is full. A retry helps once it caught up.
    #[error("the write-ahead log has no space")]
    NoSpace,
    /// It fits into no frame: trying again does not help.
    #[error("it takes {bytes} bytes in the log, where {max} are possible")]
    TooLarge {
        /// Of its frame.
        bytes: u64,
        /// Of any frame.
        max: u64,
    },
    /// Another broker may own the bucket: it has not answered otherwise since this broker may have been suspended, or
    /// the lease is strict and over. Whether it had an effect is not known to the caller.
    #[error("the bucket has not confirmed that it is still this broker's")]
    Unconfirmed,
    /// See [`LaneGone`].
    #[error(transparent)]
    Gone(#[from] LaneGone),
}

/// How far the lane is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneProgress {
    /// The last index applied.
    pub applied: LogIndex,
    /// The last index in a registered segment.
    pub shipped: LogIndex,
    /// The last index whose commands changed what the catalog says.
    pub catalog: LogIndex,
    /// Bytes of frames that are applied and not yet in a registered segment.
    pub unshipped_bytes: u64,
    /// When the oldest batch among them arrived, ms since the epoch.
    pub unshipped_since: Option<Timestamp>,
}

/// A range of the log that is to become a segment.
#[derive(Debug)]
pub struct ShipOrder {
    pub first: LogIndex,
    pub last: LogIndex,
    /// The state at `last`, if a checkpoint is due.
    pub checkpoint: Option<CheckpointState>,
}

/// A state that is to go into the bucket. There is one at most: the next one is taken once this one is dropped.
#[derive(Debug)]
pub struct CheckpointState {
    pub state: LaneState,
    /// Given back to the lane when dropped.
    pub _turn: OwnedSemaphorePermit,
}

type Reply<T> = oneshot::Sender<T>;

enum LaneRequest {
    Append(ProducedBatch, Reply<Result<AppendedBatch, LaneError>>),
    DeleteRecords(DeleteRecords, Reply<Result<LogStarts, LaneError>>),
    Propose(Box<Command>, Reply<Result<(), LaneError>>),
    Snapshot(Reply<LaneState>),
    Cut { with_checkpoint: bool, reply: Reply<LogIndex> },
    Release(LogIndex),
}

/// The way to a lane's owner. Cheap to clone.
///
/// Its inbox has no limit of its own: batches in it are counted by the connections' limit of bytes in flight, and all
/// else is asked by few tasks that wait for their answer.
#[derive(Clone)]
pub struct Lane {
    requests: mpsc::UnboundedSender<LaneRequest>,
    topics: Arc<ArcSwap<TopicTable>>,
    progress: watch::Receiver<LaneProgress>,
    checkpoint_turn: Arc<Semaphore>,
    log: SharedLogReader,
    presence: Arc<OwnerPresence>,
}

impl Lane {
    /// The same way, on which nothing is acknowledged unless the owner is known to be there.
    pub fn acknowledged_by(self, presence: Arc<OwnerPresence>) -> Self {
        Self { presence, ..self }
    }

    /// Puts a batch in line; batches of one caller keep their order. The answer comes when it is durable and applied.
    ///
    /// Whether it may be given is looked at last of all, on the caller's task: what was on its way through log and
    /// owner while the process was stopped is held back as well.
    pub fn append(
        &self,
        batch: ProducedBatch,
    ) -> impl Future<Output = Result<AppendedBatch, LaneError>> + Send + use<> {
        self.order(true, |reply| LaneRequest::Append(batch, reply))
    }

    /// Deletes the oldest records of partitions; says where their logs start now.
    pub fn delete_records(
        &self,
        delete: DeleteRecords,
    ) -> impl Future<Output = Result<LogStarts, LaneError>> + Send + use<> {
        self.order(true, |reply| LaneRequest::DeleteRecords(delete, reply))
    }

    /// Has a command ordered and applied. Commands of one caller keep their order. Bookkeeping acknowledges nothing to anyone.
    pub fn propose(&self, command: Command) -> impl Future<Output = Result<(), LaneError>> + Send + use<> {
        let acknowledges = !command.is_bookkeeping();
        self.order(acknowledges, |reply| LaneRequest::Propose(Box::new(command), reply))
    }

    /// Puts a request in line; its outcome is told only while the owner is known to be there, if it acknowledges
    /// something to anyone.
    fn order<T, R>(
        &self,
        acknowledges: bool,
        request: R,
    ) -> impl Future<Output = Result<T, LaneError>> + Send + use<T, R>
    where
        T: Send,
        R: FnOnce(Reply<Result<T, LaneError>>) -> LaneRequest,
    {
        let (reply, answer) = oneshot::channel();
        let presence = self.presence.clone();
        let holds = !acknowledges || presence.holds();
        let sent = holds && self.requests.send(request(reply)).is_ok();
        async move {
            if !holds {
                return Err(LaneError::Unconfirmed);
            }
            if !sent {
                return Err(LaneGone.into());
            }
            let outcome = answer.await.unwrap_or(Err(LaneError::Gone(LaneGone)))?;
            if acknowledges && !presence.confirmed().await {
                return Err(LaneError::Unconfirmed);
            }
            Ok(outcome)
        }
    }

    /// The state as of the last applied frame. It costs the owner a few reference counts, however large the state is.
    pub async fn snapshot(&self) -> Result<LaneState, LaneGone> {
        self.ask(LaneRequest::Snapshot).await
    }

    /// Draws a segment border behind everything acknowledged so far; returns the last index before it.
    pub async fn cut(&self, with_checkpoint: bool) -> Result<LogIndex, LaneGone> {
        self.ask(|reply| LaneRequest::Cut { with_checkpoint, reply }).await
    }

    /// Releases everything at or below an index that `latest` names as shipped.
    pub fn release(&self, up_to: LogIndex) {
        let _ = self.requests.send(LaneRequest::Release(up_to));
    }

    /// The living topics.
    pub fn topics(&self) -> arc_swap::Guard<Arc<TopicTable>> {
        self.topics.load()
    }

    /// How far the lane is, to look at or to wait on.
    pub fn progress(&self) -> watch::Receiver<LaneProgress> {
        self.progress.clone()
    }

    /// Waits until everything up to an index is in registered segments.
    pub async fn shipped(&self, index: LogIndex) -> Result<(), LaneGone> {
        let mut progress = self.progress.clone();
        progress.wait_for(|progress| progress.shipped >= index).await.map_err(|_| LaneGone)?;
        Ok(())
    }

    /// Waits until no checkpoint is on its way to the bucket: it is there, or was abandoned.
    pub async fn checkpoint_settled(&self) {
        // Never closed.
        let _ = self.checkpoint_turn.acquire().await;
    }

    /// Reads from the log.
    pub fn log(&self) -> &SharedLogReader {
        &self.log
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> LaneRequest) -> Result<T, LaneGone> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).map_err(|_| LaneGone)?;
        answer.await.map_err(|_| LaneGone)
    }
}
