"""The container file, as far as that needs no container daemon."""

import json
import re
import subprocess

from chronik import Chronik
from place import INFRA, ROOT, free_port, run

CONTAINERFILE = INFRA / "Containerfile"
HEALTH = INFRA / "chronik-health"


def health(port, question):
    return subprocess.run([HEALTH, question], env={"CHRONIK_HTTP_PORT": str(port)}, check=False).returncode


def test_hadolint_finds_nothing_to_criticise():
    run("hadolint", "--failure-threshold", "info", CONTAINERFILE)


def test_images_are_built_with_the_toolchain_of_the_project():
    (channel,) = re.findall(r'^channel = "(.+)"$', (ROOT / "rust-toolchain.toml").read_text(), re.M)
    assert f"ARG RUST=rust:{channel}-bookworm" in CONTAINERFILE.read_text()


def test_every_program_of_an_image_is_one_that_is_built():
    described = run("cargo", "metadata", "--no-deps", "--format-version", "1", "--offline", cwd=ROOT)
    packages = json.loads(described)["packages"]
    programs = {target["name"] for package in packages for target in package["targets"] if "bin" in target["kind"]}
    copied = re.findall(r"/src/target/release/(\S+)", CONTAINERFILE.read_text())
    assert copied and set(copied) <= programs


def test_what_images_are_built_from_is_not_left_out():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for name in ("Cargo.toml", "Cargo.lock", "src", "shared", "ingest", "indexer", "query"):
        assert (ROOT / name).exists() and name not in ignored
    assert "!infra/chronik-health" in ignored


def test_health_tells_what_the_server_says(tmp_path):
    with Chronik(tmp_path) as server:
        port = server.http.rsplit(":", 1)[1]
        assert (health(port, "live"), health(port, "ready")) == (0, 0)
        assert health(port, "nonsense") != 0
    assert health(free_port(), "live") != 0
