"""Records as the tests see them, and librdkafka to write and read them."""

import base64
from dataclasses import dataclass, field

import confluent_kafka as kafka
from chronik import until
from confluent_kafka.admin import AdminClient, NewTopic

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


@dataclass(frozen=True)
class Record:
    """What a producer sends."""

    value: bytes | None
    key: bytes | None = None
    timestamp: int = 0
    partition: int = 0
    headers: tuple[tuple[str, bytes | None], ...] = field(default=())

    def document(self, topic, offset):
        """As HTTP and the tool show it."""
        return {
            "topic": topic,
            "partition": self.partition,
            "offset": offset,
            "timestamp": self.timestamp,
            "key": text_of(self.key),
            "value": text_of(self.value),
            "headers": [{"key": name, "value": text_of(value)} for name, value in self.headers],
        }


def text_of(value):
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def create_topic(bootstrap, topic, partitions=1):
    """And waits until the broker knows all of it; Kafka's answers before it does."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    [created] = admin.create_topics([NewTopic(topic, partitions)]).values()
    created.result(60)
    until(lambda: led(bootstrap, topic) == partitions, f"{topic} has {partitions} partitions")


def delete_topic(bootstrap, topic):
    # The client has to live until its answer is there.
    admin = AdminClient({"bootstrap.servers": bootstrap})
    [deleted] = admin.delete_topics([topic]).values()
    deleted.result(60)


def led(bootstrap, topic):
    """How many partitions of it have a leader."""
    found = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=60).topics.get(topic)
    return sum(partition.leader >= 0 for partition in found.partitions.values()) if found else 0


def delete_records(bootstrap, topic, before):
    """By partition: where its log starts then."""
    # The client has to live until its answers are there.
    admin = AdminClient({"bootstrap.servers": bootstrap})
    answers = admin.delete_records(
        [kafka.TopicPartition(topic, *place) for place in before.items()], request_timeout=30
    )
    return {place.partition: answer.result(60).low_watermark for place, answer in answers.items()}


def producer(bootstrap, codec="none", **settings):
    return kafka.Producer(
        {
            "bootstrap.servers": bootstrap,
            "compression.type": codec,
            "acks": "all",
            "linger.ms": 5,
            "broker.address.family": "v4",
            "message.timeout.ms": 60_000,
            **{name.replace("_", "."): value for name, value in settings.items()},
        }
    )


def produce(bootstrap, topic, records, codec="none", **settings):
    """Sends the records in order; returns the offset of each."""
    offsets = [None] * len(records)
    failures = []

    def delivered(index):
        def report(error, message):
            if error:
                failures.append((index, error))
            else:
                offsets[index] = message.offset()

        return report

    client = producer(bootstrap, codec, **settings)
    for index, record in enumerate(records):
        arguments = {
            "value": record.value,
            "key": record.key,
            "partition": record.partition,
            "timestamp": record.timestamp,
            "headers": list(record.headers) or None,
            "on_delivery": delivered(index),
        }
        while True:
            try:
                client.produce(topic, **arguments)
                break
            except BufferError:
                client.poll(1)
        client.poll(0)
    assert client.flush(60) == 0
    assert not failures, f"{len(failures)} of {len(records)} failed, the first: {failures[0]}"
    return offsets


def consumer(bootstrap, **settings):
    return kafka.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "assigned-by-hand",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "broker.address.family": "v4",
            "fetch.wait.max.ms": 100,
            "check.crcs": True,
            **{name.replace("_", "."): value for name, value in settings.items()},
        }
    )


def watermarks(bootstrap, topic, partitions):
    client = consumer(bootstrap)
    try:
        return [client.get_watermark_offsets(kafka.TopicPartition(topic, p), timeout=60) for p in range(partitions)]
    finally:
        client.close()


def consume(bootstrap, topic, partitions, start=0):
    """All records from `start` to the present end, as [partition][i] = (offset, Record)."""
    read = [[] for _ in range(partitions)]
    ends = [high for _, high in watermarks(bootstrap, topic, partitions)]
    client = consumer(bootstrap)
    client.assign([kafka.TopicPartition(topic, p, start) for p in range(partitions) if start < ends[p]])
    open_partitions = {p for p in range(partitions) if start < ends[p]}
    try:
        while open_partitions:
            message = client.poll(60)
            assert message is not None, f"nothing came for 60 s; {topic} is open in {open_partitions}"
            assert message.error() is None, message.error()
            partition = message.partition()
            read[partition].append((message.offset(), as_record(message)))
            if message.offset() + 1 >= ends[partition]:
                open_partitions.discard(partition)
    finally:
        client.close()
    return read


def as_record(message):
    kind, timestamp = message.timestamp()
    assert kind == kafka.TIMESTAMP_CREATE_TIME
    return Record(
        value=message.value(),
        key=message.key(),
        timestamp=timestamp,
        partition=message.partition(),
        headers=tuple(message.headers() or ()),
    )
