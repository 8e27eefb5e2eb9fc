//! What topics don't keep leaves the bucket, whether it lies in pages of its own or below others.

use chronik_format::ids::{Offset, TopicId};

use super::world::{HistoryLimits, World};
use crate::publish::pages::PageLimits;

const YEAR_MINUTES: i64 = 365 * 24 * 60;

/// A topic of 24 records in runs of their own, most of them closed in leaves with an archive, which lie below others.
async fn folded() -> (World, TopicId) {
    let pages = PageLimits { page_runs: 1, open_runs: 0, fan_out: 2, ..PageLimits::default() };
    let mut world = World::with(HistoryLimits { pages, ..Default::default() }).await;
    let topic = world.create_topic().await;
    for _ in 0..24 {
        world.append(topic).await;
        world.ship(true).await;
        world.archive(0).await;
        world.export().await;
    }
    let heights: Vec<u8> = world.state().await.topics[&topic].pages.iter().map(|page| page.height).collect();
    assert!(heights[0] >= 2, "{heights:?}");
    (world, topic)
}

async fn log_start(world: &World, topic: TopicId) -> Offset {
    world.state().await.topics[&topic].partitions[0].log_start
}

/// Bytes of one of its runs, which are all the same.
async fn run_bytes(world: &World, topic: TopicId) -> i64 {
    let oldest = world.state().await.topics[&topic].pages[0].clone();
    let bounds = oldest.bounds.of(0).unwrap();
    (bounds.bytes / (bounds.offsets.end() - bounds.offsets.first) as u64) as i64
}

#[tokio::test]
async fn what_is_deleted_below_a_page_that_lives_on_leaves_the_bucket() {
    let (mut world, topic) = folded().await;
    let run = run_bytes(&world, topic).await;
    let oldest = world.state().await.topics[&topic].pages[0].clone();
    assert_eq!(oldest.bounds.of(0).unwrap().offsets.first, 0);
    let within = oldest.bounds.of(0).unwrap().offsets.last;
    let parents = world.parents(topic).await;
    let archives: Vec<_> = parents.iter().filter(|(below, _)| below.ends_with(".ckx")).collect();
    assert!(within >= 3 && archives.len() > within as usize, "several leaves lie below it, and others behind them");
    let named = world.objects().await;
    world.keep_bytes(topic, run * (24 - within)).await;
    world.retain().await;
    assert_eq!(log_start(&world, topic).await, within);
    let trimmed = world.state().await.topics[&topic].pages[0].clone();
    assert_ne!(trimmed.object, oldest.object);
    assert_eq!((trimmed.height, trimmed.bounds.of(0).unwrap().offsets.first), (oldest.height, within));
    world.check().await;
    let applied = world.state().await.applied;
    world.retain().await;
    assert_eq!(world.state().await.applied, applied, "there is nothing left to do");
    for _ in 0..3 {
        world.create_topic().await;
        world.ship(true).await;
        world.export().await;
        world.run().await;
        world.check().await;
    }
    world.wait_minutes(61);
    world.run().await;
    world.check().await;
    let here = world.objects().await;
    for (at, (archive, leaf)) in archives.iter().enumerate() {
        let is_here = (here.contains(archive), here.contains(leaf));
        let is_kept = at as i64 >= within;
        assert_eq!(is_here, (is_kept, is_kept), "what belongs to record {at}");
    }
    assert!(named.contains(&oldest.object) && !here.contains(&oldest.object));
    world.finish().await;
}

#[tokio::test]
async fn nothing_goes_for_its_age_by_a_clock_that_the_bucket_does_not_confirm() {
    let (mut world, topic) = folded().await;
    world.keep_ms(topic, 365 * 24 * 60 * 60 * 1000).await;
    world.retain_as_of(YEAR_MINUTES).await;
    assert_eq!(log_start(&world, topic).await, 0, "the machine's clock alone is a year ahead");
    let run = run_bytes(&world, topic).await;
    world.keep_bytes(topic, 20 * run).await;
    world.retain_as_of(YEAR_MINUTES).await;
    assert_eq!(log_start(&world, topic).await, 4, "what is too much goes all the same");
    world.retain_as_of(59).await;
    assert_eq!(log_start(&world, topic).await, 24, "records of 1970");
    world.check().await;
}
