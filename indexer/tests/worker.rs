//! The worker's loop over the embedded queue.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod kit;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chronik_format::batch::Codec;
use chronik_format::job::{IndexSettings, Job};
use chronik_store::faulty::{FaultyStore, StoreFault, StoreOperation};
use chronik_store::queue::{EmbeddedQueue, Queue, QueueDelivery, QueueDepth, QueueError};
use chronik_store::{LocalBucket, SharedStore, memory};
use kit::{batch, embedded, indexer, job, record, results, segment};
use tokio_util::sync::CancellationToken;

async fn small_job(store: &SharedStore) -> Job {
    let one = batch(Codec::Gzip, 0, 0, &[(0, record(0, Some("k"), Some("word"), &[]))]);
    job(vec![segment(store, "segments/one", &[(0, vec![one])]).await], IndexSettings::default())
}

/// Works until the queue has nothing more to hand out, now or later.
async fn work_off(store: &SharedStore, queue: &Arc<EmbeddedQueue>) {
    let cancel = CancellationToken::new();
    let indexer =
        indexer(store, Arc::new(UntilEmpty { queue: queue.clone(), cancel: cancel.clone(), takes_back: true }));
    indexer.run(cancel).await;
    assert_eq!(queue.depth().await.unwrap(), QueueDepth::default());
}

/// A queue that stops its worker when it is empty; it may be silent when a job is handed back.
#[derive(Debug)]
struct UntilEmpty {
    queue: Arc<EmbeddedQueue>,
    cancel: CancellationToken,
    takes_back: bool,
}

#[async_trait]
impl Queue for UntilEmpty {
    async fn receive(&self, most: usize, hidden: Duration, wait: Duration) -> Result<Vec<QueueDelivery>, QueueError> {
        if self.queue.depth().await? == QueueDepth::default() {
            self.cancel.cancel();
        }
        self.queue.receive(most, hidden, wait).await
    }
    async fn send(&self, body: String) -> Result<(), QueueError> {
        self.queue.send(body).await
    }
    async fn extend(&self, receipt: &str, visibility: Duration) -> Result<(), QueueError> {
        self.queue.extend(receipt, visibility).await
    }
    async fn acknowledge(&self, receipt: &str) -> Result<(), QueueError> {
        self.queue.acknowledge(receipt).await
    }
    async fn release(&self, receipt: &str) -> Result<(), QueueError> {
        match self.takes_back {
            true => self.queue.release(receipt).await,
            false => std::future::pending().await,
        }
    }
    async fn bury(&self, delivery: &QueueDelivery, reason: &str) -> Result<(), QueueError> {
        self.queue.bury(delivery, reason).await
    }
    async fn depth(&self) -> Result<QueueDepth, QueueError> {
        self.queue.depth().await
    }
}

#[tokio::test]
async fn a_job_ends_as_a_result_in_the_inbox_of_a_local_bucket() {
    let folder = tempfile::tempdir().unwrap();
    let store: SharedStore = Arc::new(LocalBucket::open(folder.path()).unwrap());
    let queue = embedded();
    let job = small_job(&store).await;
    queue.send(serde_json::to_string(&job).unwrap()).await.unwrap();
    work_off(&store, &queue).await;
    let [result] = &results(&store).await[..] else { panic!("one result is expected") };
    assert_eq!((&result.job, result.archives[0].records, result.unreadable.len()), (&job.id, 1, 0));
    let stored = store.info(&result.archives[0].key).await.unwrap();
    assert_eq!(stored.size, result.archives[0].size);
}

#[tokio::test]
async fn a_doubled_job_gives_two_results_with_archives_of_their_own() {
    let (store, queue) = (memory(), embedded());
    let body = serde_json::to_string(&small_job(&store).await).unwrap();
    queue.send(body.clone()).await.unwrap();
    queue.send(body).await.unwrap();
    work_off(&store, &queue).await;
    let [one, two] = &results(&store).await[..] else { panic!("two results are expected") };
    assert_ne!(one.archives[0].key, two.archives[0].key);
    assert_eq!((one.archives[0].crc, &one.archives[0].runs), (two.archives[0].crc, &two.archives[0].runs));
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_worker_died_comes_to_the_next_one() {
    let (store, queue) = (memory(), embedded());
    queue.send(serde_json::to_string(&small_job(&store).await).unwrap()).await.unwrap();
    let taken = queue.receive(1, Duration::from_secs(120), Duration::ZERO).await.unwrap();
    assert_eq!(taken.len(), 1);
    work_off(&store, &queue).await;
    assert_eq!(results(&store).await.len(), 1);
    queue.acknowledge(&taken[0].receipt).await.unwrap();
    assert_eq!(results(&store).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_interrupted_is_handed_back_at_once() {
    let inner = memory();
    let faulty = Arc::new(FaultyStore::new(inner.clone()));
    let store: SharedStore = faulty.clone();
    let queue = embedded();
    queue.send(serde_json::to_string(&small_job(&store).await).unwrap()).await.unwrap();
    faulty.fail(StoreOperation::Read, "segments/", StoreFault::Before, usize::MAX);
    let cancel = CancellationToken::new();
    let stop = async {
        // The worker waits for the store by now.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(queue.depth().await.unwrap(), QueueDepth { visible: 0, in_flight: 1 });
        cancel.cancel();
    };
    let indexer = indexer(&store, queue.clone());
    tokio::join!(indexer.run(cancel.clone()), stop);
    assert_eq!(queue.depth().await.unwrap(), QueueDepth { visible: 1, in_flight: 0 });
    faulty.heal();
    work_off(&store, &queue).await;
    assert_eq!(results(&store).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_silent_does_not_hold_up_a_stop() {
    let faulty = Arc::new(FaultyStore::new(memory()));
    let store: SharedStore = faulty.clone();
    let queue = embedded();
    queue.send(serde_json::to_string(&small_job(&store).await).unwrap()).await.unwrap();
    faulty.fail(StoreOperation::Read, "segments/", StoreFault::Before, usize::MAX);
    let cancel = CancellationToken::new();
    let silent = UntilEmpty { queue: queue.clone(), cancel: cancel.clone(), takes_back: false };
    let stop = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        cancel.cancel();
    };
    let indexer = indexer(&store, Arc::new(silent));
    let stopped = async { tokio::join!(indexer.run(cancel.clone()), stop) };
    tokio::time::timeout(Duration::from_secs(20), stopped).await.unwrap();
    assert_eq!(queue.depth().await.unwrap().in_flight, 1, "it comes again by itself");
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_store_is_waited_for() {
    for operation in [StoreOperation::Read, StoreOperation::Create] {
        let inner = memory();
        let faulty = Arc::new(FaultyStore::new(inner.clone()));
        let store: SharedStore = faulty.clone();
        let queue = embedded();
        queue.send(serde_json::to_string(&small_job(&store).await).unwrap()).await.unwrap();
        faulty.fail(operation, "", StoreFault::Before, 8);
        work_off(&store, &queue).await;
        let [result] = &results(&store).await[..] else { panic!("one result is expected") };
        assert_eq!((result.archives.len(), result.unreadable.len()), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_takes_longer_than_its_visibility_stays_with_its_worker() {
    let faulty = Arc::new(FaultyStore::new(memory()));
    let store: SharedStore = faulty.clone();
    let queue = embedded();
    queue.send(serde_json::to_string(&small_job(&store).await).unwrap()).await.unwrap();
    // Waiting for either takes a minute and a half.
    faulty.fail(StoreOperation::Read, "segments/", StoreFault::Before, 9);
    faulty.fail(StoreOperation::Create, "topics/", StoreFault::Before, 9);
    let begun = tokio::time::Instant::now();
    tokio::join!(work_off(&store, &queue), work_off(&store, &queue));
    assert!(begun.elapsed() > Duration::from_secs(180));
    assert_eq!(results(&store).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_never_ends_is_reported_the_fifth_time() {
    let inner = memory();
    let faulty = Arc::new(FaultyStore::new(inner.clone()));
    let store: SharedStore = faulty.clone();
    let queue = embedded();
    let job = small_job(&store).await;
    queue.send(serde_json::to_string(&job).unwrap()).await.unwrap();
    faulty.fail(StoreOperation::Create, "topics/", StoreFault::Before, usize::MAX);
    work_off(&store, &queue).await;
    let [result] = &results(&store).await[..] else { panic!("one result is expected") };
    assert_eq!((result.archives.len(), result.unreadable.len()), (0, 1));
    let run = &result.unreadable[0];
    assert_eq!((run.segment.as_str(), run.partition, run.first, run.last), ("segments/one", 0, 0, 0));
    assert!(run.reason.contains("4 times"), "{}", run.reason);
}

#[tokio::test]
async fn what_is_no_known_job_goes_to_the_dead_letters() {
    let (store, queue) = (memory(), embedded());
    let good = small_job(&store).await;
    let changed = |name: &str, value: serde_json::Value| {
        let mut job = serde_json::to_value(&good).unwrap();
        job[name] = value;
        job.to_string()
    };
    let bodies = [
        "".to_owned(),
        "{}".to_owned(),
        changed("v", 9.into()),
        changed("kind", "compact".into()),
        "x".repeat(200_000),
    ];
    for body in &bodies {
        queue.send(body.clone()).await.unwrap();
    }
    queue.send(serde_json::to_string(&good).unwrap()).await.unwrap();
    work_off(&store, &queue).await;
    assert_eq!(queue.dead_letters().len(), bodies.len());
    assert_eq!(results(&store).await.len(), 1);
}

#[tokio::test]
async fn an_undecodable_batch_is_reported_and_the_job_is_done() {
    let (store, queue) = (memory(), embedded());
    let good = batch(Codec::None, 0, 0, &[(0, record(0, None, Some("word"), &[]))]);
    let mut input = segment(&store, "segments/good", &[(0, vec![good])]).await;
    store.create("segments/bad", vec![Bytes::from(vec![7; input.size as usize])]).await.unwrap();
    let bad = chronik_format::job::JobInput { key: "segments/bad".to_owned(), ..input.clone() };
    input.runs[0].partition = 1;
    let job = job(vec![bad, input], IndexSettings::default());
    queue.send(serde_json::to_string(&job).unwrap()).await.unwrap();
    work_off(&store, &queue).await;
    let [result] = &results(&store).await[..] else { panic!("one result is expected") };
    assert_eq!((result.archives[0].runs[0].partition, result.unreadable[0].segment.as_str()), (1, "segments/bad"));
    assert_eq!(queue.dead_letters().len(), 0);
}
