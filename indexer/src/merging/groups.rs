//! Which archives become one: those of neighbouring times, so that a search of some hours still leaves most of them
//! over, as many as go into one.

use chronik_format::archive::UNDECODABLE_MAX;
use chronik_format::catalog::ArchiveEntry;

use super::MergeLimits;
use super::part::ArchivePart;

/// Archives by their times, those together that have few enough bytes and records.
pub(super) fn by_time(mut archives: Vec<&ArchiveEntry>, limits: MergeLimits) -> Vec<Vec<&ArchiveEntry>> {
    let earliest = |archive: &ArchiveEntry| archive.runs.iter().filter_map(|run| run.min_timestamp).min();
    archives.sort_by_key(|archive| (earliest(archive), &archive.key));
    let mut groups: Vec<Vec<&ArchiveEntry>> = Vec::new();
    let (mut bytes, mut records) = (0_u64, 0_u64);
    for archive in archives {
        bytes = bytes.saturating_add(archive.size);
        records = records.saturating_add(archive.records);
        match groups.last_mut().filter(|_| bytes <= limits.bytes && records <= limits.records) {
            Some(group) => group.push(archive),
            None => {
                (bytes, records) = (archive.size, archive.records);
                groups.push(vec![archive]);
            }
        }
    }
    groups
}

/// Archives of one kind together, as many as their tables allow; those without records alone.
pub(super) fn alike(parts: Vec<ArchivePart>, limits: MergeLimits) -> Vec<Vec<ArchivePart>> {
    let mut sets: Vec<Vec<ArchivePart>> = Vec::new();
    for part in parts {
        match sets.iter_mut().find(|set| go_together(set, &part, limits)) {
            Some(set) => set.push(part),
            None => sets.push(vec![part]),
        }
    }
    sets
}

fn go_together(set: &[ArchivePart], part: &ArchivePart, limits: MergeLimits) -> bool {
    let all = || set.iter().chain([part]);
    all().all(|other| other.is_like(part) && other.table.documents() > 0)
        && all().map(|part| part.table.weight()).sum::<usize>() <= limits.table_bytes
        && all().map(|part| part.table.undecodable().len()).sum::<usize>() <= UNDECODABLE_MAX
}
