import contextlib

import pytest
from brokers import CHRONIK_ALONE
from chronik import BINARY, Chronik
from servers.elasticmq import Elasticmq
from servers.faults import Careless
from servers.garage import Garage
from servers.kafka import Kafka
from servers.minio import Minio
from servers.moto import Moto


def pytest_collection_modifyitems(items):
    """Clients are held against Apache Kafka, or it stands somewhere why not."""
    for item in items:
        file = item.path.name
        if file.startswith("test_clients") and file not in CHRONIK_ALONE and "pair" not in item.fixturenames:
            raise pytest.UsageError(f"{item.nodeid} takes no `pair` (brokers.py), and CHRONIK_ALONE does not say why")


@pytest.fixture(scope="session", autouse=True)
def binary():
    assert BINARY.exists(), f"{BINARY} is not there: cargo build"


@pytest.fixture
def start(tmp_path, request):
    """Makes servers that don't outlive the test; what they logged is shown if it fails."""
    servers = []

    def make(name="server", kind=Chronik, **settings):
        server = kind(tmp_path / name, **settings)
        servers.append(server)
        return server.start()

    yield make
    for server in servers:
        if server.running():
            server.kill()
        if getattr(request.node, "failed", False):
            print(f"── {server.directory.name} logged\n{server.last_lines()}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.failed = outcome.get_result().failed


@pytest.fixture
def exit_stack():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A server for tests that don't stop or change it."""
    with Chronik(tmp_path_factory.mktemp("shared"), ship_max_age="1s") as server:
        yield server


@pytest.fixture(scope="module")
def kafka():
    """Apache Kafka; a test that kills it starts it again."""
    with Kafka() as server:
        yield server


@pytest.fixture(scope="module")
def minio():
    with Minio() as server:
        yield server


@pytest.fixture(scope="module")
def moto():
    with Moto() as server:
        yield server


@pytest.fixture(scope="module")
def elasticmq():
    with Elasticmq() as server:
        yield server


@pytest.fixture(params=["a proxy", pytest.param("Garage", marks=pytest.mark.long)])
def careless(request):
    """A store that creates an object although it exists."""
    with Garage() if request.param == "Garage" else Careless(request.getfixturevalue("moto").url) as store:
        yield store
