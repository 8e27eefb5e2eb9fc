//! The oldest segments, once nothing needs them: they are dropped, deleted, and forgotten.

use chronik_format::ids::LogIndex;

use crate::state::LaneState;
use crate::state::command::{DropSegments, ForgetSegments};
use crate::state::refusal::CommandRefusal;
use crate::state::segments::{DroppedSegments, Tombstone};

impl LaneState {
    pub(super) fn drop_segments(&mut self, &DropSegments { below, at }: &DropSegments) -> Result<(), CommandRefusal> {
        if self.segments.dropped().is_some() || !self.may_drop_segments(below) {
            return Err(CommandRefusal::SegmentsNeeded);
        }
        self.segments.drop_below(DroppedSegments { below, index: self.applied, at });
        Ok(())
    }

    /// Whether there are segments that end before an index, and nothing needs one of them.
    fn may_drop_segments(&self, below: LogIndex) -> bool {
        self.segments.needed_from() < below && below <= self.needed_from()
    }

    /// Lists of which all segments are forgotten are no longer needed either.
    pub(super) fn forget_segments(&mut self, forget: &ForgetSegments) -> Result<(), CommandRefusal> {
        let lists = self.segments.forget_below(forget.below).ok_or(CommandRefusal::SegmentsNotDropped)?;
        let tombstone = Tombstone { index: self.applied, at: forget.at, with_all: false };
        self.tombstones.extend(lists.into_iter().map(|list| (list.object.clone(), tombstone)));
        Ok(())
    }
}
