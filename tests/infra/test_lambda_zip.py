"""The zip file of the Lambda function, as it is built for AWS."""

import re
import subprocess

import pytest
from chronik import Chronik
from lambda_runtime import Jobs, bodies, unpacked
from lambda_world import World
from place import INFRA

# Compiling everything for release takes long.
pytestmark = [pytest.mark.long, pytest.mark.timeout(5400)]

# Of Lambda's runtime provided.al2023.
GLIBC = (2, 34)


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory):
    built = subprocess.run([INFRA / "lambda/build"], stdout=subprocess.PIPE, check=True, text=True)
    return unpacked(built.stdout.strip(), tmp_path_factory.mktemp("zip"))


def objdump(option, path):
    return subprocess.run(["objdump", option, path], stdout=subprocess.PIPE, check=True, text=True).stdout


def test_the_program_fits_the_runtime(bootstrap):
    assert "file format elf64-x86-64" in objdump("--file-headers", bootstrap)
    needed = re.findall(r"\(?GLIBC_([0-9.]+)\)?", objdump("--dynamic-syms", bootstrap))
    newest = max(tuple(map(int, version.split("."))) for version in needed)
    assert newest <= GLIBC, f"a symbol of glibc {newest}"
    libraries = re.findall(r"NEEDED +(\S+)", objdump("--private-headers", bootstrap))
    assert {name.split(".")[0] for name in libraries} <= {"libc", "libm", "libgcc_s", "ld-linux-x86-64"}, libraries


def test_a_panic_costs_a_message_and_not_the_function(bootstrap):
    # What Rust's unwinder complains with; a program whose panics abort is without it.
    assert b"Rust panics must be rethrown" in bootstrap.read_bytes()


def test_the_program_does_a_job(bootstrap, tmp_path):
    with Chronik(tmp_path / "server", **World.SETTINGS) as server:
        world = World(server, tmp_path, topics=1)
        jobs = Jobs(bodies(world.jobs()))
        with world.functions(jobs, binary=bootstrap) as functions:
            jobs.wait_empty()
        assert functions.outcomes() == ["answered"]
        assert len(world.archives()) == 1
        world.check()
