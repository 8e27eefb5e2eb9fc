"""aiokafka."""

import asyncio
import contextlib
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.errors import KafkaError, for_code
from program import ends, kept, records, serve, starts, tell, tell_record, told_to_stop

BOOTSTRAP = sys.argv[1]


async def create(request):
    async with admin() as client:
        answer = await client.create_topics([NewTopic(request["topic"], request["partitions"], 1)])
    for _, code, *_ in answer.topic_errors:
        check(code)


async def describe(request):
    async with admin() as client:
        [topic] = await client.describe_topics([request["topic"]])
    check(topic["error_code"])
    tell(partitions=len(topic["partitions"]))


async def delete(request):
    async with admin() as client:
        answer = await client.delete_topics([request["topic"]])
    for _, code in answer.topic_error_codes:
        check(code)


async def delete_records(request):
    places = {TopicPartition(request["topic"], partition): offset for partition, offset in kept(request).items()}
    async with admin() as client:
        await client.delete_records({place: RecordsToDelete(offset) for place, offset in places.items()})


def check(code):
    if code:
        raise for_code(code)


@contextlib.asynccontextmanager
async def admin():
    client = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


def producer(request):
    codec = None if request["codec"] == "none" else request["codec"]
    settings = {"acks": "all", "compression_type": codec, "enable_idempotence": request["idempotent"], "linger_ms": 50}
    return AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, request_timeout_ms=120_000, **settings)


async def produce(request):
    async with producer(request) as client:
        sent = [
            await client.send(request["topic"], key=key, value=value, timestamp_ms=timestamp, headers=headers)
            for key, value, timestamp, headers in records(request)
        ]
        await asyncio.gather(*sent)


async def flood(request):
    room = asyncio.Semaphore(request["in_flight"])
    acknowledged, failed, sent = 0, [], 0

    def delivered(future):
        nonlocal acknowledged
        room.release()
        if error := future.exception():
            failed.append(error)
        else:
            acknowledged += 1
            tell(acknowledged=acknowledged)

    async with producer(request) as client:
        while not told_to_stop() and not failed:
            await room.acquire()
            (await client.send(request["topic"], value=b"%d" % sent, partition=0)).add_done_callback(delivered)
            sent += 1
        await client.flush()
        for _ in range(request["in_flight"]):
            await room.acquire()
    if failed:
        raise failed[0]
    tell(sent=sent)


def consumer(**settings):
    return AIOKafkaConsumer(
        bootstrap_servers=BOOTSTRAP, auto_offset_reset="earliest", enable_auto_commit=False, **settings
    )


async def consume(request):
    left = ends(request)
    async with consumer() as client:
        client.assign([TopicPartition(request["topic"], partition) for partition in starts(request)])
        for partition, offset in starts(request).items():
            client.seek(TopicPartition(request["topic"], partition), offset)
        while left:
            message = await asyncio.wait_for(client.getone(), 60)
            show(message)
            if message.offset + 1 >= left.get(message.partition, 0):
                left.pop(message.partition, None)


async def offsets(request):
    partitions = [TopicPartition(request["topic"], partition) for partition in range(request["partitions"])]
    async with consumer() as client:
        earliest, latest = await client.beginning_offsets(partitions), await client.end_offsets(partitions)
        tell(earliest=[earliest[p] for p in partitions], latest=[latest[p] for p in partitions])
        for time in request["times"]:
            found = await client.offsets_for_times(dict.fromkeys(partitions, time))
            tell(time=time, offsets=[found[p].offset if found[p] else -1 for p in partitions])


async def group(request):
    settings = {"group_id": request["group"], "heartbeat_interval_ms": 500, "session_timeout_ms": 30_000}
    client = consumer(**settings)
    client.subscribe([request["topic"]])
    async with client:
        while not told_to_stop():
            polled = await client.getmany(timeout_ms=200)
            if polled:
                try:
                    await client.commit()
                except KafkaError as error:
                    tell(not_committed=repr(error))
                    continue
            for messages in polled.values():
                for message in messages:
                    show(message)


def show(message):
    place = message.partition, message.offset
    tell_record(*place, message.timestamp, message.key, message.value, message.headers)


def run(operation):
    return lambda request: asyncio.run(operation(request))


serve({o.__name__: run(o) for o in (create, describe, delete, delete_records, produce, flood, consume, offsets, group)})
