"""Clients that ask for more than they take."""

import contextlib
import socket
import struct
from pathlib import Path

import pytest
from chronik import until
from records import Record, consume, produce

PARTITIONS = 4
ASKED = 50_000_000


def fetch_request(topic):
    """Fetch 4 of everything in all partitions."""
    name = struct.pack(">h", len(topic)) + topic.encode()
    partitions = b"".join(struct.pack(">iqi", partition, 0, ASKED) for partition in range(PARTITIONS))
    body = struct.pack(">iiiibi", -1, 500, 1, ASKED, 0, 1) + name + struct.pack(">i", PARTITIONS) + partitions
    header = struct.pack(">hhih", 1, 4, 7, 4) + b"test"
    return struct.pack(">i", len(header + body)) + header + body


def peak_memory(server):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))


@pytest.mark.parametrize("ship_max_age", ["600s", "1s"])
def test_clients_that_take_nothing_of_their_answers_cost_a_bounded_amount(start, ship_max_age):
    # Less memory than records, so that each answer has bytes of its own.
    server = start(ship_max_age=ship_max_age, num_partitions=PARTITIONS, cache_memory_bytes="8MiB")
    records = [Record(bytes([65 + n % 26]) * 900_000, partition=n % PARTITIONS) for n in range(60)]
    produce(server.bootstrap, "t", records)
    if ship_max_age == "1s":
        server.wait_shipped()
    before = peak_memory(server)
    host, port = server.bootstrap.split(":")
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            client = stack.enter_context(socket.create_connection((host, int(port))))
            client.sendall(fetch_request("t") * 3)
        until(lambda: server.metrics()["chronik_fetch_answer_bytes"] > 150 << 20, "the answers are there")
        read = consume(server.bootstrap, "t", PARTITIONS)
        for partition, found in enumerate(read):
            sent = [record.value for record in records if record.partition == partition]
            assert [record.value for _, record in found] == sent
        assert peak_memory(server) - before < 600 << 20
