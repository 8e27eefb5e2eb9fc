"""Idempotent producers of every client that has one: each record once, in order, though the broker is killed."""

import pytest
from by_hand import fetch_by_hand, producer_id_of
from chronik import until
from clients.catalog import params
from clients.program import Program
from records import consume
from servers.server import free_port
from wire import Wire

IN_FLIGHT = 200


class Flood:
    """A client that produces without end."""

    def __init__(self, program):
        self.program = program
        self.acknowledged = 0
        program.begin("flood", topic="t", codec="none", idempotent=True, in_flight=IN_FLIGHT)

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


@pytest.mark.parametrize("client", params(lambda client: client.idempotent))
def test_an_idempotent_producer_goes_on_after_kill_9(start, tmp_path, client):
    port = free_port()
    with Wire(port) as wire:
        server = start(kafka_port=port, advertised_addr="127.0.0.1", advertised_port=wire.port)
        server.tool("topic", "create", "t")
        with Program(client, wire.address, tmp_path) as program:
            flood = Flood(program)
            for _ in range(3):
                flood.wait_acknowledged(500)
                wire.lose_answers()
                until(lambda: written(server) > flood.told_by_now(), "something is written that nobody knows of")
                server.kill()
                wire.pass_answers()
                server.start()
            # More than was on its way.
            flood.wait_acknowledged(2 * IN_FLIGHT)
            sent = flood.stop()
        [read] = consume(server.bootstrap, "t", 1)
        assert [int(record.value) for _, record in read] == list(range(sent))
        assert all(producer_id_of(batch) >= 0 for batch in fetch_by_hand(server.bootstrap, "t", 0))


def written(server):
    return server.partitions()["t", 0]["high_watermark"]
