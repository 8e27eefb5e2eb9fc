//! Two brokers and one bucket.

use chronik_format::ids::Incarnation;
use chronik_format::names;
use chronik_store::LocalBucket;
use tokio::sync::oneshot;

use super::*;
use crate::ownership::claim;
use crate::ownership::takeover::TakeoverError;

/// No silent owner counts as gone while a test runs.
const PATIENT: OwnershipTimes = OwnershipTimes { quiet: Duration::from_secs(3600), ..HASTY };

impl World {
    /// Another machine with an empty data directory.
    fn neighbour(&self) -> Self {
        Self::on(self.bucket.clone())
    }

    /// Another broker claims the bucket.
    async fn claim_by_another(&self) {
        let store: SharedStore = self.bucket.clone();
        let highest = claim::highest(&store).await.unwrap();
        claim::claim_after(&store, highest).await.unwrap();
    }

    pub(super) fn bucket_is_gone(&self) {
        for operation in [
            StoreOperation::Create,
            StoreOperation::Read,
            StoreOperation::Info,
            StoreOperation::List,
            StoreOperation::Overwrite,
        ] {
            self.bucket.fail(operation, "", StoreFault::Before, usize::MAX);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_taken_over_stops_acknowledging_and_counts_what_the_new_owner_lacks() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 20).await;
    running.ship().await;
    let shipped = world.acknowledged.clone();

    let Running { ingest, topic, .. } = running;
    let (lane, fenced) = (ingest.lane.clone(), ingest.ownership.fenced().clone());
    let served = tokio::spawn(ingest.run(CancellationToken::new()));
    let (begun, has_begun) = oneshot::channel();
    let under_load = tokio::spawn(async move {
        let mut begun = Some(begun);
        let mut acknowledged = 0;
        loop {
            let was_fenced = fenced.is_cancelled();
            match append(&lane, topic, &batch(1_000_000 + acknowledged)).await {
                Ok(_) => assert!(!was_fenced, "it knew, and acknowledged"),
                Err(error) => return (acknowledged, error),
            }
            acknowledged += 1;
            begun.take().map(|begun| begun.send(()));
        }
    });
    has_begun.await.unwrap();
    let mut new = world.neighbour();
    new.take_over = true;
    let new_owner = new.start().await;

    let (acknowledged, error) = under_load.await.unwrap();
    assert!(acknowledged > 0 && matches!(error, LaneError::Gone(_)), "{error}");
    let Err(IngestError::Fenced(remains)) = served.await.unwrap() else {
        panic!("it ends as a fenced owner");
    };
    let kept = new_owner.read_all().await;
    assert_eq!(kept[..20], shipped);
    let above = remains.above.as_ref().unwrap();
    let lost: i64 = above.iter().map(|above| above.to - above.from).sum();
    assert_eq!(kept.len() as i64 + lost, 20 + acknowledged as i64);
    assert!(remains.to_string().contains(&format!("{lost} acknowledged records lie above")));

    new.acknowledged = kept;
    new.produce(&new_owner, 20).await;
    new.check(&new_owner).await;
    assert!(matches!(
        world.try_start().await,
        Err(IngestError::Start(StartError::NotOurs { source: ClaimError::Fenced { .. }, .. }))
    ));
    new_owner.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_above_its_own_keeps_a_segment_from_being_registered() {
    let mut world = World::new();
    world.rhythm.check = Duration::from_secs(3600);
    world.rhythm.beat = Duration::from_secs(3600);
    let running = world.start().await;
    world.produce(&running, 1).await;
    let shipped = running.ingest.lane.progress().borrow().shipped;
    world.claim_by_another().await;
    running.ingest.lane.cut(false).await.unwrap();
    let (lane, stop) = (running.ingest.lane.clone(), CancellationToken::new());
    let fenced = running.ingest.ownership.fenced().clone();
    let served = tokio::spawn(running.ingest.run(stop.clone()));
    fenced.cancelled().await;
    stop.cancel();
    let ended = served.await.unwrap();
    let Err(IngestError::Fenced(remains)) = ended else {
        panic!("{ended:?}");
    };
    assert!(remains.above.is_none() && remains.to_string().contains("not known"), "{remains}");
    assert_eq!(lane.progress().borrow().shipped, shipped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_of_an_owner_that_lost_the_bucket_gives_nothing_up() {
    let mut world = World::new();
    world.rhythm.check = Duration::from_secs(3600);
    world.rhythm.beat = Duration::from_secs(3600);
    let running = world.start().await;
    world.produce(&running, 1).await;
    world.claim_by_another().await;
    let stop = CancellationToken::new();
    stop.cancel();
    let ended = running.ingest.run(stop).await;
    assert!(matches!(ended, Err(IngestError::Fenced(_))), "{ended:?}");
    let mut third = world.neighbour();
    third.rhythm = OwnershipTimes { quiet: Duration::from_millis(300), ..HASTY };
    third.start().await.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_broker_is_refused_until_the_first_one_gives_the_bucket_up() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 20).await;
    let mut second = world.neighbour();
    second.rhythm = PATIENT;
    let Err(IngestError::Start(StartError::Takeover(refusal @ TakeoverError::InUse { .. }))) = second.try_start().await
    else {
        panic!("the first one lives");
    };
    assert!(refusal.to_string().contains("incarnation 00000001"), "{refusal}");
    world.check(&running).await;
    running.stop().await;
    let running = second.start().await;
    world.check(&running).await;
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bucket_of_an_owner_that_was_killed_is_free_once_it_was_silent_for_long_enough() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 20).await;
    running.ship().await;
    running.kill().await;
    let mut second = world.neighbour();
    second.rhythm.quiet = Duration::from_millis(500);
    let running = second.start().await;
    world.check(&running).await;
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_lock_keeps_others_out_a_start_waits_for_no_owner() {
    let folder = tempfile::tempdir().unwrap();
    let locked = Arc::new(LocalBucket::open(folder.path()).unwrap());
    let mut world = World::on(Arc::new(FaultyStore::new(locked)));
    for _ in 0..2 {
        world.lose_data_dir();
        world.rhythm = PATIENT;
        world.start().await.kill().await;
    }
    let claims = world.bucket.list("claims/").await.unwrap();
    assert_eq!(claims.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_the_bucket_serves_and_asks_later() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 10).await;
    running.kill().await;
    world.bucket_is_gone();
    let running = world.start().await;
    world.check(&running).await;
    world.produce(&running, 10).await;
    world.bucket.heal();
    running.ship().await;
    world.check(&running).await;
    running.kill().await;

    world.bucket_is_gone();
    let running = world.start().await;
    world.produce(&running, 10).await;
    world.bucket.heal();
    world.claim_by_another().await;
    let fenced = running.ingest.ownership.fenced().clone();
    let stop = CancellationToken::new();
    let served = tokio::spawn(running.ingest.run(stop.clone()));
    fenced.cancelled().await;
    stop.cancel();
    assert!(matches!(served.await.unwrap(), Err(IngestError::Fenced(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_died_after_its_claim_is_waited_for_like_any_owner() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 10).await;
    running.stop().await;
    let mut second = world.neighbour();
    second.take_over = true;
    second.rhythm.notice = Duration::from_secs(3600);
    let store: SharedStore = world.bucket.clone();
    let taking_over = tokio::spawn(async move { second.try_start().await.map(|_| ()) });
    while claim::highest(&store).await.unwrap() != Some(Incarnation(2)) {
        tokio::task::yield_now().await;
    }
    taking_over.abort();
    let mut third = world.neighbour();
    third.rhythm = OwnershipTimes { quiet: Duration::from_millis(100), ..HASTY };
    let running = third.start().await;
    assert_eq!(running.ingest.ownership.incarnation(), Incarnation(3));
    world.check(&running).await;
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_owner_that_recovers_for_long_is_not_taken_for_gone() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 10).await;
    running.stop().await;
    world.long_recovery_is_noticed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_is_one_whose_predecessor_never_exported_anything() {
    let mut world = World::new();
    world.bucket.fail(StoreOperation::Create, "catalog/", StoreFault::Before, usize::MAX);
    let running = world.start().await;
    world.produce(&running, 10).await;
    let border = running.ingest.lane.cut(true).await.unwrap();
    running.ingest.lane.shipped(border).await.unwrap();
    running.ingest.lane.checkpoint_settled().await;
    running.kill().await;
    let _ = world.bucket.delete(&names::latest(LANE)).await;
    world.long_recovery_is_noticed().await;
}

impl World {
    /// The third broker sees the second one, which can't read any checkpoint.
    async fn long_recovery_is_noticed(&self) {
        let second = self.neighbour();
        self.bucket.fail(StoreOperation::Read, "/checkpoints/", StoreFault::Before, usize::MAX);
        let store: SharedStore = self.bucket.clone();
        let recovering = tokio::spawn(async move { second.start().await });
        while claim::highest(&store).await.unwrap() != Some(Incarnation(2)) {
            tokio::task::yield_now().await;
        }
        let mut third = self.neighbour();
        third.rhythm.quiet = Duration::from_secs(3600);
        let refused = third.try_start().await.map(|_| ());
        let in_use = matches!(
            &refused,
            Err(IngestError::Start(StartError::Takeover(TakeoverError::InUse { owner }))) if owner.contains("00000002")
        );
        assert!(in_use, "{refused:?}");
        self.bucket.heal();
        let running = recovering.await.unwrap();
        self.check(&running).await;
        running.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_waits_for_the_bucket_ends_once_another_broker_owns_it() {
    let world = World::new();
    world.start().await.stop().await;
    let second = world.neighbour();
    world.bucket.fail(StoreOperation::Read, "/checkpoints/", StoreFault::Before, usize::MAX);
    let store: SharedStore = world.bucket.clone();
    let recovering = tokio::spawn(async move { second.try_start().await.map(|_| ()) });
    while claim::highest(&store).await.unwrap() != Some(Incarnation(2)) {
        tokio::task::yield_now().await;
    }
    world.claim_by_another().await;
    let ended = recovering.await.unwrap();
    let fenced =
        matches!(ended, Err(IngestError::Start(StartError::Claim(ClaimError::Fenced { by: Incarnation(3), .. }))));
    assert!(fenced, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_comes_during_recovery_ends_the_start() {
    let world = World::new();
    world.start().await.stop().await;
    let mut second = world.neighbour();
    second.take_over = true;
    second.rhythm.notice = Duration::from_secs(2);
    let store: SharedStore = world.bucket.clone();
    let taking_over = tokio::spawn(async move { second.try_start().await.map(|_| ()) });
    while claim::highest(&store).await.unwrap() != Some(Incarnation(2)) {
        tokio::task::yield_now().await;
    }
    world.claim_by_another().await;
    let ended = taking_over.await.unwrap();
    let fenced =
        matches!(ended, Err(IngestError::Start(StartError::Claim(ClaimError::Fenced { by: Incarnation(3), .. }))));
    assert!(fenced, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_was_suspended_acknowledges_nothing_before_the_claims_have_answered() {
    let mut world = World::new();
    world.rhythm.check = Duration::from_secs(3600);
    world.rhythm.beat = Duration::from_secs(3600);
    let running = world.start().await;
    world.produce(&running, 5).await;
    let (lane, ownership) = (running.ingest.lane.clone(), running.ingest.ownership.clone());

    // No other broker has claimed the bucket: it goes on as soon as it knows.
    ownership.presence().suspend();
    let refused = append(&lane, running.topic, &batch(5)).await;
    assert!(matches!(refused, Err(LaneError::Unconfirmed)), "{refused:?}");
    assert!(ownership.presence().confirmed().await);
    world.produce(&running, 5).await;

    // An outage alone takes nothing away; after a suspension it does, until the bucket answers.
    world.bucket_is_gone();
    world.produce(&running, 5).await;
    ownership.presence().suspend();
    assert!(!ownership.presence().holds());
    assert!(append(&lane, running.topic, &batch(15)).await.is_err());
    world.bucket.heal();
    assert!(ownership.presence().confirmed().await);
    world.produce(&running, 5).await;
    world.check(&running).await;

    // One has: not one record more is acknowledged.
    world.claim_by_another().await;
    ownership.presence().suspend();
    assert!(append(&lane, running.topic, &batch(20)).await.is_err());
    ownership.fenced().cancelled().await;
    assert!(append(&lane, running.topic, &batch(20)).await.is_err());
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_on_its_way_when_the_owner_was_suspended_is_held_back() {
    let mut world = World::new();
    world.rhythm.check = Duration::from_secs(3600);
    world.rhythm.beat = Duration::from_secs(3600);
    let running = world.start().await;
    world.produce(&running, 1).await;
    world.claim_by_another().await;
    let (lane, ownership) = (running.ingest.lane.clone(), running.ingest.ownership.clone());
    let end = |lane: &Lane| lane.topics().get(running.topic).unwrap().partitions[0].bounds().end;
    let bytes = batch(1);
    let answer = append(&lane, running.topic, &bytes);
    tokio::pin!(answer);
    assert!(futures::poll!(&mut answer).is_pending(), "it is in line");
    while end(&lane) < 2 {
        tokio::task::yield_now().await;
    }
    ownership.presence().suspend();
    assert!(answer.await.is_err(), "applied before, acknowledged never");
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_lease_stops_acknowledgements_in_an_outage_and_nothing_else_does() {
    let mut world = World::new();
    world.strict_lease = true;
    world.rhythm.quiet = Duration::from_secs(90);
    world.rhythm.beat = Duration::from_secs(3600);
    let running = world.start().await;
    world.produce(&running, 5).await;
    let (lane, presence) = (running.ingest.lane.clone(), running.ingest.ownership.presence().clone());
    world.bucket_is_gone();
    presence.age_beat(Duration::from_secs(60));
    world.produce(&running, 5).await;
    presence.age_beat(Duration::from_secs(30));
    let refused = append(&lane, running.topic, &batch(10)).await;
    assert!(matches!(refused, Err(LaneError::Unconfirmed)), "{refused:?}");
    running.kill().await;
    world.bucket.heal();
    let running = world.start().await;
    world.produce(&running, 5).await;
    world.check(&running).await;
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_broker_and_its_copy_the_one_that_started_first_ends() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 5).await;
    running.ship().await;
    world.bucket_names("catalog/00000000/latest").await;
    let mut copy = world.neighbour();
    copy.acknowledged = world.acknowledged.clone();
    copy_files(world.data_dir.path(), copy.data_dir.path());
    let (lane, topic) = (running.ingest.lane.clone(), running.topic);
    let first = tokio::spawn(running.ingest.run(CancellationToken::new()));

    let second = copy.start().await;
    let ended = first.await.unwrap();
    let doubled = matches!(ended, Err(IngestError::Claim(ClaimError::Doubled { own: Incarnation(1) })));
    assert!(doubled, "{ended:?}");
    let refused = append(&lane, topic, &batch(5)).await;
    assert!(matches!(refused, Err(LaneError::Gone(_))), "{refused:?}");
    copy.produce(&second, 5).await;
    second.ship().await;
    copy.check(&second).await;
    second.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_emptied_gets_nothing_until_the_true_one_is_back() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 5).await;
    running.ship().await;
    let shipped = running.ingest.lane.progress().borrow().shipped;
    let emptied = world.empty_the_bucket().await;
    world.produce(&running, 5).await;
    let border = running.ingest.lane.cut(false).await.unwrap();
    let ships = running.ingest.lane.shipped(border);
    let ships = tokio::time::timeout(Duration::from_millis(300), ships).await;
    assert!(ships.is_err(), "nothing is shipped: {ships:?}");
    assert_eq!(running.ingest.lane.progress().borrow().shipped, shipped);
    assert_eq!(world.segments().await, Vec::<String>::new());

    for (key, bytes) in emptied {
        world.bucket.overwrite(&key, bytes).await.unwrap();
    }
    running.ingest.lane.shipped(border).await.unwrap();
    world.check(&running).await;
    running.kill().await;
    world.lose_data_dir();
    let running = world.start().await;
    world.check(&running).await;
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_went_into_another_bucket_is_uploaded_again_before_it_is_registered() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 5).await;
    let (lane, shipper) = (&running.ingest.lane, running.shipper());
    let last = lane.snapshot().await.unwrap().applied;
    let segment = shipper.upload_range(1, last).await.unwrap();
    world.bucket.delete(&segment.key).await.unwrap();
    shipper.register_in_time(segment.clone()).await.unwrap();
    lane.shipped(last).await.unwrap();
    let segments = world.segments().await;
    assert!(segments.len() == 1 && segments[0] != segment.key, "{segments:?}");
    world.check(&running).await;
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_lost_cluster_json_or_its_claims_is_refused_by_name() {
    for (lost, named) in [("cluster.json", "cluster.json"), ("claims/00000001.json", "claims/{incarnation}.json")] {
        let mut world = World::new();
        let running = world.start().await;
        world.produce(&running, 5).await;
        running.ship().await;
        let cluster = running.ingest.ownership.cluster().to_string();
        running.kill().await;
        world.bucket.delete(lost).await.unwrap();
        world.lose_data_dir();
        let refused = world.try_start().await.map(|_| ());
        let Err(IngestError::Start(StartError::Claim(error @ ClaimError::Incomplete { missing, .. }))) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(missing, named);
        assert!(lost != "cluster.json" || error.to_string().contains(&cluster), "{error}");
    }
}

impl World {
    /// What was in the bucket, which holds nothing now.
    async fn empty_the_bucket(&self) -> Vec<(String, Bytes)> {
        let mut keys = vec!["cluster.json".to_owned()];
        for prefix in ["claims/", "lanes/", "catalog/", "topics/", "inbox/"] {
            let listed = self.bucket.list(prefix).await.unwrap();
            keys.extend(listed.into_iter().map(|object| object.key));
        }
        let mut held = Vec::new();
        // The claim first: from then on the bucket is not the broker's.
        keys.sort_by_key(|key| !key.starts_with("claims/"));
        for key in keys {
            held.push((key.clone(), self.bucket.read(&key, None).await.unwrap()));
            self.bucket.delete(&key).await.unwrap();
        }
        held
    }

    async fn bucket_names(&self, key: &str) {
        while self.bucket.info(key).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}

fn copy_files(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy_files(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_served_from_a_copy_while_the_bucket_was_away_ends_if_the_original_lives() {
    let mut world = World::new();
    world.rhythm = PATIENT;
    let running = world.start().await;
    world.produce(&running, 10).await;
    running.ship().await;
    running.kill().await;
    let mut copied = World::on(Arc::new(FaultyStore::new(world.bucket.clone())));
    copied.rhythm = PATIENT;
    copied.data_dir = world.copy_data_dir();
    let original = world.start().await;

    copied.bucket_is_gone();
    let running = copied.start().await;
    let served = tokio::spawn(running.ingest.run(CancellationToken::new()));
    copied.bucket.heal();
    let ended = served.await.unwrap().map(|_| ());
    let told = matches!(ended, Err(IngestError::Start(StartError::Claim(ClaimError::Copied { .. }))));
    assert!(told, "{ended:?}");
    let again = copied.try_start().await.map(|_| ());
    let told = matches!(again, Err(IngestError::Start(StartError::NotOurs { source: ClaimError::Copied { .. }, .. })));
    assert!(told, "{again:?}");

    world.produce(&original, 10).await;
    world.check(&original).await;
    original.ship().await;
    original.kill().await;
}
