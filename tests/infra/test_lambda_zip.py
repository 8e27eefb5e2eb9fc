"""The zip files of the Lambda function, as they are built for AWS."""

import platform
import re
import subprocess

import pytest
from chronik import Chronik
from lambda_runtime import Jobs, bodies, unpacked
from lambda_world import World
from place import INFRA

# Compiling everything as it is given to others takes long.
pytestmark = [pytest.mark.long, pytest.mark.timeout(5400)]

# Of Lambda's runtime provided.al2023.
GLIBC = (2, 34)


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def machine(request):
    return request.param


@pytest.fixture(scope="module")
def bootstrap(machine, tmp_path_factory):
    command = [INFRA / "lambda/build", *(["--arm64"] if machine == "arm64" else [])]
    built = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return unpacked(built.stdout.strip(), tmp_path_factory.mktemp("zip"))


@pytest.fixture
def runs_here(machine, bootstrap, tmp_path):
    """The program as something that this machine can start."""
    if machine == platform.machine():
        return bootstrap
    emulated = tmp_path / "emulated"
    emulated.write_text(f"#!/bin/sh\nexec qemu-aarch64 -L /usr/aarch64-linux-gnu {bootstrap}\n")
    emulated.chmod(0o755)
    return emulated


def readelf(option, path):
    return subprocess.run(["readelf", "--wide", option, path], stdout=subprocess.PIPE, check=True, text=True).stdout


def test_the_program_fits_the_runtime(machine, bootstrap):
    assert {"x86_64": "X86-64", "arm64": "AArch64"}[machine] in readelf("--file-header", bootstrap)
    needed = re.findall(r"@GLIBC_([0-9.]+)", readelf("--dyn-syms", bootstrap))
    newest = max(tuple(map(int, version.split("."))) for version in needed)
    assert newest <= GLIBC, f"a symbol of glibc {newest}"
    libraries = re.findall(r"NEEDED.*\[(\S+)\]", readelf("--dynamic", bootstrap))
    assert {re.split(r"[-.]", name)[0] for name in libraries} <= {"libc", "libm", "libgcc_s", "ld"}, libraries


def test_a_panic_costs_a_message_and_not_the_function(bootstrap):
    # What Rust's unwinder complains with; a program whose panics abort is without it.
    assert b"Rust panics must be rethrown" in bootstrap.read_bytes()


def test_the_program_does_a_job(runs_here, tmp_path):
    with Chronik(tmp_path / "server", **World.SETTINGS) as server:
        world = World(server, tmp_path, topics=1)
        jobs = Jobs(bodies(world.jobs()))
        with world.functions(jobs, binary=runs_here) as functions:
            jobs.wait_empty()
        assert functions.outcomes() == ["answered"]
        assert len(world.archives()) == 1
        world.check()
