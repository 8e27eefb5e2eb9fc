"""Apache Kafka: the broker that Chronik is held against. Its command line tools come with it (`clients/tools.py`)."""

import base64
import subprocess
import uuid

import confluent_kafka

from servers import maven
from servers.cache import installed
from servers.server import Server, free_port

VERSION = "4.3.1"
LOG4J = "2.25.5"

PROJECT = maven.pom(
    {
        "org.apache.kafka:kafka_2.13": VERSION,
        "org.apache.kafka:kafka-tools": VERSION,
        "org.apache.logging.log4j:log4j-slf4j-impl": LOG4J,
        "org.apache.logging.log4j:log4j-core": LOG4J,
        "org.apache.logging.log4j:log4j-1.2-api": LOG4J,
    }
)

# As its own scripts set it up for tools.
LOGGING = """appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.follow = true
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = stderr
"""

# Records are kept however old they say they are. Groups wait for members as Chronik's do: otherwise kafka-python
# 3.0.12 joins before it knows partitions, and sometimes hangs in the rebalance that follows. What is kept on several
# brokers is kept on this one, groups in one partition. A broker that was killed is let in again when its session has
# ended, soon.
SETTINGS = """process.roles=broker,controller
node.id=1
log.dirs={directory}/data
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{advertised},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
log.retention.ms=-1
group.initial.rebalance.delay.ms=500
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
"""


def build(folder):
    maven.download(PROJECT, folder)
    (folder / "log4j2.properties").write_text(LOGGING)


def java(folder, memory):
    """What starts a program of these jars."""
    logging = f"-Dlog4j2.configurationFile={folder}/log4j2.properties"
    return ["java", f"-Xmx{memory}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", logging]


class Kafka(Server):
    """One node, broker and controller; clients are told to connect to `advertised`, its port if none is given."""

    def __init__(self, port=None, advertised=None):
        super().__init__()
        self.port = port or self.port
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.advertised = advertised or self.port
        self.controller = free_port()
        self.format()

    @classmethod
    def install(cls):
        return installed(f"kafka-{VERSION}", build)

    @property
    def settings(self):
        return self.directory / "server.properties"

    def run(self, *arguments, memory="512m"):
        folder = self.install()
        return [*java(folder, memory), "-cp", f"{folder}/libs/*", *map(str, arguments)]

    def format(self):
        """Once, before the first start."""
        places = {"directory": self.directory, "port": self.port, "advertised": self.advertised}
        self.settings.write_text(SETTINGS.format(controller=self.controller, **places))
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = self.run(
            "kafka.tools.StorageTool", "format", "--standalone", f"--cluster-id={cluster}", "-c", self.settings
        )
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def command(self):
        return self.run("kafka.Kafka", self.settings), {}

    def answers(self):
        """Groups, too: their coordinator is there later than the broker."""
        settings = {"bootstrap.servers": self.bootstrap, "group.id": "nobody", "log_level": 0}
        client = confluent_kafka.Consumer(settings)
        try:
            client.committed([confluent_kafka.TopicPartition("nothing", 0)], timeout=1)
            return True
        except confluent_kafka.KafkaException:
            return False
        finally:
            client.close()
