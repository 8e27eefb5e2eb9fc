//! Level 0 segments: bytes of all topics side by side, with the lane's log. They go from the oldest on, up to the first
//! that an open run or a page still needs: one command drops them, and once every kept checkpoint knows that and no
//! reader goes by an older catalog, they are deleted, and others forget them, piece by piece. So whatever state a
//! recovery begins with, the segments that it needs, and the log behind it, are there.

use chronik_format::ids::{LogIndex, Timestamp};
use chronik_format::segment_list::{SegmentList, SegmentListEntry, SegmentListError};
use chronik_service::failpoint;
use chronik_store::{Store, StoreError};

use super::checkpoints::BucketCheckpoints;
use super::{BATCH, DeletionError, GRACE_MS, ObjectDeletion};
use crate::state::LaneState;
use crate::state::command::{Command, DropSegments, ForgetSegments};
use crate::state::segments::{DroppedSegments, RegisteredSegments, SegmentId};

/// Pieces that a run deletes: each what is left of a list, or as many segments of none.
const PIECES_AT_ONCE: usize = 16;

/// Segments that are deleted in one go, and then forgotten.
struct Piece {
    keys: Vec<String>,
    /// All that end before it are among them, or gone.
    below: LogIndex,
}

impl ObjectDeletion {
    /// Deletes segments that were dropped by a command that every kept checkpoint knows, once no reader looks for them,
    /// and drops more when there are none.
    pub(super) async fn delete_dropped(
        &mut self,
        checkpoints: &BucketCheckpoints,
        now: Timestamp,
    ) -> Result<(), DeletionError> {
        let mut forgotten = 0;
        for _ in 0..PIECES_AT_ONCE {
            let state = self.parts.lane.snapshot().await?;
            self.show_segments(&state, now);
            if state.segments.begin() < forgotten {
                return Ok(());
            }
            let Some(dropped) = state.segments.dropped() else {
                return self.drop_segments(&state, now).await;
            };
            if dropped.at + GRACE_MS > now || dropped.index > self.settled.index(now) {
                return Ok(());
            }
            if dropped.index > checkpoints.covered().min(state.shipped_index()) {
                return self.ask_for_checkpoint(checkpoints, now).await;
            }
            let Piece { keys, below } = oldest_piece(&*self.parts.store, &state.segments, dropped).await?;
            let asked = keys.len();
            self.parts.ownership.check().await?;
            if self.delete("segments that nothing needs", keys).await.len() < asked {
                return Ok(());
            }
            failpoint!("dropped-segments-deleted");
            self.propose(Command::ForgetSegments(ForgetSegments { below, at: now })).await?;
            failpoint!("segments-forgotten");
            forgotten = below;
        }
        Ok(())
    }

    async fn drop_segments(&self, state: &LaneState, now: Timestamp) -> Result<(), DeletionError> {
        let below = state.needed_from();
        if state.segments.are_worth_dropping(below) {
            self.propose(Command::DropSegments(DropSegments { below, at: now })).await?;
            failpoint!("segments-dropped");
        }
        Ok(())
    }

    fn show_segments(&self, state: &LaneState, now: Timestamp) {
        let (segments, bytes) = state.segments.size();
        self.parts.metrics.shipped_segments.set(segments as i64);
        self.parts.metrics.shipped_bytes.set(bytes as i64);
        let age = state.oldest_needed().map_or(0, |oldest| (now - oldest.named_at).max(0));
        self.parts.metrics.needed_seconds.set(age as f64 / 1000.0);
    }
}

/// The oldest of the segments that were dropped: those of one list, or, behind the lists, as many as a command may be
/// about. Segments of a list that is gone or damaged are left to the daily look, which takes whatever is older than the
/// oldest segment that is not forgotten.
async fn oldest_piece(
    store: &dyn Store,
    segments: &RegisteredSegments,
    dropped: &DroppedSegments,
) -> Result<Piece, StoreError> {
    let (begin, end) = (segments.begin(), dropped.below);
    if let Some(list) = segments.lists().iter().find(|list| begin <= list.last && list.first < end) {
        let within = |last: LogIndex| begin <= last && last < end;
        return Ok(Piece { keys: listed(store, list, within).await?, below: end.min(list.last + 1) });
    }
    let held: Vec<_> = segments.held().take_while(|(id, _)| *id < SegmentId(end)).take(BATCH + 1).collect();
    let below = held.get(BATCH).map_or(end, |(_, next)| next.first);
    Ok(Piece { keys: held.iter().take(BATCH).map(|(_, segment)| segment.key.to_string()).collect(), below })
}

async fn listed(
    store: &dyn Store,
    list: &SegmentListEntry,
    within: impl Fn(LogIndex) -> bool,
) -> Result<Vec<String>, StoreError> {
    match SegmentList::read(store, list).await {
        Ok(SegmentList { segments, .. }) => {
            let names = segments.iter().map(|segment| segment.name).filter(|name| within(name.last));
            Ok(names.map(|name| name.to_string()).collect())
        }
        Err(SegmentListError::Store(error)) if !matches!(error, StoreError::NotFound { .. }) => Err(error),
        Err(error) => {
            tracing::warn!("{error}; the segments in it are deleted when the bucket is looked through");
            Ok(Vec::new())
        }
    }
}
