"""kafka-python; speaks to the broker as to one of the version that it may be given."""

import sys
import threading

# kafka-python 2.0 brings a copy of six that Python 3.12 can't import from.
import six.moves

sys.modules["kafka.vendor.six.moves"] = six.moves

from kafka.admin import NewTopic  # noqa: E402
from kafka.errors import KafkaError  # noqa: E402
from program import ends, kept, records, serve, starts, tell, tell_record, told_to_stop  # noqa: E402

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition  # noqa: E402

*AGES, BOOTSTRAP = sys.argv[1:]
# Without one, it asks the broker.
VERSION = {"api_version": tuple(map(int, AGES[0].split(".")))} if AGES else {}


def create(request):
    topics = [NewTopic(request["topic"], request["partitions"], 1)]
    KafkaAdminClient(bootstrap_servers=BOOTSTRAP).create_topics(topics)


def describe(request):
    [topic] = KafkaAdminClient(bootstrap_servers=BOOTSTRAP).describe_topics([request["topic"]])
    if topic["error_code"]:
        raise KafkaError(f"error code {topic['error_code']}")
    tell(partitions=len(topic["partitions"]))


def delete(request):
    KafkaAdminClient(bootstrap_servers=BOOTSTRAP).delete_topics([request["topic"]])


def delete_records(request):
    places = {TopicPartition(request["topic"], partition): offset for partition, offset in kept(request).items()}
    KafkaAdminClient(bootstrap_servers=BOOTSTRAP).delete_records(places)


def producer(request):
    settings = {"bootstrap_servers": BOOTSTRAP, "acks": "all", "linger_ms": 50}
    settings["compression_type"] = None if request["codec"] == "none" else request["codec"]
    if "enable_idempotence" in KafkaProducer.DEFAULT_CONFIG:
        settings["enable_idempotence"] = request["idempotent"]
    if "delivery_timeout_ms" not in KafkaProducer.DEFAULT_CONFIG:
        settings["retries"] = 1000
    return KafkaProducer(**settings, **VERSION)


def produce(request):
    client = producer(request)
    sent = [
        client.send(request["topic"], key=key, value=value, timestamp_ms=timestamp, headers=headers)
        for key, value, timestamp, headers in records(request)
    ]
    client.flush(60)
    for future in sent:
        future.get(60)
    client.close()


def flood(request):
    client = producer(request)
    room, lock = threading.Semaphore(request["in_flight"]), threading.Lock()
    acknowledged, failed = [0], []

    def delivered(_):
        with lock:
            acknowledged[0] += 1
            tell(acknowledged=acknowledged[0])
        room.release()

    def lost(error):
        failed.append(error)
        room.release()

    sent = 0
    while not told_to_stop() and not failed:
        if room.acquire(timeout=0.1):
            future = client.send(request["topic"], value=b"%d" % sent, partition=0)
            future.add_callback(delivered).add_errback(lost)
            sent += 1
    client.flush(120)
    if failed:
        raise failed[0]
    tell(sent=sent)
    client.close()


def consumer(**settings):
    return KafkaConsumer(
        bootstrap_servers=BOOTSTRAP, auto_offset_reset="earliest", enable_auto_commit=False, **VERSION, **settings
    )


def consume(request):
    client = consumer()
    left = ends(request)
    client.assign([TopicPartition(request["topic"], partition) for partition in starts(request)])
    for partition, offset in starts(request).items():
        client.seek(TopicPartition(request["topic"], partition), offset)
    while left:
        polled = client.poll(timeout_ms=60_000)
        if not polled:
            raise TimeoutError(f"nothing came for 60 s; open is {left}")
        for messages in polled.values():
            for message in messages:
                show(message)
                if message.offset + 1 >= left.get(message.partition, 0):
                    left.pop(message.partition, None)
    client.close()


def offsets(request):
    client = consumer()
    partitions = [TopicPartition(request["topic"], partition) for partition in range(request["partitions"])]
    earliest, latest = client.beginning_offsets(partitions), client.end_offsets(partitions)
    tell(earliest=[earliest[p] for p in partitions], latest=[latest[p] for p in partitions])
    for time in request["times"]:
        found = client.offsets_for_times(dict.fromkeys(partitions, time))
        tell(time=time, offsets=[found[p].offset if found[p] else -1 for p in partitions])
    client.close()


def group(request):
    client = consumer(group_id=request["group"], heartbeat_interval_ms=500, session_timeout_ms=30_000)
    client.subscribe([request["topic"]])
    while not told_to_stop():
        polled = client.poll(timeout_ms=200)
        if polled:
            try:
                client.commit()
            except KafkaError as error:
                tell(not_committed=repr(error))
                continue
        for messages in polled.values():
            for message in messages:
                show(message)
    client.close()


def show(message):
    place = message.partition, message.offset
    tell_record(*place, message.timestamp, message.key, message.value, message.headers)


serve({o.__name__: o for o in (create, describe, delete, delete_records, produce, flood, consume, offsets, group)})
