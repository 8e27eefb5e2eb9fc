//! Segment lists: where segments are named that have left the lane's state, so that it stays small however many were
//! registered.

use std::sync::Arc;

use chronik_format::ids::Timestamp;
use chronik_format::names::{NameError, SegmentListName};
use chronik_format::origin::Origin;
use chronik_format::segment_list::{BuiltSegmentList, ListedSegment, SegmentList};
use chronik_service::failpoint;
use chronik_store::SharedStore;
use prometheus::IntGauge;
use ulid::Ulid;

use super::error::ExportError;
use crate::lane::{Lane, LaneError};
use crate::state::command::{Command, ListSegments};
use crate::state::segments::{RegisteredSegment, RegisteredSegments};

/// Lists that are made before the catalog is exported again.
const LISTS_AT_ONCE: usize = 16;

/// How many segments are in no list.
#[derive(Clone, Copy, Debug)]
pub struct SegmentListLimits {
    /// Segments of a list; 64 bytes each.
    pub listed: usize,
    /// Segments in no list, from which on the oldest of them are listed.
    pub unlisted: usize,
}

impl Default for SegmentListLimits {
    fn default() -> Self {
        let listed = failpoint::limit("listed-segments", 4096);
        Self { listed, unlisted: 2 * listed }
    }
}

/// Lists the segments of one lane.
pub struct SegmentLister {
    /// Whose lists they are.
    pub origin: Origin,
    /// The lane itself.
    pub lane: Lane,
    /// The bucket.
    pub store: SharedStore,
    pub limits: SegmentListLimits,
    /// Segments that the state names one by one.
    pub held: IntGauge,
}

impl SegmentLister {
    /// Lists the oldest segments as long as enough are in no list, as of `now`. A list that can't be written now is
    /// made again later.
    pub async fn list_oldest(&self, now: Timestamp) -> Result<(), ExportError> {
        for _ in 0..LISTS_AT_ONCE {
            let segments = self.lane.snapshot().await?.segments;
            self.held.set(segments.held().count() as i64);
            let Some(oldest) = listable(&segments, self.limits)? else {
                return Ok(());
            };
            let name =
                SegmentListName { lane: self.origin.lane, incarnation: self.origin.incarnation, ulid: Ulid::new() };
            let list = SegmentList { origin: self.origin, segments: oldest };
            let BuiltSegmentList { bytes, entry } = list.build(name.to_string(), now)?;
            self.store.create(&entry.object, vec![bytes]).await?;
            failpoint!("segment-list-created");
            match self.lane.propose(Command::ListSegments(ListSegments { list: entry })).await {
                Err(LaneError::Gone(gone)) => return Err(gone.into()),
                Err(refused) => {
                    tracing::debug!("a segment list is made again: {refused}");
                    return Ok(());
                }
                Ok(()) => {}
            }
            failpoint!("segments-listed");
        }
        Ok(())
    }
}

/// The segments that are to be listed next; `None` as long as few are in no list.
pub fn listable(
    segments: &RegisteredSegments,
    limits: SegmentListLimits,
) -> Result<Option<Vec<ListedSegment>>, NameError> {
    let is_enough = segments.unlisted().nth(limits.unlisted.saturating_sub(1)).is_some();
    let oldest = || segments.unlisted().take(limits.listed).map(|(_, segment)| listed(segment)).collect();
    is_enough.then(oldest).transpose()
}

fn listed(segment: &Arc<RegisteredSegment>) -> Result<ListedSegment, NameError> {
    Ok(ListedSegment {
        name: segment.key.parse()?,
        size: segment.size,
        crc: segment.crc,
        directory_position: segment.directory_position,
        registered_at: segment.registered_at,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use chronik_format::ids::{Incarnation, LaneId, LogIndex};
    use chronik_format::names::SegmentName;
    use uuid::Uuid;

    use super::*;
    use crate::state::command::RegisterSegment;
    use crate::state::{LaneState, checkpoint};

    const LANE: LaneId = LaneId(0);
    const CLUSTER: Uuid = Uuid::nil();

    /// Registers the segment of the next frame.
    fn register(state: &mut LaneState) {
        let index: LogIndex = state.applied + 1;
        state.begin_frame(index);
        let name =
            SegmentName { lane: LANE, incarnation: Incarnation(1), first: index, last: index, ulid: Ulid::new() };
        let segment = RegisterSegment {
            incarnation: Incarnation(1),
            first: index,
            last: index,
            key: name.to_string(),
            size: 1 << 24,
            crc: 0xffff_ffff,
            directory_position: 1 << 23,
            named_at: 1_700_000_000_000,
            at: 1_700_000_000_000,
            runs: vec![],
        };
        state.adopt_segment(&segment).unwrap();
    }

    fn list(state: &mut LaneState, segments: Vec<ListedSegment>) {
        let origin = Origin { cluster: CLUSTER, incarnation: Incarnation(1), lane: LANE };
        let name = SegmentListName { lane: LANE, incarnation: Incarnation(1), ulid: Ulid::new() };
        let list = SegmentList { origin, segments }.build(name.to_string(), 1_700_000_000_000).unwrap().entry;
        state.apply(&Command::ListSegments(ListSegments { list })).unwrap();
    }

    #[test]
    fn the_oldest_are_listed_once_there_are_enough() {
        let limits = SegmentListLimits { listed: 2, unlisted: 4 };
        let mut state = LaneState::new(Incarnation(1));
        for _ in 0..3 {
            register(&mut state);
            assert_eq!(listable(&state.segments, limits).unwrap(), None);
        }
        register(&mut state);
        let oldest = listable(&state.segments, limits).unwrap().unwrap();
        assert_eq!(oldest.iter().map(|segment| segment.name.last).collect::<Vec<_>>(), [1, 2]);
        list(&mut state, oldest);
        assert_eq!(listable(&state.segments, limits).unwrap(), None);
    }

    #[test]
    fn any_number_of_segments_takes_a_line_for_each_list_of_them() {
        let limits = SegmentListLimits { listed: 16, unlisted: 32 };
        let bytes_after = |segments: usize| {
            let mut state = LaneState::new(Incarnation(1));
            for _ in 0..segments {
                register(&mut state);
                if let Some(oldest) = listable(&state.segments, limits).unwrap() {
                    list(&mut state, oldest);
                }
                assert!(state.segments.held().count() < 32);
            }
            checkpoint::encode(&state, CLUSTER, LANE).len()
        };
        let (little, much) = (bytes_after(160), bytes_after(16_160));
        assert!((much - little) / 1000 <= 128, "{little} bytes, then {much} with a thousand lists more");
    }
}
