//! Identifiers that appear in object names and formats.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A record's position in its partition, counted from 0.
pub type Offset = i64;
/// A partition's number within its topic, counted from 0.
pub type PartitionId = i32;
/// The position of a frame in its lane's log, counted from 1.
pub type LogIndex = u64;
/// Milliseconds since the Unix epoch, as Kafka's records carry them; -1 is "none".
pub type Timestamp = i64;

/// One ordered log of commands; standalone has lane 0 only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LaneId(pub u32);

impl LaneId {
    /// The lane of a system that has one.
    pub const SOLE: Self = Self(0);
}

impl fmt::Display for LaneId {
    /// Eight hex digits, as in object names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// The number of a claim on the bucket; the holder of the highest one owns it. Counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u32);

impl Incarnation {
    /// The claim after this one; `None` after the last number that there is.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for Incarnation {
    /// Eight hex digits, as in object names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A topic's identity; a topic that is deleted and created again has another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicId(pub Uuid);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TopicId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}
