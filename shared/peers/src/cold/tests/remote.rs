//! Old records over HTTP, and what happens when query workers fail.

use axum::Router;
use axum::routing::post;

use super::super::remote::{QueryWorker, WorkerError};
use super::super::routes::{FetchAsked, TimeAsked};
use super::*;
use chronik_format::batch::pack;
use chronik_service::http_client::HttpClient;
use chronik_service::loopback::{LoopbackServer, client, endpoints};

/// One worker without anything to fall back on.
struct Alone {
    worker: QueryWorker,
    client: HttpClient,
}

#[async_trait]
impl ColdReader for Alone {
    async fn fetch(
        &self,
        topic: TopicId,
        partition: PartitionId,
        offset: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, ColdError> {
        let asked = FetchAsked { topic, partition, offset, max_bytes };
        self.worker.fetch(&self.client, &asked).await.map_err(told)
    }

    async fn offset_for_time(
        &self,
        topic: TopicId,
        partition: PartitionId,
        from: Offset,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, ColdError> {
        let asked = TimeAsked { topic, partition, from, timestamp };
        self.worker.time(&self.client, &asked).await.map_err(told)
    }
}

fn told(error: WorkerError) -> ColdError {
    match error {
        WorkerError::Told(error) => error,
        WorkerError::Failed { reason } => panic!("{reason}"),
    }
}

fn alone(server: &LoopbackServer) -> Alone {
    Alone { worker: QueryWorker::new(endpoints([server]).iter().next().unwrap().clone()), client: client() }
}

/// A query worker, as far as cold fetches go.
async fn worker(history: &History) -> LoopbackServer {
    LoopbackServer::serving(routes(Arc::new(history.reader(1 << 20)), Metrics::new().gauge("held", "Bytes."))).await
}

/// Reads through workers; in process there is a bucket that does not answer.
fn readers(servers: &[&LoopbackServer], metrics: &Metrics) -> RemoteReaders {
    let store = FaultyStore::new(memory());
    store.fail(StoreOperation::Read, "", StoreFault::Before, usize::MAX);
    let store: SharedStore = Arc::new(store);
    let catalog = Arc::new(CatalogReader::new(store.clone(), LANE, 0));
    let local = Arc::new(BucketReader::new(store, catalog, 0));
    RemoteReaders::new(&endpoints(servers.iter().copied()), client(), local, metrics)
}

fn shows(metrics: &Metrics, name: &str) -> u64 {
    let text = metrics.exposition();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn a_worker_over_http_passes() {
    let history = three_segments().await;
    let server = worker(&history).await;
    suite::cold_suite(&alone(&server), TOPIC, 0, &history.batches).await;
}

#[tokio::test]
async fn several_workers_pass() {
    let history = three_segments().await;
    let (one, two) = (worker(&history).await, worker(&history).await);
    let local = Arc::new(history.reader(1 << 20));
    let readers = RemoteReaders::new(&endpoints([&one, &two]), client(), local, &Metrics::new());
    suite::cold_suite(&readers, TOPIC, 0, &history.batches).await;
}

#[tokio::test]
async fn errors_come_back_as_what_they_are() {
    let history = three_segments().await;
    let server = worker(&history).await;
    let alone = alone(&server);
    history.store.fail(StoreOperation::Read, ".seg", StoreFault::Before, 1);
    let error = alone.fetch(TOPIC, 0, 0, 1).await.unwrap_err();
    assert!(matches!(error, ColdError::Store(StoreError::Unavailable { .. })), "{error}");
    let SegmentEntry { key, .. } = &history.head.open.segments[1];
    let mut bytes = history.store.read(key, None).await.unwrap().to_vec();
    bytes[segment::HEADER_LENGTH as usize + 13] ^= 1;
    history.store.delete(key).await.unwrap();
    history.store.create(key, vec![bytes.into()]).await.unwrap();
    let error = alone.fetch(TOPIC, 0, 6, 1).await.unwrap_err();
    assert!(matches!(&error, ColdError::Damaged { object, .. } if object == key), "{error}");
}

#[tokio::test]
async fn the_bucket_is_read_if_no_worker_answers_as_it_should() {
    let history = three_segments().await;
    let mut damaged = history.batches[0].to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let whole = pack(&history.batches[..1]);
    for bad in [
        LoopbackServer::dead().await,
        LoopbackServer::answering(b"<html>it works</html>").await,
        LoopbackServer::saying(&b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"[..]).await,
        LoopbackServer::saying(&b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\n{}"[..]).await,
        LoopbackServer::breaking_off(&whole).await,
        LoopbackServer::answering(&whole[..whole.len() - 1]).await,
        LoopbackServer::answering(&pack(&[damaged.into()])).await,
        LoopbackServer::answering(&pack(&[])).await,
        LoopbackServer::answering(&pack(&history.batches[2..])).await,
    ] {
        let metrics = Metrics::new();
        let local = Arc::new(history.reader(1 << 20));
        let readers = RemoteReaders::new(&endpoints([&bad]), client(), local, &metrics);
        assert_eq!(readers.fetch(TOPIC, 0, 0, 1).await.unwrap(), history.batches[..1]);
        assert_eq!(shows(&metrics, "chronik_cold_fetch_failovers_total "), 1);
        // It is left alone now.
        assert_eq!(readers.offset_for_time(TOPIC, 0, 0, 0).await.unwrap(), Some((0, 10)));
        assert_eq!(shows(&metrics, "chronik_cold_fetch_failovers_total "), 1);
        assert_eq!(shows(&metrics, "chronik_cold_fetch_local_total "), 2);
    }
}

#[tokio::test]
async fn the_next_worker_is_asked_before_the_bucket() {
    let history = three_segments().await;
    // Which of them is asked first goes by their names, which have their ports: others each time, or one that is first
    // by far would be so for long.
    loop {
        let (one, two) = (worker(&history).await, worker(&history).await);
        let (dead, metrics) = (LoopbackServer::dead().await, Metrics::new());
        let readers = readers(&[&dead, &one, &two], &metrics);
        assert_eq!(readers.fetch(TOPIC, 0, 0, 1).await.unwrap(), history.batches[..1]);
        assert_eq!(shows(&metrics, "chronik_cold_fetch_local_total "), 0);
        if shows(&metrics, "chronik_cold_fetch_failovers_total ") == 1 {
            return;
        }
    }
}

#[tokio::test]
async fn a_worker_with_another_catalog_does_not_hide_records() {
    let (history, empty) = (three_segments().await, History::new());
    let server = worker(&empty).await;
    let local = Arc::new(history.reader(1 << 20));
    let readers = RemoteReaders::new(&endpoints([&server]), client(), local, &Metrics::new());
    assert_eq!(readers.fetch(TOPIC, 0, 0, 1).await.unwrap(), history.batches[..1]);
}

#[tokio::test]
async fn an_unreachable_bucket_is_not_a_missing_record() {
    let readers = readers(&[&LoopbackServer::dead().await], &Metrics::new());
    let error = readers.fetch(TOPIC, 0, 0, 1).await.unwrap_err();
    assert!(!matches!(error, ColdError::NotInCatalog { .. }), "{error}");
}

#[tokio::test]
async fn a_worker_that_hangs_is_overtaken() {
    let history = three_segments().await;
    loop {
        let good = worker(&history).await;
        let (hanging, metrics) = (LoopbackServer::hanging().await, Metrics::new());
        let readers = readers(&[&hanging, &good], &metrics);
        assert_eq!(readers.fetch(TOPIC, 0, 0, 1).await.unwrap(), history.batches[..1]);
        assert_eq!(shows(&metrics, "chronik_cold_fetch_failovers_total "), 0);
        if shows(&metrics, "chronik_cold_fetch_hedges_total ") == 1 {
            return;
        }
    }
}

#[tokio::test]
async fn the_bucket_overtakes_the_only_worker() {
    let history = three_segments().await;
    let (hanging, metrics) = (LoopbackServer::hanging().await, Metrics::new());
    let local = Arc::new(history.reader(1 << 20));
    let readers = RemoteReaders::new(&endpoints([&hanging]), client(), local, &metrics);
    assert_eq!(readers.fetch(TOPIC, 0, 0, 1).await.unwrap(), history.batches[..1]);
    assert_eq!(shows(&metrics, "chronik_cold_fetch_hedges_total "), 1);
}

#[tokio::test]
async fn what_is_not_a_request_is_refused_with_a_code() {
    let history = three_segments().await;
    let server = worker(&history).await;
    let request = client().post(endpoints([&server]).iter().next().unwrap(), "/v1/fetch");
    let request = request.json(&serde_json::json!({"topic": "x"}));
    let error = client().answer(request, std::time::Duration::from_secs(10), 1 << 10).await;
    assert!(error.unwrap_err().to_string().contains("invalid_parameter"));
    // A server of something else has other routes.
    let other = LoopbackServer::serving(Router::new().route("/v1/fetch", post(async || "welcome"))).await;
    let local = Arc::new(history.reader(1 << 20));
    let readers = RemoteReaders::new(&endpoints([&other]), client(), local, &Metrics::new());
    assert_eq!(readers.fetch(TOPIC, 0, 0, 1).await.unwrap(), history.batches[..1]);
}
