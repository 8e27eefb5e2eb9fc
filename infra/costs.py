#!/usr/bin/env python3
"""The arithmetic of COSTS.md. `costs.py` prints its tables, `costs.py --write` puts them into the page.

Units: MB and GB are 10^6 and 10^9 bytes, a month has 730 hours, money is USD. Rates are bytes of records (keys and
values before compression) per second, since that is what an application knows of itself.
"""

import math
import re
import sys
from pathlib import Path

HOUR = 3600
MONTH = 730 * HOUR

# ── Prices: AWS, us-east-1, on demand, as listed in June 2025. Free tiers and discounts are left out.

S3_GB_MONTH = ((50_000, 0.023), (500_000, 0.022), (math.inf, 0.021))  # up to this many GB: price of one
S3_WRITE = 0.005 / 1000  # PUT, COPY, POST, LIST; DELETE is free
S3_READ = 0.0004 / 1000  # GET, HEAD
SQS_REQUEST = 0.40 / 1e6
LAMBDA_GB_SECOND = 0.0000166667
LAMBDA_REQUEST = 0.20 / 1e6
EBS_GB_MONTH, EBS_IOPS_MONTH, EBS_MBPS_MONTH = 0.08, 0.005, 0.04  # gp3; 3,000 IOPS and 125 MB/s are in the first
FARGATE_VCPU_HOUR, FARGATE_GB_HOUR = 0.04048, 0.004445
BALANCER_HOUR = 0.0225
ZONE_GB = 0.02  # between two zones, both directions' share

# ── What Chronik does, by its defaults (docs/operating.md: settings).

SEGMENT = 64 * 2**20
SHIP_AGE = 10
BATCH = 64 * 2**20
BATCH_AGE = 60
BATCH_LEAST, BATCH_AGE_MOST = 2**20, 600  # less than this waits for more, up to ten times as long
EXPORT_EVERY = 5  # at most; also how often each reader asks for `latest`
BEAT_EVERY = 30
CLAIM_CHECK_EVERY = 10
INBOX_EVERY = 5
CHECKPOINT_EVERY = 300

# ── Measured with Chronik on 32,000 lines of 16 kinds of real logs (LogHub samples, 4.4 MB): bytes per byte of records.

STORED = {"uncompressed": 1.07, "zstd": 0.148}  # segments, by what producers do; lz4 and snappy lie between
ARCHIVE = 0.172  # word index; independent of the producers' compression

# ── Measured with tests/load/indexers.py on two cores (AMD EPYC), jobs of 64 MiB of numbered LogHub lines,
# uncompressed: records through words to archives, 23 to 31 from run to run. With jobs of 1 MiB it is 18. Yours:
# chronik_indexer_read_bytes_total over chronik_indexer_job_seconds_sum.

INDEXER_MB_S_PER_VCPU = 25

# ── What compaction makes of one of TOPICS at each rate, by the planner itself (ingest/src/compaction/tests.rs): how
# often a byte is written anew, and MiB of a job.

COMPACTED = {
    ("uncompressed", 1): (1.00, 734),
    ("uncompressed", 100): (1.00, 1311),
    ("uncompressed", 1000): (1.00, 4096),
    ("zstd", 1): (1.00, 305),
    ("zstd", 100): (1.00, 1311),
    ("zstd", 1000): (1.00, 1311),
}
COMPACTED_SEGMENT, PART = 2**30, 8 * 2**20

# ── Measured: `chronik compact now` over a page of 925 MB in 4,200 runs of numbered LogHub lines, uncompressed, on the
# same machine: records read, unpacked, checked and written by a CPU, the broker's share included.

COMPACTOR_MB_S_PER_VCPU = 289

# ── Assumed.

TOPICS = 20
LAMBDA_GB = 2.0  # of memory, which is the next line's share of a CPU
LAMBDA_VCPU = LAMBDA_GB * 1024 / 1769
LAMBDA_MB_S = 40  # that a function reads from the bucket while it writes as many
LAMBDA_HELD = (LAMBDA_GB * 1024 - 96) * 2**20 * 3 / 8  # runs that a compaction holds
LANE_MB_S = 250  # stored bytes through one write-ahead log: the volume's throughput, see the last table
QUERY_WORKERS, QUERY_VCPU, QUERY_GB = 2, 1, 4
FAR_CLIENTS = 2 / 3  # of the producers' bytes come from another zone
# (stored MB/s up to which it does, name, USD per hour)
MACHINES = ((30, "m7i.large", 0.1008), (120, "m7i.xlarge", 0.2016), (LANE_MB_S, "m7i.2xlarge", 0.4032))

RATES = (1, 100, 1000)


class Load:
    """What one rate of records means for the services, bucket and queue. Per second, but for what says otherwise."""

    def __init__(self, rate, kind):
        self.records = rate * 1e6
        self.stored = self.records * STORED[kind]
        self.lanes = math.ceil(self.stored / 1e6 / LANE_MB_S)
        self.segments = max(self.stored / SEGMENT, self.lanes / SHIP_AGE)
        topic = self.stored / TOPICS
        age = min(max(BATCH_AGE, BATCH_LEAST / topic), BATCH_AGE_MOST)
        self.jobs = TOPICS * max(topic / BATCH, 1 / age)
        self.compacted_times, job = COMPACTED.get((kind, rate), COMPACTED[kind, 1])
        self.compacted_job = job * 2**20
        self.compactions = self.stored * self.compacted_times / self.compacted_job
        self.exports = min((self.segments + self.jobs) / self.lanes, 1 / EXPORT_EVERY) * self.lanes

    def job_reads(self):
        """A job reads from every segment since the one before, all of the topic's partitions by one request."""
        return max(self.segments / self.lanes * TOPICS / self.jobs, 1)

    def compaction_writes(self):
        """Of a job: a segment in parts, begun and completed, or as one; the result, and the page."""
        parts = math.ceil(self.compacted_job / PART) + 2 * math.ceil(self.compacted_job / COMPACTED_SEGMENT)
        return (parts if self.compacted_job > SEGMENT else 1) + 2

    def compaction_reads(self):
        """Of a job: what each segment has of the topic, once for each part of the job that is held, 8 MiB at the most;
        pages and result; and each new segment twice, by the broker."""
        seconds = self.compacted_job / (self.stored / TOPICS)
        segments = max(seconds * self.segments / self.lanes, 1)
        held = math.ceil(self.compacted_job / LAMBDA_HELD)
        made = math.ceil(self.compacted_job / COMPACTED_SEGMENT)
        return max(segments * held, self.compacted_job / PART) + 3 + 2 * made

    def writes(self):
        """Paid as PUT: segments, archives and results, exports with `latest`, beats, checkpoints, looks into inbox,
        compaction."""
        per_lane = 1 / BEAT_EVERY + 1 / CHECKPOINT_EVERY + 1 / INBOX_EVERY
        compaction = self.compactions * self.compaction_writes()
        return self.segments + 2 * self.jobs + 2 * self.exports + self.lanes * per_lane + compaction

    def reads(self):
        """Paid as GET: verification and claims by the broker, runs by the indexers, `latest` by the readers."""
        broker = 3 * self.segments + 4 * self.jobs + self.lanes / CLAIM_CHECK_EVERY
        runs = self.job_reads() * self.jobs + self.compactions * self.compaction_reads()
        return broker + runs + QUERY_WORKERS * self.lanes / EXPORT_EVERY

    def messages(self):
        """Of the queue: send, receive, delete, and one change of visibility a job; idle long polls every 20 s."""
        return 4 * (self.jobs + self.compactions) + 5 / 20

    def indexers(self):
        """Functions at work at the same time, on average."""
        return self.records / 1e6 / (INDEXER_MB_S_PER_VCPU * LAMBDA_VCPU)

    def compactors(self):
        """Those that compact."""
        busy = self.records / 1e6 / (COMPACTOR_MB_S_PER_VCPU * LAMBDA_VCPU)
        return self.compacted_times * max(busy, self.stored / 1e6 / LAMBDA_MB_S)

    def compaction_costs(self):
        """USD per month of what compaction adds: requests, messages, functions."""
        requests = self.compaction_writes() * S3_WRITE + self.compaction_reads() * S3_READ + 4 * SQS_REQUEST
        functions = self.compactors() * LAMBDA_GB * LAMBDA_GB_SECOND + self.compactions * LAMBDA_REQUEST
        return (self.compactions * requests + functions) * MONTH

    def machine(self):
        stored = self.stored / 1e6 / self.lanes
        return next(machine for machine in MACHINES if stored <= machine[0])

    def gb_month(self):
        """GB of records in a month."""
        return self.records / 1e9 * MONTH

    def costs(self):
        """(what, USD per month), with a month's records kept for a month."""
        volume_mb_s = max(125, 2 * self.stored / 1e6 / self.lanes)
        volume = 100 * EBS_GB_MONTH + (volume_mb_s - 125) * EBS_MBPS_MONTH
        queries = QUERY_WORKERS * (QUERY_VCPU * FARGATE_VCPU_HOUR + QUERY_GB * FARGATE_GB_HOUR) + BALANCER_HOUR
        return (
            ("broker and volume", self.lanes * (self.machine()[2] * 730 + volume)),
            ("bucket, requests", (self.writes() * S3_WRITE + self.reads() * S3_READ) * MONTH),
            ("queue", self.messages() * SQS_REQUEST * MONTH),
            (
                "indexers (Lambda)",
                (self.indexers() * LAMBDA_GB * LAMBDA_GB_SECOND + self.jobs * LAMBDA_REQUEST) * MONTH,
            ),
            (
                "compaction (Lambda)",
                (self.compactors() * LAMBDA_GB * LAMBDA_GB_SECOND + self.compactions * LAMBDA_REQUEST) * MONTH,
            ),
            ("query workers, balancer", queries * 730),
            ("segments, a month kept", kept(self.stored / 1e9 * MONTH)),
            ("archives, a month kept", kept(self.records * ARCHIVE / 1e9 * MONTH)),
            ("producers in other zones", self.stored / 1e9 * MONTH * FAR_CLIENTS * ZONE_GB),
        )


def kept(gigabytes):
    """USD for a month of so many GB in the bucket."""
    price, below = 0.0, 0
    for up_to, each in S3_GB_MONTH:
        price += max(0, min(gigabytes, up_to) - below) * each
        below = up_to
    return price


def table(head, rows):
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def per_load(cell):
    return [cell(Load(rate, kind)) for kind in STORED for rate in RATES]


def head(first):
    return [first, *(f"{rate:,} MB/s, {kind}" for kind in STORED for rate in RATES)]


def requests():
    rows = {
        "stored, MB/s": lambda load: f"{load.stored / 1e6:,.2f}",
        "brokers (lanes)": lambda load: f"{load.lanes}",
        "segments/s": lambda load: f"{load.segments:.2f}",
        "jobs/s": lambda load: f"{load.jobs:.2f}",
        "compactions/s": lambda load: f"{load.compactions:.4f}",
        "bucket: PUT and LIST/s": lambda load: f"{load.writes():.2f}",
        "bucket: GET and HEAD/s": lambda load: f"{load.reads():.2f}",
        "queue: requests/s": lambda load: f"{load.messages():.2f}",
        "indexers at work": lambda load: f"{load.indexers() + load.compactors():.1f}",
        "of them to compact": lambda load: f"{load.compactors():.1f}",
        "broker's machine": lambda load: load.machine()[1],
    }
    return table(head("per second"), [[name, *per_load(cell)] for name, cell in rows.items()])


def compaction():
    def gib(load):
        return load.compacted_job / 2**30 / load.compacted_times

    rows = {
        "a byte is written anew, times": lambda load: f"{load.compacted_times:.2f}",
        "a job, MiB": lambda load: f"{load.compacted_job / 2**20:.0f}",
        "seconds of a function": lambda load: f"{load.compactors() / load.compactions:.0f}",
        "PUT per stored GiB": lambda load: f"{load.compaction_writes() / gib(load):.0f}",
        "GET per stored GiB": lambda load: f"{load.compaction_reads() / gib(load):.0f}",
        "USD a month, requests and functions": lambda load: f"{load.compaction_costs():,.2f}",
        "USD per stored GiB": lambda load: f"{load.compaction_costs() / (load.stored * MONTH / 2**30):.5f}",
    }
    return table(head("compaction"), [[name, *per_load(cell)] for name, cell in rows.items()])


def months():
    names = [name for name, _ in Load(1, "zstd").costs()]
    rows = [[name, *per_load(lambda load, at=at: f"{load.costs()[at][1]:,.0f}")] for at, name in enumerate(names)]
    total = per_load(lambda load: sum(price for _, price in load.costs()))
    gib = per_load(lambda load: sum(price for _, price in load.costs()) / (load.gb_month() * 1e9 / 2**30))
    more = per_load(
        lambda load: sum(p for n, p in load.costs() if n.endswith("kept")) / (load.gb_month() * 1e9 / 2**30)
    )
    rows.append(["**all, USD a month**", *(f"**{each:,.0f}**" for each in total)])
    rows.append(["USD per GiB of records, first month", *(f"{each:.4f}" for each in gib)])
    rows.append(["USD per GiB and further month", *(f"{each:.4f}" for each in more)])
    return table(head("USD a month"), rows)


def limits():
    """At how many MB/s of records something ends, for each kind of producer."""

    def rate(stored):
        return [f"{stored / STORED[kind]:,.0f}" for kind in STORED]

    def both(records):
        return [f"{records:,.0f}"] * len(STORED)

    function = INDEXER_MB_S_PER_VCPU * LAMBDA_VCPU
    puts = 3500 / (Load(1000, "uncompressed").writes() / 1000)
    return table(
        ["what ends", "at MB/s of records, " + next(iter(STORED)), *list(STORED)[1:], "what to turn"],
        [
            ["volume of 125 MB/s (gp3 as it comes), written and read", *rate(125 / 2), "`volume_mib_second`"],
            ["one lane on a volume of 500 MB/s", *rate(LANE_MB_S), "a second cluster (prefix), topics divided"],
            ["20 functions at once", *both(20 * function), "`indexer.concurrency`"],
            ["1,000 functions (an account's first limit)", *both(1000 * function), "the quota, or containers"],
            ["3,500 PUT/s (one part of S3's keyspace)", *both(puts), "nothing: names are spread by a hash"],
        ],
    )


TABLES = {"requests": requests, "compaction": compaction, "months": months, "limits": limits}
PAGE = Path(__file__).with_name("COSTS.md")


def page(text):
    """`text` with its tables computed anew."""
    for name, make in TABLES.items():
        made = f"<!-- {name} -->\n{make()}\n<!-- end -->"
        parts = re.split(rf"<!-- {name} -->.*?<!-- end -->", text, flags=re.S)
        assert len(parts) == 2, f"{PAGE} has {len(parts) - 1} places for the table {name}"
        text = made.join(parts)
    return text


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(PAGE.read_text()))
    else:
        print("\n\n".join(make() for make in TABLES.values()))
