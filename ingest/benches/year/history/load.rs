//! Who writes, how much, and for how long.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The loads that a broker has to bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// One topic of 100 partitions, 1 MB/s.
    Hundred,
    /// 1,000 topics of one partition, each with a batch every half hour.
    Trickle,
    /// One topic of 10,000 partitions, 200 KB/s.
    Wide,
    /// One topic of 50 partitions, 100 MB/s.
    Busy,
}

/// What is written, and how often it is shipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    pub topics: u32,
    /// Of each topic.
    pub partitions: u32,
    /// Of one segment and the next.
    pub segment_ms: i64,
    /// One partition out of so many, in turn, has a run in a segment.
    pub one_of: u32,
    /// Bytes of a run.
    pub run_bytes: u32,
    pub days: u32,
}

impl Case {
    /// The load of so many days with segments so far apart, or what is usual.
    pub fn load(self, days: Option<u32>, segment_ms: Option<i64>) -> Load {
        // Topics, partitions, ms between segments, and between runs of a partition, bytes/s, days.
        let (topics, partitions, usual_ms, run_ms, bytes_a_second, usual_days) = match self {
            Self::Hundred => (1, 100, 10_000, 10_000, 1_000_000, 365),
            Self::Trickle => (1000, 1, 10_000, 1_800_000, 1000, 365),
            Self::Wide => (1, 10_000, 10_000, 10_000, 200_000, 30),
            Self::Busy => (1, 50, 671, 671, 100_000_000, 365),
        };
        let segment_ms = segment_ms.unwrap_or(usual_ms);
        let one_of = u32::try_from(run_ms / segment_ms).unwrap_or(1).clamp(1, topics * partitions);
        let runs = i64::from((topics * partitions).div_ceil(one_of));
        let run_bytes = u32::try_from(bytes_a_second * segment_ms / 1000 / runs).unwrap_or(u32::MAX);
        Load { topics, partitions, segment_ms, one_of, run_bytes, days: days.unwrap_or(usual_days) }
    }
}
