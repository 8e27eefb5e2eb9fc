//! What every backend of [`Store`](super::Store) has to do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::SystemTime;

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};

use super::{ObjectInfo, SharedStore, StoreError};

/// Runs the whole suite against an empty store; panics at the first thing that is not as promised.
pub async fn store_suite(store: SharedStore) {
    lets_one_of_racing_writers_win(&store).await;
    single_writer_suite(store).await;
}

/// The suite without races: for stand-ins that look before they write.
pub async fn single_writer_suite(store: SharedStore) {
    creates_once(&store).await;
    uploads_in_pieces(&store).await;
    reads_exact_ranges(&store).await;
    lists_in_order(&store).await;
    overwrites_and_deletes(&store).await;
    reports_what_is_missing(&store).await;
}

/// What takes a store some seconds: an object of a segment's size, and a listing of several pages.
pub async fn large_store_suite(store: SharedStore) {
    keeps_an_object_of_64_mebibytes(&store).await;
    uploads_an_object_of_many_parts(&store).await;
    lists_more_than_a_page(&store).await;
}

async fn keeps_an_object_of_64_mebibytes(store: &SharedStore) {
    const PART: usize = 4 << 20;
    let parts: Vec<_> = (0..16u32)
        .map(|part| (0..PART as u32 / 4).flat_map(|word| (word ^ part << 24).to_le_bytes()).collect::<Bytes>())
        .collect();
    let key = "suite/large/object";
    store.create(key, parts.clone()).await.unwrap();
    store.create(key, parts.clone()).await.expect("the same bytes again are success");
    assert_eq!(store.info(key).await.unwrap().size, 64 << 20);
    let whole = store.read(key, None).await.unwrap();
    assert!(whole == parts.concat(), "64 MiB come back as they were");
    let across = store.read(key, Some(PART as u64 - 3..PART as u64 + 5)).await.unwrap();
    assert_eq!(across, whole.slice(PART - 3..PART + 5));
    let mut other = parts.clone();
    other[15] = Bytes::from(vec![0; PART]);
    let error = store.create(key, other).await.unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
}

async fn uploads_an_object_of_many_parts(store: &SharedStore) {
    let pieces: Vec<_> = (0..7u32).map(|at| Bytes::from(vec![at as u8; (5 << 20) + at as usize])).collect();
    let key = "suite/large/upload";
    let mut upload = store.upload(key).await.unwrap();
    for piece in &pieces {
        upload.add(piece.clone()).await.unwrap();
    }
    upload.finish().await.unwrap();
    assert!(store.read(key, None).await.unwrap() == pieces.concat(), "35 MiB come back as they were");
}

async fn uploads_in_pieces(store: &SharedStore) {
    let absent = async |key| matches!(store.info(key).await, Err(StoreError::NotFound { .. }));
    let (whole, aborted, dropped) = ("suite/upload/whole", "suite/upload/aborted", "suite/upload/dropped");
    let mut upload = store.upload(whole).await.unwrap();
    for piece in ["some ", "", "pieces"] {
        upload.add(Bytes::from_static(piece.as_bytes())).await.unwrap();
    }
    assert!(absent(whole).await, "nothing is there before the end");
    upload.finish().await.unwrap();
    assert_eq!(store.read(whole, None).await.unwrap(), "some pieces");
    for key in [aborted, dropped] {
        let mut upload = store.upload(key).await.unwrap();
        upload.add(Bytes::from_static(b"bytes")).await.unwrap();
        if key == aborted {
            upload.abort().await;
        }
        assert!(absent(key).await);
    }
    let names: Vec<_> = store.list("suite/upload/").await.unwrap().into_iter().map(|object| object.key).collect();
    assert_eq!(names, [whole]);
}

async fn lists_more_than_a_page(store: &SharedStore) {
    let mut keys: Vec<_> =
        (0..1100u32).map(|n| format!("suite/pages/{:02x}/{n:08x}", n.wrapping_mul(97) & 0xff)).collect();
    let creates = stream::iter(&keys).map(|key| store.create(key, vec![Bytes::from(key.clone())]));
    creates.buffer_unordered(16).try_collect::<()>().await.unwrap();
    keys.sort_unstable();
    let listed = store.list("suite/pages/").await.unwrap();
    let names: Vec<_> = listed.into_iter().map(|object| object.key).collect();
    assert!(names == keys, "{} of {} names, in their order", names.len(), keys.len());
}

async fn creates_once(store: &SharedStore) {
    let parts = || vec![Bytes::from_static(b"one "), Bytes::new(), Bytes::from_static(b"object")];
    store.create("suite/once/a", parts()).await.unwrap();
    store.create("suite/once/a", parts()).await.expect("the same bytes again are success");
    for other in [&b"one objecT"[..], b"one", b""] {
        let error = store.create("suite/once/a", vec![Bytes::from_static(other)]).await.unwrap_err();
        assert!(matches!(error, StoreError::Exists { key } if key == "suite/once/a"));
    }
    assert_eq!(store.read("suite/once/a", None).await.unwrap(), "one object");
    store.create("suite/once/empty", vec![]).await.unwrap();
    assert_eq!(store.info("suite/once/empty").await.unwrap().size, 0);
    assert!(store.read("suite/once/empty", None).await.unwrap().is_empty());
}

async fn lets_one_of_racing_writers_win(store: &SharedStore) {
    for round in 0..16 {
        let key = format!("suite/race/{round:02}/name");
        let writers = (0..8u8).map(|writer| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move { store.create(&key, vec![Bytes::from(vec![writer; 1000])]).await })
        });
        let results: Vec<_> = join_all(writers).await.into_iter().map(Result::unwrap).collect();
        let winners: Vec<_> = (0..8u8).filter(|writer| results[usize::from(*writer)].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        let lost = |result: &&Result<(), StoreError>| matches!(result, Err(StoreError::Exists { .. }));
        assert_eq!(results.iter().filter(lost).count(), 7, "{results:?}");
        assert_eq!(store.read(&key, None).await.unwrap(), vec![winners[0]; 1000]);
    }
}

async fn reads_exact_ranges(store: &SharedStore) {
    let key = "suite/range";
    store.create(key, vec![Bytes::from_static(b"0123456789")]).await.unwrap();
    assert_eq!(store.read(key, Some(0..10)).await.unwrap(), "0123456789");
    assert_eq!(store.read(key, Some(3..5)).await.unwrap(), "34");
    assert_eq!(store.read(key, Some(9..10)).await.unwrap(), "9");
    assert!(store.read(key, Some(4..4)).await.unwrap().is_empty());
    for beyond in [0..11, 9..11, 10..11, 50..60] {
        let error = store.read(key, Some(beyond)).await.unwrap_err();
        assert!(matches!(error, StoreError::BeyondEnd { size: 10, .. }), "{error}");
    }
    let error = store.read(key, Some(0..u64::MAX)).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
}

async fn lists_in_order(store: &SharedStore) {
    let keys = ["suite/list/a/2", "suite/list/b", "suite/list/a/10", "suite/list/a-b", "suite/listing/c"];
    for key in keys {
        store.create(key, vec![Bytes::from_static(b"xyz")]).await.unwrap();
    }
    let listed = store.list("suite/list/").await.unwrap();
    let names: Vec<_> = listed.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(names, ["suite/list/a-b", "suite/list/a/10", "suite/list/a/2", "suite/list/b"]);
    for (after, first) in [("suite/list/a-b", 1), ("suite/list/a/10", 2), ("suite/list/a/11", 2), ("suite/list/z", 4)] {
        let rest = store.list_after("suite/list/", after).await.unwrap();
        assert_eq!(rest, listed[first..], "after {after}");
    }
    for object in &listed {
        assert_eq!(object.size, 3);
        let info = store.info(&object.key).await.unwrap();
        assert_eq!((&info.key, info.size), (&object.key, object.size));
        // A store may list finer times than it answers for one object.
        let seconds =
            |object: &ObjectInfo| object.last_modified.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(seconds(&info), seconds(object));
    }
    assert_eq!(pages(store, "suite/list/").await, listed);
    assert!(store.list("suite/nothing/").await.unwrap().is_empty());
    assert!(pages(store, "suite/nothing/").await.is_empty());
    assert!(store.list("suite/lis/").await.unwrap().is_empty());
}

async fn pages(store: &SharedStore, prefix: &str) -> Vec<ObjectInfo> {
    let pages: Vec<_> = store.pages(prefix).try_collect().await.unwrap();
    let mut objects = pages.concat();
    objects.sort_by(|a, b| a.key.cmp(&b.key));
    objects
}

async fn overwrites_and_deletes(store: &SharedStore) {
    let key = "suite/latest";
    store.overwrite(key, Bytes::from_static(b"first")).await.unwrap();
    store.overwrite(key, Bytes::from_static(b"2nd")).await.unwrap();
    assert_eq!(store.read(key, None).await.unwrap(), "2nd");
    store.delete(key).await.unwrap();
    store.delete(key).await.expect("what is not there counts as deleted");
    assert!(matches!(store.read(key, None).await, Err(StoreError::NotFound { .. })));
}

async fn reports_what_is_missing(store: &SharedStore) {
    for error in [
        store.read("suite/absent/x", None).await.unwrap_err(),
        store.read("suite/absent/x", Some(0..4)).await.unwrap_err(),
        store.info("suite/absent/x").await.unwrap_err(),
    ] {
        assert!(matches!(&error, StoreError::NotFound { key } if key == "suite/absent/x"), "{error}");
    }
    let odd = store.create("suite//odd", vec![]).await.unwrap_err();
    assert!(matches!(odd, StoreError::Unavailable { operation, .. } if operation == "naming"));
}
