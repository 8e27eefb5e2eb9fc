"""The container file and the compose file, as far as that needs no container daemon."""

import json
import re
import subprocess

import pytest
import yaml
from chronik import Chronik
from place import INFRA, ROOT, run
from servers.server import free_port

CONTAINERFILE = INFRA / "Containerfile"
COMPOSE = INFRA / "compose.yaml"
HEALTH = INFRA / "chronik-health"
SERVICES = ("ingest", "indexer", "query")


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
    copied = re.findall(r"/src/target/dist/(\S+)", CONTAINERFILE.read_text())
    assert len(copied) == len(SERVICES) + 1
    assert set(copied) <= programs


def test_there_is_a_target_for_each_service():
    targets = set(re.findall(r"^FROM base AS (\w+)$", CONTAINERFILE.read_text(), re.M))
    assert targets == {*SERVICES, "chronik"}
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    assert {services[name]["build"]["target"] for name in SERVICES} == set(SERVICES)


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


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_locked_down_and_find_each_other(name):
    compose = yaml.safe_load(COMPOSE.read_text())
    service = compose["services"][name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    settings = service["environment"]
    assert settings["S3_BUCKET"] in compose["services"]["minio"]["command"][0]
    for setting in ("S3_ENDPOINT", "SQS_ENDPOINT", "CHRONIK_INGEST_ENDPOINTS", "CHRONIK_QUERY_ENDPOINTS"):
        if setting in settings:
            assert re.match(r"http://(\w+):\d+", settings[setting])[1] in compose["services"]
    written = [*service["tmpfs"], *service.get("volumes", [])]
    assert any("/var/lib/chronik" in place for place in written)


def test_only_this_machine_reaches_what_is_published():
    for service in yaml.safe_load(COMPOSE.read_text())["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
