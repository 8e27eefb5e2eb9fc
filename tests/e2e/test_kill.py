"""kill -9 under load: what was acknowledged is there, in order, byte for byte, without a gap."""

import random
import threading

import pytest
from chronik import until
from records import CODECS, consume, producer

PARTITIONS = 3
ROUNDS = 24


class Load:
    """Sends numbered records for as long as the broker answers, and notes what was acknowledged."""

    def __init__(self, topic):
        self.topic = topic
        self.sent = [[] for _ in range(PARTITIONS)]
        self.acknowledged = [{} for _ in range(PARTITIONS)]
        self.number = 0

    def value(self, number):
        draw = random.Random(number)
        return b"%d " % number + draw.randbytes(draw.choice([0, 10, 300, 3000]))

    def run(self, server, draw, codec):
        """Sends until the broker is killed, which happens once a random number of records is acknowledged."""
        goal = sum(map(len, self.acknowledged)) + draw.randrange(50, 1500)
        client = producer(server.bootstrap, codec, retries=0, linger_ms=draw.choice([0, 1, 20]))
        killer = threading.Thread(target=self.kill, args=(server, goal))
        killer.start()
        while killer.is_alive():
            partition = draw.randrange(PARTITIONS)
            number, self.number = self.number, self.number + 1
            try:
                client.produce(
                    self.topic, self.value(number), partition=partition, on_delivery=self.delivered(partition, number)
                )
                self.sent[partition].append(number)
            except BufferError:
                client.poll(0.1)
            if number % 20 == 0:
                client.poll(0)
        killer.join()
        client.purge()
        client.flush(10)

    def kill(self, server, goal):
        until(lambda: sum(map(len, self.acknowledged)) >= goal, f"{goal} records are acknowledged")
        server.kill()

    def delivered(self, partition, number):
        def report(error, message):
            if error is None:
                self.acknowledged[partition][message.offset()] = number

        return report

    def check(self, server):
        read = consume(server.bootstrap, self.topic, PARTITIONS)
        for partition, records in enumerate(read):
            assert [offset for offset, _ in records] == list(range(len(records))), "no gap"
            numbers = [int(record.value.split(b" ", 1)[0]) for _, record in records]
            assert numbers == sorted(set(numbers)), "in order, each once"
            assert set(numbers) <= set(self.sent[partition]), "nothing that was not sent"
            for (_, record), number in zip(records, numbers, strict=True):
                assert record.value == self.value(number), "byte for byte"
            for offset, number in self.acknowledged[partition].items():
                assert offset < len(numbers) and numbers[offset] == number, f"acknowledged, and lost: {number}"
        return sum(map(len, read))


@pytest.mark.timeout(1200)
def test_acknowledged_records_survive_kill_9(start):
    draw = random.Random()
    seed = draw.randrange(10**9)
    print(f"seed {seed}")
    draw.seed(seed)
    server = start(
        wal_rotation_size="256KiB",
        ship_max_bytes="128KiB",
        ship_max_age="1s",
        index_batch_bytes="256KiB",
        index_batch_age="1s",
    )
    server.tool("topic", "create", "load", "--partitions", PARTITIONS)
    load = Load("load")
    for turn in range(ROUNDS):
        load.run(server, draw, CODECS[turn % len(CODECS)])
        server.start()
        records = load.check(server)
    server.seal()
    server.wait_archived()
    found = [(hit["partition"], hit["offset"]) for hits in server.pages("load", limit=10_000) for hit in hits]
    assert len(found) == len(set(found)) == records, "searched, each once"
    assert len(list((server.data / "wal").rglob("*.wal"))) < 40, "WAL files are recycled"


def test_records_below_what_the_machine_holds_come_from_the_bucket(start):
    server = start(wal_rotation_size="64KiB", ship_max_bytes="64KiB", ship_max_age="1s")
    client = producer(server.bootstrap)
    for number in range(4000):
        client.produce("old", b"%d " % number + bytes(400))
        client.poll(0)
    assert client.flush(60) == 0
    server.seal()
    until(lambda: len(list((server.data / "wal").rglob("*.wal"))) < 12, "WAL files are recycled")
    server.kill()
    server.start()
    [records] = consume(server.bootstrap, "old", 1)
    assert [int(record.value.split(b" ")[0]) for _, record in records] == list(range(4000))
    metrics = server.metrics()
    assert metrics["fetch_segment_hit_rate"] > 0 and metrics["chronik_cold_fetch_seconds_count"] > 0
