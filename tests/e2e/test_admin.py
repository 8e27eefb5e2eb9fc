"""What admin clients are told of cluster and settings, and what they change: across kill -9, and a recovery from the
bucket alone."""

import confluent_kafka as kafka
import pytest
from chronik import until
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
)
from records import Record, consume, produce, watermarks

TOPIC, BROKER = ConfigResource.Type.TOPIC, ConfigResource.Type.BROKER


def ask(server, method, *arguments, **options):
    """What an admin client's method comes to; for one resource."""
    # The client has to live until its answer is there.
    client = AdminClient({"bootstrap.servers": server.bootstrap})
    answer = getattr(client, method)(*arguments, **options)
    [answer] = answer.values() if isinstance(answer, dict) else [answer]
    return answer.result(30)


def create(server, name, partitions, **config):
    ask(server, "create_topics", [NewTopic(name, partitions, 1, config=config)])


def settings(server, kind, name):
    return ask(server, "describe_configs", [ConfigResource(kind, name)])


def alter(server, kind, name, changes, **options):
    """Each setting with its new value, or None for its default."""

    def entry(name, value):
        operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
        return ConfigEntry(name, value, incremental_operation=operation)

    entries = [entry(*change) for change in changes.items()]
    ask(server, "incremental_alter_configs", [ConfigResource(kind, name, incremental_configs=entries)], **options)


def grow(server, name, count, **options):
    ask(server, "create_partitions", [NewPartitions(name, count)], **options)


def refused(change, *arguments, code, **options):
    with pytest.raises(kafka.KafkaException) as raised:
        change(*arguments, **options)
    assert raised.value.args[0].code() == code
    return raised.value.args[0].str()


def test_the_cluster_is_described(shared):
    described = ask(shared, "describe_cluster", include_authorized_operations=True)
    assert described.cluster_id and described.controller.id == 1
    assert [f"{node.host}:{node.port}" for node in described.nodes] == [shared.bootstrap]
    assert described.authorized_operations


def test_settings_are_described(shared):
    create(shared, "described", 1, **{"max.message.bytes": "1000"})
    topic = settings(shared, TOPIC, "described")
    given, default = topic["max.message.bytes"], topic["cleanup.policy"]
    assert (given.value, given.source) == ("1000", ConfigSource.DYNAMIC_TOPIC_CONFIG.value)
    assert (default.value, default.source) == ("delete", ConfigSource.DEFAULT_CONFIG.value)
    assert default.is_read_only and not given.is_read_only
    broker = settings(shared, BROKER, "1")
    assert broker["advertised.listeners"].value == f"PLAINTEXT://{shared.bootstrap}"
    assert broker["num.partitions"].source == ConfigSource.STATIC_BROKER_CONFIG.value
    refused(settings, shared, TOPIC, "absent", code=kafka.KafkaError.UNKNOWN_TOPIC_OR_PART)


def test_a_change_that_can_not_be_says_why(shared):
    create(shared, "stays", 2)
    invalid = kafka.KafkaError.INVALID_CONFIG
    assert "history is kept" in refused(alter, shared, TOPIC, "stays", {"retention.ms": "-2"}, code=invalid)
    assert "of bytes" in refused(alter, shared, TOPIC, "stays", {"retention.bytes": "1GiB"}, code=invalid)
    broker = refused(alter, shared, BROKER, "1", {"num.partitions": "3"}, code=kafka.KafkaError.INVALID_REQUEST)
    assert "at its start" in broker
    alter(shared, TOPIC, "stays", {"max.message.bytes": "1000"}, validate_only=True)
    refused(grow, shared, "stays", 2, code=kafka.KafkaError.INVALID_PARTITIONS)
    grow(shared, "stays", 3, validate_only=True)
    assert settings(shared, TOPIC, "stays")["max.message.bytes"].value == "1048588"
    assert [number for topic, number in shared.partitions() if topic == "stays"] == [0, 1]


def test_what_is_changed_outlives_kill_and_recovery(start):
    server = start()
    create(server, "grown", 1, **{"segment.ms": "7"})
    produce(server.bootstrap, "grown", [Record(b"first" * 100)])

    def check():
        found = settings(server, TOPIC, "grown")
        assert (found["max.message.bytes"].value, "segment.ms" in found) == ("400", False)
        with pytest.raises(AssertionError, match="MSG_SIZE_TOO_LARGE"):
            produce(server.bootstrap, "grown", [Record(b"x" * 500)])
        read = consume(server.bootstrap, "grown", 3)
        assert [[record.value for _, record in partition] for partition in read] == [
            [b"first" * 100],
            [b"added"],
            [b"added"],
        ]
        assert server.search("grown", "added")["total"]["value"] == 2

    alter(server, TOPIC, "grown", {"max.message.bytes": "400", "segment.ms": None})
    grow(server, "grown", 3)
    produce(server.bootstrap, "grown", [Record(b"added", partition=number) for number in (1, 2)])
    check()
    server.kill()
    server.start()
    check()
    server.seal()
    server.wait_archived()
    server.kill()
    server.lose_data_directory()
    server.set(take_over="true").start()
    check()
    produce(server.bootstrap, "grown", [Record(b"added", partition=2)])
    assert watermarks(server.bootstrap, "grown", 3) == [(0, 1), (0, 1), (0, 2)]


def test_a_change_of_what_is_searched_holds_for_what_is_there_already(start):
    server = start()
    create(server, "words", 1, **{"search.value.format": "none"})
    produce(server.bootstrap, "words", [Record(b"before")])
    server.seal()
    server.wait_archived()
    assert server.search("words", "before")["total"]["value"] == 0
    alter(server, TOPIC, "words", {"search.value.format": "text"})
    produce(server.bootstrap, "words", [Record(b"after")])
    until(lambda: server.search("words", "before OR after")["total"]["value"] == 2, "both are found")
    alter(server, TOPIC, "words", {"search.enabled": "false"})
    assert server.request("GET", "/v1/search?topic=words&q=after").status_code == 409
    alter(server, TOPIC, "words", {"search.enabled": "true"})
    server.seal()
    server.wait_archived()
    assert server.search("words", "before OR after")["total"]["value"] == 2
