//! Segments whose names only lists in the bucket have: the living stay, what was never registered goes.

use std::collections::BTreeSet;

use chronik_format::ids::Incarnation;
use chronik_format::names::{SegmentListName, SegmentName};
use chronik_store::Store;
use chronik_store::faulty::{StoreFault, StoreOperation};
use ulid::Ulid;

use super::world::{HistoryLimits, LANE, World};
use crate::gc::DeletionError;
use crate::publish::segment_lists::SegmentListLimits;

const DAY_MINUTES: i64 = 24 * 60;

/// A world in which every segment is listed at once, each an object beside a copy of it that was never registered.
/// Gives the copies.
async fn listed(segments: usize) -> (World, Vec<String>) {
    let lists = SegmentListLimits { listed: 1, unlisted: 1 };
    let mut world = World::with(HistoryLimits { lists, ..Default::default() }).await;
    let topic = world.create_topic().await;
    let mut copies = Vec::new();
    for _ in 0..segments {
        world.append(topic).await;
        world.broker.lane.cut(false).await.unwrap();
        let before = world.objects().await;
        world.upload(2).await;
        copies.extend(world.objects().await.difference(&before).next().cloned());
        world.register().await;
        world.export().await;
    }
    // Of what is closed nothing is held.
    world.delete_records(topic, None).await;
    know_everywhere(&mut world).await;
    assert_eq!(world.state().await.segments.held().count(), 0);
    assert_eq!(copies.len(), segments);
    (world, copies)
}

/// All kept checkpoints know what is registered, and so does every reader.
async fn know_everywhere(world: &mut World) {
    for _ in 0..3 {
        world.ship(true).await;
        world.export().await;
    }
    world.run().await;
    world.wait_minutes(61);
    world.run().await;
}

async fn here(world: &World, keys: &[String]) -> usize {
    let here = world.objects().await;
    keys.iter().filter(|key| here.contains(*key)).count()
}

#[tokio::test]
async fn copies_of_listed_segments_go_and_the_listed_stay() {
    let (mut world, copies) = listed(5).await;
    world.look_through().await;
    assert_eq!(here(&world, &copies).await, 5, "they are not a day old");
    for _ in 0..20 {
        world.wait_minutes(DAY_MINUTES);
        world.look_through().await;
        world.check().await;
        assert_eq!(here(&world, &copies).await, 0);
    }
    world.lose_machine().await;
    world.check().await;
    world.finish().await;
}

#[tokio::test]
async fn what_no_look_has_met_for_days_stays_with_the_segments_of_its_time() {
    let (mut world, copies) = listed(3).await;
    world.wait_minutes(9 * DAY_MINUTES);
    world.look_through().await;
    world.check().await;
    assert_eq!(here(&world, &copies).await, 3);
}

#[tokio::test]
async fn a_segment_that_moves_into_a_list_during_a_look_is_no_orphan() {
    let (mut world, copies) = listed(2).await;
    let topic = world.create_topic().await;
    world.append(topic).await;
    world.ship(true).await;
    know_everywhere(&mut world).await;
    world.wait_minutes(2 * DAY_MINUTES);
    let deletion = &world.broker.deletion;
    let registered = deletion.registered_for_all().await.unwrap().unwrap();
    let mut known = deletion.known(world.now()).await.unwrap();
    world.delete_records(topic, None).await;
    world.export().await;
    let before = world.objects().await;
    let objects = world.faulty.list(&SegmentName::prefix(LANE)).await.unwrap();
    let deletion = &world.broker.deletion;
    deletion.delete_orphans(objects, &mut known, registered, world.now()).await.unwrap();
    world.check().await;
    let after = world.objects().await;
    assert!(before.difference(&after).eq(copies.iter().collect::<BTreeSet<_>>()), "nothing but the copies goes");
}

#[tokio::test]
async fn a_list_that_is_gone_or_damaged_keeps_all_that_it_may_name() {
    for damaged in [false, true] {
        let (mut world, copies) = listed(3).await;
        let lists = world.state().await.segments.lists().clone();
        let bytes = world.faulty.read(&lists[1].object, None).await.unwrap();
        world.faulty.delete(&lists[1].object).await.unwrap();
        if damaged {
            world.faulty.create(&lists[1].object, vec![bytes.slice(1..)]).await.unwrap();
        }
        world.wait_minutes(DAY_MINUTES);
        let before = world.objects().await;
        world.look_through().await;
        let after = world.objects().await;
        let gone: Vec<_> = before.difference(&after).collect();
        assert_eq!(gone, [&copies[2]], "those behind it are looked for");
        world.faulty.delete(&lists[1].object).await.unwrap();
        world.faulty.create(&lists[1].object, vec![bytes]).await.unwrap();
        world.look_through().await;
        world.check().await;
        assert_eq!(here(&world, &copies).await, 0);
    }
}

#[tokio::test]
async fn nothing_is_deleted_while_a_list_can_not_be_read() {
    let (mut world, copies) = listed(3).await;
    world.wait_minutes(DAY_MINUTES);
    world.faulty.fail(StoreOperation::Read, "segment-lists/", StoreFault::Before, 1);
    let failed = world.broker.deletion.look_through(world.now()).await;
    assert!(matches!(failed, Err(DeletionError::Store(_))), "it is tried again soon: {failed:?}");
    assert_eq!(here(&world, &copies).await, 3);
    world.look_through().await;
    assert_eq!(here(&world, &copies).await, 0);
    world.check().await;
}

#[tokio::test]
async fn a_list_that_no_command_names_goes_after_a_day() {
    let (mut world, _) = listed(2).await;
    let name = SegmentListName { lane: LANE, incarnation: Incarnation(1), ulid: Ulid::new() }.to_string();
    world.create(&name).await;
    let lists = world.state().await.segments.lists().clone();
    world.wait_minutes(DAY_MINUTES - 1);
    world.look_through().await;
    assert!(world.objects().await.contains(&name));
    world.wait_minutes(1);
    world.look_through().await;
    let here = world.objects().await;
    assert!(!here.contains(&name) && lists.iter().all(|list| here.contains(&list.object)));
}
