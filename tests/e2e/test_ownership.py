"""Two brokers and one bucket: there is one owner, and nobody takes the bucket from it by accident."""

import itertools
import re
import threading

import pytest
from chronik import PATIENCE, Chronik, until
from records import consume, producer
from servers import s3
from servers.minio import Minio

numbers = itertools.count()


@pytest.fixture(scope="module")
def minio():
    with Minio() as server:
        yield server


@pytest.fixture
def bucket(minio):
    return s3.settings(minio.url, prefix=f"owned-{next(numbers)}")


def value(number):
    return b"%d " % number + number.to_bytes(8) * (number % 50)


def values(server):
    [records] = consume(server.bootstrap, "t", 1)
    assert [offset for offset, _ in records] == list(range(len(records))), "no gap"
    return [record.value for _, record in records]


class Load:
    """Sends numbered records until the broker goes away; notes what was acknowledged, by offset."""

    def __init__(self, server):
        self.acknowledged = {}
        self.client = producer(server.bootstrap, retries=0, message_timeout_ms=5000)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        for number in itertools.count():
            if self.stop.is_set():
                return
            try:
                self.client.produce("t", value(number), partition=0, on_delivery=self.delivered(number))
            except BufferError:
                self.client.poll(0.1)
            self.client.poll(0.001)

    def delivered(self, number):
        def report(error, message):
            if error is None:
                self.acknowledged[message.offset()] = value(number)

        return report

    def end(self):
        self.stop.set()
        self.thread.join()
        self.client.purge()
        self.client.flush(10)
        return self.acknowledged


def test_a_second_broker_is_refused_until_the_first_gives_the_bucket_up(start, tmp_path, bucket):
    first = start("first", ship_max_age="1s", **bucket)
    first.tool("produce", "t", stdin=b"x\n")
    second = Chronik(tmp_path / "second", **bucket).spawn()
    assert second.process.wait(timeout=PATIENCE) == 1, second.tail()
    complaint = second.tail()
    assert "in use" in complaint and "--take-over" in complaint, complaint
    first.tool("produce", "t", stdin=b"y\n")
    assert first.stop() == 0
    second = start("second", **bucket)
    assert values(second) == [b"x", b"y"]


def test_a_broker_that_is_taken_over_ends_and_says_what_is_lost(start, bucket):
    first = start("first", ship_max_age="1s", **bucket)
    load = Load(first)
    until(lambda: len(load.acknowledged) > 1000, "1000 records are acknowledged")
    second = start("second", take_over="true", **bucket)
    assert first.process.wait(timeout=PATIENCE) == 1, first.tail()
    acknowledged = load.end()
    kept = values(second)
    assert len(kept) > 1000
    for offset, sent in acknowledged.items():
        assert offset >= len(kept) or kept[offset] == sent, f"offset {offset}"
    last_words = first.tail(5)
    [above] = re.findall(r"(\d+) acknowledged records lie above", last_words)
    assert max(acknowledged) - len(kept) < int(above), last_words
    assert str(first.data) in last_words
    # Its files are kept, and it does not come back with them.
    first.spawn()
    assert first.process.wait(timeout=PATIENCE) == 1
    assert "claimed by another broker" in first.tail(5)
    second.tool("produce", "t", stdin=b"z\n")
    assert values(second) == [*kept, b"z"]


@pytest.mark.long
def test_the_bucket_of_a_broker_that_was_killed_is_free_after_a_while(start, bucket):
    first = start("first", ship_max_age="1s", **bucket)
    first.tool("produce", "t", stdin=b"x\ny\n")
    first.wait_shipped()
    first.kill()
    second = start("second", **bucket)
    assert "no sign of life" in second.tail()
    assert values(second) == [b"x", b"y"]
