"""Older segments are named by lists in the bucket, no longer by the broker's state: what lies in them is read, searched
and recovered as before, and whatever a crash leaves.
"""

import json

import pytest
from chronik import Died, run_tool, until
from test_pages import ROUNDS, SETTINGS, check, check_all_are_read, outlive, write_and_close

# A segment goes into a list of its own as soon as there are two that are in none.
LISTED = "listed-segments=limit:1"


def lists(server):
    return sorted(server.bucket.glob("lanes/*/segment-lists/*/*.list"), key=lambda path: path.name)


def segments(server):
    return sorted(server.bucket.glob("lanes/*/segments/*/*.seg"), key=lambda path: path.name)


def is_listed(server):
    """All but the newest segment are listed, and some have left the state."""
    return len(lists(server)) >= len(segments(server)) - 1 > server.metrics()["chronik_held_segments"]


def list_segments(start):
    server = start(**SETTINGS, failpoints=LISTED)
    write_and_close(server)
    until(lambda: is_listed(server), "segments are listed")
    return server


def recover(server):
    """From the bucket alone."""
    assert server.stop() == 0
    server.lose_data_directory()
    server.start()
    check(server)
    check_all_are_read(server)


def test_what_only_lists_name_is_read_found_and_recovered(start):
    server = list_segments(start)
    check(server)
    server.kill()
    server.start()
    check(server)
    recover(server)


@pytest.mark.parametrize("step", ["segment-list-created", "segments-listed"])
def test_a_broker_that_dies_as_it_lists(start, tmp_path, step):
    server = outlive(start, tmp_path / "died", f"{step}=abort@2", LISTED)
    recover(server)


def test_a_list_that_is_gone_is_named_and_costs_no_record(start):
    server = list_segments(start)
    assert server.stop() == 0
    server.lose_data_directory()
    gone = lists(server)[1]
    gone.unlink()
    server.start()
    assert gone.name in server.last_lines()
    check(server)
    check_all_are_read(server)


def test_a_listed_segment_that_is_gone_is_named_when_it_is_read(start):
    server = list_segments(start)
    oldest, *_, newest = segments(server)[:ROUNDS]
    assert server.stop() == 0
    server.lose_data_directory()
    away = newest.rename(server.directory / newest.name)
    with pytest.raises(Died):
        server.start()
    assert f"{newest.name} (missing)" in server.last_lines(), "open runs point into it"
    away.rename(newest)
    away = oldest.rename(server.directory / oldest.name)
    server.start()
    found = server.search("wide", "partition1234", limit=100, partial="true")
    assert sorted(hit["offset"] for hit in found["hits"]) == list(range(1, ROUNDS))
    assert [(span["partition"], span["from"], span["to"]) for span in found["not_searched"]] == [(1234, 0, 1)]
    away.rename(oldest)
    check(server)


def test_lists_are_described(start, tmp_path):
    server = list_segments(start)
    listed = [json.loads(run_tool("--json", "segment-list", "inspect", path).stdout) for path in lists(server)]
    named = [segment["object"] for description in listed for segment in description["segments"]]
    assert set(named) == {str(path.relative_to(server.bucket)) for path in segments(server)[:-1]}
    [path, *_] = lists(server)
    told = run_tool("segment-list", "inspect", path)
    assert told.returncode == 0 and named[0].encode() in told.stdout
    bytes_ = bytearray(path.read_bytes())
    bytes_[60] ^= 1
    (tmp_path / path.name).write_bytes(bytes_)
    done = run_tool("segment-list", "inspect", tmp_path / path.name)
    assert done.returncode == 1 and path.name.encode() in done.stderr and b"checksum" in done.stderr
