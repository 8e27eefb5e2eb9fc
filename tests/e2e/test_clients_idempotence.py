"""Idempotent producers of every client that has one: each record once, in order, though the broker is killed."""

import pytest
from brokers import KAFKA, pairs
from by_hand import end_by_hand, fetch_by_hand, producer_id_of
from chronik import until
from clients.program import Program
from records import consume, create_topic
from servers.kafka import Kafka
from servers.server import free_port
from wire import Wire

IN_FLIGHT = 200


class Flood:
    """A client that produces without end."""

    def __init__(self, program, topic):
        self.program = program
        self.acknowledged = 0
        program.begin("flood", topic=topic, codec="none", idempotent=True, in_flight=IN_FLIGHT)

    def wait_acknowledged(self, more):
        wanted = self.acknowledged + more
        while self.acknowledged < wanted:
            self.acknowledged = self.program.event()["acknowledged"]

    def told_by_now(self):
        while not self.program.lines.empty():
            self.acknowledged = self.program.event()["acknowledged"]
        return self.acknowledged

    def stop(self):
        """Returns how many records it sent."""
        self.program.stop()
        *_, last = self.program.events()
        return last["sent"]


@pytest.fixture(params=pairs(lambda client: client.idempotent, everyday=lambda client: False))
def pair(request):
    return request.param


@pytest.fixture(scope="module")
def wired_kafka():
    """Apache Kafka and the wire that clients are told to take."""
    with Wire(free_port()) as wire, Kafka(wire.broker[1], advertised=wire.port) as server:
        yield wire, server


@pytest.fixture
def wired(request, pair):
    """A broker and the wire that clients are told to take."""
    if pair.broker == KAFKA:
        yield request.getfixturevalue("wired_kafka")
        return
    start, port = request.getfixturevalue("start"), free_port()
    with Wire(port) as wire:
        yield wire, start(kafka_port=port, advertised_addr="127.0.0.1", advertised_port=wire.port)


def test_an_idempotent_producer_goes_on_after_kill_9(wired, pair, tmp_path):
    wire, server = wired
    topic = pair.client.name.replace(" ", "-")
    create_topic(server.bootstrap, topic)
    with Program(pair.client, wire.address, tmp_path) as program:
        flood = Flood(program, topic)
        for _ in range(3):
            flood.wait_acknowledged(500)
            wire.lose_answers()
            until(lambda: written(server, topic) > flood.told_by_now(), "something is written that nobody knows of")
            server.kill()
            wire.pass_answers()
            server.start()
        # More than was on its way.
        flood.wait_acknowledged(2 * IN_FLIGHT)
        sent = flood.stop()
    [read] = consume(server.bootstrap, topic, 1)
    assert [int(record.value) for _, record in read] == list(range(sent))
    assert all(producer_id_of(batch) >= 0 for batch in fetch_by_hand(server.bootstrap, topic, 0))


def written(server, topic):
    return end_by_hand(server.bootstrap, topic, 0)
