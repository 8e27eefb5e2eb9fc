"""Clients that are wrong, slow, or too many: they get an error or lose their connection, and others notice nothing."""

import contextlib
import random
import resource
import select
import socket
import struct
from concurrent.futures import ThreadPoolExecutor

import confluent_kafka as kafka
import pytest
import requests
from by_hand import ask
from chronik import BINARY, Chronik, until
from confluent_kafka.admin import AdminClient, NewTopic
from records import Record, consume, consumer, produce, producer

MIB = 1 << 20
names = (f"served-{number}" for number in range(1000))


class FewFiles(Chronik):
    """With a limit of open files that it can't raise."""

    command = ("bash", "-c", 'ulimit -n 1024 && exec "$0" standalone', BINARY)


def check_served(server):
    """A client that asks for nothing unusual is served, and no request has met a fault of the program."""
    assert server.running(), server.last_lines()
    topic = next(names)
    sent = [Record(b"number %d" % number, timestamp=1) for number in range(3)]
    assert produce(server.bootstrap, topic, sent) == [0, 1, 2]
    assert [record for _, record in consume(server.bootstrap, topic, 1)[0]] == sent
    assert "panicked" not in server.last_lines(10_000)


def connect(server, http=False, buffer=None):
    """With a buffer of so many bytes, what the client does not take stays with the server."""
    host, port = (server.http.removeprefix("http://") if http else server.bootstrap).split(":")
    connection = socket.socket()
    if buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.settimeout(30)
    connection.connect((host, int(port)))
    return connection


def send_as_far_as_taken(connection, data):
    """Until the server has read nothing for a moment."""
    connection.settimeout(0.2)
    with contextlib.suppress(TimeoutError):
        connection.sendall(data)


def uvarint(number):
    encoded = b""
    while number >= 0x80:
        number, encoded = number >> 7, encoded + bytes([number & 0x7F | 0x80])
    return encoded + bytes([number])


def compact(text):
    return uvarint(len(text) + 1) + text


def new_topic(name, configs):
    """A topic of CreateTopics 5 and above, with one partition."""
    listed = b"".join(compact(key) + compact(value) + b"\0" for key, value in configs)
    return compact(name) + struct.pack(">ih", 1, 1) + b"\1" + uvarint(len(configs) + 1) + listed + b"\0"


def test_topics_with_settings_larger_than_the_log_takes(shared):
    one_value = [(b"segment.bytes", b"1" * 30_000)]
    many_values = [(b"segment.%d" % number, b"x" * 30_000) for number in range(700)]
    topics = new_topic(b"large-1", one_value) + new_topic(b"large-2", many_values)
    answer = ask(shared.bootstrap, 19, 5, b"\3" + topics + struct.pack(">i?", 30_000, False) + b"\0", flexible=True)
    for name in (b"large-1", b"large-2"):
        at = answer.index(compact(name)) + len(compact(name))
        assert struct.unpack_from(">h", answer, at) == (40,), "INVALID_CONFIG"
    check_served(shared)


def test_no_request_of_any_api_ends_the_broker(shared):
    """Besides bodies of chance those whose numbers and lengths are the largest, or the smallest, that there are."""
    chance = random.Random(13)
    for key in range(81):
        connections = []
        for version in (*range(8), 12, 17):
            bodies = [chance.randbytes(size) for size in (0, 1, 9, 60, 1000)]
            bodies += [b"\x7f" + b"\xff" * 255, b"\xff" * 256, b"\0" * 256, b"\x80" * 256]
            for body in bodies:
                header = struct.pack(">hhih", key, version, 7, -1) + chance.choice((b"", b"\0"))
                connection = connect(shared)
                connection.sendall(struct.pack(">i", len(header + body)) + header + body)
                connection.shutdown(socket.SHUT_WR)
                connections.append(connection)
        end(connections)
    check_served(shared)
    until(lambda: shared.metrics()["chronik_kafka_connections"] < 90, "the connections have ended")
    assert shared.metrics()["chronik_kafka_panics_total"] == 0


def end(connections):
    """Reads each to its end; one that waits for something is given up."""
    waiting = set(connections)
    while ready := select.select(waiting, [], [], 0.3)[0] if waiting else []:
        for connection in ready:
            with contextlib.suppress(ConnectionError):
                if connection.recv(MIB):
                    continue
            waiting.discard(connection)
    for connection in connections:
        connection.close()


def announced(bytes_):
    return struct.pack(">i", bytes_)


@pytest.mark.parametrize(
    "frames",
    [
        [announced(90 * MIB) + b"x"],
        [announced(30 * MIB) + bytes(30 * MIB - 1)] * 3,
        [announced(MIB) + bytes(MIB - 1)] * 70,
    ],
    ids=["90 MiB announced", "3 times 30 MiB", "70 times 1 MiB"],
)
def test_requests_that_never_end_keep_no_client_waiting(shared, frames):
    with contextlib.ExitStack() as held:
        with ThreadPoolExecutor(len(frames)) as senders:
            connections = [held.enter_context(connect(shared)) for _ in frames]
            list(senders.map(send_as_far_as_taken, connections, frames))
        assert ask(shared.bootstrap, 18, 0, b"")[:2] == b"\0\0"
        check_served(shared)
        assert all(not select.select([connection], [], [], 0)[0] for connection in connections), "still waited for"
    large = [Record(bytes(MIB // 2), timestamp=1)]
    assert produce(shared.bootstrap, "large", large) is not None


def test_idle_connections_leave_file_handles_for_log_and_bucket(start):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = start(kind=FewFiles, wal_rotation_size="64KiB", ship_max_bytes="64KiB", ship_max_age="1s")
    client, failures = producer(server.bootstrap), []

    def send(count):
        for _ in range(count):
            client.produce("t", bytes(16 << 10), on_delivery=lambda error, _: error and failures.append(error))
        assert client.flush(60) == 0 and not failures, failures

    send(1)
    with contextlib.ExitStack() as idle:
        for _ in range(1100):
            idle.enter_context(connect(server))
        for _ in range(100):
            idle.enter_context(connect(server, http=True))
        until(lambda: server.metrics()["chronik_kafka_refused_connections_total"] >= 400, "connections are refused")
        send(256)
        server.wait_shipped()
        assert requests.get(f"{server.http}/health/live", timeout=30).status_code == 200
        assert "too many connections" in server.last_lines()
    until(lambda: server.metrics()["chronik_kafka_connections"] < 10, "the connections have ended")
    check_served(server)


def fetch_body(topic, offset, max_wait, max_bytes=MIB):
    """A Fetch of version 4 from partition 0 that may wait so many ms."""
    body = struct.pack(">iiiibi", -1, max_wait, 1, max_bytes, 0, 1) + struct.pack(">h", len(topic)) + topic
    return body + struct.pack(">iiqi", 1, 0, offset, max_bytes)


def test_clients_that_take_nothing_leave_room_for_the_answers_of_others(start):
    server, large, most = start(), 8 * MIB, 16 * MIB
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    admin.create_topics([NewTopic("large", 1, 1, config={"max.message.bytes": str(most)})])["large"].result(30)
    produce(server.bootstrap, "large", [Record(bytes(large), timestamp=1)], message_max_bytes=most)
    body = fetch_body(b"large", 0, max_wait=0, max_bytes=most)
    request = struct.pack(">hhih", 1, 4, 7, -1) + body
    with contextlib.ExitStack() as held:
        for _ in range(60):
            held.enter_context(connect(server)).sendall(struct.pack(">i", len(request)) + request)
        until(lambda: server.metrics()["chronik_fetch_answer_bytes"] > 240 * MIB, "all room is taken")
        # Those who take nothing are closed after 30 s in any case. An answer within less than half of that had
        # room because others lost theirs earlier.
        for _ in range(5):
            answer = ask(server.bootstrap, 1, 4, fetch_body(b"large", 0, max_wait=12_000, max_bytes=most))
            assert len(answer) > large, "an empty answer"
        assert "takes nothing of its answers" in server.last_lines()
    until(lambda: server.metrics()["chronik_fetch_answer_bytes"] == 0, "all room is given back")
    check_served(server)


# Clients that take nothing are closed after 30 s: what makes the answers has to be done long before.
@pytest.mark.parametrize(
    ("path", "clients", "large"),
    [
        pytest.param("/v1/search?topic=large", 24, 7 * MIB, id="pages of a search"),
        pytest.param("/v1/topics/large/partitions/0/records?limit=1", 24, 7 * MIB, id="pages of records"),
        pytest.param("/v1/topics/large/partitions/0/records?limit=1", 5, 40 * MIB, id="records larger than a page"),
    ],
)
def test_http_clients_that_take_nothing_leave_room_for_the_answers_of_others(start, path, clients, large):
    server, limit = start(), 128 * MIB
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    admin.create_topics([NewTopic(name, 1, 1) for name in ("large", "small")])["large"].result(30)
    produce(server.bootstrap, "large", [Record(b"x" * large, timestamp=1)], codec="gzip", message_max_bytes=200 * MIB)
    produce(server.bootstrap, "small", [Record(b"small", timestamp=1)])

    def asked(connection):
        """Its answer begins: this waits for that, and takes no more."""
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
        connection.settimeout(120)
        return connection.recv(12)[-3:], connection

    with contextlib.ExitStack() as held, ThreadPoolExecutor(clients) as asking:
        connections = [held.enter_context(connect(server, http=True, buffer=64 << 10)) for _ in range(clients)]
        answers = dict(asking.map(asked, connections))
        assert set(answers) == {b"200", b"503"}
        assert large <= server.metrics()["chronik_http_answer_bytes"] <= limit
        assert [hit["value"] for hit in server.get("/v1/search", topic="small")["hits"]] == ["small"]
        refused = answers[b"503"].recv(4096)
        assert b'"busy"' in refused and b'"limit_bytes":%d' % limit in refused
    until(lambda: server.metrics()["chronik_http_answer_bytes"] == 0, "all room is given back")
    answer = server.request("GET", path)
    assert answer.status_code == 200 and len(answer.content) > large
    check_served(server)


def fetch_error(server, topic, offset, max_wait):
    """The error of a Fetch from partition 0 that may wait so many ms."""
    answer = ask(server.bootstrap, 1, 4, fetch_body(topic, offset, max_wait))
    partition, error = struct.unpack_from(">ih", answer, 4 + 4 + 2 + len(topic) + 4)
    assert partition == 0
    return error


def test_a_waiting_fetch_of_a_deleted_topic_ends_at_once(shared):
    name = b"deleted"
    shared.tool("topic", "create", name.decode())
    with ThreadPoolExecutor() as fetching:
        answer = fetching.submit(fetch_error, shared, name, 0, max_wait=30_000)
        until(lambda: shared.metrics()["chronik_kafka_in_flight_bytes"] > 0, "the fetch waits")
        assert not answer.done()
        client = AdminClient({"bootstrap.servers": shared.bootstrap})
        client.delete_topics([name.decode()])[name.decode()].result(30)
        assert answer.result() == 3, "UNKNOWN_TOPIC_OR_PARTITION"


def test_what_lies_before_damage_is_read(start):
    server = start(ship_max_age="1h")
    values = [b"number %d" % number for number in range(40)]
    shipped = set()
    for half in (values[:20], values[20:]):
        produce(server.bootstrap, "t", [Record(value) for value in half])
        server.seal()
        server.wait_shipped()
        [segment] = set(server.bucket.rglob("*.seg")) - shipped
        shipped.add(segment)
    server.kill()
    server.lose_data_directory()
    server.start()
    content = segment.read_bytes()
    at = content.index(b"number 20")
    segment.write_bytes(content[:at] + b"X" + content[at + 1 :])
    client = consumer(server.bootstrap)
    client.assign([kafka.TopicPartition("t", 0, 0)])
    for value in values[:20]:
        message = client.poll(30)
        assert message is not None, f"{value} does not come"
        assert (message.error(), message.value()) == (None, value)
    client.close()
    assert fetch_error(server, b"t", 20, max_wait=0) == 6, "NOT_LEADER_OR_FOLLOWER, for those who know no storage error"
