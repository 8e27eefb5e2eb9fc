"""kcat, as it comes from the system's packages."""

import json
import subprocess

import pytest


def kcat(server, *arguments, stdin=b""):
    done = subprocess.run(
        ["kcat", "-b", server.bootstrap, *arguments], input=stdin, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_lines_go_in_and_come_back(shared, codec):
    topic = f"kcat-{codec}"
    lines = b"".join(b"key%d\tvalue %d \xc3\xa9\n" % (n, n) for n in range(500))
    kcat(shared, "-P", "-t", topic, "-K", "\\t", "-z", codec, "-H", "source=kcat", stdin=lines)
    read = kcat(shared, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%k\\t%s\\n")
    assert read == lines
    headers = kcat(shared, "-C", "-t", topic, "-o", "499", "-e", "-q", "-f", "%o %h\\n")
    assert headers == b"499 source=kcat\n"


def test_nulls_and_tombstones(shared):
    kcat(shared, "-P", "-t", "kcat-nulls", "-K", ":", "-Z", stdin=b"gone:\n:keyless\nkey:value\n")
    read = kcat(shared, "-C", "-t", "kcat-nulls", "-e", "-q", "-Z", "-o", "beginning", "-f", "%k=%s/%S\\n")
    assert read == b"gone=NULL/-1\nNULL=keyless/7\nkey=value/5\n"


def test_metadata_names_broker_and_topics(shared):
    shared.tool("topic", "create", "kcat-metadata", "--partitions", 3)
    metadata = json.loads(kcat(shared, "-L", "-J"))
    [broker] = metadata["brokers"]
    assert broker["name"] == shared.bootstrap
    [topic] = [topic for topic in metadata["topics"] if topic["topic"] == "kcat-metadata"]
    assert [partition["leader"] for partition in topic["partitions"]] == [broker["id"]] * 3


def test_offsets_by_time(shared):
    shared.tool("produce", "kcat-times", stdin=b"only one\n")
    [record] = [json.loads(line) for line in shared.tool("--json", "consume", "kcat-times").splitlines()]
    at = record["timestamp"]
    assert kcat(shared, "-Q", "-t", f"kcat-times:0:{at}").strip() == b"kcat-times [0] offset 0"
    assert kcat(shared, "-Q", "-t", f"kcat-times:0:{at + 1}").strip() == b"kcat-times [0] offset -1"
    assert kcat(shared, "-Q", "-t", "kcat-times:0:-1").strip() == b"kcat-times [0] offset 1"
    assert kcat(shared, "-Q", "-t", "kcat-times:0:-2").strip() == b"kcat-times [0] offset 0"
