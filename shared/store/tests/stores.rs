//! The bucket on real servers, and through a proxy that does to requests what networks and stores do. The addresses are
//! in the environment: `python -m servers run cargo test --features servers` (from `tests`) puts them there.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use bytes::Bytes;
use chronik_store::setting::BucketSettings;
use chronik_store::suite::{large_store_suite, single_writer_suite, store_suite};
use chronik_store::{BucketAccess, SharedStore, StoreError};
use clap::Parser;
use serde_json::json;
use ulid::Ulid;

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    bucket: BucketSettings,
}

fn address(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: no server was started"))
}

/// The bucket that the flags name.
async fn bucket(flags: &str) -> SharedStore {
    let arguments = std::iter::once("program").chain(flags.split_whitespace());
    let settings = Program::parse_from(arguments).bucket;
    settings.open(Path::new("."), BucketAccess::Owner).await.unwrap()
}

/// Flags for the S3 server at an address; a later flag would be a second one, so that changes replace.
fn s3(url: &str, changes: &[(&str, &str)]) -> String {
    let prefix = Ulid::new().to_string();
    let mut flags = vec![
        ("object-store-backend", "s3"),
        ("s3-endpoint", url),
        ("s3-region", "us-east-1"),
        ("s3-bucket", "chronik"),
        ("s3-access-key", "chronik-tests"),
        ("s3-secret-key", "chronik-tests-secret"),
        ("s3-prefix", &prefix),
    ];
    for (name, value) in changes {
        flags.retain(|(known, _)| known != name);
        flags.push((name, value));
    }
    flags.iter().map(|(name, value)| format!("--{name}={value} ")).collect()
}

async fn passes(store: SharedStore) {
    store_suite(store.clone()).await;
    large_store_suite(store).await;
}

/// moto looks whether an object is there before it writes it: two racing writers may both win.
async fn passes_without_races(store: SharedStore) {
    single_writer_suite(store.clone()).await;
    large_store_suite(store).await;
}

#[tokio::test]
async fn minio() {
    passes(bucket(&s3(&address("CHRONIK_TEST_MINIO"), &[])).await).await;
}

#[tokio::test]
async fn moto() {
    passes_without_races(bucket(&s3(&address("CHRONIK_TEST_MOTO"), &[])).await).await;
}

#[tokio::test]
async fn azurite() {
    address("AZURITE_BLOB_STORAGE_URL");
    let prefix = Ulid::new();
    let flags =
        format!("--object-store-backend=azure --azure-use-emulator --azure-container=chronik --azure-prefix={prefix}");
    passes(bucket(&flags).await).await;
}

#[tokio::test]
async fn google_cloud_storage_as_far_as_a_translator_goes() {
    address("GOOGLE_SERVICE_ACCOUNT_KEY");
    let prefix = Ulid::new();
    let flags = format!("--object-store-backend=gcs --gcs-bucket=chronik --gcs-prefix={prefix}");
    passes_without_races(bucket(&flags).await).await;
}

#[tokio::test]
async fn a_prefix_keeps_clusters_apart() {
    let url = address("CHRONIK_TEST_MINIO");
    let outer = Ulid::new().to_string();
    let (left, right) = (format!("{outer}/left"), format!("{outer}/right/"));
    let left = bucket(&s3(&url, &[("s3-prefix", &left)])).await;
    let right = bucket(&s3(&url, &[("s3-prefix", &right)])).await;
    left.create("a/b", vec![Bytes::from_static(b"left")]).await.unwrap();
    right.create("a/b", vec![Bytes::from_static(b"right")]).await.unwrap();
    assert_eq!(left.read("a/b", None).await.unwrap(), "left");
    let outside = bucket(&s3(&url, &[("s3-prefix", &outer)])).await;
    let names: Vec<_> = outside.list("").await.unwrap().into_iter().map(|object| object.key).collect();
    assert_eq!(names, ["left/a/b", "right/a/b"]);
}

#[tokio::test]
async fn what_an_operator_got_wrong_is_named() {
    let minio = address("CHRONIK_TEST_MINIO");
    for (url, changes, words) in [
        (minio.as_str(), &[("s3-secret-key", "wrong-secret")][..], ["S3_SECRET_KEY", "SignatureDoesNotMatch"]),
        (&minio, &[("s3-access-key", "nobody")], ["S3_ACCESS_KEY", "InvalidAccessKeyId"]),
        (&minio, &[("s3-bucket", "absent")], ["S3_BUCKET", "absent"]),
        (&address("CHRONIK_TEST_MOTO"), &[("s3-bucket", "absent")], ["S3_BUCKET", "absent"]),
        ("http://127.0.0.1:9", &[], ["S3_ENDPOINT", "127.0.0.1:9"]),
    ] {
        let store = bucket(&s3(url, changes)).await;
        for error in [
            store.read("cluster.json", None).await.unwrap_err(),
            store.create("cluster.json", vec![Bytes::from_static(b"x")]).await.unwrap_err(),
            store.list("claims/").await.unwrap_err(),
        ] {
            let told = error.to_string();
            assert!(matches!(error, StoreError::Unavailable { .. }), "{told}");
            assert!(words.iter().all(|word| told.contains(word)), "{told}");
            assert!(!told.contains("wrong-secret"), "{told}");
        }
    }
    let azure = "--object-store-backend=azure --azure-use-emulator --azure-container=absent";
    let told = bucket(azure).await.read("cluster.json", None).await.unwrap_err().to_string();
    assert!(told.contains("AZURE_CONTAINER"), "{told}");
}

/// The proxy's script; it is one for the whole proxy, so one test goes through it.
async fn script(proxy: &str, lines: &[(&str, &str, usize)]) {
    let lines: Vec<_> = lines
        .iter()
        .map(|(method, fault, times)| json!({"method": method, "path": "", "fault": fault, "after": 0, "times": times}))
        .collect();
    let put = reqwest::Client::new().put(format!("{proxy}/-/script")).json(&lines);
    put.send().await.unwrap().error_for_status().unwrap();
}

#[tokio::test]
async fn through_faults() {
    let proxy = address("CHRONIK_TEST_FAULTS");
    let store = bucket(&s3(&proxy, &[])).await;
    script(&proxy, &[]).await;
    creates_are_what_the_store_says(&proxy, &store).await;
    reads_bring_all_bytes_or_none(&proxy, &store).await;
    a_slow_store_is_waited_for(&proxy, &store).await;
    a_store_that_is_gone_is_told_and_comes_back(&proxy, &store).await;
}

async fn creates_are_what_the_store_says(proxy: &str, store: &SharedStore) {
    let ours = || vec![Bytes::from_static(b"our "), Bytes::from_static(b"bytes")];
    for (fault, applied) in
        [("error_after", true), ("cut_after", true), ("conflict", true), ("slow_down", true), ("cut_before", false)]
    {
        let key = format!("free/{fault}");
        script(proxy, &[("PUT", fault, 1)]).await;
        let created = store.create(&key, ours()).await;
        if applied {
            created.unwrap_or_else(|error| panic!("{fault}: {error}"));
        }
        script(proxy, &[]).await;
        store.create(&key, ours()).await.unwrap();
        assert_eq!(store.read(&key, None).await.unwrap(), "our bytes", "{fault}");

        let key = format!("taken/{fault}");
        store.create(&key, vec![Bytes::from_static(b"their byte")]).await.unwrap();
        script(proxy, &[("PUT", fault, 1)]).await;
        let error = store.create(&key, ours()).await.unwrap_err();
        assert!(matches!(error, StoreError::Exists { .. }), "{fault}: {error}");
        assert_eq!(store.read(&key, None).await.unwrap(), "their byte", "{fault}");
    }
    // Two writers that S3 refuses for each other's sake, for longer than a try takes.
    script(proxy, &[("PUT", "conflict", 3)]).await;
    store.create("free/contested", ours()).await.unwrap();
    assert_eq!(store.read("free/contested", None).await.unwrap(), "our bytes");
}

async fn reads_bring_all_bytes_or_none(proxy: &str, store: &SharedStore) {
    let bytes: Bytes = (0..1 << 20u32).map(|n| ((n * 7) >> 3) as u8).collect();
    script(proxy, &[]).await;
    store.create("read/object", vec![bytes.clone()]).await.unwrap();
    for (fault, times) in [("cut_within", 1), ("cut_before", 2), ("slow_down", 3), ("trickle", 1)] {
        script(proxy, &[("GET", fault, times)]).await;
        let read = store.read("read/object", None).await;
        assert!(read.as_ref().is_ok_and(|read| *read == bytes), "{fault}: {:?}", read.map(|read| read.len()));
    }
}

async fn a_slow_store_is_waited_for(proxy: &str, store: &SharedStore) {
    script(proxy, &[("", "slow_down", 3)]).await;
    store.overwrite("slow/latest", Bytes::from_static(b"1")).await.unwrap();
    script(proxy, &[("", "slow_down", 3)]).await;
    assert_eq!(store.list("slow/").await.unwrap().len(), 1);
    script(proxy, &[("", "slow_down", 3)]).await;
    assert_eq!(store.info("slow/latest").await.unwrap().size, 1);
    script(proxy, &[("", "slow_down", 3)]).await;
    store.delete("slow/latest").await.unwrap();
    assert!(matches!(store.info("slow/latest").await, Err(StoreError::NotFound { .. })));
}

async fn a_store_that_is_gone_is_told_and_comes_back(proxy: &str, store: &SharedStore) {
    script(proxy, &[("", "slow_down", 1 << 30)]).await;
    let bytes = || vec![Bytes::from_static(b"x")];
    let told = store.create("gone/object", bytes()).await.unwrap_err().to_string();
    assert!(told.contains("503 SlowDown"), "{told}");
    script(proxy, &[("", "cut_before", 1 << 30)]).await;
    for error in [
        store.create("gone/object", bytes()).await.unwrap_err(),
        store.info("gone/object").await.unwrap_err(),
        store.list("gone/").await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    }
    script(proxy, &[]).await;
    store.create("gone/object", bytes()).await.unwrap();
}

#[tokio::test]
async fn a_store_that_ignores_create_only_shows_at_the_second_create() {
    let store = bucket(&s3(&address("CHRONIK_TEST_CARELESS"), &[])).await;
    store.create("twice", vec![Bytes::from_static(b"one")]).await.unwrap();
    store.create("twice", vec![Bytes::from_static(b"two")]).await.unwrap();
    assert_eq!(store.read("twice", None).await.unwrap(), "two");
}
