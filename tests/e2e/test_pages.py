"""Closed history: what has left the broker's state for pages in the bucket is read, searched and recovered as before.

A page takes some thousand runs, so topics here have many partitions: each segment has a run of every one. With as many
as a page has runs each segment becomes a page, and of eight such pages four go below another.
"""

import json
import signal

import pytest
from chronik import PATIENCE, Died, run_tool, until
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec
from records import Record, consume, produce

TOPIC, PARTITIONS, ROUNDS = "wide", 1500, 5
FOLDED = (4100, 9)
# Pages that are compacted are too few to go below another.
UNCOMPACTED = "compaction-jobs=limit:0"
SETTINGS = {"index_batch_age": "200ms", "ship_max_age": "1h"}


def admin(server):
    return AdminClient({"bootstrap.servers": server.bootstrap})


def create(server, partitions=PARTITIONS):
    client = admin(server)
    client.create_topics([NewTopic(TOPIC, partitions)])[TOPIC].result(30)


def offset_at(server, spec):
    client, place = admin(server), TopicPartition(TOPIC, 700)
    return client.list_offsets({place: spec})[place].result(30).offset


def record(partition, number):
    return Record(b"round%d of partition%d" % (number, partition), timestamp=1000 * (number + 1), partition=partition)


def write(server, number, partitions=PARTITIONS):
    """A record of every partition, in a segment of their own."""
    produce(server.bootstrap, TOPIC, [record(partition, number) for partition in range(partitions)])
    server.seal()


def closed(server):
    return server.metrics()["chronik_pages_total"] >= 1


def write_and_close(server):
    create(server)
    for number in range(ROUNDS):
        write(server, number)
    server.wait_archived()
    until(lambda: closed(server), "a page is closed")


def check(server, partitions=PARTITIONS, rounds=ROUNDS):
    """Every way to records, old and new."""
    ends = {(p["high_watermark"], p["shipped_to"], p["archived_to"]) for p in server.partitions().values()}
    assert ends == {(rounds, rounds, rounds)}
    for word, expected in [
        ("partition1234", [(1234, number) for number in range(rounds)]),
        ("round0 partition7", [(7, 0)]),
        (f"round{rounds - 1} partition7", [(7, rounds - 1)]),
    ]:
        found = server.search(TOPIC, word, limit=100)
        assert sorted((hit["partition"], hit["offset"]) for hit in found["hits"]) == expected
        assert found["not_searched"] == []
    assert server.search(TOPIC, "", to=2000, limit=0)["total"] == {"value": partitions, "relation": "eq"}
    assert offset_at(server, OffsetSpec.for_timestamp(1001)) == 1
    assert offset_at(server, OffsetSpec.max_timestamp()) == rounds - 1
    for partition in [0, 700, partitions - 1]:
        read = server.get(f"/v1/topics/{TOPIC}/partitions/{partition}/records", offset=0)["records"]
        assert read == [record(partition, number).document(TOPIC, number) for number in range(rounds)]


def check_all_are_read(server, partitions=PARTITIONS, rounds=ROUNDS):
    read = consume(server.bootstrap, TOPIC, partitions)
    assert read == [
        [(number, record(partition, number)) for number in range(rounds)] for partition in range(partitions)
    ]


def test_what_is_closed_is_read_found_and_recovered(start):
    server = start(**SETTINGS)
    write_and_close(server)
    until(lambda: server.metrics()["chronik_open_runs"] < PARTITIONS * ROUNDS, "the page's runs are not open any more")
    check(server)
    server.kill()
    server.start()
    check(server)
    assert server.stop() == 0
    server.lose_data_directory()
    server.start()
    check(server)
    check_all_are_read(server)


def test_a_page_that_is_gone_is_named_and_may_come_back(start):
    server = start(**SETTINGS)
    write_and_close(server)
    assert server.stop() == 0
    server.lose_data_directory()
    (page,) = server.bucket.glob("topics/*/pages/*/*.page")
    away = page.rename(server.directory / page.name)
    with pytest.raises(Died):
        server.start()
    assert f"{page.name} (" in server.last_lines() and "--accept-loss" in server.last_lines()
    server.set(accept_loss="true").start()
    answer = server.request("GET", "/v1/search", params={"topic": TOPIC, "q": "round0"})
    assert answer.status_code == 503 and page.name in answer.text
    found = server.search(TOPIC, f"round{ROUNDS - 1}", limit=0, partial="true")
    assert found["total"]["value"] == PARTITIONS
    away.rename(page)
    check(server)


def outlive(start, died, point, limits="", shape=(PARTITIONS, ROUNDS)):
    """A broker that dies once at a fail point; what is read and found after the next start."""
    partitions, rounds = shape
    server = start(**SETTINGS, failpoints=f"{point}:{died};{limits}")
    create(server, partitions)
    for number in range(rounds - 1):
        write(server, number, partitions)
    with server.process as process:
        assert process.wait(timeout=PATIENCE) == -signal.SIGABRT and died.exists()
    server.set(failpoints=limits).start()
    write(server, rounds - 1, partitions)
    server.wait_archived()
    check(server, partitions, rounds)
    check_all_are_read(server, partitions, rounds)
    return server


@pytest.mark.parametrize("step", ["page-created", "page-closed"])
def test_a_broker_that_dies_as_it_closes(start, tmp_path, step):
    outlive(start, tmp_path / "died", f"{step}=abort")


def pages_above(server):
    """The pages above others in the bucket, as they are described."""
    paths = server.bucket.glob("topics/*/pages/*/*.page")
    pages = [json.loads(run_tool("--json", "page", "inspect", path).stdout) for path in paths]
    return [page for page in pages if page["height"] > 0]


def test_pages_go_below_others_and_are_read_found_and_recovered(start):
    server = start(**SETTINGS, failpoints=UNCOMPACTED)
    partitions, rounds = FOLDED
    create(server, partitions)
    for number in range(rounds):
        write(server, number, partitions)
    server.wait_archived()
    until(lambda: pages_above(server), "pages are folded")
    [above] = pages_above(server)
    assert len(above["pages"]) == 4 and len(above["partitions"]) == partitions
    assert {(bounds["first"], bounds["last"]) for bounds in above["partitions"]} == {(0, 3)}
    check(server, partitions, rounds)
    server.kill()
    server.start()
    check(server, partitions, rounds)
    assert server.stop() == 0
    server.lose_data_directory()
    server.start()
    check(server, partitions, rounds)
    check_all_are_read(server, partitions, rounds)
    below = server.bucket / above["pages"][1]["object"]
    away = below.rename(server.directory / below.name)
    assert server.stop() == 0
    server.lose_data_directory()
    server.start()
    answer = server.request("GET", "/v1/search", params={"topic": TOPIC, "q": "round1"})
    assert answer.status_code == 503 and below.name in answer.text, "it is named as it is read"
    later = server.search(TOPIC, "partition7", limit=0, **{"from": 3000})
    assert later["total"]["value"] == rounds - 2, "a search reads only what its time admits"
    away.rename(below)
    check(server, partitions, rounds)


@pytest.mark.parametrize("step", ["fold-created", "fold-named"])
def test_a_broker_that_dies_as_it_folds(start, tmp_path, step):
    outlive(start, tmp_path / "died", f"{step}=abort", limits=UNCOMPACTED, shape=FOLDED)


def test_records_that_are_deleted_are_gone_from_what_is_closed(start):
    server = start(**SETTINGS)
    write_and_close(server)
    kept = ROUNDS - 3
    places = [TopicPartition(TOPIC, partition, kept) for partition in range(PARTITIONS)]
    client = admin(server)
    for answer in client.delete_records(places).values():
        assert answer.result(30).low_watermark == kept
    found = server.search(TOPIC, "partition1234", limit=100)
    assert sorted(hit["offset"] for hit in found["hits"]) == list(range(kept, ROUNDS))
    assert offset_at(server, OffsetSpec.max_timestamp()) == ROUNDS - 1
    assert offset_at(server, OffsetSpec.earliest()) == kept
