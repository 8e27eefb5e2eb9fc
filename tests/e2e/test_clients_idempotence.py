"""Idempotent producers of every client that has one: each record once, in order, though the broker is killed."""

import pytest
from by_hand import fetch_by_hand, producer_id_of
from clients.catalog import params
from clients.program import Program
from records import consume
from servers.server import free_port

IN_FLIGHT = 200


def acknowledged(program, at_least):
    """Waits until so many are, and returns the number."""
    while (count := program.event()["acknowledged"]) < at_least:
        pass
    return count


@pytest.mark.parametrize("client", params(lambda client: client.idempotent))
def test_an_idempotent_producer_goes_on_after_kill_9(start, tmp_path, client):
    server = start(kafka_port=free_port())
    server.tool("topic", "create", "t")
    with Program(client, server.bootstrap, tmp_path) as program:
        program.begin("flood", topic="t", codec="none", idempotent=True, in_flight=IN_FLIGHT)
        count = 0
        for _ in range(2):
            count = acknowledged(program, count + 500)
            server.kill()
            server.start()
        # More than the clients had sent before the kill.
        acknowledged(program, count + 2 * IN_FLIGHT + 500)
        program.stop()
        *_, last = program.events()
    [read] = consume(server.bootstrap, "t", 1)
    assert [int(record.value) for _, record in read] == list(range(last["sent"]))
    assert all(producer_id_of(batch) >= 0 for batch in fetch_by_hand(server.bootstrap, "t", 0))
