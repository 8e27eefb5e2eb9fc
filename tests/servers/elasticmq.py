"""ElasticMQ: a queue that speaks SQS's protocol. It keeps its messages in memory, so that a restart loses them all."""

import requests

from servers import maven, sqs
from servers.cache import installed
from servers.server import Server

VERSION = "1.7.1"

PROJECT = maven.pom({"org.elasticmq:elasticmq-server_2.13": VERSION})

CONFIG = """include classpath("application.conf")
node-address {{ protocol = http, host = "127.0.0.1", port = {port}, context-path = "" }}
rest-sqs {{ enabled = true, bind-port = {port}, bind-hostname = "127.0.0.1", sqs-limits = strict }}
rest-stats {{ enabled = false }}
"""


def build(folder):
    maven.download(PROJECT, folder)


class Elasticmq(Server):
    """Queues in memory; every start has the queue of `sqs.queue_url`, empty."""

    variable = "CHRONIK_TEST_ELASTICMQ"

    @classmethod
    def install(cls):
        return installed(f"elasticmq-{VERSION}", build) / "libs"

    def command(self):
        config = self.directory / "queues.conf"
        config.write_text(CONFIG.format(port=self.port))
        options = ["-Xmx256m", "-XX:+UseSerialGC", f"-Dconfig.file={config}"]
        return ["java", *options, "-cp", f"{self.install()}/*", "org.elasticmq.server.Main"], {}

    def answers(self):
        return requests.get(f"{self.url}/health", timeout=1).ok

    def prepare(self):
        sqs.make_queue(self.url)

    def variables(self):
        return super().variables() | sqs.credentials()
