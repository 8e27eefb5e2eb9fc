//! The queue over servers that speak SQS's protocol. `CHRONIK_TEST_ELASTICMQ` and `CHRONIK_TEST_MOTO` say where they
//! are, as URLs; credentials come from the environment as for the product.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;
use chronik_service::telemetry::Metrics;
use chronik_store::queue::suite::{BURIED, queue_suite};
use chronik_store::queue::{Queue, QueueAddress, QueueDelivery, QueueError, SqsError, SqsQueue};
use ulid::Ulid;

const HELD: Duration = Duration::from_secs(600);
const WAIT: Duration = Duration::from_secs(20);

/// A server, and queues of this test's own in it.
struct Server {
    client: Client,
    test: String,
}

impl Server {
    async fn at(variable: &str) -> Self {
        let url = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} does not say where the server is"));
        let shared = aws_config::defaults(BehaviorVersion::latest()).region("us-east-1").load().await;
        let config = aws_sdk_sqs::config::Builder::from(&shared).endpoint_url(url).build();
        Self { client: Client::from_conf(config), test: Ulid::new().to_string() }
    }

    async fn create(&self, name: &str, policy: Option<String>) -> QueueAddress {
        let create = self.client.create_queue().queue_name(format!("{name}-{}", self.test));
        let attributes = policy.map(|policy| [(QueueAttributeName::RedrivePolicy, policy)].into());
        let created = create.set_attributes(attributes).send().await.unwrap();
        created.queue_url().unwrap().parse().unwrap()
    }

    /// A queue and its dead letters; a message goes there by itself after `receives`.
    async fn create_pair(&self, receives: u32) -> (QueueAddress, QueueAddress) {
        let dead = self.create("dead", None).await;
        let names = [QueueAttributeName::QueueArn];
        let ask = self.client.get_queue_attributes().queue_url(dead.as_str());
        let answer = ask.set_attribute_names(Some(names.to_vec())).send().await.unwrap();
        let arn = &answer.attributes().unwrap()[&names[0]];
        let policy = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":"{receives}"}}"#);
        (self.create("jobs", Some(policy)).await, dead)
    }
}

async fn open(address: &QueueAddress) -> SqsQueue {
    SqsQueue::open(address, None, &Metrics::new()).await.unwrap()
}

async fn passes_the_suite(variable: &str) {
    let server = Server::at(variable).await;
    let (jobs, dead) = server.create_pair(100).await;
    queue_suite(Arc::new(open(&jobs).await)).await;

    let take = server.client.receive_message().queue_url(dead.as_str());
    let taken = take.message_attribute_names("All").send().await.unwrap();
    let [letter] = taken.messages() else { panic!("one dead letter is expected: {taken:?}") };
    let reason = letter.message_attributes().unwrap()["reason"].string_value();
    assert_eq!((letter.body().unwrap(), reason.unwrap()), BURIED);
}

async fn refuses_what_can_not_work(variable: &str) {
    let server = Server::at(variable).await;
    let (jobs, _) = server.create_pair(8).await;
    let absent = SqsQueue::open(&jobs.sibling("absent"), None, &Metrics::new()).await;
    assert!(matches!(absent, Err(SqsError::NoQueue { queue }) if queue.ends_with("/absent")));
    let plain = server.create("plain", None).await;
    let told = SqsQueue::open(&plain, None, &Metrics::new()).await.unwrap_err();
    assert!(matches!(&told, SqsError::NoDeadLetters { .. }), "{told}");
}

/// A job that fails on every receive goes to the dead letters by itself, after it could be reported.
async fn moves_what_comes_too_often(variable: &str) {
    let server = Server::at(variable).await;
    let (jobs, dead) = server.create_pair(5).await;
    let queue = open(&jobs).await;
    queue.send("poison".into()).await.unwrap();
    for receives in 1..=5 {
        let delivery: QueueDelivery = queue.receive(1, HELD, WAIT).await.unwrap().remove(0);
        assert_eq!(delivery.receives, receives);
        queue.release(&delivery.receipt).await.unwrap();
    }
    assert_eq!(queue.receive(1, HELD, Duration::ZERO).await.unwrap(), []);
    let taken = server.client.receive_message().queue_url(dead.as_str()).send().await.unwrap();
    assert_eq!(taken.messages()[0].body(), Some("poison"));
}

#[tokio::test]
async fn elasticmq_passes_the_suite() {
    passes_the_suite("CHRONIK_TEST_ELASTICMQ").await;
}

#[tokio::test]
async fn moto_passes_the_suite() {
    passes_the_suite("CHRONIK_TEST_MOTO").await;
}

#[tokio::test]
async fn elasticmq_without_what_is_needed_is_refused() {
    refuses_what_can_not_work("CHRONIK_TEST_ELASTICMQ").await;
}

#[tokio::test]
async fn moto_without_what_is_needed_is_refused() {
    refuses_what_can_not_work("CHRONIK_TEST_MOTO").await;
}

#[tokio::test]
async fn elasticmq_moves_what_comes_too_often() {
    moves_what_comes_too_often("CHRONIK_TEST_ELASTICMQ").await;
}

#[tokio::test]
async fn moto_moves_what_comes_too_often() {
    moves_what_comes_too_often("CHRONIK_TEST_MOTO").await;
}

/// A queue is a hint: one that is away at the start does not keep anybody from starting, and says so at each use.
#[tokio::test]
async fn a_server_that_is_away_is_no_obstacle_to_the_start() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/1/jobs", listener.local_addr().unwrap());
    drop(listener);
    let queue = open(&address.parse().unwrap()).await;
    for failed in [
        queue.send("job".into()).await.unwrap_err(),
        queue.receive(1, HELD, Duration::ZERO).await.unwrap_err(),
        queue.depth().await.unwrap_err(),
        queue.acknowledge("x").await.unwrap_err(),
    ] {
        assert!(matches!(failed, QueueError::Unavailable { .. }), "{failed}");
    }
}
