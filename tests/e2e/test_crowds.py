"""Crowds: idle connections by the thousand, clients that talk nonsense, and a group of a thousand members."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import struct
import time
from pathlib import Path

import pytest
from chronik import until
from crowds import Group, framed, header, nonsense
from load import TOPIC, Load, values
from records import Record, consume, produce

KIB = 1 << 10
IDLE = 10_000


@pytest.fixture(autouse=True)
def many_files():
    """Both ends of so many connections are files, of this process and of the broker."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard >= IDLE + 2000, f"at most {hard} files may be open here (ulimit -Hn): raise that"
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident(server):
    """Bytes of memory that its process has."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    [kib] = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(kib) * KIB


def files(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def check_served(server, topic):
    sent = [Record(b"number %d" % number, timestamp=1) for number in range(3)]
    assert produce(server.bootstrap, topic, sent) == [0, 1, 2]
    assert [record for _, record in consume(server.bootstrap, topic, 1)[0]] == sent


def nothing_is_left(server):
    """Of any client, in the broker's own account."""
    metrics = server.metrics()
    held = ("kafka_connections", "kafka_in_flight_bytes", "fetch_answer_bytes")
    return all(metrics[f"chronik_{name}"] == 0 for name in held)


def test_ten_thousand_idle_connections_leave_a_client_its_broker(start):
    server = start()
    check_served(server, "before")
    host, port = server.bootstrap.split(":")
    before = resident(server)
    with contextlib.ExitStack() as held:
        for _ in range(0, IDLE, 500):
            some = [held.enter_context(socket.create_connection((host, int(port)), 60)) for _ in range(500)]
            for connection in some:
                connection.sendall(framed(header(18, 0)))
            for connection in some:
                assert struct.unpack_from(">ii", connection.recv(4096))[1] == 7
        until(lambda: server.metrics()["chronik_kafka_connections"] >= IDLE, "all are counted")
        each = (resident(server) - before) / IDLE
        assert each <= 20 * KIB, f"{each / KIB:.1f} KiB"
        check_served(server, "meanwhile")
    until(lambda: nothing_is_left(server), "the connections have ended")
    assert server.metrics()["chronik_kafka_refused_connections_total"] == 0


@pytest.mark.parametrize("acts", [8, pytest.param(60, marks=pytest.mark.long)])
def test_a_thousand_clients_that_talk_nonsense_leave_nothing_behind(start, acts):
    clients = 1000
    server = start()
    check_served(server, "before")
    until(lambda: nothing_is_left(server), "no client is left")
    before = files(server)
    load = Load(server)

    def all_connected():
        until(lambda: server.metrics()["chronik_kafka_connections"] >= clients, "all are there")

    asyncio.run(nonsense(server.bootstrap, clients, acts, all_connected))
    acknowledged = len(load.acknowledged)
    until(lambda: len(load.acknowledged) > acknowledged, "the real client goes on")
    load.end()
    load.client = None
    until(lambda: nothing_is_left(server), "all that clients held is given back")
    until(lambda: files(server) <= before + 8, "their files are closed")
    kept = values(server)
    assert load.check(kept) == [], TOPIC
    assert server.running() and server.metrics()["chronik_kafka_panics_total"] == 0
    assert "panicked" not in server.log.read_text(errors="replace")
    check_served(server, "after")


def test_a_group_of_a_thousand_members_goes_on_without_the_one_that_leaves(start):
    size = 1000
    server = start(group_initial_rebalance_delay="1s")
    before = resident(server)

    async def live():
        async with Group.connected(server.bootstrap, "crowd", size) as group:
            await group.settle()
            assert sorted(number_of(member) for member in group.members) == list(range(size))
            [leader] = [member for member in group.members if member.led]
            assert sorted(leader.led) == sorted(member.id for member in group.members)
            rest = group.without(leader)
            assert await leader.leave() == 0
            assert await rest.heartbeats() == {27}, "REBALANCE_IN_PROGRESS"
            await rest.settle()
            assert sorted(number_of(member) for member in rest.members) == list(range(size - 1))
            assert await rest.heartbeats() == {0}
            assert await leader.heartbeat() == 25, "UNKNOWN_MEMBER_ID"

    asyncio.run(live())
    each = (resident(server) - before) / size
    assert each <= 64 * KIB, f"{each / KIB:.1f} KiB"
    assert server.metrics()["chronik_group_memory_bytes"] > 0


def number_of(member):
    return struct.unpack(">i", member.assignment)[0]


def test_members_that_sent_in_time_stay_while_the_broker_was_suspended(start):
    server = start(group_initial_rebalance_delay="0s")
    session = 6

    async def live():
        async with Group.connected(server.bootstrap, "suspended", 3, session * 1000) as group:
            await group.settle()
            server.process.send_signal(signal.SIGSTOP)
            suspended, sent = time.monotonic(), 0
            while time.monotonic() < suspended + session + 1:
                for member in group.members:
                    member.send_heartbeat()
                sent += 1
                await asyncio.sleep(1)
            server.process.send_signal(signal.SIGCONT)
            for _ in range(sent):
                assert [await member.alive() for member in group.members] == [0] * 3

    asyncio.run(live())
