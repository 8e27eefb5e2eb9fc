//! What became of a broker.

use chronik_format::ids::Timestamp;
use serde::{Deserialize, Serialize};

use super::load::Load;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub load: Load,
    pub compaction: bool,
    pub segments: u64,
    pub runs: u64,
    /// Pages that the state names, by height.
    pub top_pages: Vec<usize>,
    /// All pages, by height.
    pub pages: Vec<usize>,
    /// Level 0 segments that are not deleted.
    pub level_0_segments: u64,
    /// Memory of the process beyond what it had without a broker, at the most.
    pub resident_bytes: u64,
    pub checkpoint_bytes: Sizes,
    /// Beside new pages.
    pub export_bytes: Sizes,
    /// Time of the processor for one frame.
    pub longest_turn_ms: f64,
    /// The first command of that frame.
    pub longest_turn: String,
    /// What a search over one day meets, at the most.
    pub day: HistoryRead,
    /// Pages that a fetch of an old offset reads, at the most.
    pub fetch_pages: usize,
    /// Bytes of batches that compaction wrote, and that were shipped.
    pub compacted_bytes: u64,
    pub written_bytes: u64,
}

/// Sizes of objects of one kind.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Sizes {
    pub mean: usize,
    pub max: usize,
    /// The largest of the first half of the time.
    pub max_by_half: usize,
}

impl Sizes {
    pub fn of(sizes: &[(Timestamp, usize)], half: Timestamp) -> Self {
        let all = || sizes.iter().map(|(_, size)| *size);
        let by_half = sizes.iter().filter(|(at, _)| *at <= half).map(|(_, size)| *size);
        Self {
            mean: all().sum::<usize>() / sizes.len().max(1),
            max: all().max().unwrap_or_default(),
            max_by_half: by_half.max().unwrap_or_default(),
        }
    }
}

/// Closed history that was read, and what lies there.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct HistoryRead {
    pub pages: usize,
    pub archives: usize,
    pub segments: usize,
}

impl HistoryRead {
    /// The larger of each.
    pub fn worst(self, other: Self) -> Self {
        Self {
            pages: self.pages.max(other.pages),
            archives: self.archives.max(other.archives),
            segments: self.segments.max(other.segments),
        }
    }
}
