//! What every backend of [`Queue`](super::Queue) has to do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Delivery, SharedQueue};

const VISIBILITY: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(10);

/// Runs the whole suite against an empty queue; panics at the first thing that is not as promised.
pub async fn queue_suite(queue: SharedQueue) {
    delivers_everything(&queue).await;
    delivers_again_what_is_not_acknowledged(&queue).await;
    keeps_hidden_what_is_extended(&queue).await;
    releases_and_buries(&queue).await;
    ignores_old_receipts(&queue).await;
    wakes_a_waiting_receiver(&queue).await;
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 0), "every part cleans up");
}

async fn receive_one(queue: &SharedQueue) -> Delivery {
    queue
        .receive(1, VISIBILITY, LONG)
        .await
        .unwrap()
        .pop()
        .expect("a message comes")
}

async fn assert_nothing_comes(queue: &SharedQueue) {
    assert!(queue.receive(1, VISIBILITY, Duration::ZERO).await.unwrap().is_empty());
}

async fn delivers_everything(queue: &SharedQueue) {
    let bodies: BTreeSet<_> = (0..25).map(|number| format!("{{\"number\":{number}}}")).collect();
    for body in &bodies {
        queue.send(body.clone()).await.unwrap();
    }
    let mut seen = BTreeSet::new();
    while seen.len() < bodies.len() {
        let deliveries = queue.receive(10, LONG, LONG).await.unwrap();
        assert!(!deliveries.is_empty() && deliveries.len() <= 10);
        for delivery in deliveries {
            assert!(bodies.contains(&delivery.body));
            seen.insert(delivery.body);
            queue.acknowledge(&delivery.receipt).await.unwrap();
        }
    }
    assert_nothing_comes(queue).await;
}

async fn delivers_again_what_is_not_acknowledged(queue: &SharedQueue) {
    queue.send("again".into()).await.unwrap();
    for receives in 1..=5 {
        let delivery = receive_one(queue).await;
        assert_eq!((delivery.body.as_str(), delivery.receives), ("again", receives));
        assert_nothing_comes(queue).await;
        let depth = queue.depth().await.unwrap();
        assert_eq!((depth.visible, depth.in_flight), (0, 1));
    }
    let last = receive_one(queue).await;
    queue.acknowledge(&last.receipt).await.unwrap();
}

async fn keeps_hidden_what_is_extended(queue: &SharedQueue) {
    queue.send("slow".into()).await.unwrap();
    let delivery = receive_one(queue).await;
    for _ in 0..3 {
        queue.extend(&delivery.receipt, VISIBILITY * 3).await.unwrap();
        assert!(queue.receive(1, VISIBILITY, VISIBILITY * 2).await.unwrap().is_empty());
    }
    queue.acknowledge(&delivery.receipt).await.unwrap();
    assert!(queue.receive(1, VISIBILITY, VISIBILITY * 4).await.unwrap().is_empty());
}

async fn releases_and_buries(queue: &SharedQueue) {
    queue.send("bad".into()).await.unwrap();
    let first = receive_one(queue).await;
    queue.release(&first.receipt).await.unwrap();
    let second = queue
        .receive(1, LONG, Duration::ZERO)
        .await
        .unwrap()
        .pop()
        .expect("a released message is visible");
    queue.bury(&second.receipt, "its kind is unknown").await.unwrap();
    assert_nothing_comes(queue).await;
}

async fn ignores_old_receipts(queue: &SharedQueue) {
    queue.send("handed on".into()).await.unwrap();
    let first = receive_one(queue).await;
    let second = receive_one(queue).await;
    assert_ne!(first.receipt, second.receipt);
    queue.release(&first.receipt).await.unwrap();
    queue.extend(&first.receipt, LONG * 10).await.unwrap();
    assert_nothing_comes(queue).await;
    queue.acknowledge(&second.receipt).await.unwrap();
}

async fn wakes_a_waiting_receiver(queue: &SharedQueue) {
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { receive_one(&queue).await }
    });
    tokio::task::yield_now().await;
    queue.send("come".into()).await.unwrap();
    let delivery = waiting.await.unwrap();
    assert_eq!(delivery.body, "come");
    queue.acknowledge(&delivery.receipt).await.unwrap();
}
