//! What every backend of [`Store`](super::Store) has to do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::join_all;

use super::{ObjectInfo, SharedStore, StoreError};

/// Runs the whole suite against an empty store; panics at the first thing that is not as promised.
pub async fn store_suite(store: SharedStore) {
    creates_once(&store).await;
    lets_one_of_racing_writers_win(&store).await;
    reads_exact_ranges(&store).await;
    lists_in_order(&store).await;
    overwrites_and_deletes(&store).await;
    reports_what_is_missing(&store).await;
}

async fn creates_once(store: &SharedStore) {
    let parts = || vec![Bytes::from_static(b"one "), Bytes::new(), Bytes::from_static(b"object")];
    store.create("suite/once/a", parts()).await.unwrap();
    store
        .create("suite/once/a", parts())
        .await
        .expect("the same bytes again are success");
    for other in [&b"one objecT"[..], b"one", b""] {
        let error = store
            .create("suite/once/a", vec![Bytes::from_static(other)])
            .await
            .unwrap_err();
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
        let winners: Vec<_> = (0..8u8)
            .filter(|writer| results[usize::from(*writer)].is_ok())
            .collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        let lost = |result: &&Result<(), StoreError>| matches!(result, Err(StoreError::Exists { .. }));
        assert_eq!(results.iter().filter(lost).count(), 7, "{results:?}");
        assert_eq!(store.read(&key, None).await.unwrap(), vec![winners[0]; 1000]);
    }
}

async fn reads_exact_ranges(store: &SharedStore) {
    let key = "suite/range";
    store
        .create(key, vec![Bytes::from_static(b"0123456789")])
        .await
        .unwrap();
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
    let keys = [
        "suite/list/a/2",
        "suite/list/b",
        "suite/list/a/10",
        "suite/list/a-b",
        "suite/listing/c",
    ];
    for key in keys {
        store.create(key, vec![Bytes::from_static(b"xyz")]).await.unwrap();
    }
    let listed = store.list("suite/list/").await.unwrap();
    let names: Vec<_> = listed.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(
        names,
        ["suite/list/a-b", "suite/list/a/10", "suite/list/a/2", "suite/list/b"]
    );
    for object in &listed {
        assert_eq!(object.size, 3);
        assert_eq!(*object, store.info(&object.key).await.unwrap());
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
        assert!(
            matches!(&error, StoreError::NotFound { key } if key == "suite/absent/x"),
            "{error}"
        );
    }
    let odd = store.create("suite//odd", vec![]).await.unwrap_err();
    assert!(matches!(
        odd,
        StoreError::Unavailable {
            operation: "naming",
            ..
        }
    ));
}
