//! Which segments follow one another.

use std::collections::BTreeMap;

use chronik_format::ids::LogIndex;
use chronik_format::names::SegmentName;

/// The contiguous segments from `from` on that reach furthest. Borders may overlap: a restart draws them anew.
pub fn longest_chain(segments: &[SegmentName], from: LogIndex) -> Vec<SegmentName> {
    let mut by_first: BTreeMap<LogIndex, Vec<&SegmentName>> = BTreeMap::new();
    for name in segments.iter().filter(|name| name.first <= name.last) {
        by_first.entry(name.first).or_default().push(name);
    }
    // By first index: how far one gets from there, and through which segment.
    let mut reach: BTreeMap<LogIndex, (LogIndex, &SegmentName)> = BTreeMap::new();
    for (first, candidates) in by_first.iter().rev() {
        let best = candidates
            .iter()
            .map(|name| (reach.get(&(name.last + 1)).map_or(name.last, |(end, _)| *end), *name))
            .max_by_key(|(end, name)| (*end, name.last, name.ulid));
        if let Some(best) = best {
            reach.insert(*first, best);
        }
    }
    let next = |first: LogIndex| reach.get(&first).map(|(_, name)| **name);
    std::iter::successors(next(from), |name| next(name.last + 1)).collect()
}

#[cfg(test)]
mod tests {
    use chronik_format::ids::{Incarnation, LaneId};
    use ulid::Ulid;

    use super::*;

    fn names(ranges: &[(LogIndex, LogIndex)]) -> Vec<SegmentName> {
        let name = |(at, &(first, last)): (usize, &(LogIndex, LogIndex))| SegmentName {
            lane: LaneId(0),
            incarnation: Incarnation(1),
            first,
            last,
            ulid: Ulid(at as u128),
        };
        ranges.iter().enumerate().map(name).collect()
    }

    #[test]
    fn the_chain_that_reaches_furthest_is_followed() {
        type Ranges = &'static [(LogIndex, LogIndex)];
        let cases: [(&str, Ranges, Ranges); 6] = [
            ("nothing", &[], &[]),
            ("a hole", &[(1, 4), (6, 9)], &[(1, 4)]),
            ("nothing at the start", &[(2, 4)], &[]),
            ("borders drawn anew", &[(1, 4), (1, 6), (5, 9), (7, 8)], &[(1, 4), (5, 9)]),
            ("the longest first step is a dead end", &[(1, 8), (1, 3), (4, 10)], &[(1, 3), (4, 10)]),
            ("the same range twice", &[(1, 4), (1, 4), (5, 5)], &[(1, 4), (5, 5)]),
        ];
        for (why, segments, expected) in cases {
            let chain = longest_chain(&names(segments), 1);
            let ranges: Vec<_> = chain.iter().map(|name| (name.first, name.last)).collect();
            assert_eq!(ranges, expected, "{why}");
        }
    }
}
