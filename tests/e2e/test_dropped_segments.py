"""Segments as they were shipped leave the bucket once all that they hold was compacted or is deleted: what is kept is
read, searched and recovered as before, whoever dies meanwhile. A clock that jumps makes it late enough.
"""

import signal
from datetime import UTC, datetime

from chronik import until
from clock import Clock
from confluent_kafka.admin import NewTopic
from records import Record, produce
from test_compaction import (
    LIMIT,
    admin,
    begin,
    check,
    compact_all,
    levels,
    own_segments,
    shipped_segments,
    write_and_close,
)

DELETED, SECRET = "deleted", b"nobody may find this"


def write_and_compact(start, clock):
    """A topic that is kept and one that is deleted share their segments; all is closed in the evening."""
    now = datetime.now(UTC)
    clock.advance(minutes=(36 - now.hour) * 60)
    server = begin(start, **clock.settings())
    client = admin(server)
    client.create_topics([NewTopic(DELETED, 1)])[DELETED].result(30)
    produce(server.bootstrap, DELETED, [Record(SECRET, timestamp=1, partition=0)])
    write_and_close(server)
    clock.advance(minutes=11 * 60)
    until(lambda: server.metrics()["chronik_open_runs"] == 0, "all is closed in the evening")
    client.delete_topics([DELETED])[DELETED].result(30)
    compact_all(server)
    check(server)
    assert holds_secret(server)
    return server


def holds_secret(server):
    return any(SECRET in path.read_bytes() for path in server.bucket.rglob("*") if path.is_file())


def shipped(server):
    return server.get("/v1/compaction")["shipped"]


def wait_dropped(server, clock, old):
    """The segments of the first day are gone, and what they held of the deleted topic."""

    def are_gone():
        clock.advance(minutes=61)
        return not set(old) & set(shipped_segments(server)) and shipped(server)["oldest_needed_ms"] is None

    until(are_gone, "segments that nothing needs leave the bucket", every=0.3)


def check_recovered(server):
    check(server)
    server.kill()
    server.start()
    check(server)
    assert server.stop() == 0
    server.lose_data_directory()
    server.start()
    check(server)
    assert 0 not in levels(server)


def test_what_was_compacted_or_deleted_leaves_with_its_segments(start, tmp_path):
    clock = Clock(tmp_path / "clock")
    server = write_and_compact(start, clock)
    old, kept = shipped_segments(server), own_segments(server)
    assert shipped(server)["segments"] == len(old) and shipped(server)["bytes"] > 0
    wait_dropped(server, clock, old)
    until(lambda: not holds_secret(server), "no object has what was deleted")
    until(lambda: shipped(server)["segments"] == len(shipped_segments(server)), "the broker counts what is left")
    assert own_segments(server)[: len(kept)] and server.metrics()["chronik_needed_segment_age_seconds"] == 0
    told = server.tool("compact", "status").decode()
    assert f"level 0: {shipped(server)['segments']} segments of " in told and "none is needed any more" in told
    check_recovered(server)
    # What comes later is shipped, closed and dropped as ever.
    produce(server.bootstrap, "later", [Record(b"later", timestamp=1, partition=0)])
    server.seal()
    assert shipped(server)["oldest_needed_ms"] is not None
    assert server.search("later")["total"]["value"] == 1


def test_a_broker_that_dies_as_segments_go(start, tmp_path):
    clock = Clock(tmp_path / "clock")
    server = write_and_compact(start, clock)
    old = shipped_segments(server)
    server.kill()
    for step in ("segments-dropped", "dropped-segments-deleted", "segments-forgotten"):
        died = tmp_path / step
        server.set(failpoints=f"{LIMIT};{step}=abort:{died}").spawn()

        def is_dead(process=server.process):
            clock.advance(minutes=11)
            return process.poll() is not None

        until(is_dead, f"it dies at {step}", every=0.5)
        assert server.process.wait() == -signal.SIGABRT and died.exists()
        assert bool(set(old) & set(shipped_segments(server))) == (step == "segments-dropped")
    server.set(failpoints=LIMIT).start()
    check(server)
    wait_dropped(server, clock, old)
    check_recovered(server)
