use std::cmp::Ordering;
use std::sync::Arc;

pub(crate) use chronik_format::batch::TimeSpan as Span;
use chronik_format::ids::{Offset, PartitionId, Timestamp};

/// In which order hits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HitOrder {
    /// By timestamp, partition, offset, topic, all descending.
    Newest,
    /// The reverse.
    Oldest,
}

/// Where a record stands among all others; the order of the fields is that of [`HitOrder::Oldest`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SortKey {
    pub(crate) timestamp: Timestamp,
    pub(crate) partition: PartitionId,
    pub(crate) offset: Offset,
    pub(crate) topic: Arc<str>,
}

impl HitOrder {
    /// `Less` if `a` comes first.
    pub(crate) fn compare(self, a: &SortKey, b: &SortKey) -> Ordering {
        match self {
            Self::Newest => b.cmp(a),
            Self::Oldest => a.cmp(b),
        }
    }

    pub(crate) fn is_before(self, a: &SortKey, b: &SortKey) -> bool {
        self.compare(a, b) == Ordering::Less
    }

    /// A number that is the smaller, the sooner the first record of `span` may come.
    pub(crate) fn urgency(self, span: Span) -> i128 {
        match self {
            Self::Newest => -i128::from(span.latest),
            Self::Oldest => i128::from(span.earliest),
        }
    }

    /// Whether all of `span` comes behind all records of that time.
    pub(crate) fn is_behind(self, span: Span, timestamp: Timestamp) -> bool {
        match self {
            Self::Newest => span.latest < timestamp,
            Self::Oldest => span.earliest > timestamp,
        }
    }

    /// Whether all of `span` comes before all records of that time.
    pub(crate) fn is_ahead(self, span: Span, timestamp: Timestamp) -> bool {
        match self {
            Self::Newest => span.earliest > timestamp,
            Self::Oldest => span.latest < timestamp,
        }
    }
}
