//! Which ranges are on the disk, and which go when there is no room: those that were not used since their last turn
//! (CLOCK).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::file::ObjectRange;

/// Ranges that are known, whatever their sizes: some 40 MiB of memory.
const RANGES_MAX: usize = 1 << 18;

#[derive(Debug)]
pub(super) struct RangeIndex {
    bytes_max: u64,
    ranges_max: usize,
    /// Of the disk, with what is being written.
    bytes: u64,
    /// By object, and in it by start.
    objects: HashMap<Arc<str>, BTreeMap<u64, HeldRange>>,
    /// All of them, and some that are forgotten; the next one to be looked at first.
    clock: VecDeque<ObjectRange>,
    distrusts: u64,
}

#[derive(Debug)]
struct HeldRange {
    end: u64,
    was_used: bool,
}

/// What became of room that was asked for.
#[derive(Debug)]
pub(super) struct MadeRoom {
    pub is_booked: bool,
    /// Ranges that are forgotten, and whose files have to go.
    pub gone: Vec<ObjectRange>,
}

impl RangeIndex {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            ranges_max: RANGES_MAX,
            bytes: 0,
            objects: HashMap::new(),
            clock: VecDeque::new(),
            distrusts: 0,
        }
    }

    /// Of the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ranges that together hold all of `wanted`, in order, if there are.
    pub(super) fn covering(&mut self, wanted: &ObjectRange) -> Option<Vec<ObjectRange>> {
        let held = self.objects.get_mut(&wanted.key)?;
        let (mut found, mut next) = (Vec::new(), wanted.bytes.start);
        while next < wanted.bytes.end {
            let (start, range) = held.range_mut(..=next).next_back().filter(|(_, range)| range.end > next)?;
            range.was_used = true;
            found.push(ObjectRange { key: wanted.key.clone(), bytes: *start..range.end });
            next = range.end;
        }
        Some(found)
    }

    /// Books room for a range, unless there can't be any, or one that holds as much is there.
    pub(super) fn make_room(&mut self, range: &ObjectRange) -> MadeRoom {
        let mut gone = Vec::new();
        if range.disk_bytes() > self.bytes_max || self.holds(range) {
            return MadeRoom { is_booked: false, gone };
        }
        while self.bytes + range.disk_bytes() > self.bytes_max || self.clock.len() >= self.ranges_max {
            let Some(next) = self.clock.pop_front() else {
                return MadeRoom { is_booked: false, gone };
            };
            match self.held(&next) {
                Some(held) if held.was_used => {
                    held.was_used = false;
                    self.clock.push_back(next);
                }
                Some(_) => {
                    self.take_out(&next);
                    gone.push(next);
                }
                None => {}
            }
        }
        self.bytes += range.disk_bytes();
        MadeRoom { is_booked: true, gone }
    }

    /// Gives back what [`Self::make_room`] booked.
    pub(super) fn give_back(&mut self, range: &ObjectRange) {
        self.bytes -= range.disk_bytes();
    }

    /// Adds a range for which room is booked, and names a shorter one that it replaces.
    pub(super) fn add(&mut self, range: ObjectRange) -> Option<ObjectRange> {
        if self.holds(&range) {
            self.give_back(&range);
            return None;
        }
        let Range { start, end } = range.bytes;
        let of_object = self.objects.entry(range.key.clone()).or_default();
        let shorter = of_object.insert(start, HeldRange { end, was_used: false });
        let replaced = shorter.map(|shorter| ObjectRange { key: range.key.clone(), bytes: start..shorter.end });
        self.bytes -= replaced.as_ref().map_or(0, ObjectRange::disk_bytes);
        self.clock.push_back(range);
        replaced
    }

    /// As [`Self::add`], of a range that was read when so many objects had been distrusted; it is named itself if
    /// another was since.
    pub(super) fn add_unless_distrusted(&mut self, range: ObjectRange, distrusts: u64) -> Option<ObjectRange> {
        if self.distrusts == distrusts {
            return self.add(range);
        }
        self.give_back(&range);
        Some(range)
    }

    /// Forgets a range; false if it is not there.
    pub(super) fn remove(&mut self, range: &ObjectRange) -> bool {
        let was_held = self.held(range).is_some();
        if was_held {
            self.take_out(range);
        }
        was_held
    }

    /// Forgets all of an object, whose files have to go.
    pub(super) fn distrust(&mut self, key: &str) -> Vec<ObjectRange> {
        self.distrusts += 1;
        let Some((key, held)) = self.objects.remove_entry(key) else { return Vec::new() };
        let range = |(start, held): (u64, HeldRange)| ObjectRange { key: key.clone(), bytes: start..held.end };
        let gone: Vec<ObjectRange> = held.into_iter().map(range).collect();
        self.bytes -= gone.iter().map(ObjectRange::disk_bytes).sum::<u64>();
        gone
    }

    /// How often an object was distrusted: what was read before it was may be of that object.
    pub(super) fn distrusts(&self) -> u64 {
        self.distrusts
    }

    fn held(&mut self, range: &ObjectRange) -> Option<&mut HeldRange> {
        let of_object = self.objects.get_mut(&range.key)?;
        of_object.get_mut(&range.bytes.start).filter(|held| held.end == range.bytes.end)
    }

    /// Whether one that begins there is as long.
    fn holds(&self, range: &ObjectRange) -> bool {
        let held = self.objects.get(&range.key).and_then(|ranges| ranges.get(&range.bytes.start));
        held.is_some_and(|held| held.end >= range.bytes.end)
    }

    fn take_out(&mut self, range: &ObjectRange) {
        self.bytes -= range.disk_bytes();
        if let Some(of_object) = self.objects.get_mut(&range.key) {
            of_object.remove(&range.bytes.start);
            if of_object.is_empty() {
                self.objects.remove(&range.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;

    use super::*;

    fn range(key: &str, bytes: Range<u64>) -> ObjectRange {
        ObjectRange { key: key.into(), bytes }
    }

    fn add(index: &mut RangeIndex, range: &ObjectRange) -> Option<Vec<ObjectRange>> {
        let MadeRoom { is_booked, mut gone } = index.make_room(range);
        gone.extend(is_booked.then(|| index.add(range.clone())).flatten());
        is_booked.then_some(gone)
    }

    #[test]
    fn ranges_that_lie_side_by_side_cover_what_reaches_over_them() {
        let mut index = RangeIndex::new(1 << 20);
        let (first, second, apart) = (range("a", 10..20), range("a", 15..30), range("a", 31..40));
        for range in [&first, &second, &apart] {
            assert_eq!(add(&mut index, range), Some(vec![]));
        }
        assert_eq!(index.covering(&range("a", 12..30)), Some(vec![first.clone(), second.clone()]));
        assert_eq!(index.covering(&range("a", 16..29)), Some(vec![second]));
        for missing in [range("a", 9..12), range("a", 25..35), range("a", 35..41), range("b", 12..13)] {
            assert_eq!(index.covering(&missing), None);
        }
    }

    #[test]
    fn what_was_not_used_goes_first() {
        let mut index = RangeIndex::new(3 * 4096);
        let all: Vec<_> = (0..5).map(|number| range("a", 10 * number..10 * number + 5)).collect();
        for range in &all[..3] {
            assert_eq!(add(&mut index, range), Some(vec![]));
        }
        assert!(index.covering(&all[0]).is_some());
        assert_eq!(add(&mut index, &all[3]), Some(vec![all[1].clone()]));
        assert_eq!(add(&mut index, &all[4]), Some(vec![all[2].clone()]));
        assert!(index.covering(&all[0]).is_some() && index.covering(&all[2]).is_none());
        assert_eq!(add(&mut index, &range("b", 0..3 * 4096)), None, "larger than all there is");
    }

    #[test]
    fn a_longer_range_replaces_a_shorter_one() {
        let mut index = RangeIndex::new(1 << 20);
        let (short, long) = (range("a", 0..10), range("a", 0..20));
        assert_eq!(add(&mut index, &short), Some(vec![]));
        assert_eq!(add(&mut index, &long), Some(vec![short.clone()]));
        assert_eq!(add(&mut index, &short), None);
        assert_eq!(index.bytes(), long.disk_bytes());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(ObjectRange),
        Use(ObjectRange),
        Remove(ObjectRange),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let any_range =
            ("[ab]", 0..6u64, 1..30_000u64).prop_map(|(key, start, length)| range(&key, start..start + length));
        (0..4, any_range).prop_map(|(kind, range)| match kind {
            0 | 1 => Step::Add(range),
            2 => Step::Use(range),
            _ => Step::Remove(range),
        })
    }

    proptest! {
        /// The files on the disk are those that the index knows, and stay within their bounds.
        #[test]
        fn what_is_there_is_bounded_and_known(steps in prop::collection::vec(any_step(), 0..60)) {
            let mut index = RangeIndex { ranges_max: 5, ..RangeIndex::new(60_000) };
            let mut files: Vec<ObjectRange> = Vec::new();
            for step in steps {
                match step {
                    Step::Add(range) => {
                        if let Some(gone) = add(&mut index, &range) {
                            files.push(range);
                            files.retain(|file| !gone.contains(file));
                        }
                    }
                    Step::Use(range) => {
                        let found = index.covering(&range).unwrap_or_default();
                        prop_assert!(found.iter().all(|range| files.contains(range)));
                    }
                    Step::Remove(range) => {
                        let file = files.iter().position(|file| *file == range);
                        prop_assert_eq!(index.remove(&range), file.map(|at| files.remove(at)).is_some());
                    }
                }
                prop_assert_eq!(index.bytes(), files.iter().map(ObjectRange::disk_bytes).sum::<u64>());
                prop_assert!(index.bytes() <= 60_000 && files.len() <= 5);
            }
        }
    }
}
