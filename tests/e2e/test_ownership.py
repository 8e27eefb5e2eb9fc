"""Two brokers and one bucket: there is one owner, and no other broker takes the bucket from it by accident."""

import itertools
import re
import shutil
import signal

import pytest
from chronik import PATIENCE, Chronik, until
from load import Load, values
from servers import s3
from servers.faults import Faults, line

numbers = itertools.count()


@pytest.fixture
def bucket(minio):
    return s3.settings(minio.url, prefix=f"owned-{next(numbers)}")


def test_a_second_broker_is_refused_until_the_first_gives_the_bucket_up(start, tmp_path, bucket):
    first = start("first", ship_max_age="1s", **bucket)
    first.tool("produce", "t", stdin=b"x\n")
    second = Chronik(tmp_path / "second", **bucket).spawn()
    assert second.process.wait(timeout=PATIENCE) == 1, second.last_lines()
    complaint = second.last_lines()
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
    assert first.process.wait(timeout=PATIENCE) == 1, first.last_lines()
    acknowledged = load.end()
    kept = values(second)
    assert len(kept) > 1000
    load.check(kept)
    last_words = first.last_lines(5)
    [above] = re.findall(r"(\d+) acknowledged records lie above", last_words)
    assert max(acknowledged) - len(kept) < int(above), last_words
    assert str(first.data) in last_words
    # Its files are kept, and it does not come back with them.
    first.spawn()
    assert first.process.wait(timeout=PATIENCE) == 1
    assert "claimed by another broker" in first.last_lines(5)
    second.tool("produce", "t", stdin=b"z\n")
    assert values(second) == [*kept, b"z"]


@pytest.mark.long
def test_a_broker_that_was_stopped_meanwhile_acknowledges_nothing_that_the_new_owner_lacks(start, bucket, minio):
    with Faults(minio.url) as its_way:
        first = start("first", ship_max_age="1s", **bucket | {"S3_ENDPOINT": its_way.url})
        load = Load(first)
        until(lambda: len(load.acknowledged) > 1000, "1000 records are acknowledged")
        until(lambda: first.metrics()["chronik_segments_total"] > 0, "some of them are shipped")
        first.process.send_signal(signal.SIGSTOP)
        second = start("second", take_over="true", **bucket)
        load.end()
        # It can't see the claim for a while.
        its_way.script(line("slow_down", "HEAD", "/claims/"))
        first.process.send_signal(signal.SIGCONT)
        late = Load(first)
        until(lambda: late.refused or late.acknowledged, "it answers")
        assert late.acknowledged == {}, first.last_lines()
        its_way.script()
        assert first.process.wait(timeout=PATIENCE) == 1, first.last_lines()
    assert late.end() == {}
    load.check(values(second))


@pytest.mark.long
def test_the_bucket_of_a_broker_that_was_killed_is_free_after_a_while(start, bucket):
    first = start("first", ship_max_age="1s", **bucket)
    first.tool("produce", "t", stdin=b"x\ny\n")
    first.wait_shipped()
    first.kill()
    second = start("second", **bucket)
    assert "no sign of life" in second.last_lines()
    assert values(second) == [b"x", b"y"]


def test_of_a_broker_and_a_copy_of_its_directory_the_earlier_ends_and_stays_away(start, tmp_path, bucket):
    first = start("first", ship_max_age="1s", **bucket)
    first.tool("produce", "t", stdin=b"x\n")
    first.wait_shipped()
    shutil.copytree(first.directory, tmp_path / "second")
    second = Chronik(tmp_path / "second", ship_max_age="1s", **bucket).start()
    try:
        first.tool("produce", "t", stdin=b"y\n")
        assert first.process.wait(timeout=PATIENCE) == 1, first.last_lines()
        assert "copy of this broker's data directory" in first.last_lines(5)
        second.tool("produce", "t", stdin=b"z\n")
        for _ in range(2):
            first.spawn()
            assert first.process.wait(timeout=PATIENCE) == 1, first.last_lines()
            assert "copy of this data directory" in first.last_lines(1) and str(first.data) in first.last_lines(1)
        second.kill()
        second.start()
        assert values(second) == [b"x", b"z"]
    finally:
        second.kill()
