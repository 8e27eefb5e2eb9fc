#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use prometheus::IntGauge;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::memory::MemoryTail;
use super::suite::{TailOwner, batch_at, tail_suite};
use super::*;
use chronik_format::batch::pack;
use chronik_service::http_client::HttpClient;
use chronik_service::loopback::{LoopbackServer, client, endpoints};
use chronik_service::problem::HttpProblem;
use chronik_service::telemetry::Metrics;

fn held() -> IntGauge {
    Metrics::new().gauge("held", "Bytes.")
}

/// A broker's tail over HTTP.
async fn served(tail: &Arc<MemoryTail>) -> LoopbackServer {
    LoopbackServer::serving(routes(tail.clone(), CancellationToken::new(), held())).await
}

fn remote(servers: &[&LoopbackServer]) -> RemoteTail {
    RemoteTail::new(&endpoints(servers.iter().copied()), client())
}

/// A copy that is kept up to date until the token is cancelled.
fn followed(tail: SharedTail, limits: FollowLimits) -> (Arc<FollowedTail>, CancellationToken) {
    let (followed, follower) = FollowedTail::new(tail, limits, &Metrics::new());
    let cancel = CancellationToken::new();
    tokio::spawn(follower.run(cancel.clone()));
    (Arc::new(followed), cancel)
}

fn is_unavailable(error: &TailError) -> bool {
    matches!(error, TailError::Unavailable { .. })
}

#[tokio::test]
async fn a_tail_in_memory_passes() {
    let tail = Arc::new(MemoryTail::default());
    tail_suite(&*tail, tail.clone()).await;
}

#[tokio::test]
async fn a_tail_over_http_passes() {
    let tail = Arc::new(MemoryTail::default());
    let server = served(&tail).await;
    tail_suite(&*tail, Arc::new(remote(&[&server]))).await;
}

#[tokio::test]
async fn a_followed_tail_passes() {
    let tail = Arc::new(MemoryTail::default());
    let (copy, cancel) = followed(tail.clone(), FollowLimits::default());
    tail_suite(&*tail, copy).await;
    cancel.cancel();
}

#[tokio::test]
async fn a_followed_tail_over_http_passes() {
    let tail = Arc::new(MemoryTail::default());
    let server = served(&tail).await;
    for bytes in [0, 700, 1 << 20] {
        let limits = FollowLimits { bytes, ..FollowLimits::default() };
        let (copy, cancel) = followed(Arc::new(remote(&[&server])), limits);
        let owner = MemoryTail::default();
        tail.change(|state| *state = owner.change(std::mem::take));
        tail_suite(&*tail, copy).await;
        cancel.cancel();
    }
}

#[tokio::test]
async fn the_next_address_is_asked_if_one_does_not_answer_like_a_broker() {
    let tail = Arc::new(MemoryTail::default());
    let id = tail.create("events", 1).await;
    tail.append(id, 0, 3).await;
    let good = served(&tail).await;
    let mut damaged = batch_at(0, 3).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    for bad in [
        LoopbackServer::dead().await,
        LoopbackServer::answering(b"<html>it works</html>").await,
        LoopbackServer::saying(&b"220 smtp.example.org ESMTP\r\n"[..]).await,
        LoopbackServer::saying(&b"HTTP/1.1 500 Oops\r\ncontent-length: 2\r\n\r\n{}"[..]).await,
        LoopbackServer::saying(&b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"[..]).await,
        LoopbackServer::saying(&b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"[..]).await,
        LoopbackServer::breaking_off(&pack(&[batch_at(0, 3)])).await,
        LoopbackServer::answering(&pack(&[batch_at(0, 3)])[..50]).await,
        LoopbackServer::answering(&pack(&[damaged.into()])).await,
        LoopbackServer::answering(&pack(&[batch_at(0, 1)])).await,
        LoopbackServer::saying(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", u64::MAX)).await,
    ] {
        let alone = remote(&[&bad]);
        let error = alone.read(id, 0, 2, 1).await.unwrap_err();
        assert!(is_unavailable(&error), "{error}");
        assert!(is_unavailable(&alone.topic("events").await.unwrap_err()));
        let both = remote(&[&bad, &good]);
        assert_eq!(both.read(id, 0, 2, 1).await.unwrap(), [batch_at(0, 3)]);
        assert_eq!(both.topics().await.unwrap(), ["events"]);
    }
}

#[tokio::test]
async fn an_address_that_hangs_is_given_up() {
    let tail = Arc::new(MemoryTail::default());
    tail.create("events", 1).await;
    let (hanging, good) = (LoopbackServer::hanging().await, served(&tail).await);
    let both = remote(&[&hanging, &good]);
    assert!(both.topic("events").await.unwrap().is_some());
}

#[tokio::test]
async fn what_the_broker_says_is_not_taken_for_silence() {
    let tail = Arc::new(MemoryTail::default());
    let id = tail.create("events", 1).await;
    tail.append(id, 0, 3).await;
    tail.ship().await;
    let server = served(&tail).await;
    let remote = remote(&[&server, &LoopbackServer::dead().await]);
    let error = remote.read(id, 0, 2, 1).await.unwrap_err();
    assert!(matches!(error, TailError::TooOld { from: 2, start: 3 }), "{error}");
    assert_eq!(remote.topic("nothing").await.unwrap(), None);
    tail.change(|state| state.unplugged = true);
    let error = remote.topic("events").await.unwrap_err();
    assert!(is_unavailable(&error) && error.to_string().contains("unplugged"), "{error}");
}

#[tokio::test]
async fn a_wrong_token_is_no_answer() {
    async fn guard(request: Request, next: Next) -> Response {
        match request.headers().get(AUTHORIZATION) {
            Some(token) if token == "Bearer right" => next.run(request).await,
            _ => HttpProblem::new(401, "unauthorized", "the token is wrong").into_response(),
        }
    }
    let tail = Arc::new(MemoryTail::default());
    tail.create("events", 1).await;
    let guarded = routes(tail.clone(), CancellationToken::new(), held()).layer(from_fn(guard));
    let server = LoopbackServer::serving(guarded).await;
    for (token, passes) in [(None, false), (Some("wrong"), false), (Some("right"), true)] {
        let client = HttpClient::new(token).unwrap();
        assert!(!format!("{client:?}").contains("right"));
        let asked = RemoteTail::new(&endpoints([&server]), client).topic("events").await;
        match asked {
            Ok(topic) => assert!(passes && topic.is_some()),
            Err(error) => assert!(!passes && is_unavailable(&error), "{error}"),
        }
    }
    assert!(HttpClient::new(Some("line\nbreak")).is_err());
}

#[tokio::test]
async fn requests_that_wait_end_when_the_process_stops() {
    let tail = Arc::new(MemoryTail::default());
    let id = tail.create("events", 1).await;
    let stopping = CancellationToken::new();
    let server = LoopbackServer::serving(routes(tail.clone(), stopping.clone(), held())).await;
    let remote = remote(&[&server]);
    stopping.cancel();
    let error = remote.moved(id, 0, Duration::from_secs(20)).await.unwrap_err();
    assert!(is_unavailable(&error), "{error}");
}

#[tokio::test]
async fn a_second_search_finds_the_copy() {
    let tail = Arc::new(MemoryTail::default());
    let id = tail.create("events", 2).await;
    for _ in 0..50 {
        tail.append(id, 0, 2).await;
    }
    let limits = FollowLimits { patience: Duration::from_secs(60), ..FollowLimits::default() };
    let (copy, cancel) = followed(tail.clone(), limits);
    copy.topic("events").await.unwrap();
    let reads = tail.change(|state| state.reads);
    for from in 0..100 {
        assert_eq!(copy.read(id, 0, from, 500).await.unwrap(), tail.read(id, 0, from, 500).await.unwrap());
    }
    assert_eq!(tail.change(|state| state.reads), reads + 100, "only those to compare with");
    tail.append(id, 1, 1).await;
    let position = copy.topic("events").await.unwrap().unwrap();
    assert_eq!(position.partitions[1].end, 1);
    let reads = tail.change(|state| state.reads);
    assert_eq!(copy.read(id, 1, 0, 1).await.unwrap().len(), 1);
    assert_eq!(tail.change(|state| state.reads), reads);
    cancel.cancel();
}

#[tokio::test(start_paused = true)]
async fn what_was_shipped_meanwhile_is_not_served_from_the_copy() {
    let tail = Arc::new(MemoryTail::default());
    let id = tail.create("events", 1).await;
    tail.append(id, 0, 3).await;
    let (copy, cancel) = followed(tail.clone(), FollowLimits::default());
    copy.topic("events").await.unwrap();
    tail.ship().await;
    tail.append(id, 0, 1).await;
    copy.topic("events").await.unwrap();
    let error = copy.read(id, 0, 2, 1).await.unwrap_err();
    assert!(matches!(error, TailError::TooOld { from: 2, start: 3 }), "{error}");
    cancel.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_not_searched_is_no_longer_followed() {
    let tail = Arc::new(MemoryTail::default());
    let id = tail.create("events", 1).await;
    tail.append(id, 0, 3).await;
    let limits = FollowLimits::default();
    let (copy, cancel) = followed(tail.clone(), limits);
    copy.topic("events").await.unwrap();
    tokio::time::sleep(limits.idle + Duration::from_secs(30)).await;
    tail.append(id, 0, 1).await;
    let reads = tail.change(|state| state.reads);
    copy.read(id, 0, 0, 1).await.unwrap();
    assert_eq!(tail.change(|state| state.reads), reads + 1, "the broker was asked");
    cancel.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_went_away_is_followed_again_from_the_start() {
    let tail = Arc::new(MemoryTail::default());
    let id = tail.create("events", 1).await;
    tail.append(id, 0, 3).await;
    let (copy, cancel) = followed(tail.clone(), FollowLimits::default());
    copy.topic("events").await.unwrap();
    tail.change(|state| state.unplugged = true);
    while copy.read(id, 0, 0, 1).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tail.change(|state| {
        state.unplugged = false;
        state.batches.insert((id, 0), vec![batch_at(0, 1), batch_at(1, 2)]);
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    copy.topic("events").await.unwrap();
    let reads = tail.change(|state| state.reads);
    assert_eq!(copy.read(id, 0, 0, 1).await.unwrap(), [batch_at(0, 1)]);
    assert_eq!(tail.change(|state| state.reads), reads);
    cancel.cancel();
}

#[tokio::test(start_paused = true)]
async fn without_a_follower_the_broker_is_asked() {
    let tail = Arc::new(MemoryTail::default());
    let id = tail.create("events", 1).await;
    tail.append(id, 0, 3).await;
    let (copy, follower) = FollowedTail::new(tail.clone(), FollowLimits::default(), &Metrics::new());
    drop(follower);
    for _ in 0..2 {
        assert!(copy.topic("events").await.unwrap().is_some());
        assert_eq!(copy.read(id, 0, 0, 1).await.unwrap(), [batch_at(0, 3)]);
    }
    let error = copy.moved(TopicId(Uuid::nil()), 0, Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, TailError::UnknownTopic { .. }), "{error}");
}
