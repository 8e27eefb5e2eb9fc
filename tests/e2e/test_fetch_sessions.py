"""Fetch sessions (KIP-227): what Apache Kafka answers, too, and clients that lose theirs."""

import struct
import threading

import pytest
from brokers import CHRONIK, KAFKA
from by_hand import ask
from chronik import until
from clients.catalog import CLIENTS
from clients.program import Program
from records import Record, create_topic, delete_records, delete_topic, produce
from servers.server import free_port
from wire import Wire

FETCH = 1
NONE, OUT_OF_RANGE, UNKNOWN_TOPIC, NO_SESSION, WRONG_EPOCH = 0, 1, 3, 70, 71
SESSIONS_MAX = 1000
WITH_SESSIONS = [client for client in CLIENTS if client.name in ("kafka-clients 4.3.1", "franz-go 1.22.2")]


def text(name):
    return struct.pack(">h", len(name)) + name.encode()


def array(items):
    return struct.pack(">i", len(items)) + b"".join(items)


class Session:
    """Of a client that asks by hand, in version 11 of Fetch."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.id = self.epoch = 0

    def fetch(self, wants=(), forgets=(), max_bytes=1 << 20):
        """
        Each partition wanted is (topic, number, offset), each forgotten (topic, number). Returns of each that is told
        (topic, number, error, log start, high watermark, whether there are records); or the error of all.
        """
        limit = 1 << 20
        body = struct.pack(">iiiibii", -1, 0, 1, max_bytes, 0, self.id, self.epoch)
        body += array([text(t) + array([struct.pack(">iiqqi", p, -1, at, -1, limit)]) for t, p, at in wants])
        body += array([text(t) + array([struct.pack(">i", p)]) for t, p in forgets]) + text("")
        answer = ask(self.bootstrap, FETCH, 11, body)
        _, error, session = struct.unpack_from(">ihi", answer)
        if error:
            return error
        self.id, self.epoch = session, self.epoch + 1
        return told(answer[10:])


def told(topics):
    found = []
    [count] = struct.unpack_from(">i", topics)
    at = 4
    for _ in range(count):
        [length] = struct.unpack_from(">h", topics, at)
        name = topics[at + 2 : at + 2 + length].decode()
        [partitions] = struct.unpack_from(">i", topics, at + 2 + length)
        at += 6 + length
        for _ in range(partitions):
            number, error, high, _, start, aborted = struct.unpack_from(">ihqqqi", topics, at)
            at += 34 + 16 * max(aborted, 0)
            [records] = struct.unpack_from(">i", topics, at + 4)
            at += 8 + max(records, 0)
            found.append((name, number, error, start, high, records > 0))
    return found


@pytest.mark.parametrize("broker", [CHRONIK, KAFKA])
def test_an_answer_names_what_apache_kafka_names(broker, request, start):
    bootstrap = request.getfixturevalue("kafka").bootstrap if broker == KAFKA else start().bootstrap
    create_topic(bootstrap, "t", 3)

    def write(*partitions):
        produce(bootstrap, "t", [Record(b"x", partition=partition) for partition in partitions])

    session = Session(bootstrap)
    empty = [("t", partition, NONE, 0, 0, False) for partition in range(3)]
    assert session.fetch([("t", partition, 0) for partition in range(3)]) == empty
    assert session.id != 0
    assert session.fetch() == []
    write(1)
    new = [("t", 1, NONE, 0, 1, True)]
    assert session.fetch() == new
    assert session.fetch() == new, "the client has not gone on"
    assert session.fetch([("t", 1, 1)]) == []

    write(0)
    assert session.fetch(forgets=[("t", 0)]) == []
    assert session.fetch([("t", 0, 1)]) == [("t", 0, NONE, 0, 1, False)]
    assert session.fetch([("t", 0, 1)]) == []
    absent = [("absent", 0, UNKNOWN_TOPIC, -1, -1, False)]
    assert session.fetch([("absent", 0, 0)]) == absent
    assert session.fetch() == absent, "it is looked for each time"
    assert session.fetch(forgets=[("absent", 0)]) == []

    assert delete_records(bootstrap, "t", {0: 1}) == {0: 1}
    assert session.fetch() == [("t", 0, NONE, 1, 1, False)]
    assert session.fetch() == []
    [(_, _, error, *_)] = session.fetch([("t", 0, 0)])
    assert error == OUT_OF_RANGE
    assert session.fetch([("t", 0, 1)]) == [("t", 0, NONE, 1, 1, False)]
    assert session.fetch() == []

    # There is room for the records of one; who had some comes last.
    write(0, 1, 2)
    had = [[p for _, p, _, _, _, records in session.fetch(max_bytes=1) if records] for _ in range(4)]
    assert sorted(had[:3]) == [[0], [1], [2]]
    assert had[3] == had[0]

    other = Session(bootstrap)
    other.id, other.epoch = session.id, session.epoch + 1
    assert other.fetch() == WRONG_EPOCH
    other.epoch = -3
    assert other.fetch() == WRONG_EPOCH
    id = session.id
    assert session.fetch(forgets=[("t", partition) for partition in range(3)]) == []
    assert session.id == 0, "nothing was left of it"
    session.id = id
    assert session.fetch() == NO_SESSION

    # A full fetch ends the session that it names.
    for epoch in (-1, 0):
        session.id = session.epoch = 0
        session.fetch([("t", 0, 1)])
        id, session.epoch = session.id, epoch
        assert [place[:2] for place in session.fetch([("t", 0, 1)])] == [("t", 0)]
        assert (session.id == 0) == (epoch == -1)
        session.id, session.epoch = id, 1
        assert session.fetch() == NO_SESSION


def test_clients_beyond_the_bound_go_on_without_a_session(start, tmp_path):
    server = start()
    create_topic(server.bootstrap, "t", 3)
    produce(server.bootstrap, "t", [Record(b"x", partition=n % 3) for n in range(30)])

    def begin():
        session = Session(server.bootstrap)
        assert len(session.fetch([("t", partition, 0) for partition in range(3)])) == 3
        return session

    ids = {begin().id for _ in range(SESSIONS_MAX)}
    assert len(ids) == SESSIONS_MAX and 0 not in ids
    session = begin()
    assert (session.id, session.epoch) == (0, 1)
    session.epoch = 0
    assert len(session.fetch([("t", partition, 10) for partition in range(3)])) == 3

    for client in WITH_SESSIONS:
        with Program(client, server.bootstrap, tmp_path) as program:
            places = [0, 1, 2]
            read = program.ask(
                "consume", topic="t", **{"from": dict.fromkeys(places, 0), "to": dict.fromkeys(places, 10)}
            )
            assert len(read) == 30, client.name
    seen = server.metrics()
    assert seen["chronik_fetch_sessions"] == SESSIONS_MAX
    assert seen["chronik_fetch_session_partitions"] == 3 * SESSIONS_MAX
    assert seen["chronik_fetch_session_evictions_total"] == 0


class FetchWire(Wire):
    """Notes the sessions of the fetches that pass."""

    def __init__(self, port):
        super().__init__(port)
        # Session and epoch of requests, and (error, session) of answers, in their order.
        self.asked, self.answered = [], []
        self.versions = {}

    def session(self):
        """One that its client goes on with."""
        going = [session for session, epoch in self.asked if epoch > 0]
        return going[-1] if going else None

    def pieces(self, source, client, answers):
        note = self._note_answer if answers else self._note_request
        stream = source.makefile("rb")
        while len(head := stream.read(4)) == 4:
            frame = stream.read(*struct.unpack(">i", head))
            note(client, frame)
            yield head + frame

    def _note_request(self, client, frame):
        key, version, correlation, name = struct.unpack_from(">hhih", frame)
        if key == FETCH and version >= 7:
            self.versions[client, correlation] = version
            at = 10 + max(name, 0) + (version >= 12) + 4 * (version < 15)
            self.asked.append(struct.unpack_from(">ii", frame, at + 13))

    def _note_answer(self, client, frame):
        [correlation] = struct.unpack_from(">i", frame)
        if version := self.versions.pop((client, correlation), None):
            self.answered.append(struct.unpack_from(">hi", frame, 8 + (version >= 12)))


class Reader:
    """A member of a group; gathers the values that it read."""

    def __init__(self, program):
        self.values = []
        self.failed = None
        program.begin("group", topic="t", group="g")
        threading.Thread(target=self._gather, args=[program], daemon=True).start()

    def _gather(self, program):
        try:
            for event in program.events():
                if record := event.get("record"):
                    self.values.append(record["value"])
        except Exception as error:
            self.failed = error

    def wait(self, count):
        until(lambda: self.failed or len(self.values) >= count, f"{count} records were read")
        assert self.failed is None, self.failed
        assert len(self.values) == count == len(set(self.values))


@pytest.mark.parametrize("client", WITH_SESSIONS, ids=lambda client: client.name)
def test_a_client_that_loses_its_session_goes_on(client, start, tmp_path):
    port = free_port()
    with FetchWire(port) as wire:
        # A consumer that asks for a topic that is gone would create it.
        settings = {"auto_create_topics": "false", "advertised_addr": "127.0.0.1", "advertised_port": wire.port}
        server = start(kafka_port=port, **settings)
        create_topic(server.bootstrap, "t", 3)
        sent = 0

        def is_read():
            nonlocal sent
            produce(server.bootstrap, "t", [Record(b"%d" % (sent + n), partition=n) for n in range(3)])
            sent += 3
            reader.wait(sent)

        with Program(client, wire.address, tmp_path) as program:
            reader = Reader(program)
            is_read()
            until(wire.session, "the client has a session")
            is_read()

            # Whoever knows its id can end it.
            lost = Session(server.bootstrap)
            lost.id, lost.epoch = wire.session(), -1
            assert lost.fetch() == []
            until(lambda: (NO_SESSION, 0) in wire.answered, "the client is told that its session is gone")
            until(lambda: wire.session() not in (None, lost.id), "it has another one")
            is_read()

            before = wire.session()
            server.kill()
            server.start()
            is_read()
            until(lambda: wire.session() not in (before, lost.id), "it has a session of the new process")
            is_read()

            delete_topic(server.bootstrap, "t")
            create_topic(server.bootstrap, "t", 3)
            if client.library == "franz-go":
                # Leaves it to its user to go on with the other topic.
                until(lambda: reader.failed, "the client tells that its topic is gone")
                assert "UNKNOWN_TOPIC_ID" in str(reader.failed)
            else:
                is_read()
                program.stop()
