"""Several listeners: a client of each network is told addresses of that network."""

import pytest
from chronik import PATIENCE, Chronik, Ingest, run_tool
from confluent_kafka import admin
from records import Record, consume, produce

LINES = b"one\ntwo\nthree\n"


@pytest.fixture(scope="module", params=[Chronik, Ingest])
def server(request, tmp_path_factory):
    """Inside is one address of loopback, outside another, which is known by another name, and both families."""
    folder = tmp_path_factory.mktemp("listeners")
    listeners = "INSIDE://127.0.0.1:0,OUTSIDE://127.0.0.2:0,SIX://[::1]:0,ALL://:0"
    settings = {"listeners": listeners, "advertised_listeners": "outside://127.0.0.2:0,ALL://localhost:0"}
    with request.param(folder, **settings) as server:
        yield server


def known(bootstrap):
    """The addresses that librdkafka is told of."""
    client = admin.AdminClient({"bootstrap.servers": bootstrap})
    told = client.describe_cluster().result(PATIENCE).nodes
    brokers = client.list_topics(timeout=PATIENCE).brokers.values()
    return {f"{node.host}:{node.port}" for node in [*told, *brokers]}


def port(address):
    return address.rsplit(":", 1)[1]


def test_each_listener_tells_its_own_address(server):
    inside, outside, six, every = (server.listeners[name] for name in ("INSIDE", "OUTSIDE", "SIX", "ALL"))
    assert inside.startswith("127.0.0.1:") and outside.startswith("127.0.0.2:") and six.startswith("[::1]:")
    assert len({port(address) for address in server.listeners.values()}) == 4
    assert known(inside) == {inside}
    assert known(outside) == {outside}
    assert known(six) == {six.replace("[", "").replace("]", "")}
    assert known(every) == known(f"127.0.0.1:{port(every)}") == {f"localhost:{port(every)}"}


def test_clients_of_all_networks_read_and_write_the_same_topics(server):
    for number, address in enumerate(server.listeners.values()):
        family = {"broker_address_family": "any"}
        assert produce(address, "shared", [Record(b"%d" % number)], **family) == [number]
    [records] = consume(server.listeners["OUTSIDE"], "shared", 1)
    assert [record.value for _, record in records] == [b"0", b"1", b"2", b"3"]


def test_a_group_is_coordinated_where_its_members_come_in(server):
    for name, address in server.listeners.items():
        produced = run_tool("--bootstrap", address, "produce", f"to-{name}", stdin=LINES)
        assert produced.returncode == 0, produced.stderr
        consumed = run_tool("--bootstrap", address, "consume", f"to-{name}", "--group", name)
        assert (consumed.returncode, consumed.stdout) == (0, LINES), consumed.stderr
        described = run_tool("--bootstrap", address, "group", "describe", name)
        assert described.returncode == 0, described.stderr


def test_the_broker_says_what_it_listens_at(server):
    resource = admin.ConfigResource(admin.ConfigResource.Type.BROKER, "1")
    client = admin.AdminClient({"bootstrap.servers": server.bootstrap})
    [described] = client.describe_configs([resource]).values()
    told = {name: entry.value for name, entry in described.result(PATIENCE).items()}
    inside, outside, six, every = (server.listeners[name] for name in ("INSIDE", "OUTSIDE", "SIX", "ALL"))
    bound = f"INSIDE://{inside},OUTSIDE://{outside},SIX://{six},ALL://[::]:{port(every)}"
    assert told["listeners"] == bound
    assert told["advertised.listeners"] == bound.replace("[::]", "localhost")


def test_a_listener_alone_is_told_without_its_name(start):
    server = start(kind=Ingest, listeners="PLAINTEXT://:0", advertised_listeners="PLAINTEXT://localhost:0")
    assert server.listeners == {}
    assert known(server.bootstrap) == {f"localhost:{port(server.bootstrap)}"}
