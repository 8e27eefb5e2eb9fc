"""A bucket on MinIO and a queue on ElasticMQ for the services of one cluster, and what lies in the bucket as
seen from outside."""

import contextlib
import io
import json
import tarfile
from collections import defaultdict

from job_queue import Queue
from servers import s3
from servers.elasticmq import Elasticmq
from servers.minio import Minio

# An archive begins with its description: the first member of a tar file.
DESCRIPTION_BYTES_MAX = 1 << 20


class Cloud:
    """`queue_attributes` are SQS's: VisibilityTimeout, ..."""

    def __init__(self, **queue_attributes):
        self.stack = contextlib.ExitStack()
        self.queue_attributes = queue_attributes

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            minio, elasticmq = (stack.enter_context(kind()) for kind in (Minio, Elasticmq))
            self.bucket = s3.settings(minio.url)
            self.client = s3.client(minio.url)
            self.queue = Queue(elasticmq, **self.queue_attributes)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self.stack.close()

    def settings(self):
        """For services that send or take jobs; the others need `bucket` alone."""
        return self.bucket | self.queue.settings()

    def objects(self, prefix):
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=s3.BUCKET, Prefix=prefix)
        return [each for page in pages for each in page.get("Contents", [])]

    def read(self, key, most=None):
        part = {"Range": f"bytes=0-{most - 1}"} if most else {}
        return self.client.get_object(Bucket=s3.BUCKET, Key=key, **part)["Body"].read()

    def results(self):
        """What indexers have reported and the broker has not deleted."""
        return [json.loads(self.read(each["Key"])) for each in self.objects("inbox/")]

    def archives(self, topic_id):
        """Name → the runs that it covers, as (partition, first, last)."""
        found = {}
        for each in self.objects(f"topics/{topic_id}/archives/"):
            start = io.BytesIO(self.read(each["Key"], DESCRIPTION_BYTES_MAX))
            with tarfile.open(fileobj=start, mode="r|") as members:
                description = json.load(members.extractfile(members.next()))
            found[each["Key"]] = [(run["partition"], run["first"], run["last"]) for run in description["runs"]]
        return found


def check_covered_once(archives, ends):
    """Every offset below `ends[partition]` is in one run of one archive."""
    runs = defaultdict(list)
    for partition, first, last in (run for covered in archives.values() for run in covered):
        runs[partition].append((first, last))
    for partition, end in enumerate(ends):
        offset = 0
        for first, last in sorted(runs[partition]):
            assert first == offset, f"partition {partition}: a run begins at {first}, the one before ended at {offset}"
            offset = last + 1
        assert offset == end, f"partition {partition} is covered up to {offset} of {end}"
