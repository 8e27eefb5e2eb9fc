"""The broker on real buckets: everything comes back from one, outages and damage on the way there cost nothing that was
acknowledged, and what can't be a bucket is refused with the reason."""

import itertools
import os

import pytest
from chronik import PATIENCE, Chronik, until
from records import Record, consume, produce
from servers import azurite, gcs, s3
from servers.azurite import Azurite
from servers.faults import Faults, line
from servers.gcs import Gcs
from servers.minio import Minio

numbers = itertools.count()
# Small, so that a few megabytes are many segments.
SMALL = {"ship_max_age": "1s", "ship_max_bytes": "256KiB", "index_batch_age": "1s", "wal_rotation_size": "256KiB"}


def prefix():
    """One prefix is one cluster."""
    return f"cluster-{next(numbers)}"


def some(count):
    """Records of a kilobyte that don't compress."""
    return [Record(b"%d word%d " % (n, n % 10) + os.urandom(500).hex().encode(), b"k%d" % n) for n in range(count)]


def values(server, topic):
    [records] = consume(server.bootstrap, topic, 1)
    assert [offset for offset, _ in records] == list(range(len(records)))
    return [record.value for _, record in records]


def check_all_comes_back(server, records):
    """By a consumer, byte for byte, and by search."""
    assert values(server, "t") == [record.value for record in records]
    found = server.search("t", "word3", limit=10_000)
    assert {hit["offset"] for hit in found["hits"]} == set(range(3, len(records), 10))
    assert found["not_searched"] == []


def lives_in_the_bucket(start, settings):
    records = some(3000)
    server = start(**SMALL, **settings)
    produce(server.bootstrap, "t", records[:2000], "zstd")
    server.kill()
    server.start()
    produce(server.bootstrap, "t", records[2000:], "lz4")
    check_all_comes_back(server, records)
    server.seal()
    server.wait_archived()
    assert not server.bucket.exists(), "nothing is left on a local directory"
    server.kill()
    server.lose_data_directory()
    server.set(take_over="true").start()
    assert "recovered" in server.last_lines()
    check_all_comes_back(server, records)
    assert produce(server.bootstrap, "t", some(1)) == [len(records)]
    assert server.stop() == 0


def test_everything_comes_back_from_s3(start, minio):
    lives_in_the_bucket(start, s3.settings(minio.url, prefix=prefix()))


def test_everything_comes_back_from_azure(start):
    with Azurite() as server:
        lives_in_the_bucket(start, azurite.settings(prefix(), url=server.url))


def test_everything_comes_back_through_the_client_of_google_cloud_storage(start, moto):
    with Gcs(moto.url) as server:
        lives_in_the_bucket(start, gcs.settings(server.url, prefix()))


def test_a_bucket_that_is_gone_for_a_while_delays_no_client(start):
    """Records are acknowledged meanwhile; when it is back, all of them get there without an operator's help."""
    with Minio() as store:
        server = start(**SMALL, **s3.settings(store.url, prefix=prefix()))
        records = some(12_000)
        produce(server.bootstrap, "t", records[:2000])
        server.wait_shipped()
        store.kill()
        produce(server.bootstrap, "t", records[2000:])
        until(lambda: failures(server) > 0, "shipping has met the outage")
        assert server.status()["unshipped_bytes"] > 10_000 * 1000
        assert values(server, "t") == [record.value for record in records]
        assert resident_bytes(server) < 512 << 20
        store.start()
        server.wait_shipped()
        server.seal()
        server.wait_archived()
        server.kill()
        server.lose_data_directory()
        server.set(take_over="true").start()
        check_all_comes_back(server, records)


def failures(server):
    return sum(value for name, value in server.metrics().items() if name.startswith("chronik_upload_failures_total"))


def resident_bytes(server):
    with open(f"/proc/{server.process.pid}/status") as file:
        [line] = [line for line in file if line.startswith("VmRSS")]
    return int(line.split()[1]) << 10


@pytest.mark.parametrize("fault", ["error_after", "cut_after", "cut_before", "slow_down", "conflict"])
def test_faults_on_the_way_to_the_bucket_cost_nothing(start, minio, fault):
    with Faults(minio.url) as proxy:
        server = start(**SMALL, **s3.settings(proxy.url, prefix=prefix()))
        proxy.script(line(fault, "PUT", "/segments/", times=5), line(fault, "PUT", times=5, after=3))
        records = some(2000)
        produce(server.bootstrap, "t", records)
        server.seal()
        server.wait_archived()
        assert proxy.seen()[fault] >= 5
        assert server.stop() == 0
        server.lose_data_directory()
        server.start()
        check_all_comes_back(server, records)


def test_a_segment_that_arrived_and_was_not_registered_is_not_in_the_way(start, minio):
    """The broker dies between the upload and the check of what arrived: another upload of the same records follows."""
    with Faults(minio.url) as proxy:
        name = prefix()
        server = start(**SMALL, **s3.settings(proxy.url, prefix=name))
        proxy.script(*(line("cut_before", method, "/segments/") for method in ("HEAD", "GET")))
        records = some(500)
        produce(server.bootstrap, "t", records)
        until(lambda: segments(minio, name), "a segment has arrived")
        server.kill()
        assert server.data.exists()
        orphans = segments(minio, name)
        proxy.script()
        server.start()
        server.wait_shipped()
        assert segments(minio, name) > orphans
        assert server.stop() == 0
        server.lose_data_directory()
        server.start()
        check_all_comes_back(server, records)


def test_a_bucket_that_refuses_for_a_while_is_waited_for_at_the_start(start, minio):
    """By a broker that has nothing but the bucket; it claims once, whatever becomes of its requests."""
    with Faults(minio.url) as proxy:
        name = prefix()
        server = start(**SMALL, **s3.settings(proxy.url, prefix=name))
        records = some(500)
        produce(server.bootstrap, "t", records)
        assert server.stop() == 0
        server.lose_data_directory()
        # A request of the store's client is five on the wire.
        refusals = [line("slow_down", method, times=6) for method in ("GET", "HEAD", "PUT")]
        proxy.script(*refusals, line("error_after", "PUT", "/claims/", times=1))
        server.start()
        assert proxy.seen()["slow_down"] == 18 and "waiting for the bucket" in server.last_lines()
        assert values(server, "t") == [record.value for record in records]
        listing = s3.client(minio.url).list_objects_v2(Bucket=s3.BUCKET, Prefix=f"{name}/claims/")
        assert listing["KeyCount"] == 2


def test_a_bucket_that_can_not_be_reached_is_waited_for_by_name(tmp_path, minio):
    settings = s3.settings(minio.url, prefix=prefix(), S3_ENDPOINT="http://127.0.0.1:9")
    server = Chronik(tmp_path, **settings).spawn()
    until(lambda: "waiting for the bucket" in server.last_lines(), "it waits")
    told = server.last_lines()
    assert "S3_ENDPOINT" in told and "http://127.0.0.1:9" in told, told
    assert server.stop() == 0


def segments(store, name):
    """Their names, by a client that is not ours."""
    listing = s3.client(store.url).list_objects_v2(Bucket=s3.BUCKET, Prefix=f"{name}/lanes/")
    return {item["Key"] for item in listing.get("Contents", []) if item["Key"].endswith(".seg")}


def test_a_segment_that_arrived_damaged_is_never_registered(start, moto):
    """The store keeps half of it and says that all is well."""
    with Faults(moto.url) as proxy:
        server = start(**SMALL, **s3.settings(proxy.url, prefix=prefix()))
        proxy.script(line("shorten", "PUT", "/segments/", times=2))
        records = some(2000)
        produce(server.bootstrap, "t", records)
        server.seal()
        assert proxy.seen()["shorten"] == 2 and failures(server) >= 2
        assert server.stop() == 0
        server.lose_data_directory()
        server.start()
        check_all_comes_back(server, records)


def complaint(server):
    """What a server that must not come up says."""
    server.spawn()
    assert server.process.wait(timeout=PATIENCE) == 1, server.last_lines()
    told = server.last_lines()
    assert "panicked" not in told and s3.SECRET_KEY not in told, told
    return told


def test_a_store_that_ignores_create_only_is_refused(tmp_path, careless):
    told = complaint(Chronik(tmp_path, **s3.settings(careless.url, prefix=prefix())))
    assert "does not refuse to create an object that exists already" in told and "conditional puts" in told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"S3_SECRET_KEY": "mistyped"}, ["S3_SECRET_KEY", "SignatureDoesNotMatch"]),
        ({"S3_ACCESS_KEY": "mistyped"}, ["S3_ACCESS_KEY", "InvalidAccessKeyId"]),
        ({"S3_BUCKET": "absent"}, ["S3_BUCKET", "absent"]),
        ({"S3_DISABLE_SSL": "false"}, ["S3_ENDPOINT", "S3_DISABLE_SSL"]),
        ({"S3_SECRET_KEY": ""}, ["S3_ACCESS_KEY", "S3_SECRET_KEY"]),
    ],
)
def test_what_is_wrong_about_a_bucket_is_named(tmp_path, minio, changes, words):
    server = Chronik(tmp_path, **s3.settings(minio.url, prefix=prefix(), **changes))
    told = complaint(server)
    assert all(word in told for word in words), told
    assert "mistyped" not in told
