"""Segments that wait for indexers: a broker, two query workers, a bucket and a queue, and no indexer
until a test starts one."""

import contextlib
import itertools
import os
import time
from dataclasses import dataclass
from pathlib import Path

from chronik import PATIENCE, Indexer, Ingest, Query, until
from cloud import check_covered_once
from material import START, sources
from records import Record, produce

PARTITIONS = 4
# The records that have the word that is searched.
MARK, MARK_EVERY = b" marked", 997
# What librdkafka takes at most by default.
BATCH_BYTES_MAX = 1_000_000
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass
class Pile:
    """One topic's part of the backlog."""

    topic: str
    segments: int = 0
    jobs: int = 0
    # Of the records' values.
    bytes: int = 0
    records: int = 0
    # (partition, offset)
    marked: list[tuple[int, int]] = None


@dataclass
class Drain:
    """What became of a pile."""

    pile: Pile
    seconds: float
    jobs_done: list[int]
    cpu_seconds: float

    @property
    def jobs_a_second(self):
        return self.pile.jobs / self.seconds

    @property
    def megabytes_a_second(self):
        return self.pile.bytes / 1e6 / self.seconds

    @property
    def cores_used(self):
        """By the indexers, on average."""
        return self.cpu_seconds / self.seconds

    @property
    def megabytes_a_cpu_second(self):
        return self.pile.bytes / 1e6 / self.cpu_seconds


class Backlog:
    def __init__(self, directory, cloud, segment_bytes, job_bytes):
        """`job_bytes`: how much a topic's job has of its segments."""
        self.directory = Path(directory)
        self.cloud = cloud
        self.segment_bytes = segment_bytes
        limits = {"ship_max_bytes": segment_bytes, "index_batch_bytes": job_bytes}
        ages = {"ship_max_age": "1h", "index_batch_age": "1h"}
        self.ingest = Ingest(self.directory / "ingest", **cloud.settings(), **limits, **ages, num_partitions=PARTITIONS)
        self.queries = [Query(self.directory / f"query-{number}", **cloud.bucket) for number in range(2)]

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.ingest)
            for query in self.queries:
                stack.enter_context(query.set(ingest_endpoints=self.ingest.http))
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self.stack.close()

    def pile(self, topic, segments):
        """Fills a topic with so many segments, or few more, and has its jobs sent."""
        pile = Pile(topic, marked=[])
        before, lines = self.shipped(), numbered_lines()
        # Small enough for segments to end where they should.
        batch_bytes = min(self.segment_bytes // 4, BATCH_BYTES_MAX)
        while self.shipped() - before < segments:
            part = some(lines, max(segments // 16, 1) * self.segment_bytes)
            offsets = produce(self.ingest.bootstrap, topic, part, batch_size=batch_bytes)
            sent = zip(part, offsets, strict=True)
            pile.marked += [(record.partition, offset) for record, offset in sent if record.value.endswith(MARK)]
            pile.records += len(part)
            pile.bytes += sum(len(record.value) for record in part)
        self.ingest.seal()
        pile.segments, pile.jobs = self.shipped() - before, self.cloud.queue.messages()
        return pile

    def shipped(self):
        return int(self.ingest.metrics()["chronik_segments_total"])

    @contextlib.contextmanager
    def indexers(self, count, settings_of):
        """Started at the same moment; `settings_of(number)` are those of one of them alone."""
        spawned = []
        try:
            for number in range(count):
                place = self.directory / f"indexer-{number}"
                indexer = Indexer(place, **self.cloud.settings(), **settings_of(number))
                spawned.append(indexer.spawn())
            yield [indexer.wait_ready() for indexer in spawned]
            assert [indexer.stop() for indexer in spawned] == [0] * count
        finally:
            for indexer in spawned:
                if indexer.running():
                    indexer.kill()

    def drain(self, pile, count, settings_of=lambda number: {}, once_ready=lambda: None, patience=PATIENCE):
        """Has so many indexers work all of it. The time ends with the last archive."""
        started = time.time()
        with self.indexers(count, settings_of) as indexers:
            once_ready()
            until(lambda: self.cloud.queue.messages() == 0, "all jobs are done", patience, every=0.5)
            jobs_done = [int(indexer.metrics()["chronik_indexer_jobs_done_total"]) for indexer in indexers]
            cpu_seconds = sum(map(cpu_seconds_of, indexers))
        made = self.cloud.objects(f"topics/{self.id_of(pile)}/archives/")
        ended = max(each["LastModified"].timestamp() for each in made)
        self.ingest.wait_archived(patience)
        return Drain(pile, ended - started, jobs_done, cpu_seconds)

    def id_of(self, pile):
        return next(topic["id"] for topic in self.ingest.status()["topics"] if topic["topic"] == pile.topic)

    def check(self, drain):
        """No job was done in vain, every run has one archive, and all query workers find the same."""
        pile = drain.pile
        assert sum(drain.jobs_done) == pile.jobs, f"{drain.jobs_done} of {pile.jobs} jobs"
        partitions = self.ingest.partitions()
        ends = [partitions[pile.topic, number]["high_watermark"] for number in range(PARTITIONS)]
        assert sum(ends) == pile.records
        check_covered_once(self.cloud.archives(self.id_of(pile)), ends)
        answers = [query.search(pile.topic, MARK.decode(), limit=10_000) for query in self.queries]
        found = [[(hit["partition"], hit["offset"]) for hit in answer["hits"]] for answer in answers]
        assert found[0] == found[1], "the workers answer alike"
        assert sorted(found[0]) == sorted(pile.marked), "each once"
        assert [answer["not_searched"] for answer in answers] == [[], []]


def numbered_lines():
    """Log lines for ever, no two the same."""
    lines = [line for _, lines in sources() for line in lines]
    for number, line in enumerate(itertools.cycle(lines)):
        yield number, b"%d %s%s" % (number, line, MARK if number % MARK_EVERY == 0 else b"")


def some(lines, total_bytes):
    """The next records, so many bytes of them."""
    records, have = [], 0
    while have < total_bytes:
        number, line = next(lines)
        records.append(Record(line, partition=number % PARTITIONS, timestamp=START + number))
        have += len(line)
    return records


def cpu_seconds_of(service):
    """What the process has used so far."""
    fields = Path(f"/proc/{service.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND
