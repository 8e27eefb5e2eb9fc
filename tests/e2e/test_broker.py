"""The broker, seen by clients: what it serves and what it refuses."""

import socket
import struct

import confluent_kafka as kafka
import pytest
from by_hand import ask, batch, produce_by_hand
from confluent_kafka.admin import AdminClient, NewTopic
from records import Record, consume, consumer, produce, producer, watermarks


def test_versions_are_those_that_are_served(shared):
    answer = ask(shared.bootstrap, 18, 0, b"")
    code, count = struct.unpack_from(">hi", answer)
    versions = {key: (low, high) for key, low, high in struct.iter_unpack(">hhh", answer[6 : 6 + 6 * count])}
    assert code == 0
    assert versions[18] == (0, 4) and versions[3] == (0, 12) and versions[0] == (0, 11)
    assert versions[1] == (0, 17) and versions[2] == (0, 9) and versions[19] == (0, 7) and versions[20] == (0, 6)
    assert versions[8] == (0, 9) and versions[11] == (0, 9) and versions[22] == (0, 5)
    assert versions[60] == (0, 1) and versions[32] == (0, 4)
    assert versions[21] == (0, 2) and versions[37] == (0, 3) and versions[33] == (0, 2) and versions[44] == (0, 1)
    assert not versions.keys() & {24, 25, 26, 28}, "what is not there is not advertised"
    unknown = ask(shared.bootstrap, 18, 99, b"", flexible=True)
    assert struct.unpack_from(">hi", unknown) == (35, 1)


def test_batches_are_checked(shared):
    shared.tool("topic", "create", "by-hand")
    assert produce_by_hand(shared.bootstrap, "by-hand", batch()) == 0
    assert produce_by_hand(shared.bootstrap, "by-hand", batch(damage=1)) == 2, "CORRUPT_MESSAGE"
    assert watermarks(shared.bootstrap, "by-hand", 1) == [(0, 1)]


def test_garbage_closes_the_connection_and_nothing_else(shared):
    host, port = shared.bootstrap.split(":")
    for garbage in [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 64,
        struct.pack(">i", 2**31 - 1),
        struct.pack(">ihh", 4, 99, 99),
    ]:
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            assert connection.makefile("rb").read() == b""
    assert shared.tool("topic", "list")


def test_a_transactional_producer_is_told(shared):
    client = producer(shared.bootstrap, transactional_id="x")
    with pytest.raises(kafka.KafkaException, match=r"(?i)transactional.*auth"):
        client.init_transactions(30)


def test_topics_are_created_and_deleted(shared):
    admin = AdminClient({"bootstrap.servers": shared.bootstrap})
    admin.create_topics([NewTopic("made", 2, 1, config={"max.message.bytes": "1000"})])["made"].result(30)
    produce(shared.bootstrap, "made", [Record(b"x", partition=1)])
    with pytest.raises(AssertionError, match="MSG_SIZE_TOO_LARGE"):
        produce(shared.bootstrap, "made", [Record(b"x" * 5000)], message_max_bytes=1_000_000)
    admin.delete_topics(["made"])["made"].result(30)
    admin.create_topics([NewTopic("made", 1, 1)])["made"].result(30)
    assert watermarks(shared.bootstrap, "made", 1) == [(0, 0)], "another topic of the same name"


def test_a_topic_that_was_not_created(start):
    server = start(auto_create_topics="false")
    with pytest.raises(AssertionError, match="UNKNOWN_TOPIC"):
        produce(server.bootstrap, "absent", [Record(b"x")], topic_metadata_propagation_max_ms=100)
    assert server.status()["topics"] == []


def test_default_number_of_partitions(start):
    server = start(num_partitions=4)
    produce(server.bootstrap, "auto", [Record(b"x", partition=3)])
    assert watermarks(server.bootstrap, "auto", 4)[3] == (0, 1)


def test_an_offset_that_is_not_there(shared):
    produce(shared.bootstrap, "short", [Record(b"x")])
    client = consumer(shared.bootstrap)
    client.assign([kafka.TopicPartition("short", 0, 5)])
    message = client.poll(30)
    assert message.error().code() == kafka.KafkaError._AUTO_OFFSET_RESET
    client.close()


def test_offsets_for_times(shared):
    produce(shared.bootstrap, "times", [Record(b"%d" % n, timestamp=1000 * n) for n in range(1, 6)])
    client = consumer(shared.bootstrap)
    for time, offset in [(0, 0), (1000, 0), (1001, 1), (5000, 4), (5001, -1)]:
        [found] = client.offsets_for_times([kafka.TopicPartition("times", 0, time)], timeout=30)
        assert found.offset == offset, time
    client.close()


def test_large_records(shared):
    admin = AdminClient({"bootstrap.servers": shared.bootstrap})
    admin.create_topics([NewTopic("large", 1, 1, config={"max.message.bytes": str(16 << 20)})])["large"].result(30)
    records = [Record(bytes([n]) * (8 << 20), timestamp=n + 1) for n in range(3)]
    produce(shared.bootstrap, "large", records, message_max_bytes=16 << 20)
    [read] = consume(shared.bootstrap, "large", 1)
    assert [record for _, record in read] == records


def test_many_producers_at_once_keep_their_own_order(shared):
    shared.tool("topic", "create", "busy", "--partitions", 2)
    clients = [producer(shared.bootstrap, linger_ms=0) for _ in range(8)]
    for number in range(300):
        for who, client in enumerate(clients):
            client.produce("busy", b"%d %d" % (who, number), partition=who % 2)
            client.poll(0)
    assert all(client.flush(60) == 0 for client in clients)
    for records in consume(shared.bootstrap, "busy", 2):
        by_client = {}
        for _, record in records:
            who, number = map(int, record.value.split())
            by_client.setdefault(who, []).append(number)
        assert all(numbers == list(range(300)) for numbers in by_client.values())
