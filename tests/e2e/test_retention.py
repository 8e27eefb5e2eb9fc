"""Records that their topics don't keep: whole runs go from the oldest on, for consumers, searches and the bucket."""

import signal
import time

from chronik import PATIENCE, until
from clock import Clock
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec
from records import Record, consume, consumer, produce, watermarks
from seen import is_seen_from, records

# Pages that are compacted are too few to go below another.
UNCOMPACTED = "compaction-jobs=limit:0"
SETTINGS = {"retention_check_interval": "200ms", "ship_max_age": "1h", "index_batch_age": "200ms"}
HOUR_MS = 60 * 60 * 1000


def orders(first, count, age_ms):
    """Of one age, as their producer says."""
    at = int(time.time() * 1000) - age_ms
    return [Record(record.value, timestamp=at) for record in records(first, count)]


def write(server, topic, *batches):
    """Each in a segment of its own."""
    for batch in batches:
        produce(server.bootstrap, topic, batch)
        server.seal()


def log_start(server, topic):
    return server.partitions()[topic, 0]["log_start"]


def wait_log_start(server, topic, offset):
    until(lambda: log_start(server, topic) == offset, f"the log of {topic} starts at {offset}")


def test_old_records_go_and_young_ones_stay_whatever_happens(start):
    server = start(**SETTINGS)
    server.tool("topic", "create", "orders")
    old = [orders(first, 10, 2 * HOUR_MS) for first in (0, 10)]
    write(server, "orders", *old, orders(20, 10, 0))
    server.wait_archived()
    assert watermarks(server.bootstrap, "orders", 1) == [(0, 30)]
    assert server.metrics()["chronik_retention_deleted_records_total"] == 0
    server.tool("topic", "alter", "orders", "--set", f"retention.ms={HOUR_MS}")
    wait_log_start(server, "orders", 20)
    is_seen_from(server, "orders", 20, 30)
    assert server.metrics()["chronik_retention_deleted_records_total"] == 20
    assert server.metrics()["chronik_retention_deleted_bytes_total"] > 20 * len(b"order 0 paid")
    assert "retention: 1h\n" in server.tool("topic", "describe", "orders").decode()
    server.kill()
    server.start()
    is_seen_from(server, "orders", 20, 30)
    assert server.stop() == 0
    server.lose_data_directory()
    server.start()
    is_seen_from(server, "orders", 20, 30)
    server.tool("topic", "alter", "orders", "--unset", "retention.ms")
    assert "retention: history is kept\n" in server.tool("topic", "describe", "orders").decode()


def test_what_is_not_shipped_stays_however_old_it_is(start):
    server = start(**SETTINGS)
    for topic in ("waits", "shipped"):
        server.tool("topic", "create", topic, "--config", "retention.ms=1")
    produce(server.bootstrap, "shipped", orders(0, 10, HOUR_MS))
    server.seal()
    produce(server.bootstrap, "waits", orders(0, 10, HOUR_MS))
    wait_log_start(server, "shipped", 10)
    write(server, "shipped")
    produce(server.bootstrap, "shipped", orders(10, 10, HOUR_MS))
    assert watermarks(server.bootstrap, "waits", 1) == [(0, 10)]
    server.seal()
    for topic, end in (("waits", 10), ("shipped", 20)):
        wait_log_start(server, topic, end)
        assert watermarks(server.bootstrap, topic, 1) == [(end, end)]
        assert server.search(topic)["hits"] == []
    assert produce(server.bootstrap, "waits", orders(10, 5, -HOUR_MS)) == [10, 11, 12, 13, 14]
    is_seen_from(server, "waits", 10, 15)


def test_the_oldest_go_as_long_as_enough_bytes_are_left(start):
    server = start(**SETTINGS)
    server.tool("topic", "create", "orders")
    write(server, "orders", *(orders(first, 10, 0) for first in range(10, 60, 10)))
    server.tool("topic", "create", "whole", "--config", "retention.bytes=1000000")
    write(server, "whole", orders(0, 10, 0))
    for kept, first in ((1, 40), (0, 50)):
        server.tool("topic", "alter", "orders", "--set", f"retention.bytes={kept}")
        wait_log_start(server, "orders", first)
    assert log_start(server, "whole") == 0


def test_a_consumer_that_was_too_slow_is_told_so_and_goes_on_where_the_log_starts(start):
    server = start(**SETTINGS)
    server.tool("topic", "create", "orders")
    write(server, "orders", *(orders(first, 10, age) for first, age in ((0, 2 * HOUR_MS), (10, 0), (20, 2 * HOUR_MS))))
    reader = consumer(server.bootstrap, group_id="slow", auto_offset_reset="earliest")
    try:
        reader.commit(offsets=[TopicPartition("orders", 0, 2)], asynchronous=False)
        server.tool("topic", "alter", "orders", "--set", f"retention.ms={HOUR_MS}")
        wait_log_start(server, "orders", 10)
        reader.subscribe(["orders"])
        message = reader.poll(60)
        assert (message.error(), message.offset()) == (None, 10)
        assert watermarks(server.bootstrap, "orders", 1) == [(10, 30)], "nothing goes before what lies below it"
    finally:
        reader.close()


# A page holds some thousand runs, and four pages of so wide a topic go below another once there are eight.
WIDE, PARTITIONS, ROUNDS, OLD = "wide", 4100, 8, 3
START_MS = int(time.time() * 1000)


def wide_record(partition, number):
    age_ms = 2 * HOUR_MS if number < OLD else 0
    return Record(b"round%d of partition%d" % (number, partition), timestamp=START_MS - age_ms, partition=partition)


def write_wide(server):
    client = AdminClient({"bootstrap.servers": server.bootstrap})
    client.create_topics([NewTopic(WIDE, PARTITIONS)])[WIDE].result(60)
    for number in range(ROUNDS):
        produce(server.bootstrap, WIDE, [wide_record(partition, number) for partition in range(PARTITIONS)])
        server.seal()
        server.wait_archived()
    until(lambda: server.metrics()["chronik_top_pages"] == 5, "the oldest four pages are below another")


def check_wide(server):
    """Every way to records, of which those of the first rounds are gone."""
    for partition in (0, 700, PARTITIONS - 1):
        read = server.get(f"/v1/topics/{WIDE}/partitions/{partition}/records")["records"]
        assert read == [wide_record(partition, number).document(WIDE, number) for number in range(OLD, ROUNDS)]
    for word, expected in (("partition1234", list(range(OLD, ROUNDS))), ("round0", []), (f"round{OLD}", [OLD])):
        found = server.search(WIDE, f"{word} partition1234", limit=100)
        assert sorted(hit["offset"] for hit in found["hits"]) == expected
        assert found["not_searched"] == []
    client, place = AdminClient({"bootstrap.servers": server.bootstrap}), TopicPartition(WIDE, 700)
    assert client.list_offsets({place: OffsetSpec.earliest()})[place].result(30).offset == OLD


def objects(server, kind):
    return set(server.bucket.glob(f"topics/*/{kind}/*/*"))


def test_a_broker_dies_at_each_step_and_old_records_leave_pages_and_bucket(start, tmp_path):
    clock = Clock(tmp_path / "clock")
    server = start(**SETTINGS, failpoints=UNCOMPACTED)
    write_wide(server)
    pages, archives = objects(server, "pages"), objects(server, "archives")
    server.kill()
    for step in ("retention-planned", "retention-moved", "trim-created", "trim-named"):
        died = tmp_path / step
        server.set(failpoints=f"{step}=abort:{died};{UNCOMPACTED}")
        if step == "retention-planned":
            server.start().tool("topic", "alter", WIDE, "--set", f"retention.ms={HOUR_MS}")
        else:
            server.spawn()
        with server.process as process:
            assert process.wait(timeout=PATIENCE) == -signal.SIGABRT and died.exists()
    server.set(failpoints=UNCOMPACTED).start()
    check_wide(server)
    assert consume(server.bootstrap, WIDE, PARTITIONS, OLD) == [
        [(number, wide_record(partition, number)) for number in range(OLD, ROUNDS)] for partition in range(PARTITIONS)
    ]
    # The pages of the old rounds, and the one above them as it was.
    until(lambda: server.metrics()["chronik_tombstones"] == OLD + 1, "what is deleted is out of the pages")
    server.tool("topic", "alter", WIDE, "--unset", "retention.ms")
    assert server.stop() == 0

    def is_deleted():
        clock.advance(minutes=61)
        return len(pages - objects(server, "pages")) == OLD + 1

    server.set(**clock.settings()).start()
    until(is_deleted, "pages leave the bucket", every=1)
    assert 0 < len(archives - objects(server, "archives")) < len(archives)
    check_wide(server)
    assert server.stop() == 0
    server.lose_data_directory()
    server.start()
    check_wide(server)
