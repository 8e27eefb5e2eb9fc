"""What the indexer as a Lambda function works on."""

import itertools
import json
import types

from chronik import run_tool
from lambda_runtime import Lambda
from records import CODECS, Record, consume, produce

PARTITIONS = 4


class World:
    """A broker that ships and does not index by itself, records in its topics, and jobs over its segments."""

    SETTINGS = types.MappingProxyType({"ship_max_age": "1s", "index_batch_age": "1h", "index_batch_bytes": "64MiB"})

    def __init__(self, server, path, topics=3, records=400):
        """`server` is started with SETTINGS."""
        self.path = path
        self.server = server
        self.records = {}
        for number, codec in zip(range(topics), itertools.cycle(CODECS)):
            topic = f"topic-{number}"
            self.server.tool("topic", "create", topic, "--partitions", PARTITIONS)
            self.records[topic] = [
                Record(b"word %d of %s secret-%d" % (n, topic.encode(), n), partition=n % PARTITIONS, timestamp=n)
                for n in range(records)
            ]
            produce(self.server.bootstrap, topic, self.records[topic], codec)
        self.server.wait_shipped()

    @property
    def bucket(self):
        return self.server.bucket

    def jobs(self):
        """A job for each topic, as its lane's owner would send them."""
        ids = {topic["id"]: topic["topic"] for topic in self.server.status()["topics"]}
        inputs = {}
        for file in sorted(self.bucket.glob("lanes/*/segments/*/*.seg")):
            segment = json.loads(run_tool("--json", "segment", "inspect", file).stdout)
            for topic in segment["topics"]:
                names = ("partition", "first", "last", "position", "length")
                runs = [{name: run[name] for name in names} for run in topic["partitions"]]
                place = {"key": str(file.relative_to(self.bucket)), "size": segment["size"]}
                inputs.setdefault(topic["id"], []).append(place | {"crc": segment["directory_crc"], "runs": runs})
        return [
            {
                "v": 0,
                "kind": "index",
                "cluster": segment["cluster"],
                "incarnation": segment["incarnation"],
                "lane": segment["lane"],
                "id": f"job-{ids[topic]}",
                "topic": ids[topic],
                "topic_id": topic,
                "index_epoch": 0,
                "inputs": places,
                "settings": {"value_format": "auto", "positions": False},
            }
            for topic, places in inputs.items()
        ]

    def functions(self, jobs, name="lambda", **settings):
        return Lambda(self.path / name, jobs, LOCAL_STORAGE_PATH=self.bucket, **settings)

    def results(self):
        return [json.loads(file.read_text()) for file in sorted(self.bucket.glob("inbox/*/*.json"))]

    def archives(self):
        return list(self.bucket.glob("topics/*/archives/*/*.ckx"))

    def check(self, **settings):
        """The broker takes the results in at its start; then all is archived, and each record is found once."""
        self.server.kill()
        self.server.set(**settings).start()
        self.server.wait_archived()
        for topic, records in self.records.items():
            pages = self.server.pages(topic, "word", limit=10_000)
            found = sorted((hit["partition"], hit["offset"]) for hits in pages for hit in hits)
            places = [(p, offset) for p in range(PARTITIONS) for offset in range(len(records) // PARTITIONS)]
            assert found == places, f"{topic}: each once"
            assert sum(map(len, consume(self.server.bootstrap, topic, PARTITIONS))) == len(records)
