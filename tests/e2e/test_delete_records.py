"""Records that an admin client deletes: no consumer, search or page shows them again, wherever they lie, across kill -9
and a recovery from the bucket alone."""

import re
import struct
from functools import partial

import confluent_kafka as kafka
import pytest
from by_hand import ask
from chronik import Ingest, Query, run_tool, until
from confluent_kafka import TopicPartition
from records import consume, consumer, delete_records, produce, watermarks
from seen import is_searched_from, is_seen_from, records
from servers.server import free_port


def test_nobody_sees_deleted_records_whatever_happens(start):
    server = start(ship_max_age="1h", index_batch_age="1s")
    server.tool("topic", "create", "orders")
    produce(server.bootstrap, "orders", records(0, 30))
    # Within a batch, and in the log alone.
    assert delete_records(server.bootstrap, "orders", {0: 3}) == {0: 3}
    is_seen_from(server, "orders", 3, 30)
    # What is answered is durable.
    assert delete_records(server.bootstrap, "orders", {0: 4}) == {0: 4}
    server.kill()
    server.start()
    is_seen_from(server, "orders", 4, 30)
    server.seal()
    server.wait_archived()
    produce(server.bootstrap, "orders", records(30, 10))
    server.seal()
    server.wait_archived()
    produce(server.bootstrap, "orders", records(40, 10))
    is_seen_from(server, "orders", 4, 50)
    # Within a run that has an archive; a whole run; what is not shipped.
    for log_start in (7, 35, 42):
        assert delete_records(server.bootstrap, "orders", {0: log_start}) == {0: log_start}
        is_seen_from(server, "orders", log_start, 50)
    assert delete_records(server.bootstrap, "orders", {0: 3}) == {0: 42}, "no log starts earlier than it did"
    server.seal()
    server.kill()
    server.lose_data_directory()
    server.set(take_over="true").start()
    is_seen_from(server, "orders", 42, 50)
    assert delete_records(server.bootstrap, "orders", {0: -1}) == {0: 50}
    assert watermarks(server.bootstrap, "orders", 1) == [(50, 50)]
    assert server.search("orders")["hits"] == []
    assert produce(server.bootstrap, "orders", records(50, 5)) == [50, 51, 52, 53, 54]
    is_seen_from(server, "orders", 50, 55)


def test_a_query_worker_does_not_show_them_with_a_broker_to_ask_or_without(start):
    ports = [free_port(), free_port()]
    url = [f"http://127.0.0.1:{port}" for port in ports]
    ingest = start("ingest", Ingest, ship_max_age="1h", http_port=ports[0], query_endpoints=url[1])
    bucket = {"local_storage_path": ingest.bucket}
    asking = start("asking", Query, **bucket, http_port=ports[1], ingest_endpoints=url[0])
    alone = start("alone", Query, **bucket)
    run_tool("--bootstrap", ingest.bootstrap, "topic", "create", "orders")
    produce(ingest.bootstrap, "orders", records(0, 20))
    ingest.seal()
    ingest.wait_shipped()
    produce(ingest.bootstrap, "orders", records(20, 10))

    def shows(expected):
        answer = alone.request("GET", "/v1/search", params={"topic": "orders", "limit": 100, "sort": "oldest"})
        return [hit["offset"] for hit in answer.json().get("hits", [])] == expected

    until(lambda: shows(list(range(20))), "the catalog has the topic")
    for log_start in (5, 24):
        assert delete_records(ingest.bootstrap, "orders", {0: log_start}) == {0: log_start}
        is_searched_from(asking, "orders", log_start, 30)
        [read] = consume(ingest.bootstrap, "orders", 1, log_start)
        assert [offset for offset, _ in read] == list(range(log_start, 30))
        until(partial(shows, list(range(log_start, 20))), "the catalog follows")


def test_a_consumer_goes_on_where_the_log_starts_and_its_group_keeps_its_offset(shared):
    shared.tool("topic", "create", "purged")
    produce(shared.bootstrap, "purged", records(0, 10))
    reader = consumer(shared.bootstrap, group_id="slow", auto_offset_reset="earliest")
    try:
        reader.commit(offsets=[TopicPartition("purged", 0, 2)], asynchronous=False)
        assert delete_records(shared.bootstrap, "purged", {0: 6}) == {0: 6}
        assert reader.committed([TopicPartition("purged", 0)], timeout=60)[0].offset == 2
        reader.subscribe(["purged"])
        message = reader.poll(60)
        assert (message.error(), message.offset()) == (None, 6)
    finally:
        reader.close()


def test_what_can_not_be_deleted_has_kafkas_code(shared):
    shared.tool("topic", "create", "kept", "--partitions", 2)
    produce(shared.bootstrap, "kept", records(0, 3))
    with pytest.raises(kafka.KafkaException) as raised:
        delete_records(shared.bootstrap, "kept", {0: 4})
    assert raised.value.args[0].code() == kafka.KafkaError.OFFSET_OUT_OF_RANGE
    # By hand: partition 0 up to offset 2, partition 1 beyond its end, and one that is not there.
    for version in (0, 1):
        partitions = struct.pack(">iiqiqiq", 3, 0, 2, 1, 1, 2, -1)
        answer = ask(shared.bootstrap, 21, version, b"\0\0\0\1\0\4kept" + partitions + struct.pack(">i", 30_000))
        expected = struct.pack(">iiqhiqhiqh", 3, 0, 2, 0, 1, -1, 1, 2, -1, 3)
        assert answer == b"\0\0\0\0\0\0\0\1\0\4kept" + expected
    assert watermarks(shared.bootstrap, "kept", 2) == [(2, 3), (0, 0)]


def test_the_tool_shows_a_deletion_and_then_does_it(shared):
    shared.tool("topic", "create", "shortened", "--partitions", 2)
    produce(shared.bootstrap, "shortened", records(0, 10))
    deletion = ("topic", "delete-records", "shortened", "--before")
    shown = shared.tool(*deletion, "latest").decode()
    assert re.search(r"^ *shortened +0 +0 +10$", shown, re.M) and re.search(r"^ *shortened +1 +0 +0$", shown, re.M)
    assert shown.endswith("nothing was deleted; --execute does it, and what is deleted does not come back\n")
    assert watermarks(shared.bootstrap, "shortened", 2) == [(0, 10), (0, 0)]
    assert shared.tool_json(*deletion, 4, "--partition", 0, "--execute") == {
        "executed": True,
        "partitions": [{"topic": "shortened", "partition": 0, "old_log_start": 0, "log_start": 4}],
    }
    assert watermarks(shared.bootstrap, "shortened", 2) == [(4, 10), (0, 0)]
    for arguments, told in [
        ((11, "--partition", 0), "partition 0 of shortened has offsets 4 to 10, not 11"),
        ((4,), "name one, as in --partition 0 --before 4"),
        ((0, "--partition", 2), "it has 2 partitions"),
    ]:
        done = run_tool("--bootstrap", shared.bootstrap, *deletion, *arguments)
        assert done.returncode == 1 and told in done.stderr.decode(), done
    assert shared.tool(*deletion, "latest", "--execute").decode().endswith("what lies below is deleted\n")
    assert watermarks(shared.bootstrap, "shortened", 2) == [(10, 10), (0, 0)]
