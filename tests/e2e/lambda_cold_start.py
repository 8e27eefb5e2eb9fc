"""Measures a function's cold start: the time from the process's start to its first question for work, and that of a
first and a second job of 20,000 short records. In the environment of the tests:

    CHRONIK_BINARY=target/release/chronik python tests/e2e/lambda_cold_start.py --zip "$(infra/lambda/build)"
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from chronik import Chronik
from lambda_runtime import BOOTSTRAP, Jobs, bodies, unpacked
from lambda_world import World


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--zip", help="the function as it is deployed; otherwise `bootstrap` beside CHRONIK_BINARY")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        binary = unpacked(options.zip, path) if options.zip else BOOTSTRAP
        with Chronik(path / "server", **World.SETTINGS) as server:
            world = World(server, path, topics=2, records=20_000)
            runs = [measure(world, f"lambda-{number}", binary) for number in range(options.times)]
    for name, values in zip(("init", "first job", "second job"), zip(*runs, strict=True), strict=True):
        print(f"{name:<12}{statistics.median(values) * 1000:8.1f} ms (median of {options.times})")


def measure(world, name, binary):
    jobs = Jobs(bodies(world.jobs()))
    with world.functions(jobs, name, binary=binary) as functions:
        jobs.wait_empty()
    first, second = functions.invocations
    return first.init_seconds, first.seconds, second.seconds


if __name__ == "__main__":
    main()
