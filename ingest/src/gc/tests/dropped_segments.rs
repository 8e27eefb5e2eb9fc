//! Level 0 segments go once all that they hold lies elsewhere or is deleted, and never before; whoever dies meanwhile,
//! and from wherever it is recovered.

use chronik_format::ids::{Incarnation, LogIndex, TopicId};
use chronik_format::names::SegmentName;
use chronik_store::Store;
use chronik_store::faulty::{StoreFault, StoreOperation};
use proptest::prelude::*;
use ulid::Ulid;

use super::world::{HistoryLimits, World};
use crate::publish::pages::PageLimits;
use crate::publish::segment_lists::SegmentListLimits;

const DAY_MINUTES: i64 = 24 * 60;
const ROUNDS: usize = 8;

/// A topic of which all but the newest run is closed, each in a segment of its own; so many segments are in a list.
async fn closed(listed: usize) -> (World, TopicId) {
    let pages = PageLimits { page_runs: 1, open_runs: 0, ..PageLimits::default() };
    let lists = SegmentListLimits { listed, unlisted: listed };
    let mut world = World::with(HistoryLimits { pages, lists }).await;
    let topic = world.create_topic().await;
    for _ in 0..ROUNDS {
        world.append(topic).await;
        world.ship(true).await;
        world.archive(0).await;
        world.export().await;
    }
    assert_eq!(world.state().await.topics[&topic].pages.len(), ROUNDS - 1);
    (world, topic)
}

/// How many level 0 segments there are that end before an index.
async fn below(world: &World, index: LogIndex) -> usize {
    world.shipped().await.0.iter().filter(|name| name.last < index).count()
}

#[tokio::test]
async fn segments_go_once_all_of_them_is_compacted() {
    for listed in [1, 3, 4096] {
        let (mut world, topic) = closed(listed).await;
        let last = world.state().await.topics[&topic].pages.last().unwrap().bounds.last;
        let before = below(&world, last + 1).await;
        assert!(before >= ROUNDS - 1);
        for _ in 0..4 {
            world.clear_away().await;
        }
        assert_eq!(below(&world, last + 1).await, before, "pages name them");
        world.compact_all(topic).await;
        world.check().await;
        world.clear_away_all().await;
        assert_eq!(below(&world, last + 1).await, 0);
        let (left, lists) = world.shipped().await;
        let state = world.state().await;
        assert_eq!((left[0].first, state.segments.begin()), (state.needed_from(), state.needed_from()));
        assert_eq!(lists, state.segments.lists().len());
        let (segments, bytes) = state.segments.size();
        assert!(segments >= left.len() as u64 && bytes > 0);
        let metrics = &world.broker.metrics;
        assert_eq!((metrics.shipped_segments.get(), metrics.shipped_bytes.get()), (segments as i64, bytes as i64));
        world.check_recoveries().await;
        world.lose_machine().await;
        world.check().await;
        world.finish().await;
    }
}

#[tokio::test]
async fn they_stay_while_a_kept_checkpoint_or_a_reader_may_need_them() {
    let (mut world, topic) = closed(4096).await;
    for _ in 0..3 {
        world.clear_away().await;
    }
    world.compact_all(topic).await;
    world.run().await;
    let dropped = *world.state().await.segments.dropped().unwrap();
    let before = below(&world, dropped.below).await;
    for _ in 0..4 {
        world.ship(true).await;
    }
    for _ in 0..3 {
        world.wait_minutes(61);
        world.run().await;
        assert_eq!(below(&world, dropped.below).await, before, "the newest catalog may name them");
    }
    world.export().await;
    world.run().await;
    world.wait_minutes(59);
    world.run().await;
    assert_eq!(below(&world, dropped.below).await, before, "a reader may not know the newest catalog");
    world.wait_minutes(2);
    world.run().await;
    assert_eq!(below(&world, dropped.below).await, 0);

    let (mut world, topic) = closed(4096).await;
    for _ in 0..3 {
        world.clear_away().await;
    }
    world.compact_all(topic).await;
    world.run().await;
    let dropped = *world.state().await.segments.dropped().unwrap();
    let before = below(&world, dropped.below).await;
    world.export().await;
    world.run().await;
    for _ in 0..3 {
        world.wait_minutes(61);
        world.run().await;
        assert_eq!(below(&world, dropped.below).await, before, "a kept checkpoint does not know that they go");
        world.check_recoveries().await;
        world.ship(true).await;
    }
    world.run().await;
    assert_eq!(below(&world, dropped.below).await, 0);
    world.check_recoveries().await;
}

#[tokio::test]
async fn those_of_a_deleted_topic_go_though_others_live_on() {
    let (mut world, topic) = closed(3).await;
    let other = world.create_topic().await;
    world.append(other).await;
    world.ship(true).await;
    world.export().await;
    world.delete_topic(topic).await;
    world.clear_away_all().await;
    let needed = world.state().await.needed_from();
    assert_eq!((below(&world, needed).await, world.shipped().await.0[0].first), (0, needed));
    world.finish().await;
}

/// Nothing of a topic that gets a record now and then fills a page; all topics are closed as the day ends.
#[tokio::test]
async fn a_topic_with_few_records_holds_no_segments_for_longer_than_a_day() {
    let mut world = World::new().await;
    let topic = world.create_topic().await;
    world.append(topic).await;
    world.ship(true).await;
    world.archive(0).await;
    world.export().await;
    let needed = world.state().await.oldest_needed().unwrap();
    let mut minutes = 0;
    while world.state().await.topics[&topic].pages.is_empty() {
        assert!(minutes < 25 * 60);
        minutes += 10;
        world.wait_minutes(10);
        world.export().await;
    }
    assert_eq!(world.now() / 60_000 % DAY_MINUTES, 23 * 60 + 6, "of the first look after eleven in the evening");
    assert_eq!(world.state().await.oldest_needed().unwrap().first, needed.first, "now a page needs it");
    world.compact_all(topic).await;
    world.clear_away_all().await;
    assert_eq!(below(&world, needed.first + 1).await, 0);
    world.finish().await;
}

#[tokio::test]
async fn without_an_indexer_they_stay_and_go_once_there_is_one() {
    let mut world = World::new().await;
    let topic = world.create_topic().await;
    for _ in 0..5 {
        world.append(topic).await;
        world.ship(true).await;
        world.export().await;
        world.wait_minutes(DAY_MINUTES);
        world.export().await;
        world.run().await;
        world.look_through().await;
    }
    let state = world.state().await;
    assert_eq!((state.topics[&topic].pages.len(), state.topics[&topic].open_runs()), (5, 0));
    assert_eq!((state.needed_from(), below(&world, state.shipped_index()).await >= 4), (1, true));
    for _ in 0..5 {
        world.archive(0).await;
    }
    world.compact_all(topic).await;
    world.clear_away_all().await;
    assert_eq!(world.shipped().await.0[0].first, world.state().await.segments.begin());
    assert!(world.state().await.segments.begin() > state.needed_from());
    world.finish().await;
}

#[tokio::test]
async fn a_deletion_that_failed_goes_on() {
    for (fault, listed) in [(StoreFault::Before, 2), (StoreFault::After, 2), (StoreFault::Before, 4096)] {
        let (mut world, topic) = closed(listed).await;
        world.compact_all(topic).await;
        world.run().await;
        let dropped = *world.state().await.segments.dropped().unwrap();
        for _ in 0..3 {
            world.ship(true).await;
            world.export().await;
        }
        world.run().await;
        world.wait_minutes(61);
        world.faulty.fail(StoreOperation::Delete, "lanes/00000000/segments/", fault, 1);
        world.run().await;
        assert!(world.state().await.segments.begin() < dropped.below, "it is not known what is gone");
        world.check_recoveries().await;
        world.run().await;
        assert_eq!((below(&world, dropped.below).await, world.state().await.segments.begin()), (0, dropped.below));
        world.finish().await;
    }
}

#[tokio::test]
async fn those_in_a_list_that_is_gone_or_damaged_are_found_when_the_bucket_is_looked_through() {
    for damaged in [false, true] {
        let (mut world, topic) = closed(3).await;
        world.compact_all(topic).await;
        world.run().await;
        let state = world.state().await;
        let list = state.segments.lists()[0].clone();
        world.faulty.delete(&list.object).await.unwrap();
        if damaged {
            world.create(&list.object).await;
        }
        for _ in 0..4 {
            world.ship(true).await;
            world.export().await;
            world.run().await;
            world.wait_minutes(61);
        }
        world.run().await;
        assert!(world.state().await.segments.begin() > list.last);
        assert_eq!(below(&world, list.last + 1).await, 3);
        for _ in 0..3 {
            world.ship(true).await;
            world.export().await;
        }
        world.wait_minutes(DAY_MINUTES);
        world.look_through().await;
        assert_eq!(below(&world, world.state().await.segments.begin()).await, 0);
        world.finish().await;
    }
}

#[tokio::test]
async fn what_was_never_registered_goes_though_those_of_its_time_are_gone() {
    let (mut world, topic) = closed(2).await;
    let registered = world.shipped().await.0[3];
    let copy = SegmentName { ulid: Ulid::from_parts(world.now() as u64, 1), ..registered }.to_string();
    let late = SegmentName { incarnation: Incarnation(0), ulid: Ulid::from_parts(world.now() as u64, 2), ..registered };
    world.create(&copy).await;
    world.create(&late.to_string()).await;
    world.compact_all(topic).await;
    world.clear_away_all().await;
    assert!(registered.last < world.state().await.segments.begin());
    assert_eq!(below(&world, registered.last + 1).await, 2);
    world.wait_minutes(20 * DAY_MINUTES);
    world.look_through().await;
    assert_eq!(below(&world, registered.last + 1).await, 0);
    world.check().await;
}

#[tokio::test]
async fn a_lane_at_rest_comes_to_rest() {
    let (mut world, topic) = closed(4096).await;
    world.compact_all(topic).await;
    world.delete_topic(topic).await;
    world.ship(false).await;
    let mut applied = Vec::new();
    for _ in 0..40 {
        world.export().await;
        world.run().await;
        world.ship_ordered().await;
        world.wait_minutes(61);
        applied.push(world.state().await.applied);
    }
    assert!(applied[30..].iter().all(|index| *index == applied[30]), "{applied:?}");
    let state = world.state().await;
    assert!(state.segments.begin() > state.topics.len() as LogIndex && state.tombstones.is_empty());
    assert!(world.shipped().await.0.len() < 10, "but for what deletion itself has shipped");
}

/// What happens between the drop and the end, over and over, in any order.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ship,
    Export,
    Run,
    Wait,
    /// A part of what is to be deleted is, and the broker does not know.
    DieAsItDeletes,
    LoseMachine,
}

fn any_step() -> impl Strategy<Value = Step> {
    use Step::{DieAsItDeletes, Export, LoseMachine, Run, Ship, Wait};
    prop_oneof![
        3 => Just(Ship), 3 => Just(Export), 4 => Just(Run), 3 => Just(Wait),
        1 => Just(DieAsItDeletes), 1 => Just(LoseMachine)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whoever_dies_when_no_recovery_misses_anything(
        steps in prop::collection::vec(any_step(), 1..40),
        listed in prop::sample::select(vec![1, 3, 4096]),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut world, topic) = closed(listed).await;
            world.compact_all(topic).await;
            for step in steps {
                match step {
                    Step::Ship => world.ship(true).await,
                    Step::Export => world.export().await,
                    Step::Run => world.run().await,
                    Step::Wait => world.wait_minutes(31),
                    Step::DieAsItDeletes => {
                        world.faulty.fail(StoreOperation::Delete, "/segments/", StoreFault::After, 2);
                        world.run().await;
                        world.lose_machine().await;
                    }
                    Step::LoseMachine => world.lose_machine().await,
                }
                world.check().await;
                world.check_recoveries().await;
            }
            world.finish().await;
        });
    }
}
