"""Processes that die, stop or come late at each step from log to archive: nothing is lost, nothing counts twice, and
nothing is in the way for ever.

Fail points make them do so; the sources name them. Outages and damage of buckets are in `test_buckets`, of queues in
`test_queue`, the indexer as a function in `test_lambda`, disks in `test_refusals`, owners in `test_ownership`.
"""

import itertools
import json
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from by_hand import batch, produce_by_hand
from chronik import PATIENCE, Indexer, Ingest, Query, until
from clock import Clock
from confluent_kafka.admin import AdminClient
from job_queue import Queue
from load import TOPIC, Load, values
from records import Record, produce
from servers import s3
from servers.elasticmq import Elasticmq
from servers.faults import Faults, line
from servers.minio import Minio

# Small, so that every step is soon reached.
SMALL = {"wal_rotation_size": "64KiB", "ship_max_bytes": "64KiB", "ship_max_age": "1s", "index_batch_age": "200ms"}
numbers = itertools.count()


@pytest.fixture
def bucket(minio):
    """Settings of a bucket of the test's own."""
    return s3.settings(minio.url, prefix=f"failures-{next(numbers)}")


@pytest.fixture
def queue(elasticmq):
    return Queue(elasticmq)


def double(queue):
    """What is visible comes twice and in another order, the last of it late; returns how much that was."""
    messages = queue.receive(VisibilityTimeout=600)
    bodies = [message["Body"] for message in messages] * 2
    for body in reversed(bodies):
        queue.send(body, DelaySeconds=20 * (body == bodies[-1]))
    for message in messages:
        queue.client.delete_message(QueueUrl=queue.url, ReceiptHandle=message["ReceiptHandle"])
    return len(messages)


def delete_topic(server):
    client = AdminClient({"bootstrap.servers": server.bootstrap})
    client.delete_topics([TOPIC])[TOPIC].result(30)


def stop_at(step, hit, file):
    return {"failpoints": f"{step}=stop@{hit}:{file}"}


def check_each_is_found_once(server, count, topic=TOPIC, query=None):
    """Once all is archived, by `query` or the server itself."""
    server.seal()
    server.wait_archived()
    found = [hit["offset"] for hits in (query or server).pages(topic, "number", limit=10_000) for hit in hits]
    assert sorted(found) == list(range(count))


# Hits: at its start a broker exports the catalog for the first time.
STEPS = {
    "segment-built": 2,
    "segment-created": 2,
    "segment-registered": 2,
    "catalog-created": 3,
    "catalog-named": 3,
    "job-sent": 2,
    "result-registered": 2,
}


@pytest.mark.parametrize("lost", [False, True], ids=["its disk stays", "its disk is gone"])
@pytest.mark.parametrize("step", STEPS)
def test_a_broker_that_dies_on_the_way(start, tmp_path, step, lost):
    died = tmp_path / "died"
    server = start(**SMALL, failpoints=f"{step}=abort@{STEPS[step]}:{died}")
    load = Load(server)
    shipped = 0
    while server.process.poll() is None:
        shipped = max(shipped, shipped_to(server))
    load.end()
    assert died.exists() and server.process.returncode == -signal.SIGABRT, server.last_lines()
    if lost:
        server.lose_data_directory()
    server.start()
    kept = values(server)
    above = load.check(kept)
    assert len(kept) >= max(shipped, 1)
    assert lost or not above, "acknowledged, and lost"
    check_each_is_found_once(server, len(kept))


def shipped_to(server):
    """How far the records are in the bucket, as long as the broker says so."""
    try:
        return sum(partition["shipped_to"] for partition in server.partitions().values())
    except OSError:
        return 0


@pytest.mark.parametrize("lost", [False, True], ids=["its disk stays", "its disk is gone"])
def test_a_broker_that_dies_as_it_stops(start, tmp_path, lost):
    died = tmp_path / "died"
    server = start(**SMALL | {"ship_max_age": "1h"}, failpoints=f"checkpoint-created=abort:{died}")
    produce(server.bootstrap, TOPIC, [Record(b"number %d" % number) for number in range(100)])
    assert server.stop() == -signal.SIGABRT and died.exists()
    if lost:
        server.lose_data_directory()
    server.start()
    assert values(server) == [b"number %d" % number for number in range(100)]
    check_each_is_found_once(server, 100)


def test_a_broker_that_dies_as_it_deletes(start, tmp_path):
    died = [tmp_path / "before", tmp_path / "after"]
    server = start(**SMALL)
    produce(server.bootstrap, TOPIC, [Record(b"number %d" % number) for number in range(100)])
    check_each_is_found_once(server, 100)
    # Results may go once what they say is in a shipped segment.
    produce(server.bootstrap, TOPIC, [Record(b"number 100")])
    server.wait_shipped()
    server.kill()
    inbox = server.bucket / "inbox"
    assert list(inbox.rglob("*.json"))
    steps = zip(["deletion-checked", "objects-deleted"], died, strict=True)
    server.set(failpoints=";".join(f"{step}=abort:{file}" for step, file in steps))
    for file in died:
        server.spawn()
        assert server.process.wait(timeout=PATIENCE) == -signal.SIGABRT and file.exists()
        assert bool(list(inbox.rglob("*.json"))) == (file == died[0])
    server.start()
    check_each_is_found_once(server, 101)


def test_a_broker_that_dies_as_it_deletes_an_archive(start, tmp_path):
    """Of a topic that was deleted long enough ago: a clock that jumps makes it so."""
    died = [tmp_path / "before", tmp_path / "after"]
    clock = Clock(tmp_path / "clock")
    server = start(**SMALL, **clock.settings())
    produce(server.bootstrap, TOPIC, [Record(b"number %d" % number) for number in range(100)])
    check_each_is_found_once(server, 100)
    delete_topic(server)
    # As it stops it writes a checkpoint, which knows what it has tombstoned.
    assert server.stop() == 0

    def left():
        return len(list(server.bucket.rglob("*.ckx"))), server.metrics()["chronik_tombstones"]

    steps = zip(["deletion-checked=abort@2", "objects-deleted=abort"], died, strict=True)
    for step, file in steps:
        server.set(failpoints=f"{step}:{file}").start()
        until(lambda: left() == (1, 1), "it knows what to delete")
        clock.advance(minutes=61)
        assert server.process.wait(timeout=PATIENCE) == -signal.SIGABRT and file.exists()
    server.start()
    until(lambda: left() == (0, 1), "it is not known yet that it is gone")
    clock.advance(minutes=61)
    until(lambda: left() == (0, 0), "it is deleted again, and forgotten")


def test_an_owner_that_wakes_up_too_late(start, tmp_path, minio, bucket):
    """It sleeps between the look at the claims and the write of `latest`, with a segment on its way."""
    asleep = [tmp_path / "latest", tmp_path / "segment"]
    points = f"latest-checked=stop@4:{asleep[0]};segment-created=stop@4:{asleep[1]}"
    with Faults(minio.url) as its_way:
        first = start("first", **SMALL, **bucket | {"S3_ENDPOINT": its_way.url}, failpoints=points)
        load = Load(first)
        until(lambda: all(file.exists() for file in asleep), "it stands at both points")
        first.process.send_signal(signal.SIGSTOP)
        second = start("second", **SMALL, **bucket, take_over="true")
        load.end()
        kept = values(second)
        load.check(kept)
        check_each_is_found_once(second, len(kept))

        second.process.send_signal(signal.SIGSTOP)
        its_way.script(line("cut_before", "HEAD", "/claims/"))
        for file in asleep:
            file.unlink()
        first.process.send_signal(signal.SIGCONT)
        until(lambda: latest(minio, bucket)["incarnation"] == 1, "it writes over the name of a newer catalog")
        query = start("query", Query, **bucket)
        its_way.script()
        assert first.process.wait(timeout=PATIENCE) == 1, first.last_lines()
    second.process.send_signal(signal.SIGCONT)
    until(lambda: query.search(TOPIC, limit=0)["total"]["value"] == len(kept), "readers see the newer one again")
    assert values(second) == kept
    assert second.stop() == 0
    second.lose_data_directory()
    second.start()
    assert values(second) == kept, "what the late one uploaded is no part of the history"


def latest(minio, bucket):
    key = f"{bucket['S3_PREFIX']}/catalog/00000000/latest"
    return json.load(s3.client(minio.url).get_object(Bucket=bucket["S3_BUCKET"], Key=key)["Body"])


def test_indexers_that_die_or_wake_up_too_late(start, tmp_path, bucket, queue):
    """Jobs that come twice, in another order and late, to indexers that die at each step; what they held comes again
    after two minutes."""
    topics = [f"topic-{number}" for number in range(8)]
    ingest = start("ingest", Ingest, **SMALL, **bucket, **queue.settings())
    for topic in topics:
        produce(ingest.bootstrap, topic, [Record(b"number %d" % number) for number in range(100)])
    ingest.seal()
    until(lambda: queue.visible() == len(topics), "all jobs are on the queue")
    died = [tmp_path / f"died-{n}" for n in range(3)]
    steps = ["indexer-building", "indexer-archived", "indexer-reported"]
    points = [f"{step}=abort:{file}" for step, file in zip(steps, died, strict=True)]
    asleep = tmp_path / "asleep"
    points.append(f"indexer-archived=stop@1:{asleep}")
    indexers = [
        start(f"indexer-{n}", Indexer, **bucket, **queue.settings(), failpoints=point) for n, point in enumerate(points)
    ]
    for indexer in indexers[:3]:
        assert indexer.process.wait(timeout=PATIENCE) == -signal.SIGABRT, indexer.last_lines()
    until(asleep.exists, "the last one sleeps over its job")
    late = indexers.pop()
    late.process.send_signal(signal.SIGSTOP)
    assert double(queue) == len(topics) - 4
    for indexer in indexers:
        indexer.start()
    ingest.wait_archived(patience=400)
    asleep.unlink()
    late.process.send_signal(signal.SIGCONT)
    until(lambda: late.metrics()["chronik_indexer_jobs_done_total"] == 1, "it reports what others have done")
    assert ingest.metrics()["chronik_unreadable_runs_total"] == 0
    ingest.kill()
    ingest.start()
    until(lambda: ingest.metrics()["chronik_tombstones"] == 6, "what came of jobs done twice is tombstoned")
    query = start("query", Query, **bucket)
    for topic in topics:
        check_each_is_found_once(ingest, 100, topic, query)


def test_an_indexer_that_is_stopped_hands_its_job_back(start, tmp_path, bucket, queue):
    asleep = tmp_path / "asleep"
    ingest = start("ingest", Ingest, **SMALL, **bucket, **queue.settings())
    indexer = start("indexer", Indexer, **bucket, **queue.settings(), **stop_at("indexer-building", 1, asleep))
    produce(ingest.bootstrap, TOPIC, [Record(b"number %d" % number) for number in range(100)])
    ingest.seal()
    until(asleep.exists, "the job is in work")
    assert queue.visible() == 0
    assert indexer.stop() == 0
    assert queue.visible() == 1
    indexer.set(failpoints="").start()
    check_each_is_found_once(ingest, 100, query=start("query", Query, **bucket))


def test_an_indexer_that_is_stopped_while_it_waits_hands_back_what_comes(start, bucket, queue):
    indexer = start("indexer", Indexer, **bucket, **queue.settings())
    queue.send("no job")
    until(lambda: queue.messages() == 0, "it has taken what was there, and waits for more")
    indexer.process.send_signal(signal.SIGTERM)
    until(lambda: "stopping" in indexer.last_lines(), "it stops")
    queue.send("{}")
    assert indexer.process.wait(timeout=PATIENCE) == 0
    assert queue.visible() == 1


def test_a_job_that_fails_too_often_is_scanned_until_the_operator_sends_it_again(start, bucket, queue):
    ingest = start("ingest", Ingest, **SMALL, **bucket, **queue.settings())
    query = start("query", Query, **bucket)
    produce(ingest.bootstrap, TOPIC, [Record(b"number %d" % number) for number in range(100)])
    ingest.seal()
    for _ in range(4):
        [message] = until(lambda: queue.receive(VisibilityTimeout=0), "the job comes again")
    indexer = start("indexer", Indexer, **bucket, **queue.settings())
    until(lambda: ingest.metrics()["chronik_unreadable_runs_total"] == 1, "the failure is reported")
    assert query.search(TOPIC, "number", limit=0)["total"]["value"] == 100, "it is scanned"
    assert ingest.partitions()[TOPIC, 0]["archived_to"] == 0
    queue.send(message["Body"])
    ingest.wait_archived()
    assert query.search(TOPIC, "number", limit=0)["total"]["value"] == 100
    assert [service.stop() for service in (indexer, query, ingest)] == [0, 0, 0]


def send_what_is_no_gzip(server):
    assert produce_by_hand(server.bootstrap, TOPIC, batch(attributes=1)) == 0


def send_zeros(mebibytes):
    def send(server):
        record = Record(bytes(mebibytes << 20))
        assert produce(server.bootstrap, TOPIC, [record], codec="zstd", message_max_bytes=1_000_000_000) == [10]

    return send


@pytest.mark.parametrize(
    "send, missing",
    [
        pytest.param(send_what_is_no_gzip, [(10, 11)], id="it can't be decompressed"),
        pytest.param(send_zeros(48), [], id="it is too large for this indexer"),
        pytest.param(send_zeros(136), [(10, 11)], id="it is too large for every program"),
    ],
)
def test_a_batch_that_can_not_be_indexed(start, send, missing):
    """What lies around it is indexed if no program can read it, and searches name it; else they look at the records."""
    server = start(**SMALL | {"ship_max_age": "1h", "indexer_memory_bytes": "256MiB"})

    def send_numbers(*numbers):
        offsets = produce(server.bootstrap, TOPIC, [Record(b"number %d" % number) for number in numbers])
        assert offsets == list(numbers)

    def check_others_are_found(end):
        parameters = {"topic": TOPIC, "q": "number", "limit": 100}
        answer = server.request("GET", "/v1/search", params=parameters)
        assert answer.status_code == 200, "asking again would not help"
        answer = answer.json()
        assert sorted(hit["offset"] for hit in answer["hits"]) == [*range(10), *range(11, end)]
        not_searched = [(range["from"], range["to"], range["permanent"]) for range in answer["not_searched"]]
        assert not_searched == [(*range, True) for range in missing]

    def is_done(end):
        unreadable = server.metrics()["chronik_unreadable_runs_total"]
        if missing:
            return unreadable == 0 and server.partitions()[TOPIC, 0]["archived_to"] == end
        return unreadable == 1 and len(list(server.bucket.rglob("*.ckx"))) == (end - 20) // 10

    send_numbers(*range(10))
    send(server)
    send_numbers(*range(11, 20))
    check_others_are_found(20)
    server.seal()
    until(lambda: is_done(20), "the job is done")
    send_numbers(*range(20, 30))
    server.seal()
    until(lambda: is_done(30), "the next one, too")
    check_others_are_found(30)
    server.kill()
    server.start()
    check_others_are_found(30)


def test_a_topic_that_is_made_anew_while_its_job_is_done(start, tmp_path):
    asleep = tmp_path / "asleep"
    server = start(**SMALL, **stop_at("indexer-archived", 1, asleep))
    produce(server.bootstrap, TOPIC, [Record(b"number of old")] * 10)
    until(asleep.exists, "an archive of the old topic is made")
    delete_topic(server)
    server.tool("topic", "create", TOPIC)
    produce(server.bootstrap, TOPIC, [Record(b"number %d" % number) for number in range(100)])
    asleep.unlink()
    check_each_is_found_once(server, 100)
    server.kill()
    server.start()
    until(lambda: server.metrics()["chronik_tombstones"] == 1, "the old topic's archive is tombstoned")
    check_each_is_found_once(server, 100)


@pytest.mark.parametrize("gone, outcome", [(["ckx"], 200), (["ckx", "seg"], 404)])
def test_a_search_whose_catalog_is_older_than_the_bucket(start, tmp_path, gone, outcome):
    """While a search waits its topic is deleted, and what it was to read."""
    asleep = tmp_path / "asleep"
    server = start(**SMALL)
    produce(server.bootstrap, TOPIC, [Record(b"number %d" % number) for number in range(100)])
    check_each_is_found_once(server, 100)
    query = start("query", Query, local_storage_path=server.bucket, **stop_at("search-planned", 1, asleep))
    with ThreadPoolExecutor() as pool:
        search = pool.submit(query.request, "GET", "/v1/search", params={"topic": TOPIC, "q": "number"})
        until(asleep.exists, "the search is planned")
        [latest] = server.bucket.glob("catalog/*/latest")
        before = json.loads(latest.read_text())["index"]
        delete_topic(server)
        until(lambda: json.loads(latest.read_text())["index"] > before, "readers can know of it")
        for kind in gone:
            for file in server.bucket.rglob(f"*.{kind}"):
                file.unlink()
        asleep.unlink()
        answer = search.result()
    assert answer.status_code == outcome, "it is answered as of then or as of now, never in part"
    assert outcome != 200 or answer.json()["total"]["value"] == 100


def test_a_stop_while_neither_bucket_nor_queue_answers(start, tmp_path):
    """It ends well, and what was acknowledged is there when it starts again."""
    with Minio() as store, Elasticmq() as queues:
        settings = s3.settings(store.url, prefix="away") | Queue(queues).settings()
        services = [start(kind.__name__, kind, **settings) for kind in (Ingest, Indexer, Query)]
        ingest = services[0]
        produce(ingest.bootstrap, TOPIC, [Record(b"number %d" % number) for number in range(100)])
        store.kill()
        queues.kill()
        assert [service.stop() for service in services] == [0, 0, 0]
        ingest.start()
        assert values(ingest) == [b"number %d" % number for number in range(100)]
