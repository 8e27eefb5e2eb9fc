"""Clients that speak as those older than record batches did: messages of magic 0 and 1."""

import base64

import pytest
from by_hand import codec_of, fetch_by_hand
from clients.catalog import OLDEST
from clients.program import Program
from members import Group
from records import Record, consume, produce

START = 1_700_000_000_000


@pytest.fixture(
    params=[pytest.param(client, id=client.name, marks=[pytest.mark.long] * client.long) for client in OLDEST]
)
def client(request):
    return request.param


@pytest.fixture
def program(client, shared, tmp_path):
    with Program(client, shared.bootstrap, tmp_path) as started:
        yield started


@pytest.fixture
def topic(request, shared):
    """Of this test alone."""
    name = "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in request.node.name)
    shared.tool("topic", "create", name)
    return name


def records_of(codec, count=100):
    return [
        Record(None if n % 50 == 9 else codec.encode() * 20 + b"\xff\x00", b"%d" % n, START + n) for n in range(count)
    ]


def as_json(records):
    """As a request has them."""
    return [
        {"key": encoded(record.key), "value": encoded(record.value), "timestamp": record.timestamp, "headers": []}
        for record in records
    ]


def encoded(data):
    return None if data is None else base64.b64encode(data).decode()


def test_messages_arrive_as_batches_in_their_codec(program, shared, topic):
    sent, seen = [], []
    for codec in program.client.codecs:
        records = records_of(codec)
        program.ask("produce", topic=topic, codec=codec, idempotent=False, records=as_json(records))
        [read] = consume(shared.bootstrap, topic, 1)
        sent += records
        assert [(record.key, record.value) for _, record in read] == [(record.key, record.value) for record in sent]
        if program.client.has_timestamps:
            assert [record.timestamp for _, record in read] == [record.timestamp for record in sent]
        batches = fetch_by_hand(shared.bootstrap, topic, 0, len(sent) - len(records))
        assert {codec_of(batch) for batch in batches} == {codec}
        seen.append(len(batches))
    assert max(seen) < 100, "messages that came together are one batch"


def test_batches_are_read_as_messages(program, shared, topic):
    sent = [record for codec in program.client.codecs for record in records_of(codec)]
    for codec in program.client.codecs:
        with_headers = [Record(r.value, r.key, r.timestamp, headers=(("h", b"v"),)) for r in records_of(codec)]
        produce(shared.bootstrap, topic, with_headers, codec)
    for first in (0, 150):
        read = program.ask("consume", topic=topic, **{"from": {0: first}, "to": {0: len(sent)}})
        has_times = program.client.has_timestamps
        expected = [(at, record.timestamp if has_times else None) for at, record in enumerate(sent)][first:]
        found = [(event["record"]["offset"], event["record"]["timestamp"]) for event in read]
        assert [(at, time if has_times else None) for at, time in found] == expected
        assert all(not event["record"]["headers"] for event in read), "messages have none"
    assert program.ask("offsets", topic=topic, partitions=1, times=[]) == [{"earliest": [0], "latest": [len(sent)]}]


def test_a_group(client, shared, tmp_path, exit_stack):
    group = Group(shared, client, tmp_path)
    group.takes_turns(exit_stack)
