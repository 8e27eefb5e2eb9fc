"""Archives that come late: what waited for them was closed into pages, is scanned meanwhile, and has all of them then.

Pages are small here: two segments of four partitions each; eight segments wait in the broker's state, and of four pages
two go below another.
"""

import signal

import pytest
from chronik import PATIENCE, Indexer, Ingest, Query, until
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from job_queue import Queue
from records import Record, consume, create_topic, produce

TOPIC, PARTITIONS, ROUNDS = "late", 4, 20
LIMITS = "page-runs=limit:8;fan-out=limit:2"
SETTINGS = {"index_batch_age": "200ms", "ship_max_age": "1h"}


def record(partition, number):
    return Record(b"round%d of partition%d" % (number, partition), timestamp=1000 * (number + 1), partition=partition)


def write(server, rounds):
    """A record of every partition in each of so many segments; all but the newest are exported, and may be closed."""
    for number in rounds:
        produce(server.bootstrap, TOPIC, [record(partition, number) for partition in range(PARTITIONS)])
        server.seal()


def set_search(server, enabled):
    client = AdminClient({"bootstrap.servers": server.bootstrap})
    entry = ConfigEntry("search.enabled", enabled, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=[entry])
    client.incremental_alter_configs([resource])[resource].result(30)


def pages(server):
    return server.metrics()["chronik_pages_total"]


def waiting(server):
    [topic] = server.status()["topics"]
    return topic["waiting"]["runs"]


def check_search(server, rounds=ROUNDS):
    """A search finds all, wherever it is."""
    for word, expected in [
        ("partition3", [(3, number) for number in range(rounds)]),
        ("round0", [(partition, 0) for partition in range(PARTITIONS)]),
    ]:
        found = server.search(TOPIC, word, limit=1000)
        assert found["not_searched"] == []
        assert sorted((hit["partition"], hit["offset"]) for hit in found["hits"]) == expected


def check_records(server, rounds=ROUNDS):
    read = consume(server.bootstrap, TOPIC, PARTITIONS)
    assert read == [
        [(number, record(partition, number)) for number in range(rounds)] for partition in range(PARTITIONS)
    ]


def archived(server, searched):
    """Whether nothing waits; meanwhile everything is found."""
    check_search(searched)
    return all(p["archived_to"] == p["high_watermark"] for p in server.partitions().values())


@pytest.fixture
def jobs(elasticmq):
    return Queue(elasticmq)


@pytest.mark.parametrize("restarted", [False, True], ids=["results-of-old-jobs", "jobs-are-sent-again"])
def test_what_waits_for_an_indexer_leaves_the_state_and_is_archived_once_there_is_one(start, jobs, restarted):
    ingest = start("ingest", Ingest, **SETTINGS, **jobs.settings(), failpoints=LIMITS)
    query = start("query", Query, local_storage_path=ingest.bucket, ingest_endpoints=ingest.http)
    create_topic(ingest.bootstrap, TOPIC, PARTITIONS)
    write(ingest, range(ROUNDS))
    until(lambda: pages(ingest) == 7, "all but three pages' worth is closed")
    until(lambda: ingest.metrics()["chronik_open_runs"] == 24, "and has left the state")
    assert waiting(ingest) == ROUNDS * PARTITIONS
    check_search(query)
    if restarted:
        ingest.kill()
        ingest.start()
        query.set(ingest_endpoints=ingest.http)
        query.kill()
        query.start()
    start("indexer", Indexer, **jobs.settings(), local_storage_path=ingest.bucket)
    until(lambda: archived(ingest, query), "all is archived", 3 * PATIENCE)
    until(lambda: waiting(ingest) == 0, "nothing waits in pages")
    check_search(query)
    check_records(ingest)
    assert ingest.stop() == 0
    ingest.lose_data_directory()
    ingest.start()
    assert waiting(ingest) == 0
    check_records(ingest)


STEPS = [
    ("late-page-created", 1),
    ("late-page-created", 4),
    ("late-page-named", 3),
    ("result-registered", 5),
    ("job-sent", 5),
]


@pytest.mark.parametrize("step", [None, *STEPS])
def test_a_topic_that_is_searched_again_is_indexed_for_what_was_closed_meanwhile(start, tmp_path, step):
    died = tmp_path / "died"
    dying = f";{step[0]}=abort@{step[1]}:{died}" if step else ""
    server = start(**SETTINGS, failpoints=LIMITS + dying)
    create_topic(server.bootstrap, TOPIC, PARTITIONS)
    set_search(server, "false")
    write(server, range(ROUNDS))
    until(lambda: pages(server) == 10, "all is closed")
    assert waiting(server) == 0, "what is not searched waits for nothing"
    set_search(server, "true")
    if step:
        with server.process as process:
            assert process.wait(timeout=PATIENCE) == -signal.SIGABRT and died.exists()
        server.set(failpoints=LIMITS).start()
    until(lambda: archived(server, server), "all is archived", 3 * PATIENCE)
    assert waiting(server) == 0
    check_search(server)
    check_records(server)
    assert server.stop() == 0
    server.lose_data_directory()
    server.start()
    check_search(server)
    check_records(server)


def test_what_was_compacted_before_is_indexed_as_it_lies_then(start):
    server = start(**SETTINGS, failpoints="page-runs=limit:8")
    create_topic(server.bootstrap, TOPIC, PARTITIONS)
    set_search(server, "false")
    write(server, range(ROUNDS))
    until(lambda: pages(server) == 10, "all is closed")

    def is_compacted():
        assert server.request("POST", "/v1/compact", params={"topic": TOPIC}).status_code == 200
        return [level["level"] for level in server.get("/v1/compaction")["levels"]] == [1]

    until(is_compacted, "all is compacted")
    set_search(server, "true")
    until(lambda: archived(server, server), "all is archived", 3 * PATIENCE)
    assert waiting(server) == 0
    check_search(server)
    check_records(server)
