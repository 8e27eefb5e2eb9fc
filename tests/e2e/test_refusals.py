"""What goes wrong at the hands of an operator: the message says what, where and what to do."""

import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest
from chronik import BINARY, PATIENCE, Chronik, program, run_tool, until
from records import Record, consume, produce, producer
from servers import s3


def refused(server, *words, code=1):
    """Starts a server that must not come up; its complaint holds all `words`."""
    server.spawn()
    assert server.process.wait(timeout=PATIENCE) == code, server.last_lines()
    complaint = server.last_lines()
    for word in words:
        assert str(word) in complaint, f"{word!r} is missing in\n{complaint}"
    for noise in ("panicked", "backtrace", "RUST_BACKTRACE", "Os {", "Custom {"):
        assert noise not in complaint, complaint


@pytest.mark.parametrize("name", ["kafka_port", "http_port"])
def test_a_used_port(tmp_path, name):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = Chronik(tmp_path, **{name: port})
        refused(server, port, "in use", f"CHRONIK_{name.upper()}")


def test_a_used_port_of_one_listener(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        server = Chronik(tmp_path, listeners=f"INSIDE://127.0.0.1:0,OUTSIDE://{place}")
        refused(server, place, "in use", "CHRONIK_LISTENERS")
        assert not server.data.exists()


@pytest.mark.parametrize("single", ["kafka_port", "bind_addr", "advertised_addr", "advertised_port"])
@pytest.mark.parametrize("several", ["listeners", "advertised_listeners"])
def test_settings_of_one_listener_and_of_several(tmp_path, several, single):
    server = Chronik(tmp_path)
    server.settings.pop("CHRONIK_KAFKA_PORT")
    value = "127.0.0.1" if single.endswith("addr") else 9092
    server.set(**{several: "PLAINTEXT://127.0.0.1:0"})
    server.settings[f"CHRONIK_{single.upper()}"] = value
    refused(server, f"CHRONIK_{several.upper()}", f"CHRONIK_{single.upper()}", "instead of")


def test_flags_take_what_other_switches_take(start):
    start(take_over="1", strict_lease="on", accept_loss="no")


@pytest.mark.parametrize(
    ("setting", "value", "accepted"),
    [
        ("CHRONIK_KAFKA_PORT", "many", "65535"),
        ("CHRONIK_HTTP_PORT", "70000", "65535"),
        ("CHRONIK_BIND_ADDR", "somewhere", "127.0.0.1"),
        ("CHRONIK_ADVERTISED_ADDR", "host:port", "HOST"),
        ("CHRONIK_LISTENERS", "localhost:9092", "NAME://HOST:PORT"),
        ("CHRONIK_LISTENERS", "SASL_SSL://127.0.0.1:9093", "TLS and SASL are not there yet"),
        ("CHRONIK_ADVERTISED_LISTENERS", "A://a:1,A://b:2", "a name of its own"),
        ("CHRONIK_WAL_ROTATION_SIZE", "64 parsecs", "64MiB"),
        ("CHRONIK_WAL_ROTATION_SIZE", "1KiB", "64KiB"),
        ("CHRONIK_SHIP_MAX_BYTES", "65MiB", "64MiB"),
        ("CHRONIK_SHIP_MAX_AGE", "soon", "10s"),
        ("CHRONIK_NUM_PARTITIONS", "0", "1"),
        ("CHRONIK_AUTO_CREATE_TOPICS", "maybe", "true"),
        ("OBJECT_STORE_BACKEND", "floppy", "local"),
        ("OBJECT_STORE_BACKEND", "s3", "S3_BUCKET"),
        ("CHRONIK_QUEUE", "rabbit", "sqs"),
        ("CHRONIK_HTTP_BIND", "0.0.0.0", "loopback"),
        ("CHRONIK_BIND_ADDR", "0.0.0.0", "CHRONIK_ADVERTISED_ADDR"),
    ],
)
def test_a_wrong_value(tmp_path, setting, value, accepted):
    server = Chronik(tmp_path)
    server.settings[setting] = value
    server.spawn()
    assert server.process.wait(timeout=PATIENCE) in (1, 2)
    complaint = server.last_lines()
    assert setting in complaint and value in complaint and accepted in complaint, complaint
    assert not server.data.exists() and not server.bucket.exists(), "refused before anything starts"


@pytest.mark.parametrize("setting", ["CHRONIK_PRODUCE_PROFILE", "CHRONIK_NODE_ID"])
def test_settings_of_what_is_not_there_yet(tmp_path, setting):
    server = Chronik(tmp_path)
    server.settings[setting] = "secret-value"
    refused(server, setting, "not there yet", code=2)
    assert "secret-value" not in server.last_lines()


def test_flags_of_what_is_not_there_yet():
    done = run_tool("standalone", "--raft")
    assert done.returncode == 2 and b"--raft" in done.stderr and b"not there yet" in done.stderr


@pytest.mark.parametrize("command", [[BINARY], [BINARY, "status"], [program("chronik-query")]])
def test_an_argument_that_is_no_text(command):
    done = subprocess.run([*command, b"--\xff"], capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2 and b"is not UTF-8" in done.stderr and b"panicked" not in done.stderr, done.stderr


def test_names_of_earlier_systems_are_warned_about(start):
    server = start(snapshot_interval="5", wal_profile="high")
    assert "CHRONIK_SNAPSHOT_INTERVAL" in server.last_lines() and "CHRONIK_WAL_PROFILE" in server.last_lines()


def test_a_second_process_on_the_same_data_directory(start, tmp_path):
    server = start()
    other = Chronik(tmp_path / "other", data_dir=server.data)
    refused(other, server.data, "another process")
    assert server.running()


def test_a_second_process_on_the_same_bucket(start, tmp_path):
    server = start()
    other = Chronik(tmp_path / "other", local_storage_path=server.bucket)
    refused(other, server.bucket, "another process")
    refused(other.set(take_over="true"), server.bucket, "another process")


def test_the_bucket_of_another_cluster(start, tmp_path):
    first, second = start("first"), start("second")
    for server in (first, second):
        server.tool("produce", "t", stdin=b"x\n")
        assert server.stop() == 0
    mixed = Chronik(tmp_path / "mixed", data_dir=first.data, local_storage_path=second.bucket)
    refused(mixed, first.data, "cluster")
    first.start()
    assert first.tool("consume", "t") == b"x\n"


def test_a_data_directory_whose_bucket_is_gone(start):
    server = start()
    server.tool("produce", "t", stdin=b"x\n")
    server.kill()
    shutil.rmtree(server.bucket)
    refused(server, server.data)


@pytest.mark.parametrize("store", ["directory", "S3"])
def test_an_older_copy_of_a_data_directory_put_back(start, tmp_path, request, store):
    """A volume restored from a snapshot, after a stop in good order."""
    bucket = {} if store == "directory" else s3.settings(request.getfixturevalue("minio").url, prefix="put-back")
    server = start(ship_max_age="1h", **bucket)
    copy = tmp_path / "copy"
    for turn in range(2):
        if turn > 0:
            shutil.copytree(server.data, copy)
            server.start()
        produce(server.bootstrap, "t", [Record(b"%d" % number) for number in range(10 * turn, 10 * turn + 10)])
        server.seal()
        assert server.stop() == 0
    shutil.rmtree(server.data)
    shutil.copytree(copy, server.data)
    refused(server, server.data, "older copy", "empty data directory")
    server.lose_data_directory()
    server.start()
    [records] = consume(server.bootstrap, "t", 1)
    assert [record.value for _, record in records] == [b"%d" % number for number in range(20)]


def test_a_damaged_newest_checkpoint_and_catalog_are_passed_over(start):
    server = start(ship_max_age="1h")
    for turn in range(2):
        if turn > 0:
            server.start()
        produce(server.bootstrap, "t", [Record(b"%d" % number) for number in range(10 * turn, 10 * turn + 10)])
        assert server.stop() == 0
    damaged = [max(server.bucket.rglob(kind)) for kind in ("*.ckpt", "*.catalog")]
    damaged.append(server.bucket / "catalog" / "00000000" / "latest")
    for file in damaged:
        content = bytearray(file.read_bytes())
        content[-20] ^= 0xFF
        file.write_bytes(content)
    server.lose_data_directory()
    server.start()
    assert damaged[0].name in server.last_lines() and damaged[1].name in server.last_lines()
    [records] = consume(server.bootstrap, "t", 1)
    assert [record.value for _, record in records] == [b"%d" % number for number in range(20)]


@pytest.mark.parametrize("what", ["removed", "cut"])
def test_a_segment_that_is_gone_or_cut_though_a_checkpoint_covers_it(start, what):
    server = start(ship_max_age="1h")
    for turn in range(3):
        if turn > 0:
            server.start()
        numbers = range(10 * turn, 10 * turn + 10)
        produce(server.bootstrap, "t", [Record(b"number %d" % number) for number in numbers])
        assert server.stop() == 0
    [segment] = [file for file in server.bucket.rglob("*.seg") if b"number 15" in file.read_bytes()]
    whole = segment.read_bytes()
    if what == "removed":
        segment.unlink()
    else:
        segment.write_bytes(whole[:100])
    server.lose_data_directory()
    refused(server, segment.name, "t partition 0 offsets 10 to 19", "--accept-loss")
    server.set(accept_loss="true").start()
    assert "LOST" in server.last_lines() and segment.name in server.last_lines()
    path = "/v1/topics/t/partitions/0/records"
    answers = [server.request("GET", path, params={"offset": offset, "limit": 5}) for offset in (0, 10, 20)]
    assert [answer.status_code for answer in answers] == [200, 503, 200]
    search = {"topic": "t", "q": "number", "limit": 100}
    assert server.request("GET", "/v1/search", params=search).status_code == 503
    answer = server.get("/v1/search", **search, partial="true")
    assert sorted(hit["offset"] for hit in answer["hits"]) == [*range(10), *range(20, 30)]
    assert [(range["from"], range["to"]) for range in answer["not_searched"]] == [(10, 20)]
    assert produce(server.bootstrap, "t", [Record(b"number 30")]) == [30]
    assert server.stop() == 0

    server.lose_data_directory()
    segment.write_bytes(whole)
    server.set(accept_loss="false").start()
    [records] = consume(server.bootstrap, "t", 1)
    assert [record.value for _, record in records] == [b"number %d" % number for number in range(31)]


@pytest.mark.parametrize("name", ["data_dir", "local_storage_path"])
def test_a_directory_that_cannot_be(tmp_path, name):
    file = tmp_path / "file"
    file.write_text("in the way")
    refused(Chronik(tmp_path / "server", **{name: file}), file)


def test_a_bucket_full_of_other_things(tmp_path):
    server = Chronik(tmp_path)
    server.bucket.mkdir()
    (server.bucket / "cluster.json").write_text('{"v": 99, "cluster": "?"}')
    refused(server, "cluster.json")


def test_sigterm_ships_and_ends_well(start):
    server = start(ship_max_age="1h")
    server.tool("produce", "t", stdin=b"x\n")
    assert server.stop() == 0
    assert list(server.bucket.rglob("*.seg")), "a clean stop ships everything"
    server.lose_data_directory()
    server.start()
    assert server.tool("consume", "t") == b"x\n"


def test_sigint_ends_well(start):
    server = start()
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(timeout=PATIENCE) == 0


def test_damage_in_the_write_ahead_log_is_located(start):
    server = start(ship_max_age="1h")
    server.tool("topic", "create", "t")
    for number in range(20):
        server.tool("produce", "t", stdin=b"%d\n" % number)
    server.kill()
    [wal] = [path for path in server.data.rglob("*.wal") if path.stat().st_blocks][:1]
    content = bytearray(wal.read_bytes())
    at = content.index(b"15", 4096 if len(content) > 1 << 20 else 0) if b"15" in content else 2000
    content[at] ^= 0xFF
    wal.write_bytes(content)
    refused(server, wal.name)


@pytest.mark.parametrize("change", ["flip", "zeros", "older copy"])
def test_what_was_on_disk_a_moment_ago_is_never_taken_for_an_unfinished_write(start, change):
    server = start(ship_max_age="1h")
    server.tool("produce", "t", stdin=b"first\n")
    [wal] = server.data.rglob("*.wal")
    older = wal.read_bytes()
    server.tool("produce", "t", stdin=b"last\n")
    content = wal.read_bytes()
    frame = content.rindex(b"ChkF")
    (index,) = struct.unpack_from("<Q", content, frame + 28)
    until(lambda: marked(server) >= index, "the mark says that the last frame is on disk")
    server.kill()
    content = wal.read_bytes()
    if change == "flip":
        wal.write_bytes(content[: frame + 60] + bytes([content[frame + 60] ^ 1]) + content[frame + 61 :])
    elif change == "zeros":
        wal.write_bytes(content[:frame].ljust(len(content), b"\0"))
    else:
        wal.write_bytes(older)
    refused(server, wal, "is damaged", "it was durable up to frame")
    wal.write_bytes(content)
    server.start()
    assert server.tool("consume", "t") == b"first\nlast\n"


def marked(server):
    """The last frame of the log that is known to be on disk."""
    [mark] = server.data.rglob("wal.mark")
    blocks = mark.read_bytes()
    return max(struct.unpack_from("<Q", blocks, at + 44)[0] for at in (0, 4096))


@pytest.fixture
def small_volume(tmp_path):
    """A file system of 24 MiB."""
    path = tmp_path / "volume"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def test_a_log_that_can_not_be_written_ends_nothing(tmp_path):
    server = Chronik(tmp_path / "server", log="debug", ship_max_age="1s")
    kept, server.log = server.log, Path("/dev/full")
    server.spawn()
    server.log = kept
    try:
        server.wait_ready()
        server.tool("produce", "t", stdin=b"said without a log\n")
        server.wait_shipped()
        assert server.tool("consume", "t") == b"said without a log\n"
        assert server.metrics()["chronik_kafka_panics_total"] == 0
        assert server.stop() == 0
    finally:
        server.process.kill()


def test_a_full_disk_at_the_start(small_volume, tmp_path):
    (small_volume / "filler").write_bytes(bytes(24 << 20 if free(small_volume) > 24 << 20 else free(small_volume)))
    refused(Chronik(tmp_path / "server", data_dir=small_volume / "data"), small_volume)


def test_a_volume_too_small_for_the_log(small_volume, tmp_path):
    server = Chronik(tmp_path / "server", data_dir=small_volume / "data")
    refused(server, small_volume, "MiB", "--wal-rotation-size", "--wal-max-bytes")
    assert not list(server.bucket.rglob("claims/*"))


def test_a_disk_that_fills_up_refuses_and_recovers(small_volume, start):
    """Nothing is acknowledged that does not fit; shipping makes room again; nothing acknowledged is lost."""
    server = start(
        data_dir=small_volume / "data",
        wal_rotation_size="1MiB",
        ship_max_age="1h",
        ship_max_bytes="64MiB",
    )
    server.tool("topic", "create", "t")
    acknowledged, failures = {}, []

    def delivered(number):
        def report(error, message):
            if error:
                failures.append(error)
            else:
                acknowledged[message.offset()] = number

        return report

    client = producer(server.bootstrap, retries=0, message_timeout_ms=8000)
    for number in range(1000):
        client.produce("t", b"%04d" % number + os.urandom(50_000), on_delivery=delivered(number))
        client.poll(0)
        if number % 10 == 0:
            client.flush(10)
        if failures:
            break
    client.purge()
    client.flush(10)
    assert failures and acknowledged
    assert server.running(), server.last_lines()

    server.seal()
    until(lambda: accepts(server), "there is room again")
    [records] = consume(server.bootstrap, "t", 1)
    numbers = {offset: int(record.value[:4]) for offset, record in records}
    assert acknowledged.items() <= numbers.items()


def test_a_disk_that_others_fill_up_stops_neither_producers_nor_checkpoints_nor_a_restart(small_volume, start):
    server = start(data_dir=small_volume / "data", wal_rotation_size="1MiB", ship_max_age="1h")
    server.tool("produce", "t", stdin=b"before\n")
    with (small_volume / "filler").open("wb", buffering=0) as filler:
        for size in (1 << 20, 4096):
            try:
                while filler.write(bytes(size)) == size:
                    pass
            except OSError:
                pass
    assert free(small_volume) == 0
    server.tool("produce", "t", stdin=b"while full\n")
    places = list(small_volume.glob("data/checkpoints/*/*.ckpt"))
    assert len(places) == 2
    written = [place.stat().st_mtime_ns for place in places]
    server.seal()
    until(
        lambda: all(place.stat().st_mtime_ns > at for place, at in zip(places, written, strict=True)),
        "both checkpoints are written on the full disk",
    )
    assert server.running(), server.last_lines()
    server.tool("produce", "t", stdin=b"still full\n")
    with pytest.raises(AssertionError):
        produce(server.bootstrap, "more", [Record(os.urandom(50_000))] * 200, message_timeout_ms=2000)
    assert server.log.read_text().count("could be allocated in") == 1, "the operator is warned, once"
    server.kill()
    server.start()
    assert server.metrics()["chronik_checkpoint_failures_total"] == 0
    assert server.tool("consume", "t") == b"before\nwhile full\nstill full\n"


def accepts(server):
    try:
        produce(server.bootstrap, "t", [Record(b"9999 again")], message_timeout_ms=2000)
        return True
    except AssertionError:
        return False


def free(path):
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize


def test_ready_within_a_second(start):
    server = start()
    server.stop()
    begun = time.monotonic()
    server.start()
    print(f"ready after {time.monotonic() - begun:.3f} s")
