"""Which clients there are, what each has, and what it is known to do differently: tests hold it to that."""

from collections.abc import Callable
from dataclasses import dataclass

from clients import install

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@dataclass(frozen=True)
class Client:
    """At one version."""

    name: str
    # The program and what it has in its environment; installs it, if that was not done.
    command: Callable
    language: str
    # Those it has.
    codecs: tuple[str, ...] = CODECS
    idempotent: bool = True
    deletes_records: bool = True
    # Messages have them since Kafka 0.10.
    has_timestamps: bool = True
    joins_groups: bool = True
    # Reads in groups alone.
    grouped: bool = False
    # For a time after all records it gives the end, where others give nothing.
    none_is_the_end: bool = False
    # Gives null for a header's value without bytes.
    empty_is_null: bool = False
    # Keeps a record's headers by name.
    sorts_headers: bool = False
    # Commits a record of before a rebalance in the generation after it, when another member may have had it.
    commits_late: bool = False
    # Takes long to install or to run.
    long: bool = False

    @property
    def library(self):
        """Its name without the version."""
        return self.name.rsplit(" ", 1)[0]


# What there was before record batches.
OLDEST_HAVE = {"codecs": CODECS[:4], "idempotent": False, "deletes_records": False}


def java(version, **known):
    return Client(f"kafka-clients {version}", install.java(version), "Java", **known)


def confluent(version, **known):
    program = install.python("librdkafka.py", f"confluent-kafka=={version}")
    return Client(f"confluent-kafka {version}", program, "C, Python", **known)


def kafka_python(version, brokers=(), **known):
    codecs = ("python-snappy==0.7.3", "lz4==4.4.5", "zstandard==0.25.0", "xxhash==3.5.0")
    pins = (f"kafka-python=={version}", *codecs, "six==1.17.0")
    program = install.python("kafka_python.py", *pins, arguments=brokers)
    return Client(" as to ".join([f"kafka-python {version}", *brokers]), program, "Python", **known)


def oldest_java(version, **known):
    program = install.java(version, "OldestClient")
    return Client(f"kafka-clients {version}", program, "Java", **OLDEST_HAVE, **known)


def oldest_python(version, brokers, **known):
    """Told that brokers are as old."""
    return kafka_python(version, (brokers,), **OLDEST_HAVE, **known)


# The newest version of each comes first.
CLIENTS = [
    java("4.3.1"),
    java("3.9.2"),
    java("2.8.2", long=True),
    java("2.0.1", codecs=CODECS[:4], long=True),
    java("1.1.1", codecs=CODECS[:4], long=True),
    java("0.11.0.3", codecs=CODECS[:4], deletes_records=False),
    confluent("2.16.1"),
    confluent("2.5.3"),
    kafka_python("3.0.12"),
    kafka_python("2.3.3"),
    kafka_python("2.0.2", idempotent=False, deletes_records=False),
    Client("aiokafka 0.14.0", install.python("aiokafka_client.py", "aiokafka==0.14.0", "cramjam==2.11.0"), "Python"),
    Client("KafkaJS 2.2.4", install.node("kafkajs"), "JavaScript", CODECS[:4], grouped=True, none_is_the_end=True),
    Client("franz-go 1.22.2", install.go("franz"), "Go", none_is_the_end=True),
    Client("sarama 1.61.1", install.go("sarama"), "Go"),
    Client(
        "kafka-go 0.4.51",
        install.go("kafkago"),
        "Go",
        idempotent=False,
        deletes_records=False,
        empty_is_null=True,
        commits_late=True,
    ),
    Client("rdkafka 0.39.0", install.rust("rdkafka_client"), "C, Rust", long=True),
    Client(
        "rskafka 0.6.0",
        install.rust("rskafka_client"),
        "Rust",
        idempotent=False,
        joins_groups=False,
        sorts_headers=True,
        long=True,
    ),
]

# Those that speak as before record batches, with messages of magic 0 and 1.
OLDEST = [
    oldest_java("0.10.2.2", long=True),
    oldest_java("0.10.0.1", long=True),
    oldest_java("0.9.0.1", has_timestamps=False),
    oldest_python("3.0.12", "0.10.0"),
    oldest_python("3.0.12", "0.9", has_timestamps=False),
    oldest_python("2.0.2", "0.10.0"),
    oldest_python("2.0.2", "0.9", has_timestamps=False),
]
