//! The worker's loop over a real queue. `CHRONIK_TEST_ELASTICMQ` says where the server is.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod kit;

use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;
use chronik_format::batch::Codec;
use chronik_format::job::{IndexSettings, JobResult};
use chronik_service::telemetry::Metrics;
use chronik_store::queue::{QueueDepth, RECEIVES_MAX, SharedQueue, SqsQueue};
use chronik_store::{SharedStore, memory};
use kit::{batch, indexer, job, record, results, segment};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

const HELD: Duration = Duration::from_secs(600);
const WAIT: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(20);

/// An empty queue of the test's own.
async fn queue() -> SharedQueue {
    let url = std::env::var("CHRONIK_TEST_ELASTICMQ").expect("CHRONIK_TEST_ELASTICMQ says where the server is");
    let shared = aws_config::defaults(BehaviorVersion::latest()).region("us-east-1").load().await;
    let client = Client::from_conf(aws_sdk_sqs::config::Builder::from(&shared).endpoint_url(url).build());
    let test = Ulid::new();
    let dead = client.create_queue().queue_name(format!("dead-{test}")).send().await.unwrap();
    let arn = QueueAttributeName::QueueArn;
    let ask = client.get_queue_attributes().queue_url(dead.queue_url().unwrap());
    let answer = ask.attribute_names(arn.clone()).send().await.unwrap();
    let arn = &answer.attributes().unwrap()[&arn];
    let policy = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":"8"}}"#);
    let create = client.create_queue().queue_name(format!("jobs-{test}"));
    let created = create.attributes(QueueAttributeName::RedrivePolicy, policy).send().await.unwrap();
    let address = created.queue_url().unwrap().parse().unwrap();
    Arc::new(SqsQueue::open(&address, None, &Metrics::new()).await.unwrap())
}

async fn send_small_job(store: &SharedStore, queue: &SharedQueue) {
    let one = batch(Codec::Gzip, 0, 0, &[(0, record(0, Some("k"), Some("word"), &[]))]);
    let inputs = vec![segment(store, "segments/one", &[(0, vec![one])]).await];
    let body = serde_json::to_string(&job(inputs, IndexSettings::default())).unwrap();
    queue.send(body).await.unwrap();
}

/// Works until the queue holds nothing, not even a job in flight; returns what is in the inbox then.
async fn work_off(store: &SharedStore, queue: &SharedQueue) -> Vec<JobResult> {
    let cancel = CancellationToken::new();
    let stop = async {
        while queue.depth().await.unwrap() != QueueDepth::default() {
            tokio::time::sleep(TICK).await;
        }
        cancel.cancel();
    };
    let indexer = indexer(store, queue.clone());
    tokio::join!(indexer.run(cancel.clone()), stop);
    results(store).await
}

#[tokio::test]
async fn a_job_is_acknowledged_once_its_result_is_in_the_inbox() {
    let (store, queue) = (memory(), queue().await);
    send_small_job(&store, &queue).await;
    let [result] = &work_off(&store, &queue).await[..] else { panic!("one result is expected") };
    assert_eq!((result.archives.len(), result.unreadable.len()), (1, 0));
}

#[tokio::test]
async fn a_job_that_ended_no_try_is_reported_as_failed_and_only_then_acknowledged() {
    let (store, queue) = (memory(), queue().await);
    send_small_job(&store, &queue).await;
    for receives in 1..RECEIVES_MAX {
        let taken = queue.receive(1, HELD, WAIT).await.unwrap().remove(0);
        assert_eq!(taken.receives, receives);
        queue.release(&taken.receipt).await.unwrap();
    }
    let [result] = &work_off(&store, &queue).await[..] else { panic!("one result is expected") };
    assert_eq!((result.archives.len(), result.unreadable.len()), (0, 1));
}
