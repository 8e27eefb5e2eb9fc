//! What recovery makes of a bucket that lacks something, or has too much.

use chronik_format::ids::{Incarnation, LogIndex};
use chronik_format::names::{self, CheckpointName};
use chronik_format::origin::Origin;
use chronik_format::segment::{self, LogEntry, PartitionBatches, SegmentHeader, SegmentReader};
use ulid::Ulid;

use super::*;
use crate::ownership::claim;
use crate::startup::recover::{self, RecoverError};
use crate::state::command::{Append, RegisterSegment};

impl World {
    /// The segments in the bucket in the order of their indices.
    async fn segment_names(&self) -> Vec<SegmentName> {
        let mut names: Vec<SegmentName> = self.segments().await.iter().map(|key| key.parse().unwrap()).collect();
        names.sort_by_key(|name| (name.incarnation, name.first));
        names
    }

    async fn start_fails_at(&self) -> LogIndex {
        self.loss().await.0
    }

    /// Where recovery stops, and what it tells.
    async fn loss(&self) -> (LogIndex, String) {
        match self.try_start().await {
            Err(IngestError::Start(StartError::Recover(error @ RecoverError::Loss { end, .. }))) => {
                (end, error.to_string())
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("recovery must stop"),
        }
    }

    /// What is left is a prefix of what was acknowledged, and the broker goes on from there.
    async fn check_goes_on_from_a_prefix(&mut self) {
        let running = self.start().await;
        let kept = running.read_all().await;
        assert_eq!(kept, self.acknowledged[..kept.len()]);
        assert!(!kept.is_empty() && kept.len() < self.acknowledged.len(), "{} kept", kept.len());
        self.acknowledged = kept;
        self.produce(&running, 40).await;
        running.ship().await;
        running.kill().await;
        self.lose_data_dir();
        let running = self.start().await;
        self.check(&running).await;
        running.kill().await;
    }
}

/// A copy of a segment as another owner would have written it: the same commands, other records.
async fn forge(store: &SharedStore, name: &SegmentName, incarnation: Incarnation, topic: TopicId) -> SegmentName {
    let reader = SegmentReader::open(store.clone(), &name.to_string()).await.unwrap();
    let mut batches = Vec::new();
    if let Some(row) = reader.row(topic, 0).copied() {
        for offset in row.offsets.first..=row.offsets.last {
            let mut forged = batch(1_000_000 + offset as usize).to_vec();
            forged[..8].copy_from_slice(&offset.to_be_bytes());
            batches.push(Bytes::from(forged));
        }
    }
    let own = *reader.header();
    let header = SegmentHeader { origin: Origin { incarnation, ..own.origin }, ..own };
    let partition = PartitionBatches { topic, partition: 0, batches };
    let built = segment::build(header, vec![partition], &reader.log().await.unwrap()).unwrap();
    let forged = SegmentName { incarnation, ulid: Ulid::new(), ..*name };
    store.create(&forged.to_string(), built.parts).await.unwrap();
    forged
}

/// A segment of one frame without commands.
async fn upload_empty(store: &SharedStore, cluster: Uuid, incarnation: Incarnation, index: LogIndex) {
    let header = SegmentHeader { origin: Origin { cluster, incarnation, lane: LANE }, first: index, last: index };
    let entry = LogEntry { index, epoch: 0, commands: Bytes::new() };
    let built = segment::build(header, Vec::new(), &[entry]).unwrap();
    let name = SegmentName { lane: LANE, incarnation, first: index, last: index, ulid: Ulid::new() };
    store.create(&name.to_string(), built.parts).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_segment_stops_recovery_unless_loss_is_accepted() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 60).await;
    running.ship().await;
    running.kill().await;
    let segments = world.segments().await;
    assert!(segments.len() >= 3, "{segments:?}");
    let in_order = world.segment_names().await;
    world.bucket.delete(&in_order[1].to_string()).await.unwrap();
    world.lose_data_dir();
    assert_eq!(world.start_fails_at().await, in_order[0].last);
    world.accept_loss = true;
    world.check_goes_on_from_a_prefix().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_below_what_the_catalog_named_stops_recovery_whatever_latest_says() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 60).await;
    running.ship().await;
    let last = *world.segment_names().await.last().unwrap();
    let store: SharedStore = world.bucket.clone();
    let catalog = CatalogReader::new(store, LANE, 0);
    while catalog.refresh().await.unwrap().shipped_index() < last.last {
        tokio::task::yield_now().await;
    }
    running.kill().await;
    world.bucket.delete(&last.to_string()).await.unwrap();
    world.bucket.delete(&names::latest(LANE)).await.unwrap();
    world.lose_data_dir();
    assert_eq!(world.start_fails_at().await, last.first - 1);
    world.accept_loss = true;
    world.check_goes_on_from_a_prefix().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_whose_segment_is_gone_is_passed_over_only_if_loss_is_accepted() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 60).await;
    running.stop().await;
    let last = *world.segment_names().await.last().unwrap();
    world.bucket.delete(&last.to_string()).await.unwrap();
    world.lose_data_dir();
    let (end, told) = world.loss().await;
    assert_eq!(end, last.last, "the checkpoint lies at the missing segment's end");
    assert!(told.contains("restore the missing objects below lanes/00000000/segments/"), "{told}");
    world.accept_loss = true;
    world.check_goes_on_from_a_prefix().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checkpoints_of_the_last_owner_may_not_be_missing() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 20).await;
    running.stop().await;
    world.lose_data_dir();
    let running = world.start().await;
    world.produce(&running, 40).await;
    running.ship().await;
    running.kill().await;
    for object in world.bucket.list(&CheckpointName::prefix(LANE)).await.unwrap() {
        let name: CheckpointName = object.key.parse().unwrap();
        if name.incarnation == Incarnation(2) {
            world.bucket.delete(&object.key).await.unwrap();
        }
    }
    world.lose_data_dir();
    let (_, told) = world.loss().await;
    assert!(told.contains("restore the missing objects below lanes/00000000/checkpoints/"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_uploads_of_a_former_owner_do_not_fork_history() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 20).await;
    running.stop().await;
    world.lose_data_dir();
    let running = world.start().await;
    let topic = running.topic;
    world.produce(&running, 40).await;
    running.ship().await;
    running.kill().await;
    let store: SharedStore = world.bucket.clone();
    let own = world.segment_names().await;
    let own: Vec<_> = own.into_iter().filter(|name| name.incarnation == Incarnation(2)).collect();
    assert!(own.len() >= 2, "{own:?}");
    for name in &own {
        forge(&store, name, Incarnation(1), topic).await;
    }
    world.lose_data_dir();
    let running = world.start().await;
    world.check(&running).await;
    let end = running.ingest.lane.snapshot().await.unwrap().applied;
    running.kill().await;
    upload_empty(&store, claim::cluster_of(&store).await.unwrap().unwrap(), Incarnation(1), end + 1).await;
    world.lose_data_dir();
    let running = world.start().await;
    world.check(&running).await;
    assert_eq!(running.ingest.lane.snapshot().await.unwrap().applied, end);
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_uploaded_and_not_registered_is_adopted_also_if_the_bucket_was_claimed_before() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 20).await;
    running.ship().await;
    let shipped = world.segments().await.len();
    world.bucket.fail(StoreOperation::Info, "claims/", StoreFault::Before, usize::MAX);
    let store: SharedStore = world.bucket.clone();
    claim::claim_after(&store, Some(Incarnation(1))).await.unwrap();
    world.produce(&running, 8).await;
    running.ingest.lane.cut(false).await.unwrap();
    while world.segments().await.len() == shipped {
        tokio::task::yield_now().await;
    }
    running.kill().await;
    world.bucket.heal();
    let last = *world.segment_names().await.last().unwrap();
    let again = SegmentName { ulid: Ulid::new(), ..last };
    let bytes = world.bucket.read(&last.to_string(), None).await.unwrap();
    world.bucket.create(&again.to_string(), vec![bytes]).await.unwrap();
    world.lose_data_dir();
    let running = world.start().await;
    world.check(&running).await;
    assert_eq!(running.ingest.ownership.incarnation(), Incarnation(3));
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_refuses_every_request_for_a_while_is_waited_for() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 20).await;
    running.ship().await;
    running.kill().await;
    world.lose_data_dir();
    for operation in [
        StoreOperation::Create,
        StoreOperation::Read,
        StoreOperation::Info,
        StoreOperation::List,
        StoreOperation::Delete,
    ] {
        world.bucket.fail(operation, "", StoreFault::Before, 2);
        world.bucket.fail(operation, "", StoreFault::After, 1);
    }
    let running = world.start().await;
    world.check(&running).await;
    running.kill().await;
    world.bucket.heal();
    let claims = world.bucket.list("claims/").await.unwrap();
    assert_eq!(claims.len(), 2, "each start claims once, whatever became of its tries");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_under_a_wrong_name_is_refused() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 20).await;
    running.ship().await;
    running.kill().await;
    let last = *world.segment_names().await.last().unwrap();
    let misnamed = SegmentName { first: last.last + 1, last: last.last + 9, ..last };
    let bytes = world.bucket.read(&last.to_string(), None).await.unwrap();
    world.bucket.create(&misnamed.to_string(), vec![bytes]).await.unwrap();
    world.lose_data_dir();
    let refused = world.try_start().await;
    assert!(
        matches!(&refused, Err(IngestError::Start(StartError::Recover(RecoverError::Misnamed { key, .. }))) if *key == misnamed.to_string())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_json_that_the_segments_contradict_is_what_is_named() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 20).await;
    running.ship().await;
    let cluster = running.ingest.ownership.cluster();
    running.kill().await;
    let other = format!(r#"{{"v":0,"cluster":"{}"}}"#, Uuid::now_v7());
    world.bucket.overwrite("cluster.json", other.into()).await.unwrap();
    for checkpoint in world.checkpoints().await {
        world.bucket.delete(&checkpoint).await.unwrap();
    }
    world.lose_data_dir();
    let refused = world.try_start().await.map(|_| ());
    assert!(
        matches!(&refused, Err(IngestError::Start(StartError::Recover(RecoverError::Foreign { theirs, .. }))) if *theirs == cluster),
        "{refused:?}"
    );
}

impl World {
    async fn damage(&self, key: &str) {
        let mut bytes = self.bucket.read(key, None).await.unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        self.bucket.overwrite(key, bytes.into()).await.unwrap();
    }

    /// Newest last.
    async fn checkpoints(&self) -> Vec<String> {
        let objects = self.bucket.list(&CheckpointName::prefix(LANE)).await.unwrap();
        objects.into_iter().map(|object| object.key).collect()
    }

    /// Starts on another machine, with all that was acknowledged.
    async fn check_comes_back(&mut self) {
        self.lose_data_dir();
        let running = self.start().await;
        self.check(&running).await;
        running.kill().await;
    }

    async fn start_is_refused_for_a_fork(&mut self) -> String {
        self.lose_data_dir();
        match self.try_start().await {
            Err(IngestError::Start(StartError::Recover(error @ RecoverError::Forked { .. }))) => error.to_string(),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("recovery must stop"),
        }
    }
}

/// A broker that stopped in good order three times, each time with a checkpoint.
async fn with_three_checkpoints() -> World {
    let mut world = World::new();
    for _ in 0..3 {
        let running = world.start().await;
        world.produce(&running, 20).await;
        running.stop().await;
    }
    assert_eq!(world.checkpoints().await.len(), 3);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_checkpoint_leads_to_the_same_state_as_damaged_newer_ones() {
    for damaged in 1..=3 {
        let mut world = with_three_checkpoints().await;
        for key in world.checkpoints().await.iter().rev().take(damaged) {
            world.damage(key).await;
        }
        world.check_comes_back().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_below_the_checkpoint_that_is_gone_or_cut_stops_recovery_unless_loss_is_accepted() {
    for cut in [false, true] {
        let mut world = with_three_checkpoints().await;
        let lost = world.segment_names().await[1];
        let key = lost.to_string();
        let row = SegmentReader::open(world.bucket.clone(), &key).await.unwrap().directory().rows[0];
        if cut {
            let mut half = world.bucket.read(&key, None).await.unwrap();
            half.truncate(half.len() / 2);
            world.bucket.overwrite(&key, half).await.unwrap();
        } else {
            world.bucket.delete(&key).await.unwrap();
        }
        world.lose_data_dir();
        let refused = world.try_start().await.map(|_| ()).unwrap_err();
        assert!(
            matches!(&refused, IngestError::Start(StartError::Recover(RecoverError::Unreachable { .. }))),
            "{refused}"
        );
        let range = format!("t partition 0 offsets {} to {}", row.offsets.first, row.offsets.last);
        for part in [key.as_str(), &range, "--accept-loss"] {
            assert!(refused.to_string().contains(part), "{part} is not in: {refused}");
        }
        world.accept_loss = true;
        let running = world.start().await;
        let topic = running.ingest.lane.topics().get(running.topic).unwrap().clone();
        assert_eq!(topic.partitions[0].bounds().end, world.acknowledged.len() as Offset);
        assert!(running.reader.read(&topic, 0, row.offsets.last, 1).await.is_err());
        let behind = running.reader.read(&topic, 0, row.offsets.end(), 1).await.unwrap();
        assert_eq!(behind[0].contiguous().slice(16..), world.acknowledged[row.offsets.last as usize + 1].1);
        world.produce(&running, 20).await;
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_damaged_checkpoint_knew_is_loss() {
    let mut world = with_three_checkpoints().await;
    world.damage(world.checkpoints().await.last().unwrap()).await;
    let last = *world.segment_names().await.last().unwrap();
    world.bucket.delete(&last.to_string()).await.unwrap();
    for export in world.bucket.list("catalog/").await.unwrap() {
        world.bucket.delete(&export.key).await.unwrap();
    }
    world.lose_data_dir();
    assert_eq!(world.start_fails_at().await, last.first - 1);
    world.accept_loss = true;
    world.check_goes_on_from_a_prefix().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_first_checkpoint_of_an_owner_is_made_anew_at_its_cut() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 20).await;
    running.stop().await;
    world.lose_data_dir();
    let running = world.start().await;
    let first_of_second = world.checkpoints().await.last().unwrap().clone();
    world.produce(&running, 20).await;
    running.ship().await;
    running.kill().await;
    let store: SharedStore = world.bucket.clone();
    let cluster = claim::cluster_of(&store).await.unwrap().unwrap();
    let cut = first_of_second.parse::<CheckpointName>().unwrap().index;
    upload_empty(&store, cluster, Incarnation(1), cut + 1).await;
    world.damage(&first_of_second).await;
    world.lose_data_dir();
    let running = world.start().await;
    world.check(&running).await;
    let topic = running.ingest.lane.topics().get(running.topic).unwrap().clone();
    assert_eq!(topic.partitions[0].epochs(), [(1, 0), (2, 20), (3, 40)]);
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_catalog_is_passed_over() {
    let mut world = with_three_checkpoints().await;
    let exports = world.bucket.list("catalog/").await.unwrap();
    let newest = exports.iter().rfind(|object| object.key.ends_with(".catalog"));
    let mut cut_off = world.bucket.read(&newest.unwrap().key, None).await.unwrap();
    cut_off.truncate(cut_off.len() - 1);
    world.bucket.overwrite(&newest.unwrap().key, cut_off).await.unwrap();
    world.check_comes_back().await;
    let latest = names::latest(LANE);
    world.bucket.overwrite(&latest, Bytes::from_static(b"{")).await.unwrap();
    world.check_comes_back().await;
}

/// One segment in the place of two that follow one another, with the same log and batches, or other ones.
async fn join(store: &SharedStore, pair: [&SegmentName; 2], topic: TopicId, same: bool) -> String {
    let mut log = Vec::new();
    let mut batches = Vec::new();
    for name in pair {
        let reader = SegmentReader::open(store.clone(), &name.to_string()).await.unwrap();
        log.extend(reader.log().await.unwrap());
        if let Some(row) = reader.row(topic, 0).copied() {
            batches.extend(reader.batches(topic, 0, row.offsets.first, 1 << 20).await.unwrap());
        }
    }
    if !same {
        let last = batches.last_mut().unwrap();
        let mut forged = batch(1_000_000).to_vec();
        forged[..16].copy_from_slice(&last[..16]);
        *last = forged.into();
    }
    let [first, last] = pair;
    let reader = SegmentReader::open(store.clone(), &first.to_string()).await.unwrap();
    let header = SegmentHeader { last: last.last, ..*reader.header() };
    let (partition, joined) = (0, Ulid::new());
    let built = segment::build(header, vec![PartitionBatches { topic, partition, batches }], &log);
    let name = SegmentName { last: last.last, ulid: joined, ..*first };
    store.create(&name.to_string(), built.unwrap().parts).await.unwrap();
    name.to_string()
}

/// A bucket of one owner whose checkpoints are gone, so that all segments are replayed. The catalog names them.
async fn with_segments_alone() -> (World, TopicId) {
    let mut world = World::new();
    let running = world.start().await;
    let topic = running.topic;
    world.produce(&running, 60).await;
    running.stop().await;
    for key in world.checkpoints().await {
        world.bucket.delete(&key).await.unwrap();
    }
    assert!(world.segments().await.len() >= 3);
    (world, topic)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_records_under_two_names_or_in_other_borders_are_no_fork() {
    let (mut world, topic) = with_segments_alone().await;
    let store: SharedStore = world.bucket.clone();
    let names = world.segment_names().await;
    join(&store, [&names[0], &names[1]], topic, true).await;
    join(&store, [&names[1], &names[2]], topic, true).await;
    let twin = SegmentName { ulid: Ulid::new(), ..names[0] };
    let bytes = store.read(&names[0].to_string(), None).await.unwrap();
    store.create(&twin.to_string(), vec![bytes]).await.unwrap();
    world.check_comes_back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_twin_of_a_segment_is_passed_over() {
    let (mut world, _) = with_segments_alone().await;
    for name in world.segment_names().await {
        let twin = SegmentName { ulid: Ulid::new(), ..name };
        let mut half = world.bucket.read(&name.to_string(), None).await.unwrap();
        half.truncate(half.len() / 2);
        world.bucket.create(&twin.to_string(), vec![half]).await.unwrap();
    }
    world.check_comes_back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_without_a_twin_is_loss() {
    let (mut world, _) = with_segments_alone().await;
    let last = *world.segment_names().await.last().unwrap();
    for object in world.bucket.list("catalog/").await.unwrap() {
        world.bucket.delete(&object.key).await.unwrap();
    }
    let mut half = world.bucket.read(&last.to_string(), None).await.unwrap();
    half.truncate(half.len() / 2);
    world.bucket.overwrite(&last.to_string(), half).await.unwrap();
    world.lose_data_dir();
    assert_eq!(world.start_fails_at().await, last.first - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn forked_history_is_never_chosen_from_by_chance() {
    for joined in [false, true] {
        let (mut world, topic) = with_segments_alone().await;
        let store: SharedStore = world.bucket.clone();
        let names = world.segment_names().await;
        let fork = match joined {
            true => join(&store, [&names[1], &names[2]], topic, false).await,
            false => forge(&store, &names[1], Incarnation(1), topic).await.to_string(),
        };
        let told = world.start_is_refused_for_a_fork().await;
        assert!(told.contains(&fork) && told.contains("--accept-loss"), "{told}");
        let named = |name: &SegmentName| told.contains(&name.to_string());
        assert!(names[1..].iter().any(named), "{told}");
        let cluster = claim::cluster_of(&store).await.unwrap().unwrap();
        let (_, report) = recover::from_bucket(&store, cluster, LANE, true).await.unwrap();
        assert!(report.losses.len() == 1 && report.losses[0].contains(&fork), "{report}");
        world.accept_loss = true;
        world.check_comes_back().await;
    }
    let (mut world, topic) = with_segments_alone().await;
    let store: SharedStore = world.bucket.clone();
    let names = world.segment_names().await;
    forge(&store, &names[1], Incarnation(1), topic).await;
    world.bucket.delete(&names::latest(LANE)).await.unwrap();
    world.accept_loss = true;
    let told = world.start_is_refused_for_a_fork().await;
    assert!(told.contains("remove one"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_from_a_segment_that_was_not_chosen_is_left_out() {
    let (mut world, topic) = with_segments_alone().await;
    let store: SharedStore = world.bucket.clone();
    let names = world.segment_names().await;
    let lost = forge(&store, &names[1], Incarnation(1), topic).await;
    let register = RegisterSegment {
        incarnation: lost.incarnation,
        first: lost.first,
        last: lost.last,
        key: lost.to_string(),
        size: 1,
        crc: 0,
        directory_position: 0,
        named_at: 0,
        at: 0,
        runs: Vec::new(),
    };
    let (partition, offset) = (0, world.acknowledged.len() as Offset);
    let mut bytes = batch(1_000_000).to_vec();
    bytes[..8].copy_from_slice(&offset.to_be_bytes());
    let length = bytes.len() as u32;
    let append =
        Append { topic, partition, base_offset: offset, last_offset: offset, position: 0, length, producer: None };
    let commands = [Command::RegisterSegment(register), Command::Append(append)];
    let index = names.last().unwrap().last + 1;
    let entry = LogEntry { index, epoch: 0, commands: commands.iter().flat_map(Command::encoded).collect() };
    let reader = SegmentReader::open(store.clone(), &names[0].to_string()).await.unwrap();
    let header = SegmentHeader { first: index, last: index, ..*reader.header() };
    let batches = PartitionBatches { topic, partition, batches: vec![bytes.into()] };
    let built = segment::build(header, vec![batches], &[entry]).unwrap();
    let after_lost = SegmentName { first: index, last: index, ulid: Ulid::new(), ..names[0] };
    store.create(&after_lost.to_string(), built.parts).await.unwrap();
    world.accept_loss = true;
    world.check_comes_back().await;
}

/// Also where an earlier one is on its way as the stop draws its border.
#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_waits_for_its_checkpoint() {
    for earlier in [false, true] {
        let mut world = World::new();
        let running = world.start().await;
        world.bucket.fail(StoreOperation::Create, "/checkpoints/", StoreFault::Before, 2);
        if earlier {
            world.produce(&running, 5).await;
            let border = running.ingest.lane.cut(true).await.unwrap();
            running.ingest.lane.shipped(border).await.unwrap();
        }
        world.produce(&running, 5).await;
        running.stop().await;
        let last = world.segment_names().await.iter().map(|name| name.last).max();
        let checkpoints = world.checkpoints().await;
        let newest = checkpoints.iter().map(|name| name.parse::<CheckpointName>().unwrap().index).max();
        assert_eq!(newest, last);
    }
}
