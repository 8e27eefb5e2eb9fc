"""How fast a backlog is drained by 1, 2, 4 and 8 indexers.

For each number of them a topic is filled with segments while no indexer runs, over a bucket on MinIO and a queue on
ElasticMQ that are new each time; then they come. The time goes from the start of their processes to the last archive.
Afterwards it is checked that no job was done twice, that each run has one archive, and that two query workers find the
same. Records are the lines of the log files in CHRONIK_TEST_LOGS, numbered, or generated ones, from producers that
don't compress. Files are in TMPDIR meanwhile.

Everything runs on this machine and shares its cores: the indexers, the broker that registers their results, MinIO and
ElasticMQ. So the curve flattens where the cores end; the table says how many there are, and how many of them the
indexers got. With release binaries, in the environment of the tests:

    cargo build --release --locked --workspace --bins
    PYTHONPATH=tests:tests/e2e CHRONIK_BINARY=target/release/chronik python tests/load/indexers.py
"""

import argparse
import json
import os
import tempfile

from backlog import Backlog
from cloud import Cloud

# How long a drain may take.
PATIENCE = 3600
HEAD = (
    "indexers",
    "segments",
    "jobs",
    "MB",
    "seconds",
    "jobs/s",
    "MB/s",
    "times one",
    "cores used",
    "MB per CPU second",
    "jobs of each",
)


def main():
    options = parse()
    drains = [drained(count, options) for count in options.indexers]
    if options.json:
        print(json.dumps({"cores": os.cpu_count(), "drains": [figures(drain) for drain in drains]}, indent=2))
    else:
        show(drains)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--indexers", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N", help="how many come")
    parser.add_argument("--segments", type=int, default=1000, help="of each backlog")
    parser.add_argument("--segment-kib", type=int, default=256, help="a segment's size")
    parser.add_argument("--job-kib", type=int, default=1024, help="how much of the segments makes a job")
    parser.add_argument("--json", action="store_true", help="instead of a table")
    return parser.parse_args()


def drained(count, options):
    """Over a bucket and a queue of its own: a server of queues may hand a job to a poll whose indexer was stopped."""
    with (
        tempfile.TemporaryDirectory(prefix="chronik-load-") as folder,
        Cloud() as cloud,
        Backlog(folder, cloud, options.segment_kib << 10, options.job_kib << 10) as backlog,
    ):
        drain = backlog.drain(backlog.pile("logs", options.segments), count, patience=PATIENCE)
        backlog.check(drain)
        return drain


def figures(drain):
    return {
        "indexers": len(drain.jobs_done),
        "segments": drain.pile.segments,
        "jobs": drain.pile.jobs,
        "bytes": drain.pile.bytes,
        "seconds": round(drain.seconds, 2),
        "jobs_a_second": round(drain.jobs_a_second, 1),
        "megabytes_a_second": round(drain.megabytes_a_second, 1),
        "cores_used": round(drain.cores_used, 2),
        "megabytes_a_cpu_second": round(drain.megabytes_a_cpu_second, 1),
        "jobs_done": drain.jobs_done,
    }


def show(drains):
    first = drains[0].megabytes_a_second / len(drains[0].jobs_done)
    print(f"{os.cpu_count()} cores\n\n| {' | '.join(HEAD)} |\n|{' --: |' * len(HEAD)}")
    for drain in drains:
        line = [
            f"{len(drain.jobs_done)}",
            f"{drain.pile.segments}",
            f"{drain.pile.jobs}",
            f"{drain.pile.bytes / 1e6:.0f}",
            f"{drain.seconds:.1f}",
            f"{drain.jobs_a_second:.1f}",
            f"{drain.megabytes_a_second:.1f}",
            f"{drain.megabytes_a_second / first:.2f}",
            f"{drain.cores_used:.2f}",
            f"{drain.megabytes_a_cpu_second:.1f}",
            f"{min(drain.jobs_done)} to {max(drain.jobs_done)}",
        ]
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
