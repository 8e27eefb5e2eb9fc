//! What every backend of [`Queue`](super::Queue) has to do. Where a queue runs on real time, a message is held far
//! longer than the step takes; only two steps wait for a hold to end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use super::MESSAGE_BYTES_MAX;
use super::{QueueDelivery, QueueDepth, QueueError, RECEIVES_MAX, SharedQueue};

/// A hold that ends soon.
const BRIEF: Duration = Duration::from_secs(1);
/// A hold that ends while the suite waits, and not before it could be extended.
const SHORT: Duration = Duration::from_secs(8);
/// A hold that does not end while the suite runs.
const LONG: Duration = Duration::from_secs(600);
/// How long to wait for what must come.
const WAIT: Duration = Duration::from_secs(20);

/// Runs the whole suite against an empty queue; panics at the first thing that is not as promised. Leaves one dead
/// letter, [`BURIED`].
pub async fn queue_suite(queue: SharedQueue) {
    delivers_everything(&queue).await;
    refuses_what_is_too_large(&queue).await;
    hides_what_is_held_until_it_is_released(&queue).await;
    delivers_again_what_is_not_acknowledged(&queue).await;
    keeps_hidden_what_is_extended(&queue).await;
    buries(&queue).await;
    takes_no_offence_at_old_receipts(&queue).await;
    wakes_a_waiting_receiver(&queue).await;
    outlives_a_receiver_that_gave_up(&queue).await;
    assert_eq!(queue.depth().await.unwrap(), QueueDepth::default(), "every part cleans up");
}

/// The message that the suite buries, and why.
pub const BURIED: (&str, &str) = ("bad \u{e9}", "its kind is unknown: \u{e9}\u{1f980}");

async fn receive_one(queue: &SharedQueue, visibility: Duration) -> QueueDelivery {
    queue.receive(1, visibility, WAIT).await.unwrap().pop().expect("a message comes")
}

async fn assert_nothing_comes(queue: &SharedQueue, wait: Duration) {
    assert_eq!(queue.receive(1, LONG, wait).await.unwrap(), []);
}

async fn delivers_everything(queue: &SharedQueue) {
    let bodies: BTreeSet<_> = (0..25).map(|number| format!("{{\"number\":{number}}}")).collect();
    for body in &bodies {
        queue.send(body.clone()).await.unwrap();
    }
    let mut seen = BTreeSet::new();
    while seen.len() < bodies.len() {
        let deliveries = queue.receive(10, LONG, WAIT).await.unwrap();
        assert!(!deliveries.is_empty() && deliveries.len() <= 10);
        for delivery in deliveries {
            assert!(bodies.contains(&delivery.body));
            seen.insert(delivery.body);
            queue.acknowledge(&delivery.receipt).await.unwrap();
        }
    }
    assert_nothing_comes(queue, Duration::ZERO).await;
}

async fn refuses_what_is_too_large(queue: &SharedQueue) {
    let largest = "x".repeat(MESSAGE_BYTES_MAX);
    assert!(matches!(queue.send(format!("{largest}x")).await, Err(QueueError::TooLarge { .. })));
    queue.send(largest.clone()).await.unwrap();
    let delivery = receive_one(queue, LONG).await;
    assert!(delivery.body == largest, "the largest message comes whole");
    queue.acknowledge(&delivery.receipt).await.unwrap();
}

async fn hides_what_is_held_until_it_is_released(queue: &SharedQueue) {
    queue.send("held".into()).await.unwrap();
    for receives in 1..=RECEIVES_MAX {
        let delivery = receive_one(queue, LONG).await;
        assert_eq!((delivery.body.as_str(), delivery.receives), ("held", receives));
        assert_nothing_comes(queue, Duration::ZERO).await;
        let held = QueueDepth { visible: 0, in_flight: 1 };
        assert_eq!(queue.depth().await.unwrap(), held);
        queue.release(&delivery.receipt).await.unwrap();
    }
    let last = receive_one(queue, LONG).await;
    queue.acknowledge(&last.receipt).await.unwrap();
}

async fn delivers_again_what_is_not_acknowledged(queue: &SharedQueue) {
    queue.send("again".into()).await.unwrap();
    receive_one(queue, BRIEF).await;
    let again = receive_one(queue, LONG).await;
    assert_eq!((again.body.as_str(), again.receives), ("again", 2));
    queue.acknowledge(&again.receipt).await.unwrap();
}

async fn keeps_hidden_what_is_extended(queue: &SharedQueue) {
    queue.send("slow".into()).await.unwrap();
    let delivery = receive_one(queue, SHORT).await;
    queue.extend(&delivery.receipt, LONG).await.unwrap();
    assert_nothing_comes(queue, SHORT * 5 / 4).await;
    queue.acknowledge(&delivery.receipt).await.unwrap();
}

async fn buries(queue: &SharedQueue) {
    let (body, reason) = BURIED;
    queue.send(body.into()).await.unwrap();
    let delivery = receive_one(queue, LONG).await;
    assert_eq!(delivery.body, body);
    queue.bury(&delivery, reason).await.unwrap();
    assert_nothing_comes(queue, Duration::ZERO).await;
    assert_eq!(queue.depth().await.unwrap(), QueueDepth::default());
}

async fn takes_no_offence_at_old_receipts(queue: &SharedQueue) {
    queue.send("handed on".into()).await.unwrap();
    let first = receive_one(queue, BRIEF).await;
    let second = receive_one(queue, LONG).await;
    assert_ne!(first.receipt, second.receipt);
    queue.extend(&first.receipt, LONG).await.unwrap();
    queue.release(&first.receipt).await.unwrap();
    queue.acknowledge(&first.receipt).await.unwrap();
    for _ in 0..2 {
        queue.acknowledge(&second.receipt).await.unwrap();
    }
    queue.extend(&second.receipt, LONG).await.unwrap();
    queue.release(&second.receipt).await.unwrap();
    assert_nothing_comes(queue, Duration::ZERO).await;
}

async fn wakes_a_waiting_receiver(queue: &SharedQueue) {
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { receive_one(&queue, LONG).await }
    });
    tokio::task::yield_now().await;
    queue.send("come".into()).await.unwrap();
    let delivery = waiting.await.unwrap();
    assert_eq!(delivery.body, "come");
    queue.acknowledge(&delivery.receipt).await.unwrap();
}

async fn outlives_a_receiver_that_gave_up(queue: &SharedQueue) {
    let gave_up = tokio::time::timeout(BRIEF, queue.receive(1, BRIEF, WAIT)).await;
    assert!(gave_up.is_err(), "nothing comes to an empty queue");
    queue.send("late".into()).await.unwrap();
    let delivery = receive_one(queue, LONG).await;
    assert_eq!(delivery.body, "late");
    queue.acknowledge(&delivery.receipt).await.unwrap();
}
