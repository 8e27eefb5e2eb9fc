"""The images and the compose file, run: a record goes all the way through containers.

Images that other people publish are replaced by the same programs as they are installed here, and the stage that
compiles by what was compiled before; everything else is built and run as it is written."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from chronik import BINARY, clean_environment, until
from docker import DEBIAN, Docker, pack
from place import INFRA
from servers.elasticmq import Elasticmq
from servers.minio import Minio

pytestmark = pytest.mark.long

SERVICES = ("ingest", "indexer", "query")
PROGRAMS = ("chronik", *(f"chronik-{name}" for name in SERVICES))
TOKEN = "chronik-local"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


class Deployment:
    """The compose file under a daemon of our own."""

    def __init__(self, docker, directory):
        self.docker = docker
        self.file = directory / "compose.yaml"
        self.directory = directory

    def build(self):
        programs = {f"src/target/release/{name}": BINARY.parent / name for name in PROGRAMS}
        archive = pack(self.directory / "built.tar", programs | {CERTIFICATES[1:]: CERTIFICATES})
        self.docker.image("built", archive)
        self.docker.image("debian", DEBIAN)
        text, found = re.subn(
            r"^FROM \$\{RUST\} AS build$.*?(?=^FROM )",
            "FROM built AS build\n",
            (INFRA / "Containerfile").read_text(),
            flags=re.M | re.S,
        )
        assert found == 1
        context = self.directory / "context"
        (context / "infra").mkdir(parents=True)
        (context / "infra/Containerfile").write_text(text)
        health = context / "infra/chronik-health"
        health.write_bytes((INFRA / "chronik-health").read_bytes())
        health.chmod(0o755)
        for name in (*SERVICES, "chronik"):
            self.docker.run(
                "build", "--file", context / "infra/Containerfile", "--build-arg", "BASE=debian",
                "--target", name, "--tag", f"chronik-{name}" if name != "chronik" else name, context,
            )  # fmt: skip
        self.file.write_text(yaml.safe_dump(self.rendered()))

    def rendered(self):
        """The compose file as an old compose takes it, without images from elsewhere."""
        compose = yaml.safe_load((INFRA / "compose.yaml").read_text())
        services = compose["services"]
        for name in SERVICES:
            del services[name]["build"]
        for name, folders in (
            ("minio", [f"{Minio.install()}:/usr/bin/minio:ro"]),
            ("elasticmq", [f"{Elasticmq.install()}:/libs:ro", f"{java_home()}:/java:ro"]),
        ):
            services[name]["image"] = "debian"
            services[name]["volumes"] = [*services[name].get("volumes", []), *folders]
        services["elasticmq"]["volumes"] = [
            each.replace("./compose", str(INFRA / "compose")) for each in services["elasticmq"]["volumes"]
        ]
        services["elasticmq"]["command"] = [
            "/java/bin/java", "-Xmx256m", "-Dconfig.file=/opt/elasticmq.conf", "-cp", "/libs/*",
            "org.elasticmq.server.Main",
        ]  # fmt: skip
        return {"version": "3.8", "services": services, "volumes": compose["volumes"]}

    def compose(self, *arguments):
        return self.docker.run("--project-name", "chronik", "--file", self.file, *arguments, program="docker-compose")

    def containers(self, *services):
        return [name for name in self.compose("ps", "--quiet", *services).split() if name]

    def inspect(self, container):
        return json.loads(self.docker.run("inspect", container))[0]

    def healthy(self):
        states = [self.inspect(each)["State"] for each in self.containers(*SERVICES)]
        return len(states) == 4 and all(state.get("Health", {}).get("Status") == "healthy" for state in states)

    def up(self):
        self.compose("up", "--detach")
        until(self.healthy, "every service is healthy", patience=300)


def java_home():
    (home,) = {Path(os.path.realpath("/usr/bin/java")).parents[1]}
    return home


def chronik(*arguments, stdin=b"", http="http://127.0.0.1:8080"):
    """The operator's tool against the deployment."""
    done = subprocess.run(
        [BINARY, "--bootstrap", "localhost:9092", "--http", http, *map(str, arguments)],
        env=clean_environment({"CHRONIK_HTTP_TOKEN": TOKEN}),
        input=stdin,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout.decode()}\n{done.stderr.decode()}"
    return done.stdout.decode()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    directory = tmp_path_factory.mktemp("compose")
    with Docker(directory) as docker:
        deployment = Deployment(docker, directory)
        deployment.build()
        try:
            deployment.up()
            yield deployment
        finally:
            print(deployment.compose("logs", "--tail=30"))
            deployment.compose("down", "--volumes")


def archived():
    status = json.loads(chronik("--json", "status", http="http://127.0.0.1:8081"))
    partitions = [partition for topic in status["topics"] for partition in topic["partitions"]]
    return partitions and all(each["archived_to"] == each["high_watermark"] for each in partitions)


def hits(query):
    return json.loads(chronik("--json", "search", "orders", query, "--limit", 1))["total"]["value"]


def test_a_record_goes_all_the_way(deployment):
    lines = "".join(f"order {number} paid\n" for number in range(1000))
    chronik("produce", "orders", stdin=lines.encode())
    assert hits("order 700 paid") == 1
    chronik("seal", http="http://127.0.0.1:8081")
    until(archived, "the indexers have made archives")
    assert hits("order 701 paid") == 1
    assert chronik("consume", "orders", "--count", 1000) == lines


def test_services_can_write_nothing_but_their_data(deployment):
    for container in deployment.containers(*SERVICES):
        assert deployment.docker.run("exec", container, "id", "-u") == "10001\n"
        deployment.docker.run("exec", container, "touch", "/etc/x", code=1)
        deployment.docker.run("exec", container, "touch", "/var/lib/chronik/x", "/tmp/x")


def test_what_was_acknowledged_outlives_a_kill(deployment):
    chronik("produce", "orders", stdin=b"the last one before the end\n")
    deployment.compose("kill", "-s", "SIGKILL", *SERVICES)
    deployment.up()
    assert hits("last before end") == 1
    assert chronik("consume", "orders", "--count", 1001).splitlines()[-1] == "the last one before the end"


def test_a_stop_is_a_clean_end(deployment):
    containers = deployment.containers(*SERVICES)
    deployment.compose("stop", *SERVICES)
    ended = {deployment.inspect(each)["Name"]: deployment.inspect(each)["State"]["ExitCode"] for each in containers}
    assert set(ended.values()) == {0}, ended
