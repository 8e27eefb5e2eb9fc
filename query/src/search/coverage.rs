//! Which offsets a search answers for, and which not.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronik_format::ids::{Offset, PartitionId};
use serde_json::{Value, json};

/// Offsets that should have been searched and were not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MissingRange {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: PartitionId,
    pub(crate) from: Offset,
    /// Exclusive; `None` if it is unknown how far the records go.
    pub(crate) to: Option<Offset>,
    pub(crate) reason: String,
    pub(crate) cause: MissingCause,
}

/// What can be done about offsets that were not searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MissingCause {
    /// A newer catalog may help.
    Stale,
    /// It may be searched the next time, or once an operator has repaired what failed.
    Failure,
    /// Nothing: these are the bytes that the producer sent, and no program can make records of them.
    Unreadable,
}

/// Offsets that were searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CoveredRange {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: PartitionId,
    pub(crate) from: Offset,
    /// Exclusive.
    pub(crate) to: Offset,
}

impl MissingRange {
    pub(crate) fn json(&self) -> Value {
        json!({"topic": &*self.topic, "partition": self.partition, "from": self.from, "to": self.to, "reason": self.reason,
            "permanent": self.is_permanent()})
    }

    /// Whether asking again can't help, so that an answer without these offsets is all that there is.
    pub(crate) fn is_permanent(&self) -> bool {
        self.cause == MissingCause::Unreadable
    }
}

impl CoveredRange {
    pub(crate) fn json(&self) -> Value {
        json!({"topic": &*self.topic, "partition": self.partition, "from": self.from, "to": self.to})
    }
}

/// What is left of the ranges when the missing ones are taken out. A partition without records keeps its empty range.
pub(crate) fn covered(ranges: Vec<CoveredRange>, missing: &[MissingRange]) -> Vec<CoveredRange> {
    let mut holes: BTreeMap<(&str, PartitionId), Vec<(Offset, Offset)>> = BTreeMap::new();
    for hole in missing {
        let list = holes.entry((&hole.topic, hole.partition)).or_default();
        list.push((hole.from, hole.to.unwrap_or(Offset::MAX)));
    }
    let mut left = Vec::new();
    for range in ranges {
        let holes = holes.get(&(&*range.topic, range.partition)).map_or(&[][..], Vec::as_slice);
        if holes.is_empty() {
            left.push(range);
            continue;
        }
        left.extend(subtract(range.from..range.to, holes).into_iter().map(|(from, to)| CoveredRange {
            from,
            to,
            ..range.clone()
        }));
    }
    left
}

/// The parts of `range` that no hole covers, ascending, none empty. Holes are (from, to), `to` exclusive, in any order.
pub(crate) fn subtract(range: std::ops::Range<Offset>, holes: &[(Offset, Offset)]) -> Vec<(Offset, Offset)> {
    let mut holes = holes.to_vec();
    holes.sort_unstable();
    let mut left = Vec::new();
    let mut from = range.start;
    for (hole_from, hole_to) in holes {
        let to = hole_from.min(range.end);
        if from < to {
            left.push((from, to));
        }
        from = from.max(hole_to);
    }
    if from < range.end {
        left.push((from, range.end));
    }
    left
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_left_is_the_range_without_the_holes(
            range in (0i64..30, 0i64..30),
            holes in prop::collection::vec((0i64..30, 0i64..30), 0..5),
        ) {
            let left = subtract(range.0..range.1, &holes);
            for offset in 0..30 {
                let expected = (range.0..range.1).contains(&offset) && !holes.iter().any(|(from, to)| (*from..*to).contains(&offset));
                prop_assert_eq!(left.iter().any(|(from, to)| (*from..*to).contains(&offset)), expected, "{}", offset);
            }
            prop_assert!(left.iter().all(|(from, to)| from < to));
        }
    }

    #[test]
    fn an_open_hole_reaches_to_the_end() {
        let topic: Arc<str> = "t".into();
        let range = CoveredRange { topic: topic.clone(), partition: 1, from: 2, to: 9 };
        let hole = MissingRange {
            topic: topic.clone(),
            partition: 1,
            from: 5,
            to: None,
            reason: String::new(),
            cause: MissingCause::Failure,
        };
        assert_eq!(
            covered(vec![range.clone()], std::slice::from_ref(&hole)),
            [CoveredRange { to: 5, ..range.clone() }]
        );
        let other = MissingRange { partition: 0, ..hole };
        assert_eq!(covered(vec![range.clone()], &[other]), [range]);
    }
}
