"""Old records: a consumer that reads on from the bucket, and a cache on disk that outlives a restart."""

import signal

import requests
from chronik import PATIENCE, Ingest, Query, until
from confluent_kafka import TopicPartition
from records import Record, consume, consumer, produce

TOPIC = "old"
RECORDS = 400
SETTINGS = {"ship_max_age": "1h", "index_batch_age": "200ms"}


def record(number):
    # Large enough for runs that are read piece by piece.
    return Record(b"record %d of word%d " % (number, number % 7) + b"%08d" % number * 1500, timestamp=number + 1)


def fill(server):
    """Runs of 10 records, and one that is read in pieces."""
    for first in range(0, 100, 10):
        produce(server.bootstrap, TOPIC, [record(number) for number in range(first, first + 10)])
        server.seal()
    produce(server.bootstrap, TOPIC, [record(number) for number in range(100, RECORDS)])
    server.seal()


def forget(server):
    """Starts again from the bucket alone, so that no record is in memory or in the log."""
    if server.running():
        assert server.stop() == 0
    server.lose_data_directory()
    return server.start()


def check(server):
    """Everything comes as it was written."""
    assert consume(server.bootstrap, TOPIC, 1) == [[(number, record(number)) for number in range(RECORDS)]]


def check_search(server):
    assert server.search(TOPIC, "word3")["total"]["value"] == len(range(3, RECORDS, 7))


def read_all(start, tmp_path, **settings):
    server = start(**SETTINGS, **settings, cache_disk_bytes="64MiB", cache_disk_dir=tmp_path / "cache")
    fill(server)
    server.wait_archived()
    forget(server)
    check(server)
    check_search(server)
    return server


def cached(server, name):
    return server.metrics()[f"chronik_cache_disk_{name}"]


def files(tmp_path):
    return [path for path in (tmp_path / "cache").glob("??/*") if "@" in path.name]


def test_what_was_read_before_a_restart_is_read_from_disk_after_it(start, tmp_path):
    server = read_all(start, tmp_path)
    forget(server)
    on_disk = sum(-(-path.stat().st_size // 4096) * 4096 for path in files(tmp_path))
    assert cached(server, "bytes") == on_disk > RECORDS * 12_000
    check(server)
    check_search(server)
    assert cached(server, "hit_bytes_total") > RECORDS * 12_000
    assert cached(server, "missed_bytes_total") == 0


def test_a_damaged_cache_is_read_anew(start, tmp_path):
    server = read_all(start, tmp_path)
    assert server.stop() == 0
    for path in files(tmp_path):
        damaged = bytearray(path.read_bytes())
        damaged[-5] ^= 1
        path.write_bytes(damaged)
    forget(server)
    check(server)
    check_search(server)
    assert cached(server, "damaged_total") > 0


def test_damage_in_the_bucket_does_not_outlast_it_in_the_cache(start, tmp_path):
    server = start(**SETTINGS, cache_disk_bytes="64MiB", cache_disk_dir=tmp_path / "cache")
    fill(server)
    server.wait_archived()
    forget(server)
    paths = [*server.bucket.glob("lanes/*/segments/*/*.seg"), *server.bucket.glob("topics/*/archives/*/*.ckx")]
    whole = {path: path.read_bytes() for path in paths}
    assert {path.suffix for path in whole} == {".seg", ".ckx"}
    for path, content in whole.items():
        path.write_bytes(bytes(byte ^ (at % 50 == 0) for at, byte in enumerate(content)))
    damaged = server.search(TOPIC, "word3", partial="true")
    assert damaged["not_searched"]
    records = requests.get(f"{server.http}/v1/topics/{TOPIC}/partitions/0/records", timeout=PATIENCE)
    assert records.status_code == 500 or "stopped_by" in records.json()
    for path, content in whole.items():
        path.write_bytes(content)
    check(server)
    # What was being written to the cache when it was distrusted may be asked for once more.
    until(lambda: not server.search(TOPIC, "word3", partial="true")["not_searched"], "all is searched")
    check_search(server)
    failed = server.metrics()["chronik_search_archives_failed_total"]
    check_search(server)
    assert server.metrics()["chronik_search_archives_failed_total"] == failed
    assert server.stop() == 0
    forget(server)
    check(server)
    check_search(server)


def test_a_broker_that_dies_as_it_writes_to_the_cache(start, tmp_path):
    died = tmp_path / "died"
    server = start(**SETTINGS, cache_disk_bytes="64MiB", cache_disk_dir=tmp_path / "cache")
    fill(server)
    server.set(failpoints=f"range-begun=abort@3:{died}")
    forget(server)
    client = consumer(server.bootstrap)
    client.assign([TopicPartition(TOPIC, 0, 0)])
    until(lambda: (client.poll(0.05) and None) or not server.running(), "the broker has died")
    client.close()
    assert server.process.wait(timeout=PATIENCE) == -signal.SIGABRT and died.exists()
    assert list((tmp_path / "cache").glob("begun-*"))
    forget(server.set(failpoints=""))
    assert not list((tmp_path / "cache").glob("begun-*"))
    check(server)


def test_query_workers_read_ahead_for_the_brokers_consumers(start):
    server = start(kind=Ingest, **SETTINGS)
    fill(server)
    query = start("query", kind=Query, local_storage_path=server.bucket, ingest_endpoints=server.http)
    server.set(query_endpoints=query.http)
    forget(server)
    check(server)
    assert query.metrics()["chronik_cold_ahead_read_bytes_total"] > RECORDS * 12_000 / 2
    assert server.metrics()["chronik_cold_ahead_read_bytes_total"] == 0
