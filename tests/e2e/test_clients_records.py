"""What every client does without a group: topics, records in all its codecs, reading, offsets."""

import base64

import pytest
from brokers import KAFKA, pairs
from by_hand import codec_of, fetch_by_hand, records_in
from chronik import until
from clients.catalog import CODECS
from clients.program import ClientError, Program
from records import Record, consume, create_topic, delete_records, led, produce, watermarks

PARTITIONS = 3
START = 1_700_000_000_000


@pytest.fixture(scope="module", params=pairs())
def pair(request):
    return request.param


@pytest.fixture(scope="module")
def broker(request, pair):
    return request.getfixturevalue("kafka" if pair.broker == KAFKA else "shared")


@pytest.fixture(scope="module")
def program(pair, broker, tmp_path_factory):
    with Program(pair.client, broker.bootstrap, tmp_path_factory.mktemp("client")) as started:
        yield started


@pytest.fixture
def topic(request):
    """Of this test alone."""
    return "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in request.node.name)


def records_of(codec, count=300):
    """Keyed, with headers, and some bytes that are no text; what compresses well is compressed by every client."""
    return [
        Record(
            key=f"key-{number}".encode(),
            value=None if number % 50 == 9 else f"{codec}-{number}-".encode() * 20 + b"\xff\x00",
            timestamp=START + 1000 * number,
            headers=(("codec", codec.encode()), ("bytes", b"\x00\xff"), ("empty", b"")),
        )
        for number in range(count)
    ]


def as_json(records):
    """As a request has them."""
    return [
        {
            "key": encoded(record.key),
            "value": encoded(record.value),
            "timestamp": record.timestamp,
            "headers": [[name, encoded(value)] for name, value in record.headers],
        }
        for record in records
    ]


def encoded(data):
    return None if data is None else base64.b64encode(data).decode()


def decoded(text):
    return None if text is None else base64.b64decode(text)


def told(events):
    """The records of events, as [partition][i] = (offset, Record)."""
    found = [[] for _ in range(PARTITIONS)]
    for event in events:
        record = event["record"]
        place = record["partition"]
        headers = tuple((name, decoded(value)) for name, value in record["headers"])
        read = Record(decoded(record["value"]), decoded(record["key"]), record["timestamp"], place, headers)
        found[place].append((record["offset"], read))
    return found


def test_topics(program, pair, broker, topic):
    program.ask("create", topic=topic, partitions=PARTITIONS)
    if pair.broker == KAFKA:
        until(lambda: led(broker.bootstrap, topic) == PARTITIONS, "Kafka knows what it made")
    assert program.ask("describe", topic=topic) == [{"partitions": PARTITIONS}]
    assert watermarks(broker.bootstrap, topic, PARTITIONS) == [(0, 0)] * PARTITIONS
    with pytest.raises(ClientError, match=r"(?i)exist"):
        program.ask("create", topic=topic, partitions=PARTITIONS)
    program.ask("delete", topic=topic)
    if pair.broker == KAFKA:
        until(lambda: led(broker.bootstrap, topic) == 0, "Kafka knows what it deleted")
    assert led(broker.bootstrap, topic) == 0
    with pytest.raises(ClientError):
        program.ask("delete", topic=topic)


def test_codecs(program, broker, topic):
    for codec in program.client.codecs:
        here, records = f"{topic}-{codec}", records_of(codec)
        create_topic(broker.bootstrap, here, PARTITIONS)
        program.ask("produce", topic=here, codec=codec, idempotent=False, records=as_json(records))
        read = consume(broker.bootstrap, here, PARTITIONS)
        assert sum(map(len, read)) == len(records)
        by_key = {record.key: record for record in records}
        for partition, found in enumerate(read):
            sent = [in_order(program.client, by_key[record.key]) for _, record in found]
            assert [record for _, record in found] == [placed(record, partition) for record in sent]
            assert [record.timestamp for record in sent] == sorted(record.timestamp for record in sent), "in order"
            batches = fetch_by_hand(broker.bootstrap, here, partition)
            # A tombstone alone may be sent as it is, because it would grow.
            arrived = {codec_of(batch) for batch in batches if records_in(batch) > 1}
            assert arrived == {codec}


def placed(record, partition):
    return Record(record.value, record.key, record.timestamp, partition, record.headers)


def test_reading(program, broker, topic):
    create_topic(broker.bootstrap, topic, PARTITIONS)
    for codec in CODECS:
        if codec in program.client.codecs:
            records = [placed(record, number % PARTITIONS) for number, record in enumerate(records_of(codec, 100))]
            produce(broker.bootstrap, topic, records, codec)
    sent = consume(broker.bootstrap, topic, PARTITIONS)
    sent = [[(offset, in_order(program.client, record)) for offset, record in found] for found in sent]
    if program.client.empty_is_null:
        sent = [[(offset, with_null_headers(record)) for offset, record in found] for found in sent]
    ends = {partition: len(found) for partition, found in enumerate(sent)}
    read = program.ask("consume", topic=topic, **{"from": dict.fromkeys(ends, 0), "to": ends})
    assert told(read) == sent
    # In the middle of a batch.
    middles = {partition: end // 2 + partition for partition, end in ends.items()}
    read = program.ask("consume", topic=topic, **{"from": middles, "to": ends})
    assert told(read) == [found[middles[partition] :] for partition, found in enumerate(sent)]


def test_records_that_are_deleted(program, broker, topic):
    create_topic(broker.bootstrap, topic, PARTITIONS)
    produce(broker.bootstrap, topic, [Record(b"x", timestamp=START + n, partition=n % PARTITIONS) for n in range(30)])
    starts, ends = {0: 4, 1: 10, 2: 0}, dict.fromkeys(range(PARTITIONS), 10)
    if program.client.deletes_records:
        program.ask("delete_records", topic=topic, before=starts)
        # KafkaJS does not say why.
        with pytest.raises(ClientError, match=r"(?i)range|Error while deleting records"):
            program.ask("delete_records", topic=topic, before={0: 11})
    else:
        delete_records(broker.bootstrap, topic, starts)
    [marks] = program.ask("offsets", topic=topic, partitions=PARTITIONS, times=[])
    assert marks == {"earliest": [4, 10, 0], "latest": [10] * PARTITIONS}
    there = {partition: offset for partition, offset in starts.items() if offset < 10}
    read = told(program.ask("consume", topic=topic, **{"from": there, "to": {p: ends[p] for p in there}}))
    assert [[offset for offset, _ in found] for found in read] == [[4, 5, 6, 7, 8, 9], [], list(range(10))]


def in_order(client, record):
    """With its headers in the client's order."""
    if not client.sorts_headers:
        return record
    return Record(record.value, record.key, record.timestamp, record.partition, tuple(sorted(record.headers)))


def with_null_headers(record):
    headers = tuple((name, value or None) for name, value in record.headers)
    return Record(record.value, record.key, record.timestamp, record.partition, headers)


def test_offsets(program, broker, topic):
    create_topic(broker.bootstrap, topic, PARTITIONS)
    records = [Record(b"x", timestamp=START + 1000 * n, partition=p) for p in range(PARTITIONS) for n in range(10 + p)]
    produce(broker.bootstrap, topic, records)
    ends = [10, 11, 12]
    times = [START, START + 4001, START + 9000, START + 60_000]
    marks, *found = program.ask("offsets", topic=topic, partitions=PARTITIONS, times=times)
    assert marks == {"earliest": [0] * PARTITIONS, "latest": ends}
    none = ends if program.client.none_is_the_end else [-1] * PARTITIONS
    at = [[0] * 3, [5] * 3, [9] * 3, none]
    assert found == [{"time": time, "offsets": offsets} for time, offsets in zip(times, at, strict=True)]
