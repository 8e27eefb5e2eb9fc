"""Measures a function's cold start: `python tests/e2e/lambda_cold_start.py [TIMES]`, with CHRONIK_BINARY as for the
tests. Prints the time from the process's start to its first question for work, and that of a first and a second job."""

import statistics
import sys
import tempfile
from pathlib import Path

from chronik import Chronik
from lambda_runtime import Jobs, bodies
from lambda_world import World


def main(times):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        server = Chronik(path / "server", **World.SETTINGS).start()
        try:
            world = World(server, path, topics=2, records=20_000)
            runs = [measure(world, f"lambda-{number}") for number in range(times)]
        finally:
            server.kill()
    for name, values in zip(("init", "first job", "second job"), zip(*runs, strict=True), strict=True):
        print(f"{name:<12}{statistics.median(values) * 1000:8.1f} ms (median of {times})")


def measure(world, name):
    jobs = Jobs(bodies(world.jobs()))
    with world.functions(jobs, name) as functions:
        jobs.wait_empty()
    first, second = functions.invocations
    return first.init_seconds, first.seconds, second.seconds


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
