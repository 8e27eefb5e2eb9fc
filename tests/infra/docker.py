"""A container daemon of our own, and images made of what is on this machine: no registry of images is needed."""

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from chronik import PATIENCE, until
from place import run, tool
from servers.cache import FOLDER

# Tables of iptables as they are before anything uses them.
TABLES = {"filter": ("INPUT", "FORWARD", "OUTPUT"), "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")}
# Whether the machine passes packets on.
FORWARDS = Path("/proc/sys/net/ipv4/ip_forward")
# What `tests/infra/install.sh` made by debootstrap.
DEBIAN = FOLDER / "infra/debian-bookworm.tar"


class Docker:
    """dockerd with its files in `directory`. What it changes in the machine's network is changed back."""

    def __init__(self, directory):
        self.directory = directory
        self.host = f"unix://{directory}/docker.sock"
        self.process = None

    def __enter__(self):
        self.had_bridge = self.bridge().exists()
        self.rules = run("iptables-save")
        self.forwarded = FORWARDS.read_text()
        with (self.directory / "dockerd.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    tool("dockerd"),
                    f"--data-root={self.directory}/data",
                    f"--exec-root={self.directory}/exec",
                    f"--host={self.host}",
                    f"--pidfile={self.directory}/docker.pid",
                ],
                stdout=log,
                stderr=log,
            )
        until(self.answers, "dockerd answers")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=PATIENCE)
        if not self.had_bridge and self.bridge().exists():
            run("ip", "link", "delete", "docker0")
        for table, chains in TABLES.items():
            if f"*{table}\n" not in self.rules:
                self.rules += "\n".join([f"*{table}", *(f":{chain} ACCEPT [0:0]" for chain in chains), "COMMIT", ""])
        run("iptables-restore", input=self.rules)
        FORWARDS.write_text(self.forwarded)
        # Images and volumes are large.
        shutil.rmtree(self.directory / "data")

    @staticmethod
    def bridge():
        return Path("/sys/class/net/docker0")

    def answers(self):
        assert self.process.poll() is None, (self.directory / "dockerd.log").read_text(errors="replace")
        return (
            subprocess.run(["docker", "version"], env=self.environment(), capture_output=True, check=False).returncode
            == 0
        )

    def environment(self):
        return os.environ | {"DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"}

    def run(self, *arguments, program="docker", **options):
        return run(program, *arguments, env=self.environment(), **options)

    def inspect(self, *containers):
        return json.loads(self.run("inspect", *containers))

    def image(self, name, archive):
        """Makes an image of a tar file."""
        self.run("import", archive, name)


def pack(archive, files):
    """A tar file of path in the image → file here."""
    with tarfile.open(archive, "w") as tar:
        for path, file in files.items():
            tar.add(Path(file).resolve(), arcname=path)
    return archive
