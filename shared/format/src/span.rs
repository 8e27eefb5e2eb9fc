//! Where a run's records are: their offsets, and the bytes that hold them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::ids::Offset;

/// Offsets that follow one another, both bounds inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetSpan {
    pub first: Offset,
    pub last: Offset,
}

impl OffsetSpan {
    /// One past the last offset, if there may be one.
    pub fn end(self) -> Offset {
        self.last.saturating_add(1)
    }

    /// How many offsets it has.
    pub fn count(self) -> u64 {
        self.end().saturating_sub(self.first).try_into().unwrap_or(0)
    }

    pub fn contains(self, offset: Offset) -> bool {
        (self.first..=self.last).contains(&offset)
    }

    /// Whether it has any offset, and none below 0.
    pub fn is_possible(self) -> bool {
        0 <= self.first && self.first <= self.last
    }
}

/// Bytes of an object that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteSpan {
    /// Where the first one is, counted from 0.
    pub position: u64,
    /// How many there are.
    pub length: u64,
}

impl ByteSpan {
    /// One past the last byte; of a span that no object can have, the greatest there is.
    pub fn end(self) -> u64 {
        self.position.saturating_add(self.length)
    }

    pub fn range(self) -> Range<u64> {
        self.position..self.end()
    }
}
