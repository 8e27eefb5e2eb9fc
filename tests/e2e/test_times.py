"""Records are found by their own times, whatever producers write into the headers of their batches."""

import confluent_kafka as kafka
from by_hand import batch, produce_by_hand
from chronik import until
from confluent_kafka.admin import AdminClient, OffsetSpec
from records import Record, consumer, produce

T0 = 1_700_000_000_000
# What a batch's records have and what its header claims to be the latest: Sarama's -1, too early, too late, the truth.
BATCHES = [([0, 10], -1), ([30, 20], T0 + 1), ([40], T0 + 9_000), ([60, 50, 70], -1), ([65], None)]
TIMES = [T0 + time for times, _ in BATCHES for time in times]
LATEST = max(TIMES)


def found(server, **parameters):
    answer = server.search("lied", limit=100, **parameters)
    assert answer["total"] == {"value": len(answer["hits"]), "relation": "eq"}
    assert answer["not_searched"] == []
    return [(hit["timestamp"], hit["offset"]) for hit in answer["hits"]]


def check(server):
    there = sorted(zip(TIMES, range(len(TIMES)), strict=True))
    for time in [T0, T0 + 1, T0 + 10, T0 + 45, LATEST, LATEST + 1, T0 + 9_000]:
        later, earlier = [r for r in there if r[0] >= time], [r for r in there if r[0] < time]
        assert found(server, sort="oldest", **{"from": time}) == later, time
        assert found(server, sort="newest", to=time) == earlier[::-1], time
    for sort, expected in [("oldest", there), ("newest", there[::-1])]:
        pages = list(server.pages("lied", sort=sort, limit=2))
        assert [(hit["timestamp"], hit["offset"]) for hits in pages for hit in hits] == expected
    partition = kafka.TopicPartition("lied", 0)
    client = consumer(server.bootstrap)
    for time in [0, *TIMES, LATEST + 1, T0 + 9_000]:
        [first] = client.offsets_for_times([kafka.TopicPartition("lied", 0, time)], timeout=30)
        assert first.offset == next((offset for offset, at in enumerate(TIMES) if at >= time), -1), time
    client.close()
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    youngest = admin.list_offsets({partition: OffsetSpec.max_timestamp()})[partition].result(30)
    assert (youngest.offset, youngest.timestamp) == (TIMES.index(LATEST), LATEST)


def test_times_are_those_of_the_records_wherever_they_lie(start):
    server = start(ship_max_age="1h", index_batch_age="1h", wal_rotation_size="64KiB")
    server.tool("topic", "create", "lied")
    for times, latest in BATCHES:
        lie = batch(times=[T0 + time for time in times], latest=latest)
        assert produce_by_hand(server.bootstrap, "lied", lie) == 0
    check(server)

    [oldest, *_] = sorted((server.data / "wal").rglob("*.wal"))
    # Shipped, and not indexed for an hour.
    server.set(ship_max_age="1s")
    server.kill()
    server.start()
    server.wait_shipped()
    assert server.partitions()["lied", 0]["archived_to"] == 0
    check(server)

    server.seal()
    server.wait_archived()
    check(server)

    produce(server.bootstrap, "filler", [Record(bytes(1_000))] * 200)
    until(lambda: not oldest.exists(), "the log's first file is recycled")
    check(server)
