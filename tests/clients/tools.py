"""Apache Kafka's command line tools, unmodified, one after another in one process (`java/Tools.java`)."""

import json
import os
import subprocess
from dataclasses import dataclass

from servers import kafka
from servers.cache import installed

from clients.install import SOURCES, digest
from clients.line_process import PATIENCE, LineProcess


@dataclass(frozen=True)
class Tool:
    """A script of Apache Kafka's."""

    # What it runs.
    main: str
    # What tests hold it to.
    tested: str


UNSUPPORTED = "says that Chronik does not support it"

TOOLS = {
    "kafka-topics": Tool(
        "org.apache.kafka.tools.TopicCommand", "create, list, describe, add partitions, delete; partitions in trouble"
    ),
    "kafka-configs": Tool(
        "kafka.admin.ConfigCommand",
        "describe and alter topics; describe the broker, whose settings are given at its start",
    ),
    "kafka-console-producer": Tool(
        "org.apache.kafka.tools.ConsoleProducer", "keys, headers, nulls, in all codecs; what is too large is refused"
    ),
    "kafka-console-consumer": Tool(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        "from the beginning, an offset or the end, in a group; timestamps, partitions, offsets, headers and keys",
    ),
    "kafka-consumer-groups": Tool(
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        "list, describe (lag, members, state), every reset, dry and executed, delete, delete offsets",
    ),
    "kafka-groups": Tool("org.apache.kafka.tools.GroupsCommand", "list, by type"),
    "kafka-streams-application-reset": Tool("org.apache.kafka.tools.StreamsResetter", "input topics"),
    "kafka-get-offsets": Tool(
        "org.apache.kafka.tools.GetOffsetShell", "the first, the end, those for a time and of the latest timestamp"
    ),
    "kafka-delete-records": Tool("org.apache.kafka.tools.DeleteRecordsCommand", "up to an offset or the end"),
    "kafka-broker-api-versions": Tool(
        "org.apache.kafka.tools.BrokerApiVersionsCommand", "what works and what does not"
    ),
    "kafka-cluster": Tool("org.apache.kafka.tools.ClusterTool", "the cluster's id, the endpoints"),
    "kafka-producer-perf-test": Tool("org.apache.kafka.tools.ProducerPerformance", "all codecs"),
    "kafka-consumer-perf-test": Tool("org.apache.kafka.tools.ConsumerPerformance", "all codecs"),
    "kafka-e2e-latency": Tool("org.apache.kafka.tools.EndToEndLatency", "each record comes back"),
    "kafka-verifiable-producer": Tool("org.apache.kafka.tools.VerifiableProducer", "each record is acknowledged"),
    "kafka-verifiable-consumer": Tool("org.apache.kafka.tools.VerifiableConsumer", "each record is read and committed"),
    "kafka-leader-election": Tool("org.apache.kafka.tools.LeaderElectionCommand", UNSUPPORTED),
    "kafka-log-dirs": Tool("org.apache.kafka.tools.LogDirsCommand", UNSUPPORTED),
    "kafka-reassign-partitions": Tool("org.apache.kafka.tools.reassign.ReassignPartitionsCommand", UNSUPPORTED),
}


@dataclass(frozen=True)
class Done:
    """How a tool ended, and what it printed."""

    code: int
    out: str
    err: str

    def lines(self):
        """What it printed, without what separates."""
        return [line.strip() for line in self.out.splitlines() if line.strip()]

    def rows(self):
        """The columns of what it printed, without the heads."""
        return [line.split() for line in self.lines()[1:]]

    def events(self):
        """What it printed as JSON, by name."""
        found = {}
        for event in map(json.loads, self.lines()):
            found.setdefault(event["name"], []).append(event)
        return found


def jars():
    """Of the tools, and all that they need."""
    folder = kafka.Kafka.install()
    tools = folder / f"libs/kafka-tools-{kafka.VERSION}.jar"
    return tools, [jar for jar in sorted(folder.glob("libs/*.jar")) if jar != tools]


def java(classes):
    return [*kafka.java(kafka.Kafka.install(), "256m"), "-classpath", os.pathsep.join(map(str, classes))]


def command():
    """What runs tools; installs it and them if that was not done."""
    tools, libraries = jars()
    source = SOURCES / "java/Tools.java"

    def build(folder):
        options = ["--release", "17", "-classpath", os.pathsep.join(map(str, libraries)), "-d", folder]
        subprocess.run(["javac", *options, source], check=True)

    built = installed(f"kafka-tools-{kafka.VERSION}-{digest(source)}", build)
    return [*java([built, *libraries]), "Tools", str(tools)]


def run_alone(bootstrap, name, *arguments):
    """Runs a tool as a process, which those need that end by hooks of theirs."""
    tools, libraries = jars()
    line = [*java([tools, *libraries]), TOOLS[name].main, "--bootstrap-server", bootstrap, *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, f"{name} {arguments} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return Done(done.returncode, done.stdout, done.stderr)


class Tools(LineProcess):
    """Against one broker."""

    def __init__(self, bootstrap, directory):
        self.bootstrap = bootstrap
        super().__init__("a tool", command(), directory / "tools.log")

    def run(self, name, *arguments, code=0, stdin=""):
        """Runs a tool to its end, which is to be with that code."""
        everything = [*map(str, arguments), "--bootstrap-server", self.bootstrap]
        self.name = f"{name} {everything}"
        self.tell({"class": TOOLS[name].main, "arguments": everything, "input": stdin})
        done = Done(**self.next())
        assert done.code == code, f"{self.name} ended with {done.code}\n{done.out}\n{done.err}"
        return done
