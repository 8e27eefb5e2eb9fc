//! Merging of archives with indexers that are always fast enough.

use chronik_format::archive::IndexedRun;
use chronik_format::catalog::merged::{OpenedMerge, merged};
use chronik_format::catalog::page::{BuiltPage, PageBuilder, decode_page};
use chronik_format::catalog::{ArchiveEntry, Page, PageEntry, TopicRuns};
use chronik_format::ids::TopicId;
use chronik_format::job::MergedArchive;
use chronik_format::names::ArchiveName;
use chronik_ingest::compaction::CompactionScope;
use chronik_ingest::merging::planner;
use chronik_ingest::publish::page_tree::{PageFate, PageTree, TreeChange, page_name};
use chronik_ingest::state::topic::TopicState;
use futures::executor::block_on;

use super::broker::{Broker, INCARNATION, ORIGIN, named_at};

/// Pages at the top below which archives are merged at a time.
const JOBS: usize = 32;
/// Bytes and records of an archive that is made of others.
const ARCHIVE_BYTES: u64 = 256 << 20;
const ARCHIVE_RECORDS: u64 = 1 << 22;

/// Merges what is due now.
pub fn merge(broker: &mut Broker) {
    let at_top = planner::at_top(&broker.state, CompactionScope::Due);
    let changes = at_top.into_iter().rev().filter_map(|(topic, page)| {
        let mut archives = Vec::new();
        let mut fate = |page: &PageEntry| fate(broker, topic, page, &mut archives);
        let builder = PageBuilder { origin: ORIGIN, topic: topic.id, written_at: broker.now };
        let tree = PageTree { catalog: &broker.catalog, builder };
        let mut change = block_on(tree.changed(&page, &mut fate)).unwrap()?;
        change.replace.gone.append(&mut archives);
        Some(change)
    });
    let changes: Vec<TreeChange> = changes.take(JOBS).collect();
    for TreeChange { pages, replace } in changes {
        pages.into_iter().for_each(|page| broker.create(&page.entry.object, page.bytes));
        broker.replace_pages(replace);
    }
}

/// What becomes of a page; `gone` gets the archives that are merged.
fn fate(broker: &Broker, topic: &TopicState, page: &PageEntry, gone: &mut Vec<String>) -> PageFate {
    match page.height {
        _ if page.bounds.mergeable == 0 => PageFate::Stays,
        0 if planner::is_due(topic, page, broker.now) => {
            let (page, merged) = with_few_archives(broker, topic.id, page);
            gone.extend(merged);
            PageFate::Replaced(Some(Box::new(page)))
        }
        0 => PageFate::Stays,
        _ => PageFate::Entered,
    }
}

/// A leaf in the place of another, with archives that have just been made of those that are to be merged,
/// and the names of these.
fn with_few_archives(broker: &Broker, topic: TopicId, entry: &PageEntry) -> (BuiltPage, Vec<String>) {
    let stored = decode_page(&entry.object, &broker.bucket.bytes(&entry.object)).unwrap();
    let Page::Runs(leaf) = stored.page else { unreachable!("{} is no leaf", entry.object) };
    let (alone, together): (Vec<_>, Vec<_>) = groups(&leaf).into_iter().partition(|group| group.len() == 1);
    let made: Vec<OpenedMerge> = together.iter().map(|group| made(broker, topic, group)).collect();
    let alone: Vec<String> = alone.iter().flatten().map(|archive| archive.key.clone()).collect();
    let (runs, gone) = merged(&leaf, &made, &alone).unwrap();
    let builder = PageBuilder { origin: ORIGIN, topic, written_at: broker.now };
    let mut page = builder.leaf(page_name(builder), &runs, entry.bounds.last).unwrap();
    page.entry.closed_at = entry.closed_at;
    (page, gone)
}

/// The archives that are to be merged, those together that become one.
fn groups(leaf: &TopicRuns) -> Vec<Vec<&ArchiveEntry>> {
    let mut groups: Vec<Vec<&ArchiveEntry>> = Vec::new();
    for archive in leaf.mergeable() {
        let fits = |group: &&mut Vec<&ArchiveEntry>| {
            let all = || group.iter().copied().chain([archive]);
            all().map(|archive| archive.size).sum::<u64>() <= ARCHIVE_BYTES
                && all().map(|archive| archive.records).sum::<u64>() <= ARCHIVE_RECORDS
        };
        match groups.last_mut().filter(fits) {
            Some(group) => group.push(archive),
            None => groups.push(vec![archive]),
        }
    }
    groups
}

fn made(broker: &Broker, topic: TopicId, of: &[&ArchiveEntry]) -> OpenedMerge {
    let key = ArchiveName { topic, incarnation: INCARNATION, ulid: named_at(broker.now) }.to_string();
    let runs = of.iter().flat_map(|archive| &archive.runs);
    let runs = runs.map(|run| IndexedRun {
        segment: 0,
        partition: run.partition,
        first: run.first,
        last: run.last,
        batches: 1,
    });
    let archive = MergedArchive {
        key,
        size: of.iter().map(|archive| archive.size).sum(),
        crc: u32::MAX / 3,
        records: of.iter().map(|archive| archive.records).sum(),
        of: of.iter().map(|archive| archive.key.clone()).collect(),
    };
    OpenedMerge { archive, runs: runs.collect() }
}
