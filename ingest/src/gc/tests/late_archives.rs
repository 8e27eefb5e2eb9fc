//! Archives that come when what they are over lies in pages: they are put there, once, and none that is needed goes.

use std::collections::HashSet;

use chronik_format::ids::TopicId;
use chronik_store::faulty::{StoreFault, StoreOperation};

use super::world::{HistoryLimits, World};
use crate::indexing::waiting_pages::{WaitingLimits, WaitingPages};
use crate::publish::pages::PageLimits;
use crate::state::RunKey;
use crate::state::command::{ArchiveFacts, RegisterResult, ScannedRun};

/// A topic of twelve runs in segments of their own that all wait: one is open, the others are in pages up to height 2.
async fn waiting() -> (World, TopicId) {
    let limits = PageLimits { page_runs: 1, open_runs: 0, waiting_pages: 1, fan_out: 2, ..PageLimits::default() };
    let mut world = World::with(HistoryLimits { pages: limits, ..Default::default() }).await;
    let topic = world.create_topic().await;
    for _ in 0..12 {
        world.append(topic).await;
        world.ship(true).await;
        world.export().await;
    }
    assert_eq!((heights(&world, topic).await, world.state().await.pending.len()), (vec![2, 1, 1, 0, 0, 0], 1));
    (world, topic)
}

async fn heights(world: &World, topic: TopicId) -> Vec<u8> {
    world.state().await.topics[&topic].pages.iter().map(|page| page.height).collect()
}

async fn waits(world: &World, topic: TopicId) -> u64 {
    let state = world.state().await;
    state.waiting(&state.topics[&topic]).runs
}

/// The result of a job whose archive is over some of a topic's runs.
async fn result_over(world: &mut World, topic: TopicId, picks: &[usize]) -> (String, RegisterResult) {
    let runs = world.runs().await;
    let runs = picks.iter().map(|pick| runs[*pick].1.clone()).collect();
    let archive = world.archive_over(topic, runs).await;
    (archive.key.clone(), world.answer(topic, archive).await)
}

#[tokio::test]
async fn what_waits_in_pages_is_archived_as_results_come() {
    let (mut world, topic) = waiting().await;
    for left in (0..12).rev() {
        world.archive(left / 2).await.unwrap();
        assert_eq!(waits(&world, topic).await, left as u64);
        world.take_in_again().await;
        world.check().await;
    }
    let state = world.state().await;
    assert_eq!(state.topics[&topic].partitions[0].archived_to(), 12);
    assert!(state.tombstones.keys().all(|object| object.ends_with(".page")), "no archive is in vain");
    assert_eq!(heights(&world, topic).await, [2, 1, 1, 0, 0, 0]);
    world.ship(true).await;
    world.lose_machine().await;
    assert_eq!((heights(&world, topic).await.len(), waits(&world, topic).await), (6, 0));
    world.finish().await;
}

#[tokio::test]
async fn an_archive_that_was_filed_is_needed_however_late_its_result_is_registered() {
    let (mut world, topic) = waiting().await;
    let (key, result) = result_over(&mut world, topic, &[2]).await;
    assert_eq!(world.file(result).await.unwrap().archives, []);
    let pages = world.state().await.topics[&topic].pages.clone();
    world.wait_minutes(7 * 60);
    world.take_in_again().await;
    let state = world.state().await;
    assert!(state.results.len() == 1 && !state.tombstones.contains_key(&key));
    assert_eq!(state.topics[&topic].pages, pages, "nothing is filed twice");
    world.finish().await;
    assert!(world.objects().await.contains(&key));
}

#[tokio::test]
async fn what_fits_into_no_page_is_in_vain() {
    let (mut world, topic) = waiting().await;
    let (first, result) = result_over(&mut world, topic, &[2]).await;
    let of_the_same_run = result.archives[0].runs.clone();
    world.take_in(result).await;
    let pages = world.state().await.topics[&topic].pages.clone();
    let second = world.archive_over(topic, of_the_same_run).await;
    let second = (second.key.clone(), world.answer(topic, second).await);
    let across_pages = result_over(&mut world, topic, &[2, 3]).await;
    let across_the_end = result_over(&mut world, topic, &[9, 10]).await;
    let (key, mut result) = result_over(&mut world, topic, &[4]).await;
    result.archives[0].runs[0].segment.push('x');
    let of_another_segment = (key, result);
    let (key, result) = result_over(&mut world, topic, &[4]).await;
    let of_another_epoch = (key, RegisterResult { index_epoch: 1, ..result });
    let (key, mut result) = result_over(&mut world, topic, &[4]).await;
    result.archives[0].named_at -= 7 * 60 * 60 * 1000;
    let too_old = (key, result);
    for (key, result) in [second, across_pages, across_the_end, of_another_segment, of_another_epoch, too_old] {
        world.take_in(result).await;
        let state = world.state().await;
        assert!(state.tombstones.contains_key(&key), "{key}");
        assert_eq!(state.topics[&topic].pages, pages, "{key}");
    }
    assert!(!world.state().await.tombstones.contains_key(&first));
    world.finish().await;
}

#[tokio::test]
async fn an_archive_counts_in_a_page_for_what_is_left_of_its_runs() {
    let limits = PageLimits { page_runs: 1, open_runs: 0, waiting_pages: 1, ..PageLimits::default() };
    let mut world = World::with(HistoryLimits { pages: limits, ..Default::default() }).await;
    let topic = world.create_topic().await;
    for _ in 0..17 {
        world.append(topic).await;
        world.ship(true).await;
    }
    let (key, result) = result_over(&mut world, topic, &[0, 1]).await;
    world.delete_records(topic, Some(1)).await;
    for _ in 0..2 {
        world.export().await;
        world.append(topic).await;
    }
    assert_eq!((heights(&world, topic).await.len(), waits(&world, topic).await), (16, 16));
    world.take_in(result).await;
    assert!(!world.state().await.tombstones.contains_key(&key));
    assert_eq!(waits(&world, topic).await, 15);
    world.finish().await;
}

#[tokio::test]
async fn of_two_archives_over_a_run_in_one_result_one_is_filed() {
    let (mut world, topic) = waiting().await;
    let (_, mut result) = result_over(&mut world, topic, &[2]).await;
    let again = world.archive_over(topic, result.archives[0].runs.clone()).await;
    result.archives.push(again);
    world.take_in(result).await;
    assert_eq!(waits(&world, topic).await, 11);
    world.check().await;
    world.finish().await;
}

#[tokio::test]
async fn what_was_given_up_in_a_page_waits_no_more_until_an_archive_comes() {
    let (mut world, topic) = waiting().await;
    let runs = world.runs().await;
    let scanned = |pick: usize| {
        let run = &runs[pick].1;
        ScannedRun { segment: run.segment.clone(), partition: 0, first: run.first, reason: "too large".into() }
    };
    world.broker.filing.give_up(topic, &[scanned(2), scanned(11)], world.now()).await.unwrap();
    assert_eq!(waits(&world, topic).await, 11, "the other one is open");
    let pages = world.state().await.topics[&topic].pages.clone();
    world.broker.filing.give_up(topic, &[scanned(2)], world.now()).await.unwrap();
    assert_eq!(world.state().await.topics[&topic].pages, pages, "it is known");
    let archive = world.archive_over(topic, vec![runs[2].1.clone()]).await;
    let ArchiveFacts { key, .. } = archive.clone();
    let result = world.answer(topic, archive).await;
    let result = RegisterResult { unreadable: vec![scanned(2), scanned(3)], ..result };
    world.take_in(result).await;
    assert!(!world.state().await.tombstones.contains_key(&key));
    assert_eq!(waits(&world, topic).await, 10);
    world.finish().await;
}

#[tokio::test]
async fn what_waits_is_read_from_the_oldest_on_a_part_at_a_time() {
    let (mut world, topic) = waiting().await;
    let mut pages = WaitingPages::new(WaitingLimits { runs: 4, reads: 3 });
    let mut out: HashSet<RunKey> = HashSet::new();
    for (found, is_cut) in [(vec![0, 1, 2], true), (vec![3], false), (vec![], false)] {
        let look = pages.look(&world.broker.catalog, &world.state().await, &out).await;
        let runs: Vec<_> = look.leaves.iter().flatten().map(|run| run.offsets.first).collect();
        assert_eq!((runs, look.is_cut), (found, is_cut));
        out.extend(look.leaves.iter().flatten().map(|run| run.key()));
        assert_eq!(pages.runs().collect::<HashSet<_>>(), out, "what is out waits still");
    }
    world.faulty.fail(StoreOperation::Read, "", StoreFault::Before, 100);
    assert_eq!(pages.look(&world.broker.catalog, &world.state().await, &out).await.leaves.len(), 0);
    assert_eq!(pages.runs().collect::<HashSet<_>>(), out, "though pages above can't be read now");
    world.faulty.heal();
    out.remove(&(topic, 0, 1));
    world.archive(2).await.unwrap();
    let look = pages.look(&world.broker.catalog, &world.state().await, &out).await;
    let runs: Vec<_> = look.leaves.iter().flatten().map(|run| run.offsets.first).collect();
    assert_eq!(runs, [1, 4], "what was lost, and the next in the place of what has an archive");
}

#[tokio::test]
async fn what_is_not_searched_waits_for_nothing_until_it_is() {
    let (world, topic) = waiting().await;
    let mut pages = WaitingPages::new(WaitingLimits::default());
    for (value, found, waiting) in [("false", 0, 0), ("true", 11, 12)] {
        world.set(topic, "search.enabled", value).await;
        let look = pages.look(&world.broker.catalog, &world.state().await, &HashSet::new()).await;
        assert_eq!((look.leaves.len(), waits(&world, topic).await), (found, waiting));
    }
}
