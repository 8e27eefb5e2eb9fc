"""What of a topic with one partition is seen of its records, `order 0 paid` and so on, by all ways to them."""

import confluent_kafka as kafka
from confluent_kafka import TopicPartition
from records import Record, consume, consumer, watermarks


def records(first, count):
    return [Record(b"order %d paid" % n, timestamp=1000 + n) for n in range(first, first + count)]


def first_error(server, topic, offset):
    """What a consumer that resets nothing is told at an offset."""
    client = consumer(server.bootstrap)
    client.assign([TopicPartition(topic, 0, offset)])
    try:
        message = client.poll(60)
        return message.error() and message.error().code()
    finally:
        client.close()


def is_seen_from(server, topic, log_start, end):
    """Everything there is of partition 0 begins with `log_start`."""
    assert watermarks(server.bootstrap, topic, 1) == [(log_start, end)]
    offsets = list(range(log_start, end))
    [read] = consume(server.bootstrap, topic, 1, log_start)
    assert [(offset, record.value) for offset, record in read] == [(n, b"order %d paid" % n) for n in offsets]
    assert first_error(server, topic, log_start - 1) == kafka.KafkaError._AUTO_OFFSET_RESET
    is_searched_from(server, topic, log_start, end)
    assert server.partitions()[topic, 0]["log_start"] == log_start


def is_searched_from(server, topic, log_start, end):
    offsets = list(range(log_start, end))
    for query in ("paid", ""):
        answer = server.search(topic, query, limit=10_000, sort="oldest")
        assert [hit["offset"] for hit in answer["hits"]] == offsets
        assert (answer["total"], answer["not_searched"]) == ({"value": len(offsets), "relation": "eq"}, [])
        assert [(covered["from"], covered["to"]) for covered in answer["coverage"]] == [(log_start, end)]
    page = server.get(f"/v1/topics/{topic}/partitions/0/records", limit=10_000)
    assert [record["offset"] for record in page["records"]] == offsets
    below = server.request("GET", f"/v1/topics/{topic}/partitions/0/records", params={"offset": log_start - 1})
    assert (below.status_code, below.json()["code"]) == (404, "offset_out_of_range")
