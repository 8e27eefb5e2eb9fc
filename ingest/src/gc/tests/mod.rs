#![allow(clippy::unwrap_used, clippy::expect_used)]

mod compaction;
mod dropped_segments;
mod histories;
mod late_archives;
mod lists;
mod merges;
mod retention;
mod world;

use chronik_format::ids::Incarnation;
use chronik_format::names::ClaimName;
use chronik_store::Store;
use chronik_store::faulty::{StoreFault, StoreOperation};

use self::world::{HistoryLimits, World};
use super::DeletionError;
use crate::ownership::claim::ClaimError;
use crate::publish::pages::PageLimits;
use crate::state::LaneState;

/// A topic with one archived run that was exported, and the archive's key.
async fn archived() -> (World, chronik_format::ids::TopicId, String) {
    let mut world = World::new().await;
    let topic = world.create_topic().await;
    world.append(topic).await;
    world.ship(false).await;
    let archive = world.archive(0).await.unwrap();
    world.export().await;
    (world, topic, archive)
}

/// Such a topic was deleted, and nothing but a run is missing for its archive to go.
async fn let_go_of() -> (World, String) {
    let (mut world, topic, archive) = archived().await;
    world.delete_topic(topic).await;
    world.ship(true).await;
    world.export().await;
    world.run().await;
    world.wait_minutes(61);
    (world, archive)
}

fn deleted(world: &World, kind: &str) -> u64 {
    world.broker.metrics.deleted.with_label_values(&[kind]).get()
}

#[tokio::test]
async fn an_archive_goes_an_hour_after_no_catalog_names_it() {
    let (mut world, topic, archive) = archived().await;
    world.delete_topic(topic).await;
    world.ship(true).await;
    world.wait_minutes(300);
    world.run().await;
    assert!(world.objects().await.contains(&archive), "the newest catalog still names it");
    world.export().await;
    world.run().await;
    world.wait_minutes(59);
    world.run().await;
    assert!(world.objects().await.contains(&archive), "a reader may not know the newest catalog");
    assert_eq!(world.broker.metrics.tombstones.get(), 1);
    world.wait_minutes(2);
    world.run().await;
    assert!(!world.objects().await.contains(&archive));
    assert!(world.state().await.tombstones.is_empty());
    assert_eq!((world.broker.metrics.tombstones.get(), deleted(&world, "archive")), (0, 1));
}

#[tokio::test]
async fn an_archive_goes_when_all_of_its_records_are_deleted() {
    let (mut world, topic, archive) = archived().await;
    world.append(topic).await;
    world.delete_records(topic, Some(1)).await;
    for _ in 0..3 {
        assert!(world.objects().await.contains(&archive), "readers and recoveries may look for it");
        world.ship(true).await;
        world.export().await;
        world.run().await;
    }
    world.wait_minutes(61);
    world.run().await;
    assert!(!world.objects().await.contains(&archive));
    assert!(world.state().await.tombstones.is_empty());
}

#[tokio::test]
async fn an_archive_stays_while_a_kept_checkpoint_needs_it() {
    let (mut world, topic, archive) = archived().await;
    world.ship(true).await;
    world.delete_topic(topic).await;
    world.export().await;
    world.run().await;
    for _ in 0..3 {
        world.wait_minutes(61);
        world.run().await;
        assert!(world.objects().await.contains(&archive));
        world.ship(true).await;
    }
    world.run().await;
    assert!(!world.objects().await.contains(&archive));
}

#[tokio::test]
async fn a_lane_at_rest_is_asked_for_the_checkpoints_that_are_waited_for() {
    let (mut world, topic, archive) = archived().await;
    world.ship(true).await;
    world.delete_topic(topic).await;
    world.ship(false).await;
    world.export().await;
    world.run().await;
    world.wait_minutes(61);
    let mut runs = 0;
    while world.objects().await.contains(&archive) {
        runs += 1;
        assert!(runs < 10, "nothing happens");
        world.run().await;
        world.ship_ordered().await;
        world.wait_minutes(11);
    }
    for _ in 0..5 {
        world.wait_minutes(61);
        world.run().await;
    }
    let applied = world.state().await.applied;
    world.run().await;
    world.ship_ordered().await;
    assert_eq!(world.state().await.applied, applied, "then it rests");
}

#[tokio::test]
async fn a_deletion_that_failed_before_or_after_it_took_effect_is_done_again() {
    for fault in [StoreFault::Before, StoreFault::After] {
        let (mut world, archive) = let_go_of().await;
        world.faulty.fail(StoreOperation::Delete, "topics/", fault, 1);
        world.run().await;
        assert_eq!(world.objects().await.contains(&archive), fault == StoreFault::Before);
        assert!(world.state().await.tombstones.contains_key(&archive), "the broker does not know that it is gone");
        world.run().await;
        assert!(!world.objects().await.contains(&archive));
        assert!(world.state().await.tombstones.is_empty());
    }
}

#[tokio::test]
async fn a_recovery_goes_on_with_what_was_let_go_of() {
    for fault in [StoreFault::Before, StoreFault::After] {
        let (mut world, archive) = let_go_of().await;
        world.faulty.fail(StoreOperation::Delete, "topics/", fault, 1);
        world.run().await;
        world.lose_machine().await;
        assert!(world.state().await.tombstones.contains_key(&archive));
        world.finish().await;
    }
}

#[tokio::test]
async fn results_go_once_the_commands_that_took_them_in_are_shipped() {
    let (mut world, _, _) = archived().await;
    let results = async |world: &World| world.faulty.list("inbox/00000000/").await.unwrap().len();
    world.run().await;
    assert_eq!(results(&world).await, 1);
    let topic = world.create_topic().await;
    world.append(topic).await;
    world.ship(false).await;
    world.run().await;
    assert_eq!(results(&world).await, 0);
    assert!(world.state().await.results.is_empty());
}

#[tokio::test]
async fn the_last_three_checkpoints_are_kept() {
    let (mut world, topic, _) = archived().await;
    let checkpoints = async |world: &World| {
        let objects = world.faulty.list("lanes/00000000/checkpoints/").await.unwrap();
        objects.into_iter().map(|object| object.key).collect::<Vec<_>>()
    };
    for _ in 0..5 {
        world.append(topic).await;
        world.ship(true).await;
    }
    let all = checkpoints(&world).await;
    world.run().await;
    assert_eq!(checkpoints(&world).await, all[2..]);
}

#[tokio::test]
async fn a_former_owner_deletes_nothing() {
    let (mut world, archive) = let_go_of().await;
    let claim = ClaimName { incarnation: Incarnation(2) };
    world.create(&claim.to_string()).await;
    let before = world.objects().await;
    let now = world.now();
    let fenced = world.broker.deletion.run(now).await;
    assert!(matches!(fenced, Err(DeletionError::Claim(ClaimError::Fenced { .. }))), "{fenced:?}");
    assert!(before.contains(&archive) && world.objects().await == before);
}

/// A world in which one object of each kind is an orphan of `hours`; with their keys.
async fn orphaned(hours: i64) -> (World, Vec<String>) {
    let (mut world, topic, _) = archived().await;
    world.append(topic).await;
    world.broker.lane.cut(false).await.unwrap();
    let before = world.objects().await;
    world.upload(2).await;
    let segments: Vec<String> = world.objects().await.difference(&before).cloned().collect();
    world.register().await;
    let registered = world.state().await.segments.held().last().unwrap().1.key.clone();
    let (_, untold) = world.build_archive(0).await.unwrap();
    let (topic, unheard) = world.build_archive(0).await.unwrap();
    let result = world.answer(topic, unheard.clone()).await;
    let probe = "probes/00000000000000000000000001".to_owned();
    world.create(&probe).await;
    let mut orphans = vec![untold.key, unheard.key, result.result, probe];
    orphans.extend(segments.into_iter().filter(|key| **key != *registered));
    assert_eq!(orphans.len(), 5);
    for _ in 0..2 {
        world.ship(true).await;
    }
    world.export().await;
    world.run().await;
    world.wait_minutes(hours * 60);
    world.look_through().await;
    world.check().await;
    (world, orphans)
}

#[tokio::test]
async fn a_page_keeps_its_archives_and_takes_them_along() {
    let pages = PageLimits { page_runs: 1, open_runs: 0, ..PageLimits::default() };
    let mut world = World::with(HistoryLimits { pages, ..Default::default() }).await;
    let topic = world.create_topic().await;
    world.append(topic).await;
    world.ship(true).await;
    let archive = world.archive(0).await.unwrap();
    world.export().await;
    world.append(topic).await;
    world.ship(true).await;
    world.export().await;
    let state = world.state().await;
    let page = state.topics[&topic].pages[0].object.clone();
    assert!(state.topics[&topic].archives.is_empty());
    world.take_in_again().await;
    for _ in 0..4 {
        world.wait_minutes(24 * 60);
        world.export().await;
        world.run().await;
        world.look_through().await;
        world.check().await;
        assert!(world.objects().await.contains(&archive));
    }
    world.delete_topic(topic).await;
    world.faulty.fail(StoreOperation::Delete, &archive, StoreFault::Before, 1);
    for _ in 0..5 {
        world.ship(true).await;
        world.export().await;
        world.run().await;
        world.wait_minutes(61);
        let here = world.objects().await;
        assert!(here.contains(&page) || !here.contains(&archive), "a page goes last");
    }
    let here = world.objects().await;
    assert!(!here.contains(&archive) && !here.contains(&page));
    assert!(world.state().await.tombstones.is_empty());
}

/// A topic whose pages, of a record each, lie below others in pairs, up to height 2.
async fn folded() -> (World, chronik_format::ids::TopicId) {
    let limits = PageLimits { page_runs: 1, open_runs: 0, fan_out: 2, ..PageLimits::default() };
    let mut world = World::with(HistoryLimits { pages: limits, ..Default::default() }).await;
    let topic = world.create_topic().await;
    for _ in 0..12 {
        world.append(topic).await;
        world.ship(true).await;
        world.archive(0).await.unwrap();
        world.export().await;
    }
    let heights: Vec<u8> = world.state().await.topics[&topic].pages.iter().map(|page| page.height).collect();
    assert_eq!(heights, [2, 1, 1, 0, 0, 0]);
    (world, topic)
}

#[tokio::test]
async fn what_lies_below_pages_stays_as_long_as_they_do() {
    let (mut world, topic) = folded().await;
    for _ in 0..12 {
        world.wait_minutes(24 * 60);
        world.append(topic).await;
        world.ship(true).await;
        world.archive(0).await.unwrap();
        world.export().await;
        world.run().await;
        world.look_through().await;
        world.check().await;
    }
    world.lose_machine().await;
    world.finish().await;
}

#[tokio::test]
async fn what_a_deleted_topics_pages_name_is_no_orphan_as_long_as_they_are_there() {
    let (mut world, topic) = folded().await;
    for _ in 0..2 {
        world.wait_minutes(12 * 60);
        world.ship(true).await;
        world.export().await;
        world.run().await;
    }
    world.delete_topic(topic).await;
    world.look_through().await;
    world.check().await;
    world.finish().await;
}

#[tokio::test]
async fn a_fold_that_was_not_named_is_an_orphan_and_takes_nothing_along() {
    let (mut world, topic) = folded().await;
    let orphan = world.fold_untold(topic).await;
    for hours in [23, 1] {
        assert!(world.objects().await.contains(&orphan));
        world.ship(true).await;
        world.export().await;
        world.run().await;
        world.wait_minutes(hours * 60);
        world.look_through().await;
        world.check().await;
    }
    assert!(!world.objects().await.contains(&orphan));
    assert_eq!(world.broker.metrics.orphans.get(), 1);
}

/// Whatever fails, what is below goes first, so that the rest is found again.
#[tokio::test]
async fn a_deleted_topic_leaves_nothing_of_a_tree() {
    for fault in [StoreFault::Before, StoreFault::After] {
        let (mut world, topic) = folded().await;
        let above = world.parents(topic).await;
        assert_eq!(above.len(), 2 + 8 + 11, "pages and leaves below others, archives");
        world.delete_topic(topic).await;
        for round in 0..24 {
            if round < 20 {
                world.faulty.fail(StoreOperation::Delete, [".ckx", ".page"][round % 2], fault, 1);
            }
            world.ship(true).await;
            world.export().await;
            world.run().await;
            world.faulty.heal();
            world.wait_minutes(61);
            let here = world.objects().await;
            for (below, above) in &above {
                assert!(here.contains(above) || !here.contains(below), "{below} goes before {above}");
            }
            world.check().await;
        }
        let left: Vec<_> = world.objects().await.into_iter().filter(|key| key.starts_with("topics/")).collect();
        assert_eq!((left, world.state().await.tombstones.len()), (vec![], 0));
    }
}

#[tokio::test]
async fn a_replaced_page_goes_alone() {
    let (mut world, topic) = folded().await;
    let replaced = world.replace_oldest(topic).await;
    let needed = world.objects().await;
    for _ in 0..4 {
        world.ship(true).await;
        world.export().await;
        world.run().await;
        world.wait_minutes(61);
        world.check().await;
    }
    let left = world.objects().await;
    let gone: Vec<_> = needed.iter().filter(|key| key.ends_with(".page") && !left.contains(*key)).collect();
    assert_eq!(gone, [&replaced]);
    world.delete_topic(topic).await;
    world.finish().await;
}

#[tokio::test]
async fn a_segment_that_compaction_wrote_lives_as_long_as_its_page() {
    let (mut world, topic) = folded().await;
    let own = |objects: &std::collections::BTreeSet<String>| {
        objects.iter().filter(|key| key.starts_with("topics/") && key.ends_with(".seg")).count()
    };
    world.compact(topic, true).await;
    world.compact(topic, false).await;
    assert_eq!(own(&world.objects().await), 2);
    for _ in 0..4 {
        world.ship(true).await;
        world.export().await;
        world.run().await;
        world.wait_minutes(24 * 60);
        world.look_through().await;
        world.check().await;
    }
    assert_eq!(own(&world.objects().await), 1, "the one that no page names is an orphan");
    world.compact(topic, true).await;
    for _ in 0..4 {
        world.ship(true).await;
        world.export().await;
        world.run().await;
        world.wait_minutes(61);
        world.check().await;
    }
    assert_eq!(own(&world.objects().await), 1, "the one before went with its page");
    world.delete_topic(topic).await;
    world.finish().await;
    assert_eq!(own(&world.objects().await), 0);
}

#[tokio::test]
async fn unknown_objects_go_after_a_day() {
    let (mut world, orphans) = orphaned(23).await;
    let here = world.objects().await;
    assert!(orphans.iter().all(|key| here.contains(key)));
    world.wait_minutes(60);
    world.look_through().await;
    let here = world.objects().await;
    assert!(!orphans.iter().any(|key| here.contains(key)));
    assert_eq!(world.broker.metrics.orphans.get(), 5);
    let kinds = ["segment", "archive", "result", "probe"].map(|kind| deleted(&world, kind));
    assert_eq!(kinds, [1, 2, 2, 1], "and the result that was taken in");
    world.look_through().await;
    assert_eq!(world.broker.metrics.orphans.get(), 0);
    let keys = |state: LaneState| state.segments.held().map(|(_, segment)| segment.key.clone()).collect::<Vec<_>>();
    let before = keys(world.state().await);
    world.lose_machine().await;
    assert_eq!(keys(world.state().await), before, "a recovery misses none of them");
}

#[tokio::test]
async fn clocks_that_differ_by_more_than_an_hour_stop_the_search_for_orphans() {
    for (minutes, goes) in [(59, true), (61, false), (-59, true), (-61, false)] {
        let (world, orphans) = orphaned(23).await;
        world.wait_minutes(5 * 60);
        let wrong = world.now() + minutes * super::MINUTE_MS;
        world.broker.deletion.look_through(wrong).await.unwrap();
        let here = world.objects().await;
        assert_eq!(orphans.iter().any(|key| here.contains(key)), !goes, "{minutes}");
        assert_eq!(here.iter().filter(|key| key.starts_with("probes/")).count(), usize::from(!goes));
    }
}

#[tokio::test]
async fn a_segment_that_a_recovery_may_adopt_is_no_orphan() {
    let (mut world, topic, _) = archived().await;
    for _ in 0..2 {
        world.ship(true).await;
    }
    world.export().await;
    world.run().await;
    world.append(topic).await;
    world.broker.lane.cut(false).await.unwrap();
    world.upload(1).await;
    let before = world.objects().await;
    world.wait_minutes(48 * 60);
    world.look_through().await;
    assert_eq!(world.objects().await, before);
    assert_eq!(world.broker.metrics.orphans.get(), 0);
    world.lose_machine().await;
    let adopted = world.state().await;
    assert_eq!(adopted.topics[&topic].partitions[0].shipped_to, 2);
}
