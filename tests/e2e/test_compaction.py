"""Compaction: closed history of small runs becomes a few large ones, and is read, searched and recovered as before."""

import contextlib
import json
import re
import signal

import pytest
import requests
from chronik import PATIENCE, Indexer, Ingest, Query, until
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec
from job_queue import Queue
from records import Record, consume, create_topic, produce

TOPIC, PARTITIONS, ROUNDS = "history", 3, 7
OUTAGE, PARTS = "outage", 16
# Of a page; a segment has one or two of them less than there are partitions, here and there.
PAGE_RUNS = 2 * PARTITIONS
LIMIT = f"page-runs=limit:{PAGE_RUNS}"
SETTINGS = {"index_batch_age": "200ms", "ship_max_age": "1h"}


def begin(start, failpoints="", **settings):
    return start(**SETTINGS, failpoints=f"{LIMIT};{failpoints}".rstrip(";"), **settings)


def admin(server):
    return AdminClient({"bootstrap.servers": server.bootstrap})


def record(partition, offset):
    words = f"partition{partition} offset{offset} third{offset % 3}"
    return Record(words.encode(), timestamp=1000 * (offset + 1), partition=partition)


def count(partition, number):
    """A partition's records of a round: none here and there."""
    return (3 * partition + number) % 4


def end(partition, rounds=ROUNDS):
    return sum(count(partition, number) for number in range(rounds))


def write(server, number):
    """Records in a segment of their own."""
    records = [
        record(partition, offset)
        for partition in range(PARTITIONS)
        for offset in range(end(partition, number), end(partition, number + 1))
    ]
    produce(server.bootstrap, TOPIC, records)
    server.seal()


def write_and_close(server):
    client = admin(server)
    client.create_topics([NewTopic(TOPIC, PARTITIONS)])[TOPIC].result(30)
    for number in range(ROUNDS):
        write(server, number)
    server.wait_archived()
    until(lambda: server.metrics()["chronik_open_runs"] < PAGE_RUNS, "all that fills a page is closed")
    return int(server.metrics()["chronik_pages_total"])


def check(server):
    """Every way to every record."""
    everything = [(partition, offset) for partition in range(PARTITIONS) for offset in range(end(partition))]
    for word, wanted in [
        ("", lambda partition, offset: True),
        ("third1", lambda partition, offset: offset % 3 == 1),
        ("NOT third1", lambda partition, offset: offset % 3 != 1),
        ("partition2", lambda partition, offset: partition == 2),
        ("offset0 OR offset7", lambda partition, offset: offset in (0, 7)),
    ]:
        found = server.search(TOPIC, word, limit=1000)
        hits = sorted((hit["partition"], hit["offset"]) for hit in found["hits"])
        assert hits == [place for place in everything if wanted(*place)], word
        assert found["not_searched"] == []
    assert server.search(TOPIC, "", to=3000, limit=0)["total"]["value"] == 2 * PARTITIONS
    client = admin(server)
    for partition in range(PARTITIONS):
        place = TopicPartition(TOPIC, partition)
        for offset in range(end(partition)):
            spec = OffsetSpec.for_timestamp(1000 * offset + 1)
            assert client.list_offsets({place: spec})[place].result(30).offset == offset
        read = server.get(f"/v1/topics/{TOPIC}/partitions/{partition}/records", offset=0)["records"]
        assert read == [record(partition, offset).document(TOPIC, offset) for offset in range(end(partition))]
    assert consume(server.bootstrap, TOPIC, PARTITIONS) == [
        [(offset, record(partition, offset)) for offset in range(end(partition))] for partition in range(PARTITIONS)
    ]


def compact(server):
    answer = server.request("POST", "/v1/compact", params={"topic": TOPIC})
    assert answer.status_code == 200, answer.text
    # What is merged beside it is of another test.
    return {name: answer.json()[name] for name in ("jobs", "pages", "bytes")}


def levels(server):
    return {level["level"]: level for level in server.get("/v1/compaction")["levels"]}


def check_tiers(server, written):
    """Of a topic all of which is shipped, closed in part, and compacted as far as it is closed."""
    tiers = server.tool_json("topic", "describe", TOPIC)["tiers"]
    assert [tier["tier"] for tier in tiers] == ["log", "open", "level 1"]
    log, _, compacted = tiers
    assert log == {"tier": "log", "records": 0, "bytes": None, "runs": None, "archives": None}
    assert sum(tier["records"] for tier in tiers) == written and compacted["records"] == levels(server)[1]["records"]
    shown = server.tool("topic", "describe", TOPIC).decode()
    assert re.search(rf"^ *level 1 +{compacted['records']} +{compacted['bytes']} +{PARTITIONS} ", shown, re.M), shown


def compact_all(server):
    """Asks again: a job may have been lost with the process."""

    def is_compacted():
        compact(server)
        return 0 not in levels(server)

    until(is_compacted, "all that is closed is compacted")


def own_segments(server):
    return sorted(server.bucket.glob("topics/*/segments/*/*.seg"))


def shipped_segments(server):
    """From the oldest to the newest."""
    return sorted(server.bucket.glob("lanes/*/segments/*/*.seg"), key=lambda path: path.name)


def test_small_runs_become_few_and_nothing_else_changes(start):
    server = begin(start)
    pages = write_and_close(server)
    before = levels(server)
    waiting = server.get("/v1/compaction")["waiting"]
    assert set(before) == {0} and waiting["pages"] == pages > 1 and waiting["runs"] == before[0]["runs"] > PARTITIONS
    assert compact(server) == {"jobs": 1, "pages": pages, "bytes": before[0]["bytes"]}
    until(lambda: set(levels(server)) == {1}, "it is compacted")
    after = levels(server)[1]
    assert after["runs"] == PARTITIONS and after["bytes"] == before[0]["bytes"]
    assert after["archives"] == before[0]["archives"]
    written = sum(end(partition) for partition in range(PARTITIONS))
    check_tiers(server, written)
    assert compact(server) == {"jobs": 0, "pages": 0, "bytes": 0}
    (segment,) = own_segments(server)
    described = server.tool_json("segment", "inspect", str(segment))
    assert described["level"] == 1 and described["damage"] == []
    assert [len(topic["partitions"]) for topic in described["topics"]] == [PARTITIONS]
    check(server)

    # What was compacted is read where it is now, also by who has nothing in memory.
    for old in shipped_segments(server)[:4]:
        old.rename(server.directory / old.name)
    check(server)
    server.kill()
    server.start()
    check(server)


def test_what_is_compacted_is_recovered(start):
    server = begin(start)
    write_and_close(server)
    compact_all(server)
    assert server.stop() == 0
    server.lose_data_directory()
    server.start()
    assert set(levels(server)) == {1}
    check(server)


@pytest.mark.parametrize(
    "step",
    [
        "compaction-sent",
        "compactor-read",
        "compactor-wrote",
        "indexer-reported",
        "compacted-page-created",
        "pages-replaced",
        "result-registered",
    ],
)
def test_who_dies_as_it_compacts_leaves_history_as_it_was(start, tmp_path, step):
    died = tmp_path / "died"
    server = begin(start)
    write_and_close(server)
    assert server.stop() == 0
    server.set(failpoints=f"{LIMIT};{step}=abort:{died}").start()
    with server.process as process:
        with contextlib.suppress(requests.RequestException):
            server.request("POST", "/v1/compact")
        assert process.wait(timeout=PATIENCE) == -signal.SIGABRT and died.exists()
    server.start()
    check(server)
    compact_all(server)
    check(server)
    assert sum(level["bytes"] for level in levels(server).values()) > 0


def test_a_result_that_comes_twice_changes_nothing(start, tmp_path):
    stopped = tmp_path / "stopped"
    server = begin(start, f"compacted-page-created=stop:{stopped}")
    closed = write_and_close(server)
    compact(server)
    until(stopped.exists, "a result is being taken in")
    results = server.bucket.glob("inbox/*/*.json")
    (result,) = [result for result in results if json.loads(result.read_bytes())["kind"] == "compact"]
    copy = result.with_name(f"{result.name[:9]}01HF7YAT00000000000000000A.json")
    copy.write_bytes(result.read_bytes())
    stopped.unlink()
    until(lambda: set(levels(server)) == {1}, "the first is taken in")
    pages = len(list(server.bucket.glob("topics/*/pages/*/*.page")))

    def is_gone():
        """What is taken in is deleted once that is shipped."""
        produce(server.bootstrap, "other", [Record(b"later", timestamp=1, partition=0)])
        server.seal()
        return not result.exists() and not copy.exists()

    until(is_gone, "both are taken in, and deleted", patience=2 * PATIENCE, every=5)
    assert server.metrics()["chronik_compactions_total"] == 1 and pages == closed + 1
    assert len(own_segments(server)) == 1


def test_what_is_overtaken_changes_nothing(start, tmp_path):
    stopped = tmp_path / "stopped"
    server = begin(start, f"compactor-wrote=stop@1:{stopped}")
    pages = write_and_close(server)
    compact(server)
    until(stopped.exists, "a segment is written")
    places = [TopicPartition(TOPIC, partition, end(partition, 3)) for partition in range(PARTITIONS)]
    client = admin(server)
    for answer in client.delete_records(places).values():
        answer.result(30)
    until(lambda: server.get("/v1/compaction")["waiting"]["pages"] == pages - 1, "a page is deleted")
    stopped.unlink()
    until(lambda: server.get("/v1/compaction")["pending_jobs"] == 0, "the result is taken in")
    assert set(levels(server)) == {0} and server.metrics()["chronik_compactions_total"] == 0
    compact_all(server)
    for partition in range(PARTITIONS):
        found = server.search(TOPIC, f"partition{partition}", limit=100)
        kept = range(end(partition, 3), end(partition))
        assert sorted(hit["offset"] for hit in found["hits"]) == list(kept)


def test_damage_fails_a_job_and_is_not_tried_for_ever(start):
    server = begin(start)
    pages = write_and_close(server)
    damaged = shipped_segments(server)[0]
    good = damaged.read_bytes()
    damaged.write_bytes(good[:130] + bytes([good[130] ^ 1]) + good[131:])
    # Both pages together, then each alone.
    assert compact(server) == {"jobs": 1, "pages": pages, "bytes": levels(server)[0]["bytes"]}
    until(lambda: server.metrics()["chronik_compaction_failed_pages"] == 1, "one page can't be compacted")
    until(lambda: set(levels(server)) == {0, 1}, "the other is")
    assert levels(server)[1]["runs"] == PARTITIONS and len(own_segments(server)) == 1
    assert compact(server) == {"jobs": 0, "pages": 0, "bytes": 0}
    assert server.metrics()["chronik_compaction_failures_total"] == 2
    damaged.write_bytes(good)
    check(server)
    server.kill()
    server.start()
    compact_all(server)
    check(server)


def outage_record(partition, number):
    return Record(b"round%d of partition%d" % (number, partition), timestamp=1000 * (number + 1), partition=partition)


def check_outage(broker, worker):
    for word, expected in [
        ("partition3", [(3, number) for number in range(PARTS)]),
        ("round7", [(partition, 7) for partition in range(4)]),
    ]:
        found = worker.search(OUTAGE, word, limit=1000)
        assert found["not_searched"] == []
        assert sorted((hit["partition"], hit["offset"]) for hit in found["hits"]) == expected
    read = consume(broker.bootstrap, OUTAGE, 4)
    assert read == [[(number, outage_record(partition, number)) for number in range(PARTS)] for partition in range(4)]


@pytest.mark.parametrize("step", [None, "compacted-page-created", "pages-replaced"])
def test_what_was_folded_without_indexers_is_compacted_once_there_are_some(start, elasticmq, tmp_path, step):
    """Pages of two segments, of which two go below another, and all but the newest of which wait for archives."""
    jobs, died = Queue(elasticmq), tmp_path / "died"
    small = "page-runs=limit:8;fan-out=limit:2"
    dying = f";{step}=abort@2:{died}" if step else ""
    broker = start("ingest", Ingest, **SETTINGS, **jobs.settings(), failpoints=small + dying)
    worker = start("query", Query, local_storage_path=broker.bucket, ingest_endpoints=broker.http)
    create_topic(broker.bootstrap, OUTAGE, 4)
    for number in range(PARTS):
        produce(broker.bootstrap, OUTAGE, [outage_record(partition, number) for partition in range(4)])
        broker.seal()
    until(lambda: broker.metrics()["chronik_pages_total"] == 5, "what waits for too long is closed")
    until(lambda: broker.metrics()["chronik_top_pages"] == 4, "and folded")
    waiting = broker.get("/v1/compaction")["waiting"]
    assert (waiting["pages"], waiting["runs"]) == (5, 40) and set(levels(broker)) == {0}
    start("indexer", Indexer, **jobs.settings(), local_storage_path=broker.bucket)
    if step:
        assert broker.process.wait(timeout=3 * PATIENCE) == -signal.SIGABRT and died.exists()
        broker.set(failpoints=small).start()
        worker.kill()
        worker.set(ingest_endpoints=broker.http).start()

    def is_compacted():
        assert broker.request("POST", "/v1/compact").status_code == 200
        return broker.status()["topics"][0]["waiting"]["runs"] == 0 and 0 not in levels(broker)

    until(is_compacted, "all is archived, and what is closed is compacted, wherever it is", 3 * PATIENCE)
    after = broker.get("/v1/compaction")
    assert after["waiting"] == {"pages": 0, "runs": 0, "bytes": 0, "oldest_closed_at": None}
    assert after["failed_pages"] == 0 and sum(level["runs"] for level in after["levels"]) >= 4
    assert broker.stop() == 0
    broker.lose_data_directory()
    broker.start()
    worker.kill()
    worker.set(ingest_endpoints=broker.http).start()
    check_outage(broker, worker)
    assert broker.stop() == 0
    broker.lose_data_directory()
    broker.start()
    worker.kill()
    worker.set(ingest_endpoints=broker.http).start()
    check_outage(broker, worker)
    for old in shipped_segments(broker)[:10]:
        old.rename(broker.directory / old.name)
    check_outage(broker, worker)


def test_the_tool_shows_and_compacts(start):
    server = begin(start)
    pages = write_and_close(server)
    assert f"never compacted: {pages} pages" in server.tool("compact", "status").decode()
    assert "1 jobs are sent" in server.tool("compact", "now", TOPIC).decode()
    until(lambda: set(levels(server)) == {1}, "it is compacted")
    assert server.tool_json("compact", "status")["levels"][0]["runs"] == PARTITIONS
    assert "1 jobs are sent that merge archives" in server.tool("compact", "now").decode()
    until(lambda: "nothing is to be compacted" in server.tool("compact", "now").decode(), "and its archives are merged")
    server.tool("compact", "now", "absent", code=1)
    for parameter in ["x", "topics"]:
        assert server.request("POST", "/v1/compact", params={parameter: "1"}).status_code == 400
    assert server.request("GET", "/v1/compaction", params={"topic": TOPIC}).status_code == 400
