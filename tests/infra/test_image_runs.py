"""The image, built and run as it is meant to be: read-only, without rights. The stage that compiles is replaced by
what was compiled before, and the base by a Debian that was made here; the rest is built as it is written."""

import json
import re

import pytest
from chronik import BINARY, until
from docker import DEBIAN, Docker, pack
from place import INFRA

pytestmark = pytest.mark.long

PROGRAMS = ("chronik", "chronik-ingest", "chronik-indexer", "chronik-query")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
LOCKED = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"]


def build(docker, directory):
    programs = {f"src/target/release/{name}": BINARY.parent / name for name in PROGRAMS}
    docker.image("built", pack(directory / "built.tar", programs | {CERTIFICATES[1:]: CERTIFICATES}))
    docker.image("debian", DEBIAN)
    text, found = re.subn(
        r"^FROM \$\{RUST\} AS build$.*?(?=^FROM )",
        "FROM built AS build\n",
        (INFRA / "Containerfile").read_text(),
        flags=re.M | re.S,
    )
    assert found == 1
    context = directory / "context/infra"
    context.mkdir(parents=True)
    (context / "Containerfile").write_text(text)
    (context / "chronik-health").write_bytes((INFRA / "chronik-health").read_bytes())
    (context / "chronik-health").chmod(0o755)
    docker.run("build", "--file", context / "Containerfile", "--build-arg=BASE=debian", "--tag=chronik", context.parent)


@pytest.fixture(scope="module")
def docker(tmp_path_factory):
    directory = tmp_path_factory.mktemp("docker")
    with Docker(directory) as docker:
        build(docker, directory)
        yield docker


@pytest.fixture
def container(docker):
    """A server in a container, over a volume that outlives it."""
    started = []

    def start():
        settings = ["--volume=log:/var/lib/chronik", "--env=CHRONIK_HTTP_INSECURE=true"]
        started.append(docker.run("run", "--detach", *LOCKED, *settings, "chronik", "standalone").strip())
        until(lambda: state(docker, started[-1])["Health"]["Status"] == "healthy", "the container is healthy")
        return started[-1]

    yield start
    for each in started:
        docker.run("rm", "--force", each)


def state(docker, container):
    return json.loads(docker.run("inspect", container))[0]["State"]


def test_a_container_has_no_rights_and_its_records_outlive_it(docker, container):
    first = container()
    assert docker.run("exec", first, "id", "-u") == "10001\n"
    docker.run("exec", first, "touch", "/usr/local/bin/x", code=1)
    docker.run("exec", "--interactive", first, "chronik", "produce", "orders", input="order 4711 paid\n")
    docker.run("stop", "--time=60", first)
    assert state(docker, first)["ExitCode"] == 0
    second = container()
    assert docker.run("exec", second, "chronik", "consume", "orders", "--count", 1) == "order 4711 paid\n"
    assert "order 4711 paid" in docker.run("exec", second, "chronik", "search", "orders", "paid")
