"""Merging: the many archives over compacted history become few, and a search finds what it found before."""

import contextlib
import signal

import pytest
import requests
from chronik import PATIENCE, until
from test_compaction import LIMIT, TOPIC, begin, check, compact, levels, shipped_segments, write_and_close


def archives(server):
    """Those over closed history."""
    return sum(level["archives"] for level in server.get("/v1/compaction")["levels"])


def asked(server):
    """How many archives a search asks, also those over what is not closed yet."""
    before = server.metrics()["chronik_search_archives_total"]
    server.search(TOPIC, "third1", limit=1000)
    return server.metrics()["chronik_search_archives_total"] - before


def write_and_compact(server):
    """Says how many archives there are then."""
    write_and_close(server)
    # Asked for again, archives would be merged already.
    compact(server)
    until(lambda: set(levels(server)) == {1}, "it is compacted")
    return archives(server)


def merge_all(server):
    """Asks again: a job may have been lost with the process."""

    def is_merged():
        compact(server)
        return server.get("/v1/compaction")["mergeable"] == 0

    until(is_merged, "all that was compacted is merged")


def test_archives_become_few_and_nothing_else_changes(start, tmp_path):
    stopped = tmp_path / "stopped"
    server = begin(start, f"merger-archived=stop:{stopped}")
    before = write_and_compact(server)
    compact(server)
    until(stopped.exists, "archives are merged")
    assert archives(server) == before > 2
    assert server.get("/v1/compaction")["mergeable"] == server.metrics()["chronik_merge_debt_archives"] == before
    check(server)
    many = asked(server)
    stopped.unlink()
    until(lambda: archives(server) == 1, "the merged one is in their place")
    check(server)
    until(lambda: asked(server) == many - before + 1, "searches go by the new page")
    check(server)
    metrics = server.metrics()
    assert metrics["chronik_merges_total"] == 1 and metrics["chronik_merged_archives_total"] == before
    until(lambda: server.get("/v1/compaction")["pending_jobs"] == 0, "the result is taken in")
    assert "nothing is to be compacted" in server.tool("compact", "now").decode()

    assert server.stop() == 0
    server.lose_data_directory()
    server.start()
    assert archives(server) == 1
    check(server)
    # What it says of the segments that were indexed is asked for no more.
    for old in shipped_segments(server)[:4]:
        old.rename(server.directory / old.name)
    server.kill()
    server.start()
    check(server)


@pytest.mark.parametrize(
    "step",
    [
        "merge-sent",
        "merger-read",
        "merger-archived",
        "indexer-reported",
        "late-page-created",
        "late-page-named",
        "merge-named",
        "result-registered",
    ],
)
def test_who_dies_as_it_merges_leaves_what_is_searched_as_it_was(start, tmp_path, step):
    died = tmp_path / "died"
    server = begin(start)
    write_and_compact(server)
    assert server.stop() == 0
    server.set(failpoints=f"{LIMIT};{step}=abort:{died}").start()
    with server.process as process:
        with contextlib.suppress(requests.RequestException):
            server.request("POST", "/v1/compact")
        assert process.wait(timeout=PATIENCE) == -signal.SIGABRT and died.exists()
    server.start()
    check(server)
    merge_all(server)
    assert archives(server) == 1
    check(server)


def test_damage_fails_a_page_and_is_not_tried_for_ever(start):
    server = begin(start)
    before = write_and_compact(server)
    damaged = min(server.bucket.glob("topics/*/archives/*/*.ckx"), key=lambda path: path.name[9:])
    good = damaged.read_bytes()
    third = len(good) // 3
    damaged.write_bytes(good[:third] + bytes(third) + good[2 * third :])
    compact(server)
    until(lambda: server.metrics()["chronik_merge_failed_pages"] == 1, "the page can't be merged")
    assert archives(server) == before and server.metrics()["chronik_merge_failures_total"] == 1
    check(server)
    assert "nothing is to be compacted" in server.tool("compact", "now").decode()
    damaged.write_bytes(good)
    server.kill()
    server.start()
    merge_all(server)
    assert archives(server) == 1
    check(server)
