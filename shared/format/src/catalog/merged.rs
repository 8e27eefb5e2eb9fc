//! From a leaf, and archives that were made of its archives, to what the leaf holds then.

use std::collections::HashMap;

use super::{ArchiveEntry, ArchiveRun, ArchivedOffsets, TopicRuns};
use crate::archive::IndexedRun;
use crate::job::MergedArchive;
use crate::span::OffsetSpan;

/// An archive in the place of others, and the runs that its own table has.
#[derive(Clone, Debug)]
pub struct OpenedMerge {
    pub archive: MergedArchive,
    pub runs: Vec<IndexedRun>,
}

/// What a leaf holds once archives are merged, and the names of those that are gone then; or why what was made is not
/// just what these were: they must be of the leaf and not merged since its runs were compacted, each merged once, and
/// the new ones over the same offsets and as many records. Those in `alone` stay, and are not to be merged again.
pub fn merged(leaf: &TopicRuns, made: &[OpenedMerge], alone: &[String]) -> Result<(TopicRuns, Vec<String>), String> {
    let level = leaf.level();
    let mut left: HashMap<&str, &ArchiveEntry> =
        leaf.mergeable().into_iter().map(|archive| (archive.key.as_str(), archive)).collect();
    let mut take = |key: &String| {
        left.remove(key.as_str()).ok_or_else(|| format!("{key} is not, or not any more, among those to be merged"))
    };
    // By the first of those that it was made of.
    let mut new: HashMap<&str, ArchiveEntry> = HashMap::new();
    for made in made {
        let of: Vec<&ArchiveEntry> = made.archive.of.iter().map(&mut take).collect::<Result<_, _>>()?;
        let [first, _, ..] = &of[..] else {
            return Err(format!("{} is not made of several", made.archive.key));
        };
        new.insert(&first.key, entry(made, &of, level)?);
    }
    for key in alone {
        new.insert(key, ArchiveEntry { merged: level, ..take(key)?.clone() });
    }
    if let Some(archive) = leaf.archives.iter().find(|known| made.iter().any(|made| made.archive.key == known.key)) {
        return Err(format!("{} is there already", archive.key));
    }
    let gone: Vec<String> = made.iter().flat_map(|made| &made.archive.of).cloned().collect();
    let archives = leaf.archives.iter().filter_map(|archive| match new.remove(archive.key.as_str()) {
        None if gone.contains(&archive.key) => None,
        None => Some(archive.clone()),
        renewed => renewed,
    });
    let archives = archives.collect();
    Ok((TopicRuns { archives, ..leaf.clone() }, gone))
}

/// What names an archive that was made of others, if it is over what these are over.
fn entry(made: &OpenedMerge, of: &[&ArchiveEntry], level: u8) -> Result<ArchiveEntry, String> {
    let MergedArchive { key, size, crc, records, .. } = made.archive.clone();
    let expected = of.iter().fold(0, |sum: u64, archive| sum.saturating_add(archive.records));
    if records != expected {
        return Err(format!("{key} has {records} records instead of {expected}"));
    }
    let runs: Vec<ArchiveRun> = of.iter().flat_map(|archive| archive.runs.iter().copied()).collect();
    let (old, new) = (ArchivedOffsets::of(of.iter().copied()), ArchivedOffsets::of_runs(&made.runs));
    if let Some(run) = made.runs.iter().find(|run| !old.hold(run.partition, run.offsets())) {
        return Err(format!("{key} has offset {} of partition {}, which these have not", run.first, run.partition));
    }
    // What follows the first run of those that were joined can't be told any more: that is in the number of records.
    let has_first = |run: &ArchiveRun| new.hold(run.partition, OffsetSpan { first: run.first, last: run.first });
    if let Some(run) = runs.iter().find(|run| !has_first(run)) {
        return Err(format!("{key} lacks offset {} of partition {}", run.first, run.partition));
    }
    Ok(ArchiveEntry { key, size, crc, records, merged: level, runs: ArchiveRun::joined(runs) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::batch::TimeSpan;
    use crate::catalog::page::PageBuilder;
    use crate::catalog::{PageBounds, PartitionRuns, RunEntry, SegmentEntry};
    use crate::ids::{Offset, PartitionId, TopicId};
    use crate::origin::Origin;
    use crate::span::ByteSpan;

    fn archive(key: &str, merged: u8, runs: &[(PartitionId, Offset, Offset)]) -> ArchiveEntry {
        let run = |&(partition, first, last): &(PartitionId, Offset, Offset)| ArchiveRun {
            partition,
            first,
            last,
            min_timestamp: Some(first),
            max_timestamp: Some(last),
        };
        let records = runs.iter().map(|(_, first, last)| (last - first + 1) as u64).sum();
        ArchiveEntry { key: key.into(), size: 1, crc: 2, records, merged, runs: runs.iter().map(run).collect() }
    }

    /// Two partitions of a hundred offsets that were compacted so often, under archives.
    fn leaf(level: u8, archives: Vec<ArchiveEntry>) -> TopicRuns {
        let run = RunEntry {
            offsets: OffsetSpan { first: 0, last: 99 },
            segment: 0,
            bytes: ByteSpan { position: 0, length: 9 },
            times: TimeSpan::at(1),
            unreadable: None,
        };
        let of = |partition| PartitionRuns { partition, runs: vec![run.clone()] };
        let segments = vec![SegmentEntry { key: "segment".into(), level, ..SegmentEntry::default() }];
        TopicRuns { segments, partitions: vec![of(0), of(1)], archives }
    }

    fn three() -> Vec<ArchiveEntry> {
        vec![
            archive("b", 0, &[(0, 10, 19), (1, 0, 99)]),
            archive("a", 0, &[(0, 0, 9)]),
            archive("c", 0, &[(0, 20, 99)]),
        ]
    }

    fn made(of: &[&str], records: u64, runs: &[(PartitionId, Offset, Offset)]) -> OpenedMerge {
        let of = of.iter().map(|key| (*key).to_owned()).collect();
        let archive = MergedArchive { key: "new".into(), size: 3, crc: 4, records, of };
        let run = |&(partition, first, last): &(PartitionId, Offset, Offset)| IndexedRun {
            segment: 0,
            partition,
            first,
            last,
            batches: 1,
        };
        OpenedMerge { archive, runs: runs.iter().map(run).collect() }
    }

    const OF_A_AND_B: [(PartitionId, Offset, Offset); 4] = [(0, 0, 4), (0, 5, 9), (0, 10, 19), (1, 0, 99)];

    #[test]
    fn one_archive_is_in_the_place_of_others() {
        let leaf = leaf(1, three());
        let (after, gone) = merged(&leaf, &[made(&["a", "b"], 120, &OF_A_AND_B)], &["c".to_owned()]).unwrap();
        assert_eq!(gone, ["a", "b"]);
        let [new, c] = &after.archives[..] else { panic!("{:?}", after.archives) };
        let over: Vec<_> = new.runs.iter().map(|run| (run.partition, run.first, run.last)).collect();
        assert_eq!((new.key.as_str(), new.size, new.crc, new.records, new.merged), ("new", 3, 4, 120, 1));
        assert_eq!(over, [(0, 0, 19), (1, 0, 99)]);
        assert_eq!((new.runs[0].min_timestamp, new.runs[0].max_timestamp), (Some(0), Some(19)));
        assert_eq!((c.key.as_str(), c.merged), ("c", 1));
        assert_eq!((&after.segments, &after.partitions), (&leaf.segments, &leaf.partitions));
        assert!(after.mergeable().is_empty());
        let offsets = OffsetSpan { first: 0, last: 99 };
        assert!((0..2).all(|partition| after.archived().hold(partition, offsets)));
    }

    #[test]
    fn what_is_not_just_what_the_others_were_is_refused() {
        let leaf = leaf(1, three());
        let (short, cut) = (&OF_A_AND_B[..3], [(0, 0, 9), (0, 10, 19), (1, 0, 98)]);
        let foreign = [(0, 0, 9), (0, 10, 19), (1, 0, 99), (0, 20, 20)];
        for (why, made, alone) in [
            ("an unknown one", vec![made(&["a", "x"], 120, &OF_A_AND_B)], vec![]),
            ("too few records", vec![made(&["a", "b"], 119, &OF_A_AND_B)], vec![]),
            ("a partition is missing", vec![made(&["a", "b"], 120, short)], vec![]),
            ("an offset that was not there", vec![made(&["a", "b"], 120, &foreign)], vec![]),
            ("one alone", vec![made(&["a"], 10, &[(0, 0, 9)])], vec![]),
            ("twice the same", vec![made(&["a", "a"], 20, &[(0, 0, 9)])], vec![]),
            ("of none", vec![made(&[], 0, &[])], vec![]),
            ("merged and alone", vec![made(&["a", "b"], 120, &OF_A_AND_B)], vec!["a".to_owned()]),
        ] {
            assert!(merged(&leaf, &made, &alone).is_err(), "{why}");
        }
        // How far a run of several goes is in the number of records alone.
        assert!(merged(&leaf, &[made(&["a", "b"], 120, &cut)], &[]).is_ok());
    }

    #[test]
    fn what_was_merged_is_merged_again_once_it_is_compacted_again() {
        let bounds = |level, archives| {
            let origin =
                Origin { cluster: Default::default(), incarnation: Default::default(), lane: Default::default() };
            let builder = PageBuilder { origin, topic: TopicId::default(), written_at: 0 };
            let page = builder.leaf("page".into(), &leaf(level, archives), 1).unwrap();
            let PageBounds { archives, mergeable, .. } = page.entry.bounds;
            (archives, mergeable)
        };
        let halves = |first, second| vec![archive("a", first, &[(0, 0, 49)]), archive("b", second, &[(0, 50, 99)])];
        assert_eq!(bounds(0, halves(0, 0)), (2, 0), "its runs are to be compacted first");
        assert_eq!(bounds(1, halves(0, 0)), (2, 2));
        assert_eq!(bounds(1, halves(1, 0)), (2, 0), "one that came late has nothing to be merged with");
        assert_eq!(bounds(1, halves(1, 1)), (2, 0));
        assert_eq!(bounds(2, halves(1, 1)), (2, 2));
        assert_eq!(bounds(1, vec![archive("a", 0, &[(0, 0, 99)])]), (1, 0));
    }
}
