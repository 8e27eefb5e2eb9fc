"""The three services as processes of their own, over a bucket on S3 and a queue that speaks SQS's protocol."""

import pytest
from chronik import Indexer, Ingest, Query, run_tool, until
from records import Record, consume, produce
from servers import s3, sqs
from servers.elasticmq import Elasticmq
from servers.minio import Minio
from servers.server import free_port

COUNT = 2000
TOKEN = "shared-by-the-services"


def records(first, count):
    return [Record(b"order %d paid %d" % (n, n % 10) + b" ." * 100, b"k%d" % n) for n in range(first, first + count)]


@pytest.fixture(scope="module")
def cloud():
    """The settings of bucket and queue that every service gets."""
    with Minio() as minio, Elasticmq() as elasticmq:
        url = sqs.make_queue(elasticmq.url, "split", "split-dead")
        yield s3.settings(minio.url, prefix="split") | sqs.credentials() | {"queue": "sqs", "SQS_QUEUE_URL": url}


@pytest.fixture
def services(cloud, start):
    """A broker that asks two query workers for old records, and they ask it for new ones; two indexers."""
    queue = {name: value for name, value in cloud.items() if name in ("queue", "SQS_QUEUE_URL")}
    common = {name: value for name, value in cloud.items() if name not in queue} | {"http_token": TOKEN}
    ports = [free_port() for _ in range(3)]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    small = {"wal_rotation_size": "128KiB", "ship_max_bytes": "128KiB", "ship_max_age": "1h", "index_batch_age": "1s"}
    ingest = start(
        "ingest", Ingest, **common, **queue, **small, http_port=ports[0], query_endpoints=f"{urls[1]},{urls[2]}"
    )
    queries = [
        start(f"query-{n}", Query, **common, http_port=port, ingest_endpoints=urls[0])
        for n, port in enumerate(ports[1:])
    ]
    return ingest, [start(f"indexer-{n}", Indexer, **common, **queue) for n in range(2)], queries


def offsets(query, word):
    answer = query.search("orders", word, limit=10_000, sort="oldest")
    assert answer["not_searched"] == []
    return [hit["offset"] for hit in answer["hits"]]


def test_a_record_goes_all_the_way_and_comes_back_twice(services):
    ingest, indexers, queries = services
    sent = records(0, COUNT)
    produce(ingest.bootstrap, "orders", sent)
    third = list(range(3, COUNT, 10))
    for query in queries:
        assert offsets(query, '"paid 3"') == third, "what is not shipped is searched at the broker"

    ingest.seal()
    ingest.wait_archived()
    assert sum(indexer.metrics()["chronik_indexer_jobs_done_total"] for indexer in indexers) >= 1
    sent += records(COUNT, COUNT)
    produce(ingest.bootstrap, "orders", sent[COUNT:])
    ingest.seal()
    ingest.wait_archived()
    third = list(range(3, 2 * COUNT, 10))
    for query in queries:
        assert offsets(query, '"paid 3"') == third

    ingest.kill()
    ingest.start()
    until(lambda: len(list((ingest.data / "wal").rglob("*.wal"))) < 12, "WAL files are recycled")
    [read] = consume(ingest.bootstrap, "orders", 1)
    assert [(offset, record.value, record.key) for offset, record in read] == [
        (offset, record.value, record.key) for offset, record in enumerate(sent)
    ]
    fetched = ingest.metrics()
    assert fetched["chronik_cold_fetch_seconds_count"] > 0, "query workers read old records"

    for query in queries:
        query.kill()
    [again] = consume(ingest.bootstrap, "orders", 1)
    assert [record.value for _, record in again] == [record.value for _, record in read], "the broker reads by itself"
    assert [service.stop() for service in (ingest, *indexers)] == [0, 0, 0]


def test_an_indexer_without_a_queue_of_its_own_says_so(tmp_path):
    for arguments, binary in ((["indexer"], {}), ([], {"binary": Indexer.command[0]})):
        done = run_tool(*arguments, directory=tmp_path, **binary)
        assert done.returncode == 1 and b"CHRONIK_QUEUE=sqs" in done.stderr
