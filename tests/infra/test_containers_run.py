"""Images and compose file, run: each service as a container of its own, and a record that goes all the way through
them."""

import json
import subprocess

import pytest
from chronik import BINARY, clean_environment, until
from composed import SERVICES, Composed
from docker import Docker
from images import build, prepare
from place import commands, run

pytestmark = pytest.mark.long

LOCKED = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
# Of the compose file.
TOKEN = "chronik-local"
BROKER, SEARCH = "http://localhost:8081", "http://localhost:8080"


@pytest.fixture(scope="module")
def docker(tmp_path_factory):
    with Docker(tmp_path_factory.mktemp("docker")) as docker:
        yield docker


@pytest.fixture(scope="module")
def context(docker):
    return prepare(docker, docker.directory)


@pytest.fixture
def container(docker, context):
    """A server in a container, over a volume that outlives it."""
    image = build(docker, context, "chronik")
    started = []

    def start():
        settings = ["--volume=log:/var/lib/chronik", "--env=CHRONIK_HTTP_INSECURE=true"]
        started.append(docker.run("run", "--detach", *LOCKED, *settings, image, "standalone").strip())
        until(lambda: state(docker, started[-1])["Health"]["Status"] == "healthy", "the container is healthy")
        return started[-1]

    yield start
    for each in started:
        docker.run("rm", "--force", each)


@pytest.fixture(scope="module")
def composed(docker, context):
    composed = Composed(docker, context)
    try:
        composed.up()
        yield composed
    finally:
        # Shown where something failed.
        print(composed.run("logs", "--tail=30"))
        composed.run("down", "--volumes")


def state(docker, container):
    return docker.inspect(container)[0]["State"]


def chronik(*arguments, http=SEARCH):
    """The operator's tool against what is composed."""
    done = subprocess.run(
        [BINARY, "--bootstrap", "localhost:9092", "--http", http, *map(str, arguments)],
        env=clean_environment({"CHRONIK_HTTP_TOKEN": TOKEN}),
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout.decode()}\n{done.stderr.decode()}"
    return done.stdout.decode()


def produce(topic, lines):
    run("kcat", "-b", "localhost:9092", "-P", "-t", topic, input=lines)


def hits(topic, query):
    return json.loads(chronik("--json", "search", topic, query, "--limit", 1))["total"]["value"]


def archived():
    status = json.loads(chronik("--json", "status", http=BROKER))
    partitions = [partition for topic in status["topics"] for partition in topic["partitions"]]
    return all(each["archived_to"] == each["high_watermark"] for each in partitions)


def test_a_container_has_no_rights_and_its_records_outlive_it(docker, container):
    first = container()
    assert docker.run("exec", first, "id", "-u") == "10001\n"
    docker.run("exec", "--user=0", first, "touch", "/usr/local/bin/x", code=1)
    docker.run("exec", "--interactive", first, "chronik", "produce", "orders", input="order 4711 paid\n")
    docker.run("stop", "--time=60", first)
    assert state(docker, first)["ExitCode"] == 0
    second = container()
    assert docker.run("exec", second, "chronik", "consume", "orders", "--count", 1) == "order 4711 paid\n"
    assert "order 4711 paid" in docker.run("exec", second, "chronik", "search", "orders", "paid")


def test_a_record_goes_all_the_way(composed):
    lines = "".join(f"order {number} paid\n" for number in range(1000))
    produce("orders", lines)
    assert hits("orders", "order 700 paid") == 1
    chronik("seal", http=BROKER)
    until(archived, "the indexers have made archives")
    assert hits("orders", "order 701 paid") == 1
    assert chronik("consume", "orders", "--count", 1000) == lines


def test_the_page_is_right(composed):
    _up, produce, search = commands("Compose").splitlines()
    run("bash", "-c", produce)
    assert "order 4711 paid" in run("bash", "-c", search)


def test_containers_and_this_machine_are_told_an_address_each(docker, context, composed):
    network = next(iter(docker.inspect(*composed.containers()[:1])[0]["NetworkSettings"]["Networks"]))
    image = build(docker, context, "chronik")
    inside = ["run", "--rm", "--interactive", f"--network={network}", image, "--bootstrap", "ingest:9092"]
    docker.run(*inside, "produce", "addresses", input="from inside\n")
    assert chronik("consume", "addresses", "--count", 1) == "from inside\n"
    produce("addresses", "from outside\n")
    assert docker.run(*inside, "consume", "addresses", "--count", 2) == "from inside\nfrom outside\n"


def test_services_can_write_nothing_but_their_data(docker, composed):
    for container in composed.containers():
        assert docker.run("exec", container, "id", "-u") == "10001\n"
        docker.run("exec", "--user=0", container, "touch", "/etc/x", code=1)
        docker.run("exec", container, "touch", "/var/lib/chronik/x", "/tmp/x")


def test_what_was_acknowledged_outlives_its_container(composed):
    produce("payments", "the last one before the end\n")
    composed.run("kill", "-s", "SIGKILL", *SERVICES)
    composed.run("rm", "--force", *SERVICES)
    composed.up()
    assert hits("payments", "last before end") == 1
    assert chronik("consume", "payments", "--count", 1) == "the last one before the end\n"


def test_a_stop_is_a_clean_end(docker, composed):
    containers = composed.containers()
    composed.run("stop", *SERVICES)
    ended = {each["Name"]: each["State"]["ExitCode"] for each in docker.inspect(*containers)}
    assert set(ended.values()) == {0}, ended
