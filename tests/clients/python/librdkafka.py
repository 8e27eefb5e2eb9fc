"""confluent-kafka, which is librdkafka."""

import sys
import threading

import confluent_kafka as kafka
from confluent_kafka.admin import AdminClient, NewTopic
from program import ends, kept, records, serve, starts, tell, tell_record, told_to_stop

ADDRESS = {"bootstrap.servers": sys.argv[1], "broker.address.family": "v4"}


def create(request):
    admin = AdminClient(ADDRESS)
    admin.create_topics([NewTopic(request["topic"], request["partitions"], 1)])[request["topic"]].result(30)


def describe(request):
    topic = AdminClient(ADDRESS).list_topics(request["topic"], timeout=30).topics[request["topic"]]
    if topic.error:
        raise kafka.KafkaException(topic.error)
    tell(partitions=len(topic.partitions))


def delete(request):
    admin = AdminClient(ADDRESS)
    admin.delete_topics([request["topic"]])[request["topic"]].result(30)


def delete_records(request):
    places = [kafka.TopicPartition(request["topic"], partition, offset) for partition, offset in kept(request).items()]
    admin = AdminClient(ADDRESS)
    for deleted in admin.delete_records(places).values():
        deleted.result(30)


def producer(request):
    failed = []
    settings = {"compression.type": request["codec"], "enable.idempotence": request["idempotent"], "linger.ms": 50}
    return kafka.Producer(
        {**ADDRESS, **settings, "error_cb": lambda e: failed.append(e) if e.fatal() else None}
    ), failed


def produce(request):
    client, failed = producer(request)

    def delivered(error, message):
        if error:
            failed.append(error)

    for key, value, timestamp, headers in records(request):
        client.produce(
            request["topic"], key=key, value=value, timestamp=timestamp, headers=headers, on_delivery=delivered
        )
    client.flush(60)
    if failed:
        raise kafka.KafkaException(failed[0])


def flood(request):
    client, failed = producer(request)
    acknowledged = [0]
    room = threading.Semaphore(request["in_flight"])

    def delivered(error, message):
        room.release()
        if error:
            failed.append(error)
        else:
            acknowledged[0] += 1
            tell(acknowledged=acknowledged[0])

    sent = 0
    while not told_to_stop() and not failed:
        while not room.acquire(blocking=False):
            client.poll(0.1)
        client.produce(request["topic"], value=b"%d" % sent, partition=0, on_delivery=delivered)
        client.poll(0)
        sent += 1
    client.flush(120)
    if failed:
        raise kafka.KafkaException(failed[0])
    tell(sent=sent)


def consumer(**settings):
    settings = {"group.id": "assigned by hand", "enable.auto.commit": False, "auto.offset.reset": "earliest"} | settings
    return kafka.Consumer({**ADDRESS, **settings, "check.crcs": True})


def consume(request):
    client = consumer()
    left = ends(request)
    client.assign([kafka.TopicPartition(request["topic"], p, offset) for p, offset in starts(request).items()])
    while left:
        message = client.poll(60)
        if message is None:
            raise TimeoutError(f"nothing came for 60 s; open is {left}")
        if message.error():
            raise kafka.KafkaException(message.error())
        show(message)
        if message.offset() + 1 >= left.get(message.partition(), 0):
            left.pop(message.partition(), None)
    client.close()


def offsets(request):
    client = consumer()
    topic, partitions = request["topic"], range(request["partitions"])
    marks = [client.get_watermark_offsets(kafka.TopicPartition(topic, p), timeout=30) for p in partitions]
    tell(earliest=[low for low, _ in marks], latest=[high for _, high in marks])
    for time in request["times"]:
        found = client.offsets_for_times([kafka.TopicPartition(topic, p, time) for p in partitions], timeout=30)
        tell(time=time, offsets=[partition.offset for partition in found])
    client.close()


def group(request):
    client = consumer(**{"group.id": request["group"], "heartbeat.interval.ms": 500, "session.timeout.ms": 30_000})
    client.subscribe([request["topic"]])
    while not told_to_stop():
        message = client.poll(0.2)
        if message is None:
            continue
        if message.error():
            raise kafka.KafkaException(message.error())
        try:
            client.commit(message, asynchronous=False)
        except kafka.KafkaException as error:
            tell(not_committed=str(error))
            continue
        show(message)
    client.close()


def show(message):
    _, timestamp = message.timestamp()
    place = message.partition(), message.offset()
    tell_record(*place, timestamp, message.key(), message.value(), message.headers())


serve({o.__name__: o for o in (create, describe, delete, delete_records, produce, flood, consume, offsets, group)})
