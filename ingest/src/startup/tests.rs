//! Starts upon data directories and buckets in all states.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use chronik_format::catalog::VERSION;
use chronik_format::ids::Incarnation;
use chronik_format::names;
use chronik_service::setting::ByteSize;
use chronik_store::clocked::ClockedStore;
use chronik_store::faulty::{FaultyStore, StoreFault, StoreOperation};
use chronik_store::memory;
use clap::Parser;

use super::ASK_AGAIN;
use super::*;
use crate::ownership::claim::{self, ClaimError};
use crate::ownership::{OwnershipTimes, heartbeat};

const LANE: LaneId = LaneId(0);

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    settings: IngestSettings,
}

fn settings() -> IngestSettings {
    Line::parse_from(["chronik"]).settings
}

/// A data directory of the bucket's owner, and the bucket, which fails the next three times.
async fn owned() -> (tempfile::TempDir, DataDir, SharedStore, DirectoryIdentity) {
    let faulty = Arc::new(FaultyStore::new(memory()));
    let store: SharedStore = faulty.clone();
    let cluster = claim::found_cluster(&store).await.unwrap();
    let incarnation = claim::claim_after(&store, None).await.unwrap();
    faulty.fail(StoreOperation::Read, "cluster.json", StoreFault::Before, 3);
    let folder = tempfile::tempdir().unwrap();
    let data_dir = DataDir::open(folder.path()).unwrap();
    (folder, data_dir, store, DirectoryIdentity::held(cluster, incarnation))
}

#[tokio::test]
async fn a_first_start_on_a_volume_too_small_for_its_log_claims_nothing() {
    let store = memory();
    let folder = tempfile::tempdir().unwrap();
    let data_dir = Arc::new(DataDir::open(folder.path()).unwrap());
    let mut settings = settings();
    settings.wal_rotation_size = ByteSize(1 << 60);
    let error = begin(&settings, &data_dir, &store, LANE).await.err().unwrap();
    let StartError::NoSpace { free, needed, .. } = &error else { panic!("{error}") };
    assert!(*needed == ByteSize(4 << 60) && free < needed, "{error}");
    for part in [folder.path().to_str().unwrap(), &free.to_string(), "--wal-rotation-size", "--wal-max-bytes"] {
        assert!(error.to_string().contains(part), "{part} is not in: {error}");
    }
    assert_eq!(claim::cluster_of(&store).await.unwrap(), None);
    assert_eq!(data_dir.identity().unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_can_not_be_reached_is_asked_later() {
    let (_folder, data_dir, store, identity) = owned().await;
    let held = resume(&settings(), &data_dir, &store, LANE, identity).await.unwrap();
    assert!(!held.confirmed);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_was_given_up_is_waited_for() {
    let (_folder, data_dir, store, identity) = owned().await;
    let began = tokio::time::Instant::now();
    let held = resume(&settings(), &data_dir, &store, LANE, identity.given_up()).await.unwrap();
    assert!(held.confirmed && began.elapsed() >= 3 * ASK_AGAIN);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_was_given_up_and_claimed_is_lost() {
    let (_folder, data_dir, store, identity) = owned().await;
    claim::claim_after(&store, Some(identity.incarnation)).await.unwrap();
    let lost = resume(&settings(), &data_dir, &store, LANE, identity.given_up()).await;
    assert!(matches!(lost, Err(StartError::NotOurs { source: ClaimError::Fenced { .. }, .. })));
}

/// What an owner that exported nothing says in `latest`.
fn latest(incarnation: Incarnation, writer: &str, beat: u64, released: bool) -> Latest {
    Latest {
        v: VERSION.into(),
        incarnation,
        lane: LANE,
        index: 0,
        export: String::new(),
        root_position: 0,
        root_length: 0,
        root_crc: 0,
        writer: writer.into(),
        beat,
        released,
    }
}

async fn say(store: &SharedStore, latest: Latest) {
    store.overwrite(&names::latest(LANE), latest.encode().into()).await.unwrap();
}

/// Starts again on a data directory whose last process was "ours", the last writer being another one. How it went, and
/// the seconds that it took.
async fn resumed_after(writer: &'static str, released: bool, beats: bool) -> (Result<Held, StartError>, u64) {
    let store: SharedStore = Arc::new(ClockedStore::new(memory()));
    let cluster = claim::found_cluster(&store).await.unwrap();
    let own = claim::claim_after(&store, None).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data_dir = DataDir::open(folder.path()).unwrap();
    data_dir.writers().note(vec!["before".into()], "ours").unwrap();
    say(&store, latest(own, writer, 7, released)).await;
    let living = store.clone();
    let life = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(25)).await;
        if beats {
            say(&living, latest(own, writer, 8, false)).await;
        }
    });
    let began = tokio::time::Instant::now();
    let held = resume(&settings(), &data_dir, &store, LANE, DirectoryIdentity::held(cluster, own)).await;
    let seconds = began.elapsed().as_secs();
    life.abort();
    let copied = matches!(held, Err(StartError::NotOurs { source: ClaimError::Copied { .. }, .. }));
    let given_up = data_dir.identity().unwrap().is_some_and(|identity| identity.released);
    assert_eq!(given_up, copied, "it never serves unasked again");
    (held, seconds)
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_at_once_where_its_predecessor_wrote_last_or_the_bucket_was_given_up() {
    for (writer, released) in [("ours", false), ("before", false), ("", false), ("a copy's", true)] {
        let (held, seconds) = resumed_after(writer, released, false).await;
        assert!(held.unwrap().confirmed && seconds == 0, "{writer}: {seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_takes_nothing_from_a_living_process_with_a_copy_of_its_directory() {
    let (refused, seconds) = resumed_after("a copy's", false, true).await;
    let Err(error @ StartError::NotOurs { source: ClaimError::Copied { .. }, .. }) = refused else {
        panic!("it must be refused");
    };
    assert!(seconds <= 30 && error.to_string().contains("copy of this data directory"), "{seconds} s: {error}");
    let (held, seconds) = resumed_after("a copy's", false, false).await;
    assert!(held.is_ok() && seconds == 90, "it goes on once the copy's process must be gone: {seconds} s");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_gives_the_bucket_back_to_the_last_writer() {
    let store = memory();
    let cluster = claim::found_cluster(&store).await.unwrap();
    let own = claim::claim_after(&store, None).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let data_dir = Arc::new(DataDir::open(folder.path()).unwrap());
    data_dir.set_identity(&DirectoryIdentity::held(cluster, own)).unwrap();
    data_dir.writers().note(Vec::new(), "ours").unwrap();
    for released in [false, true] {
        say(&store, latest(own, "ours", 7, released)).await;
        let refused = start(&settings(), &data_dir, &store, LANE).await.err();
        assert!(matches!(refused, Some(StartError::NoCheckpoint { .. })), "{refused:?}");
        let said = heartbeat::read(&store, LANE).await.unwrap().unwrap();
        assert_eq!(said, latest(own, "ours", 9, released));
    }
}

/// Begins on a bucket whose owner, incarnation 1, has given it up, and which does not answer to the claim at first;
/// whether the owner is back by then. Says what was claimed, and how long everything took.
async fn begun_after(comes_back: bool) -> (Incarnation, Duration) {
    let faulty = Arc::new(FaultyStore::new(memory()));
    let store: SharedStore = faulty.clone();
    claim::found_cluster(&store).await.unwrap();
    let incarnation = claim::claim_after(&store, None).await.unwrap();
    say(&store, latest(incarnation, "", 5, true)).await;
    faulty.fail(StoreOperation::Create, "claims/", StoreFault::Before, 1);
    let owner = store.clone();
    let life = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if comes_back {
            say(&owner, latest(incarnation, "", 6, false)).await;
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let data_dir = Arc::new(DataDir::open(folder.path()).unwrap());
    let began = tokio::time::Instant::now();
    let held = begin(&settings(), &data_dir, &store, LANE).await.unwrap();
    life.await.unwrap();
    (held.ownership.incarnation(), began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_comes_back_between_the_look_and_the_claim_gets_time_to_notice() {
    let notice = OwnershipTimes::default().notice;
    let (incarnation, took) = begun_after(false).await;
    assert!(incarnation == Incarnation(2) && took < notice, "{took:?}");
    let (incarnation, took) = begun_after(true).await;
    assert!(incarnation == Incarnation(2) && took >= notice, "{took:?}");
}
