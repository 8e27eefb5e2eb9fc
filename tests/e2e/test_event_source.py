"""The whole way with the indexer as a Lambda function: a broker, a bucket on S3, a queue that speaks SQS's protocol,
and an event source that has functions work its batches."""

from collections import Counter

import pytest
from chronik import Ingest, Query, until
from cloud import Cloud, check_covered_once
from event_source import EventSource
from lambda_runtime import Lambda
from records import Record, produce

WAVE = 1000
# A job or more from each wave.
SMALL = {"ship_max_bytes": "32KiB", "ship_max_age": "1h", "index_batch_bytes": "32KiB", "index_batch_age": "1s"}


@pytest.fixture
def cloud():
    # Longer than a batch takes, so that what comes twice is what a function died of.
    with Cloud(VisibilityTimeout="4") as cloud:
        yield cloud


def test_functions_work_what_the_broker_sends(cloud, start, tmp_path):
    ingest = start("ingest", Ingest, **cloud.settings(), **SMALL)
    query = start("query", Query, **cloud.bucket, ingest_endpoints=ingest.http)
    died = tmp_path / "died"
    point = f"indexer-reported=abort@2:{died}"
    cloud.queue.send("no job")
    functions = Lambda(
        tmp_path / "lambda", EventSource(cloud.queue), concurrency=2, batch=3, CHRONIK_FAILPOINTS=point, **cloud.bucket
    )
    with functions:
        count = 0
        while not died.exists():
            send(ingest, range(count, count + WAVE))
            count += WAVE
        functions.jobs.wait_empty()
        # By its result the broker has taken in all earlier ones, also that of the job that was done twice.
        send(ingest, range(count, count + 1))
        functions.jobs.wait_empty()
    assert set(functions.outcomes()) == {"answered", "crashed"}
    assert Counter(functions.outcomes())["crashed"] == 1 and len(functions.functions) == 2
    assert list(cloud.queue.dead_letters()) == ["no job"]

    [topic] = ingest.status()["topics"]
    archives = cloud.archives(topic["id"])
    jobs = {tuple(runs): runs for runs in archives.values()}
    assert 2 < len(jobs) < len(archives), "the job of the function that died was done twice"
    check_covered_once(jobs, [count + 1])

    # Once the worker knows the last archive, it knows what became of all others.
    until(lambda: asked(query) == len(jobs), "the worker's catalog has every job's archive")
    assert asked(query, to=1 + count) == len(jobs) - 1, "one live archive for each run"
    answer = query.search("orders", "order", limit=10_000, sort="oldest")
    assert answer["not_searched"] == []
    assert [hit["offset"] for hit in answer["hits"]] == list(range(count + 1)), "each once"


def send(ingest, numbers):
    """Records that are archived when it returns."""
    records = [Record(b"order %d" % number + b" ." * 40, timestamp=1 + number) for number in numbers]
    produce(ingest.bootstrap, "orders", records, batch_size=16_384)
    ingest.seal()
    ingest.wait_archived()


def asked(query, **limits):
    """How many archives a search for all records asks."""
    before = query.metrics()["chronik_search_archives_total"]
    query.search("orders", "order", limit=10_000, **limits)
    return query.metrics()["chronik_search_archives_total"] - before
