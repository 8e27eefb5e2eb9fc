"""The compose file under a daemon of our own, as an old compose takes it. Images that other people publish are
replaced by the same programs as they are installed here."""

import shutil
from pathlib import Path

import yaml
from chronik import until
from images import BASE
from place import INFRA
from servers.elasticmq import Elasticmq
from servers.minio import Minio

SERVICES = ("ingest", "indexer", "query")


class Composed:
    """Everything that the compose file names; `context` is what images are built from."""

    def __init__(self, docker, context):
        self.docker = docker
        self.file = context / "infra/compose.yaml"
        self.file.write_text(yaml.safe_dump(rendered()))

    def run(self, *arguments):
        return self.docker.run("--project-name", "chronik", "--file", self.file, *arguments, program="docker-compose")

    def containers(self):
        """Of our services."""
        return self.run("ps", "--quiet", *SERVICES).split()

    def up(self):
        """Builds and starts everything, and waits until our services say that they are healthy."""
        self.run("up", "--detach", "--build")
        containers = self.containers()
        assert len(containers) == 4, "a broker, two indexers, a query worker"

        def healthy():
            states = [each["State"] for each in self.docker.inspect(*containers)]
            return all(state["Health"]["Status"] == "healthy" for state in states)

        until(healthy, "every service is healthy")


def rendered():
    compose = yaml.safe_load((INFRA / "compose.yaml").read_text())
    services = compose["services"]
    for name in SERVICES:
        services[name]["build"]["args"] = {"BASE": BASE}
    replace(services["minio"], {Minio.install(): "/usr/bin/minio"})
    replace(services["elasticmq"], {Elasticmq.install(): "/libs"} | {folder: folder for folder in java()})
    services["elasticmq"]["command"] = [
        f"{java()[0]}/bin/java", "-Xmx256m", "-Dconfig.file=/opt/elasticmq.conf", "-cp", "/libs/*",
        "org.elasticmq.server.Main",
    ]  # fmt: skip
    return compose | {"version": "3.8"}


def replace(service, folders):
    """Runs a program of this machine in place of an image."""
    service["image"] = BASE
    service["volumes"] += [f"{here}:{there}:ro" for here, there in folders.items()]


def java():
    """Where Java is, and its configuration, which Debian has elsewhere."""
    home = Path(shutil.which("java")).resolve().parents[1]
    return [home, (home / "conf/security/java.security").resolve().parents[1]]
