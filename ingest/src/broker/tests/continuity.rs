//! Older copies of a data directory, put back.

use std::path::Path;

use super::*;
use crate::startup::continuity::ContinuityError;

impl World {
    pub(super) fn copy_data_dir(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_all(self.data_dir.path(), copy.path());
        copy
    }

    fn put_back(&mut self, copy: &tempfile::TempDir) {
        self.lose_data_dir();
        copy_all(copy.path(), self.data_dir.path());
    }

    /// Everything that was shipped is in the bucket, whatever the copies did.
    async fn check_recovers(&mut self) {
        self.lose_data_dir();
        let running = self.start().await;
        self.check(&running).await;
        running.kill().await;
    }
}

fn copy_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn refusal<T>(ended: Result<T, IngestError>) -> ContinuityError {
    match ended {
        Err(IngestError::Start(StartError::Continuity(error))) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it must be refused"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_is_refused_after_a_kill_and_after_a_stop_in_good_order() {
    for stops in [true, false] {
        let mut world = World::new();
        let mut copies = Vec::new();
        for _ in 0..3 {
            let running = world.start().await;
            world.check(&running).await;
            world.produce(&running, 10).await;
            running.ship().await;
            if stops {
                running.stop().await;
            } else {
                running.kill().await;
            }
            copies.push(world.copy_data_dir());
        }
        let segments = world.segments().await;
        for older in &copies[..2] {
            world.put_back(older);
            let error = refusal(world.try_start().await);
            assert!(matches!(error, ContinuityError::Behind { .. }), "{error}");
            assert!(error.to_string().contains("empty data directory"), "{error}");
        }
        world.put_back(&copies[2]);
        let running = world.start().await;
        world.check(&running).await;
        running.kill().await;
        assert_eq!(world.segments().await, segments, "no copy has shipped anything");
        world.check_recovers().await;
    }
}

/// Produces, ships and is killed; what lies in the directory before the last ten batches is the copy.
async fn with_an_older_copy() -> (World, tempfile::TempDir) {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 10).await;
    running.ship().await;
    running.kill().await;
    let copy = world.copy_data_dir();
    let running = world.start().await;
    world.produce(&running, 10).await;
    running.ship().await;
    running.kill().await;
    (world, copy)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_that_served_without_the_bucket_ends_before_it_ships() {
    let (mut world, copy) = with_an_older_copy().await;
    let (segments, newest) = (world.segments().await, world.copy_data_dir());
    let acknowledged = world.acknowledged.clone();
    world.put_back(&copy);
    world.acknowledged.truncate(10);
    world.bucket_is_gone();
    let running = world.start().await;
    world.check(&running).await;
    for number in 0..30 {
        let other = batch(1_000_000 + number);
        append(&running.ingest.lane, running.topic, &other).await.unwrap();
    }
    let served = tokio::spawn(running.ingest.run(CancellationToken::new()));
    world.bucket.heal();
    let error = refusal(served.await.unwrap());
    assert!(matches!(error, ContinuityError::Behind { .. }), "{error}");
    assert_eq!(world.segments().await, segments);
    let identity = DataDir::open(world.data_dir.path()).unwrap().identity().unwrap();
    assert!(identity.unwrap().released, "it never serves unasked again");

    // By now its log is as long as the bucket's, but another one.
    let error = refusal(world.try_start().await);
    let ContinuityError::Forked { key, .. } = &error else { panic!("{error}") };
    assert!(segments.contains(key) && error.to_string().contains(key.as_str()));
    assert_eq!(world.segments().await, segments);

    world.acknowledged = acknowledged;
    world.put_back(&newest);
    let running = world.start().await;
    world.check(&running).await;
    running.kill().await;
    world.check_recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_before_the_bucket_answered_leaves_the_bucket_alone() {
    let (mut world, copy) = with_an_older_copy().await;
    let before = world.bucket.list("").await.unwrap();
    world.put_back(&copy);
    world.bucket_is_gone();
    let running = world.start().await;
    world.bucket.fail(StoreOperation::Overwrite, "", StoreFault::Before, usize::MAX);
    running.stop().await;
    world.bucket.heal();
    assert_eq!(world.bucket.list("").await.unwrap(), before);
    world.check_recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_uploaded_and_not_registered_is_no_fork() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 10).await;
    running.ship().await;
    let shipped = world.segments().await.len();
    world.bucket.fail(StoreOperation::Info, "claims/", StoreFault::Before, usize::MAX);
    world.produce(&running, 10).await;
    running.ingest.lane.cut(false).await.unwrap();
    while world.segments().await.len() == shipped {
        tokio::task::yield_now().await;
    }
    world.produce(&running, 5).await;
    running.kill().await;
    world.bucket.heal();
    // Another upload of it broke off.
    let uploaded = world.segments().await;
    let last = uploaded.iter().max_by_key(|key| key.parse::<SegmentName>().unwrap().first);
    let name: SegmentName = last.unwrap().parse().unwrap();
    let broken = SegmentName { ulid: ulid::Ulid::new(), ..name };
    let half = world.bucket.read(last.unwrap(), Some(0..300)).await.unwrap();
    world.bucket.create(&broken.to_string(), vec![half]).await.unwrap();
    let running = world.start().await;
    world.check(&running).await;
    running.ship().await;
    running.kill().await;
    world.check_recovers().await;
}
