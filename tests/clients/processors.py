"""Stream processors, each with a job that reads a topic and writes another one: values in upper case, until standard
input ends. Their sinks write at least once: exactly once takes transactions, which Chronik refuses."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from servers import maven
from servers.cache import installed

from clients.install import SOURCES, digest

FLINK, FLINK_CONNECTOR = "2.0.1", "4.0.1-2.0"
FLINK_PROJECT = maven.pom(
    {
        "org.apache.flink:flink-streaming-java": FLINK,
        "org.apache.flink:flink-clients": FLINK,
        "org.apache.flink:flink-connector-base": FLINK,
        "org.apache.flink:flink-connector-kafka": FLINK_CONNECTOR,
        "org.slf4j:slf4j-simple": "1.7.36",
    }
)
SPARK = "4.0.1"
# What PySpark does not bring.
SPARK_PROJECT = maven.pom(
    {
        "org.apache.spark:spark-sql-kafka-0-10_2.13": SPARK,
        "org.apache.spark:spark-token-provider-kafka-0-10_2.13": "4.0.0",
        "org.apache.kafka:kafka-clients": "3.9.1",
        "org.apache.commons:commons-pool2": "2.12.0",
    },
    alone=True,
)


@dataclass(frozen=True)
class Processor:
    name: str
    # What runs the job and what it has in its environment; installs it, if that was not done.
    command: Callable
    # As a table says it.
    tested: str

    def start(self, directory, bootstrap, source, sink):
        """Keeps what the job remembers in `directory`; what it says is in `log` there."""
        command, environment = self.command()
        directory.mkdir()
        with (directory / "log").open("ab") as log:
            return subprocess.Popen(
                [*map(str, command), bootstrap, source, sink, str(directory)],
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )


def flink():
    source = SOURCES / "flink/Job.java"

    def build(folder):
        maven.download(FLINK_PROJECT, folder)
        options = ["--release", "17", "-classpath", folder / "libs/*", "-d", folder / "classes"]
        subprocess.run(["javac", *options, source], check=True)

    folder = installed(f"flink-{FLINK}-{digest(FLINK_PROJECT, source)}", build)
    # Its serializers look into Java's own classes.
    opened = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in ("lang", "util")]
    options = ["-Xmx512m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", *opened]
    return ["java", *options, "-classpath", f"{folder / 'classes'}:{folder / 'libs/*'}", "Job"], {}


def spark():
    def build(folder):
        maven.download(SPARK_PROJECT, folder)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
        subprocess.run([*pip, "--target", folder / "python", f"pyspark=={SPARK}"], check=True)

    folder = installed(f"spark-{SPARK}-{digest(SPARK_PROJECT)}", build)
    jars = ",".join(str(jar) for jar in sorted((folder / "libs").glob("*.jar")))
    return [sys.executable, SOURCES / "spark/job.py", jars], {
        "PYTHONPATH": str(folder / "python"),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
    }


PROCESSORS = [
    Processor(
        f"Flink {FLINK}",
        flink,
        "a job reads a topic and writes another one, at least once: exactly once needs transactions, which are refused",
    ),
    Processor(
        f"Spark {SPARK}", spark, "a structured streaming job reads a topic and writes another one, at least once"
    ),
]
