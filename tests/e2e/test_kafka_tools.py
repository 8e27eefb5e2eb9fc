"""Apache Kafka's command line tools: what they print and how they end, with Chronik as with Apache Kafka."""

import json
import re
import time
from datetime import UTC, datetime

import confluent_kafka as kafka
import pytest
from brokers import CHRONIK, KAFKA
from by_hand import codec_of, fetch_by_hand
from chronik import PATIENCE, until
from clients.tools import Tools, run_alone
from confluent_kafka.admin import AdminClient
from records import CODECS, Record, consume, consumer, create_topic, led, produce

DAY = 24 * 60 * 60 * 1000


@pytest.fixture(scope="module", params=[CHRONIK, pytest.param(KAFKA, marks=pytest.mark.long)])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def broker(request, kind):
    return request.getfixturevalue("kafka" if kind == KAFKA else "shared")


@pytest.fixture(scope="module")
def tools(broker, tmp_path_factory):
    with Tools(broker.bootstrap, tmp_path_factory.mktemp("tools")) as started:
        yield started


@pytest.fixture
def topic(request):
    """Of this test alone; a group may have its name, too."""
    return request.node.originalname.removeprefix("test_")


def test_topics(tools, broker, topic):
    named = ("--topic", topic)
    create = ("--create", *named, "--partitions", 3, "--replication-factor", 1)
    created = tools.run("kafka-topics", *create, "--config", "max.message.bytes=2000000")
    assert created.lines() == [f"Created topic {topic}."]
    until(lambda: led(broker.bootstrap, topic) == 3, "the broker knows it")
    assert "TopicExistsException" in tools.run("kafka-topics", *create, code=1).err
    assert tools.run("kafka-topics", *create, "--if-not-exists").out == ""
    assert topic in tools.run("kafka-topics", "--list").lines()

    head, *partitions = tools.run("kafka-topics", "--describe", *named).lines()
    assert re.search(rf"Topic: {topic}\sTopicId: \S{{22}}\sPartitionCount: 3\sReplicationFactor: 1", head)
    assert "max.message.bytes=2000000" in head
    for number, partition in enumerate(partitions):
        assert f"Partition: {number}\tLeader: 1\tReplicas: 1\tIsr: 1" in partition
    assert len(partitions) == 3
    assert head in tools.run("kafka-topics", "--describe", "--topics-with-overrides").lines()
    for trouble in ("under-replicated", "unavailable", "under-min-isr", "at-min-isr"):
        found = tools.run("kafka-topics", "--describe", *named, f"--{trouble}-partitions").lines()
        assert len(found) == (3 if trouble == "at-min-isr" else 0), "one replica is the least and the most"

    assert tools.run("kafka-topics", "--alter", *named, "--partitions", 5).out == ""
    until(lambda: led(broker.bootstrap, topic) == 5, "the broker knows the new ones")
    assert "5 partition" in tools.run("kafka-topics", "--alter", *named, "--partitions", 2, code=1).out
    assert tools.run("kafka-topics", "--delete", *named).out == ""
    until(lambda: led(broker.bootstrap, topic) == 0, "the broker knows that it is gone")
    assert topic not in tools.run("kafka-topics", "--list").lines()
    for action in ("--describe", "--delete"):
        assert "does not exist" in tools.run("kafka-topics", action, *named, code=1).out
        assert tools.run("kafka-topics", action, *named, "--if-exists").out == ""
    refused = tools.run("kafka-topics", "--create", "--topic", "bad name", code=1)
    assert "InvalidTopicException" in refused.err


def printing(*what):
    return [option for name in what for option in ("--formatter-property", f"print.{name}=true")]


def test_console(tools, broker, topic):
    create_topic(broker.bootstrap, topic)
    reading = ("parse.key=true", "parse.headers=true", "null.marker=NULL")
    properties = [option for line in reading for option in ("--reader-property", line)]
    for codec in CODECS:
        value = codec * 100
        lines = f"h1:v1,h2:v2\tkey\t{value}\nNULL\tNULL\t{value}\nh:\tgone\tNULL\n"
        tools.run("kafka-console-producer", "--topic", topic, *properties, "--compression-codec", codec, stdin=lines)
    batches = [codec_of(batch) for batch in fetch_by_hand(broker.bootstrap, topic, 0)]
    assert sorted(set(batches), key=batches.index) == CODECS

    [sent] = consume(broker.bootstrap, topic, 1)
    shown = []
    for offset, record in sent:
        headers = ",".join(f"{name}:{value.decode()}" for name, value in record.headers) or "NO_HEADERS"
        key, value = ("null" if text is None else text.decode() for text in (record.key, record.value))
        shown.append(f"CreateTime:{record.timestamp}\tPartition:0\tOffset:{offset}\t{headers}\t{key}\t{value}")
    assert [line.split("\t", 3)[3] for line in shown[:3]] == [
        f"h1:v1,h2:v2\tkey\t{'none' * 100}",
        f"NO_HEADERS\tnull\t{'none' * 100}",
        "h:\tgone\tnull",
    ]
    everything = printing("timestamp", "partition", "offset", "headers", "key")
    read = tools.run("kafka-console-consumer", "--topic", topic, *everything, "--from-beginning", "--max-messages", 15)
    assert read.lines() == shown
    assert "Processed a total of 15 messages" in read.err

    at = ("--partition", 0, "--offset")
    read = tools.run("kafka-console-consumer", "--topic", topic, *everything, *at, 7, "--max-messages", 2)
    assert read.lines() == shown[7:9]
    read = tools.run("kafka-console-consumer", "--topic", topic, *at, "latest", "--timeout-ms", 200)
    assert read.out == "" and "Processed a total of 0 messages" in read.err


def test_console_groups(tools, broker, topic):
    create_topic(broker.bootstrap, topic)
    tools.run("kafka-console-producer", "--topic", topic, stdin="one\ntwo\nthree\n")
    member = ("kafka-console-consumer", "--topic", topic, "--group", topic, "--from-beginning")
    assert tools.run(*member, "--max-messages", 2).lines() == ["one", "two"]
    assert tools.run(*member, "--max-messages", 1).lines() == ["three"]
    assert tools.run(*member, "--timeout-ms", 2000).out == "", "from the beginning is where the group is, once it is"


def test_console_log_append_time(tools, broker, topic):
    before = time.time_ns() // 1_000_000
    tools.run("kafka-topics", "--create", "--topic", topic, "--config", "message.timestamp.type=LogAppendTime")
    until(lambda: led(broker.bootstrap, topic) == 1, "the broker knows it")
    tools.run("kafka-console-producer", "--topic", topic, stdin="x\n")
    at = ("--partition", 0, "--offset", "earliest", "--max-messages", 1)
    [line] = tools.run("kafka-console-consumer", "--topic", topic, *at, *printing("timestamp")).lines()
    kind, at = line.removesuffix("\tx").split(":")
    assert kind == "LogAppendTime" and before <= int(at) <= time.time_ns() // 1_000_000


class Group:
    """A topic with two partitions and the group of the same name."""

    def __init__(self, tools, broker, name):
        self.tools, self.bootstrap, self.name = tools, broker.bootstrap, name
        # As milliseconds are lost on the way into an argument.
        self.now = time.time_ns() // 1_000_000_000 * 1000
        create_topic(broker.bootstrap, name, 2)
        old = [Record(b"x", timestamp=self.now - 10 * DAY + 60_000 * n) for n in range(5)]
        young = [Record(b"x", timestamp=self.now - 60_000, partition=p) for p in (0, 1, 1, 1)]
        produce(broker.bootstrap, name, old + young)

    def run(self, *arguments):
        return self.tools.run("kafka-consumer-groups", *arguments)

    def describe(self, *what):
        return self.run("--describe", "--group", self.name, *what)

    def reset(self, *how):
        """What the tool says that partitions get."""
        done = self.run("--reset-offsets", "--group", self.name, *how)
        return {int(partition): int(offset) for _, _, partition, offset in done.rows()}

    def committed(self):
        asked = [kafka.TopicPartition(self.name, partition) for partition in range(2)]
        client = consumer(self.bootstrap, group_id=self.name)
        try:
            return {found.partition: found.offset for found in client.committed(asked, timeout=PATIENCE)}
        finally:
            client.close()

    def commit(self, *offsets):
        client = consumer(self.bootstrap, group_id=self.name)
        places = [kafka.TopicPartition(self.name, partition, offset) for partition, offset in enumerate(offsets)]
        try:
            client.commit(offsets=places, asynchronous=False)
        finally:
            client.close()


@pytest.fixture
def group(tools, broker, topic):
    return Group(tools, broker, topic)


def test_groups_with_members(group):
    name = group.name
    member = consumer(group.bootstrap, group_id=name, client_id="me", auto_offset_reset="earliest")
    member.subscribe([name])
    try:
        message = member.poll(PATIENCE)
        assert message and not message.error()
        places = [kafka.TopicPartition(name, 0, 4), kafka.TopicPartition(name, 1, 3)]
        member.commit(offsets=places, asynchronous=False)
        first, second = group.describe().rows()
        assert first[:6] == [name, name, "0", "4", "6", "2"] and second[:6] == [name, name, "1", "3", "3", "0"]
        assert first[6].startswith("me-") and first[7:] == ["/127.0.0.1", "me"]
        [row] = group.describe("--members").rows()
        assert row == [name, *first[6:], "2"]
        [row] = group.describe("--members", "--verbose").rows()
        assert row[:7] == [name, *first[6:], "2", "-", f"{name}:0,1"]
        [row] = group.describe("--state").rows()
        assert row == [name, group.bootstrap, "(1)", "range", "Stable", "1"]
        assert [name, "Stable"] in group.run("--list", "--state", "stable").rows()
        assert [name, "Classic"] in group.run("--list", "--type").rows()

        refused = group.run("--reset-offsets", "--group", name, "--topic", name, "--to-earliest", "--execute")
        assert "can only be reset if the group" in refused.out
        assert "GroupNotEmptyException" in group.run("--delete", "--group", name).out
        refused = group.run("--delete-offsets", "--group", name, "--topic", name)
        assert "GroupSubscribedToTopicException" in refused.out
    finally:
        member.close()
    assert group.committed() == {0: 4, 1: 3}


def test_groups_without_members(group):
    name = group.name
    group.commit(4, 3)
    described = group.describe()
    assert described.rows() == [[name, name, "0", "4", "6", "2", *"---"], [name, name, "1", "3", "3", "0", *"---"]]
    assert "has no active members" in described.err
    assert group.describe("--members").rows() == []
    [row] = group.describe("--state").rows()
    assert row == [name, group.bootstrap, "(1)", "-", "Empty", "0"]
    assert [name, "Empty"] in group.run("--list", "--state", "empty").rows()
    assert name in group.run("--list").lines()
    assert name not in group.run("--list", "--state", "stable").out

    deleted = group.run("--delete-offsets", "--group", name, "--topic", f"{name}:0")
    assert deleted.lines()[-1].split() == [name, "0", "Successful"]
    assert group.describe().rows() == [[name, name, "1", "3", "3", "0", *"---"]]
    deleted = group.run("--delete-offsets", "--group", name, "--topic", name)
    assert [name, "1", "Successful"] in [line.split() for line in deleted.lines()]
    assert group.describe().rows() == []
    assert [name, "Empty"] in group.run("--list", "--state").rows(), "it stays, without offsets"
    assert "was successful" in group.run("--delete", "--group", name).out
    assert name not in group.run("--list").lines()
    assert re.search("does not exist|not found", group.describe().out)
    assert "GroupIdNotFoundException" in group.run("--delete", "--group", name).out
    assert "GroupIdNotFoundException" in group.run("--delete-offsets", "--group", name, "--topic", name).out


def test_groups_reset(group, tmp_path):
    name = group.name
    group.commit(4, 3)
    second = datetime.fromtimestamp((group.now - 10 * DAY + 90_000) / 1000, UTC)
    plan = tmp_path / "plan.csv"
    ways = [
        (["--to-earliest"], {0: 0, 1: 0}),
        (["--to-latest"], {0: 6, 1: 3}),
        (["--to-current"], {0: 6, 1: 3}),
        (["--shift-by", -2], {0: 4, 1: 1}),
        (["--shift-by", -3], {0: 1, 1: 0}),
        (["--shift-by", 9], {0: 6, 1: 3}),
        (["--to-offset", 2], {0: 2, 1: 2}),
        (["--to-offset", 5], {0: 5, 1: 3}),
        (["--to-datetime", second.strftime("%Y-%m-%dT%H:%M:%S.000")], {0: 2, 1: 0}),
        (["--by-duration", "P1D"], {0: 5, 1: 0}),
    ]
    stands = {0: 4, 1: 3}
    for how, offsets in ways:
        assert group.reset("--topic", name, *how, "--dry-run") == offsets
        assert group.committed() == stands, "a dry run changes nothing"
        assert group.reset("--topic", name, *how, "--execute") == offsets
        assert group.committed() == offsets
        stands = offsets

    exported = group.run("--reset-offsets", "--group", name, "--all-topics", "--to-earliest", "--dry-run", "--export")
    assert sorted(exported.lines()) == [f"{name},0,0", f"{name},1,0"]
    plan.write_text(exported.out)
    assert group.reset("--from-file", plan, "--execute") == {0: 0, 1: 0}
    assert group.committed() == {0: 0, 1: 0}
    assert group.reset("--topic", f"{name}:1", "--to-latest", "--execute") == {1: 3}
    assert group.committed() == {0: 0, 1: 3}
    refused = group.run("--reset-offsets", "--group", name, "--topic", f"{name}:7", "--to-latest", "--execute")
    assert f'The partitions "{name}-7" do not exist' in refused.out


def test_groups_of_all_types(group):
    name, tools = group.name, group.tools
    group.commit(4, 3)
    tools.run("kafka-console-consumer", "--topic", name, "--group", name, "--max-messages", 2)
    for which in ([], ["--consumer"], ["--group-type", "classic"]):
        assert [name, "Classic", "consumer"] in tools.run("kafka-groups", "--list", *which).rows()
    assert name not in tools.run("kafka-groups", "--list", "--share").out
    done = tools.run("kafka-streams-application-reset", "--application-id", name, "--input-topics", name)
    assert f"Topic: {name} Partition: 0 Offset: 0" in done.lines()
    assert group.committed() == {0: 0, 1: 0}


def test_configs_of_topics(tools, broker, topic):
    create_topic(broker.bootstrap, topic)
    named = ("kafka-configs", "--entity-type", "topics", "--entity-name", topic)
    assert tools.run(*named, "--describe").lines() == [f"Dynamic configs for topic {topic} are:"]
    everything = tools.run(*named, "--describe", "--all").lines()
    assert {
        f"{name}={value} sensitive=false synonyms={{DEFAULT_CONFIG:{broker}={value}}}"
        for name, broker, value in [
            ("cleanup.policy", "log.cleanup.policy", "delete"),
            ("compression.type", "compression.type", "producer"),
            ("max.message.bytes", "message.max.bytes", 1048588),
            ("retention.bytes", "log.retention.bytes", -1),
            ("segment.bytes", "log.segment.bytes", 1073741824),
        ]
    } <= set(everything)

    tools.run(*named, "--alter", "--add-config", "retention.ms=86400000,retention.bytes=1073741824")
    dynamic = until(lambda: tools.run(*named, "--describe").lines()[1:], "the broker knows it")
    for found, given in zip(sorted(dynamic), ("retention.bytes=1073741824", "retention.ms=86400000"), strict=True):
        assert found.startswith(f"{given} sensitive=false synonyms={{DYNAMIC_TOPIC_CONFIG:{given}, ")
    tools.run(*named, "--alter", "--delete-config", "retention.ms,retention.bytes")
    until(lambda: "retention" not in tools.run(*named, "--describe").out, "the broker knows it")

    changed = tools.run(*named, "--alter", "--add-config", "max.message.bytes=500,message.timestamp.type=LogAppendTime")
    assert changed.lines() == [f"Completed updating config for topic {topic}."]
    dynamic = until(lambda: tools.run(*named, "--describe").lines()[1:], "the broker knows it")
    assert sorted(dynamic) == [
        "max.message.bytes=500 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:max.message.bytes=500,"
        " DEFAULT_CONFIG:message.max.bytes=1048588}",
        "message.timestamp.type=LogAppendTime sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:message.timestamp.type="
        "LogAppendTime, DEFAULT_CONFIG:log.message.timestamp.type=CreateTime}",
    ]
    refused = tools.run("kafka-console-producer", "--topic", topic, stdin="x" * 1000 + "\n")
    assert "RecordTooLargeException" in refused.err
    tools.run(*named, "--alter", "--delete-config", "max.message.bytes")
    until(lambda: "max.message.bytes" not in tools.run(*named, "--describe").out, "the broker knows it")
    tools.run("kafka-console-producer", "--topic", topic, stdin="x" * 1000 + "\n")
    at = ("--partition", 0, "--offset", "earliest", "--max-messages", 1)
    assert tools.run("kafka-console-consumer", "--topic", topic, *at).lines() == ["x" * 1000]

    for change in ("nonsense=1", "max.message.bytes=many"):
        refused = tools.run(*named, "--alter", "--add-config", change, code=1)
        assert "InvalidConfigurationException" in refused.err and change.split("=")[0] in refused.err
    missing = ("kafka-configs", "--entity-type", "topics", "--entity-name", "missing")
    assert "doesn't exist" in tools.run(*missing, "--describe").out
    refused = tools.run(*missing, "--alter", "--add-config", "max.message.bytes=500", code=1)
    assert "UnknownTopicOrPartitionException" in refused.err


def test_configs_of_the_broker(tools, kind):
    named = ("kafka-configs", "--entity-type", "brokers", "--entity-name", 1)
    assert tools.run(*named, "--describe").lines()[0] == "Dynamic configs for broker 1 are:"
    everything = tools.run(*named, "--describe", "--all").lines()
    assert everything[0] == "All configs for broker 1 are:"
    assert {"node.id=1", "num.partitions=1", "offsets.retention.minutes=10080"} <= {
        line.split()[0] for line in everything
    }
    change = ("--alter", "--add-config", "message.max.bytes=2000000")
    if kind == CHRONIK:
        assert "given at its start" in tools.run(*named, *change, code=1).err
    else:
        assert tools.run(*named, *change).lines() == ["Completed updating config for broker 1."]
        tools.run(*named, "--alter", "--delete-config", "message.max.bytes")


def test_get_offsets(tools, broker, topic):
    create_topic(broker.bootstrap, topic, 2)
    produce(broker.bootstrap, topic, [Record(b"x", timestamp=1000 * second) for second in (1, 2, 9, 4)])

    def offsets(*arguments, **options):
        return [
            line.removeprefix(f"{topic}:") for line in tools.run("kafka-get-offsets", *arguments, **options).lines()
        ]

    assert offsets("--topic", topic) == ["0:4", "1:0"]
    assert {f"{topic}:0:4", f"{topic}:1:0"} <= set(tools.run("kafka-get-offsets").lines()), "of all topics"
    for when, found in {
        "latest": ["0:4", "1:0"],
        "earliest": ["0:0", "1:0"],
        "max-timestamp": ["0:2"],
        -1: ["0:4", "1:0"],
        -2: ["0:0", "1:0"],
        -3: ["0:2"],
        0: ["0:0"],
        1001: ["0:1"],
        2001: ["0:2"],
        9001: [],
    }.items():
        # What has no such record is left out.
        assert offsets("--topic", topic, "--time", when) == found, when
    assert offsets("--topic-partitions", f"{topic}:1") == ["1:0"]
    assert offsets("--topic", topic, "--partitions", 0, "--time", "earliest") == ["0:0"]
    refused = tools.run("kafka-get-offsets", "--topic", "missing", code=1)
    assert "Could not match any topic-partitions" in refused.err


@pytest.mark.parametrize("codec", CODECS)
def test_perf_tests(tools, broker, topic, codec):
    topic = f"{topic}_{codec}"
    create_topic(broker.bootstrap, topic)
    sizes = ("--num-records", 5000, "--record-size", 100, "--throughput", -1)
    produced = tools.run(
        "kafka-producer-perf-test", "--topic", topic, *sizes, "--command-property", f"compression.type={codec}"
    )
    assert re.match(r"5000 records sent, [\d.]+ records/sec \([\d.]+ MB/sec\), .* 99.9th", produced.lines()[-1])
    assert {codec_of(batch) for batch in fetch_by_hand(broker.bootstrap, topic, 0)} == {codec}
    consumed = tools.run("kafka-consumer-perf-test", "--topic", topic, "--num-records", 5000, "--timeout", 60_000)
    names, values = (line.split(", ") for line in consumed.lines())
    assert int(dict(zip(names, values, strict=True))["data.consumed.in.nMsg"]) == 5000


def test_broker_api_versions(tools, broker, kind):
    head, *apis = tools.run("kafka-broker-api-versions").lines()
    assert head == f"{broker.bootstrap} (id: 1 rack: null isFenced: false) -> ("
    served = {api.split("(")[0]: api for api in apis if "usable: " in api}
    if kind == CHRONIK:
        assert served["Fetch"] == "Fetch(1): 0 to 17 [usable: 17],"
        assert "AddPartitionsToTxn(24): UNSUPPORTED," in apis, "what does not work is not said to"
    assert {"Produce", "OffsetCommit", "DescribeGroups", "DeleteRecords", "IncrementalAlterConfigs"} <= served.keys()


def test_cluster(tools, broker):
    [line] = tools.run("kafka-cluster", "cluster-id").lines()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    assert line == f"Cluster ID: {admin.list_topics(timeout=PATIENCE).cluster_id}"
    host, port = broker.bootstrap.split(":")
    [endpoint] = tools.run("kafka-cluster", "list-endpoints").rows()
    assert endpoint == ["1", host, port, "null", "unfenced", "broker"]


def test_what_does_not_work_is_refused(tools, kind):
    refused = [
        ("kafka-log-dirs", "--describe"),
        ("kafka-leader-election", "--election-type", "preferred", "--all-topic-partitions"),
        ("kafka-reassign-partitions", "--list"),
    ]
    for tool in refused:
        if kind == CHRONIK:
            done = tools.run(*tool, code=1)
            assert "UnsupportedVersionException: The node does not support" in done.out + done.err
        else:
            tools.run(*tool)


def test_e2e_latency(tools, broker, topic):
    create_topic(broker.bootstrap, topic)
    sizes = ("--num-records", 20, "--producer-acks", "all", "--record-size", 10)
    assert tools.run("kafka-e2e-latency", "--topic", topic, *sizes).lines()[-1].startswith("Percentiles: 50th = ")
    [read] = consume(broker.bootstrap, topic, 1)
    assert [len(record.value) for _, record in read] == [10] * 20


def test_verifiable_clients(broker, topic):
    create_topic(broker.bootstrap, topic)
    produced = run_alone(broker.bootstrap, "kafka-verifiable-producer", "--topic", topic, "--max-messages", 50)
    events = produced.events()
    assert [(event["value"], event["offset"]) for event in events["producer_send_success"]] == [
        (str(number), number) for number in range(50)
    ]
    [summary] = events["tool_data"]
    assert (summary["sent"], summary["acked"]) == (50, 50)
    assert len(events["shutdown_complete"]) == 1

    group = ("--group-id", topic, "--reset-policy", "earliest")
    consumed = run_alone(
        broker.bootstrap, "kafka-verifiable-consumer", "--topic", topic, *group, "--max-messages", 50
    ).events()
    assert sum(event["count"] for event in consumed["records_consumed"]) == 50
    [*_, last] = consumed["offsets_committed"]
    assert last["success"] and last["offsets"] == [{"topic": topic, "partition": 0, "offset": 50}]
    assert len(consumed["shutdown_complete"]) == 1


def test_delete_records(tools, broker, topic, tmp_path):
    create_topic(broker.bootstrap, topic, 2)
    produce(broker.bootstrap, topic, [Record(b"x", partition=n % 2) for n in range(20)])

    def delete(*offsets):
        places = [
            {"topic": topic, "partition": partition, "offset": offset} for partition, offset in enumerate(offsets)
        ]
        asked = tmp_path / "delete.json"
        asked.write_text(json.dumps({"partitions": places, "version": 1}))
        done = tools.run("kafka-delete-records", "--offset-json-file", asked)
        assert done.lines()[:2] == ["Executing records delete operation", "Records delete operation completed:"]
        return sorted(done.lines()[2:])

    assert delete(3, -1) == [f"partition: {topic}-0\tlow_watermark: 3", f"partition: {topic}-1\tlow_watermark: 10"]
    starts = tools.run("kafka-get-offsets", "--topic", topic, "--time", "earliest").lines()
    assert starts == [f"{topic}:0:3", f"{topic}:1:10"]
    refused, _ = delete(11, 0)
    assert refused.startswith(f"partition: {topic}-0\terror: ") and "OffsetOutOfRangeException" in refused
    reading = ("--from-beginning", "--max-messages", 7, *printing("offset"))
    read = tools.run("kafka-console-consumer", "--topic", topic, *reading).lines()
    assert read == [f"Offset:{offset}\tx" for offset in range(3, 10)]
