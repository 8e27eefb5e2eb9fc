"""How fast a consumer reads old records from the bucket, beside a plain loop of ranged GETs over the same bytes.

A topic of one partition is filled and shipped, and the data directory is removed, so that the broker starts from the
bucket and nothing is in memory. Then a consumer (librdkafka, its defaults) reads from offset 0 to the end, and a loop
reads the same batches from the same store, one GET after the other over one connection: each run in pieces of 1 MiB,
which is what a consumer asks for at a time, and in pieces of 8 MiB. In turn, and each as often as is said; the best of
each counts. On MinIO a relay adds time to every request, as a network does. The records don't compress.

    PYTHONPATH=tests:tests/e2e CHRONIK_BINARY=target/release/chronik python tests/load/cold.py
"""

import argparse
import asyncio
import http.client
import random
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

from chronik import Chronik
from confluent_kafka import Consumer, Producer, TopicPartition
from servers import s3
from servers.minio import Minio

TOPIC = "old"
VALUE_BYTES = 1000
PIECES = (1 << 20, 8 << 20)


def main():
    options = parse()
    with tempfile.TemporaryDirectory(prefix="chronik-load-") as folder:
        print(
            "| store | runs | MB | consumer MB/s | "
            + " | ".join(f"GETs of {p >> 20} MiB, MB/s | ratio" for p in PIECES)
        )
        print("|---|--:|--:|--:|" + "--:|--:|" * len(PIECES))
        for number, run_kib in enumerate(options.run_kib):
            if "local" in options.store:
                directory = Path(folder, f"local-{number}")
                measure("a directory", Chronik(directory), Directory(directory / "bucket"), run_kib, options)
            if "minio" in options.store:
                with Minio() as minio, Delay(minio.url, options.delay_ms / 1000) as delay:
                    chronik = Chronik(Path(folder, f"minio-{number}"), **s3.settings(delay.url))
                    name = f"MinIO, {options.delay_ms} ms a request"
                    measure(name, chronik, Bucket(minio.url, delay.url), run_kib, options)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", nargs="+", default=["local", "minio"], choices=["local", "minio"])
    parser.add_argument("--mib", type=int, default=128, help="of records")
    parser.add_argument("--run-kib", type=int, nargs="+", default=[64, 16384], help="size of a run")
    parser.add_argument("--delay-ms", type=int, default=20, help="of a request to MinIO")
    parser.add_argument("--times", type=int, default=3, help="each is measured so often")
    parser.add_argument("--cache", default="0", help="CHRONIK_CACHE_DISK_BYTES")
    return parser.parse_args()


def measure(name, chronik, store, run_kib, options):
    chronik.set(ship_max_bytes=f"{run_kib}KiB", ship_max_age="1h", cache_disk_bytes=options.cache)
    with chronik:
        records = (options.mib << 20) // VALUE_BYTES
        produce(chronik.bootstrap, records)
        chronik.seal()
        chronik.wait_shipped()
        assert chronik.stop() == 0
        chronik.lose_data_directory()
        # Some segments hold commands alone.
        runs = [run for run in store.runs() if run[1] < run[2]]
        size = sum(end - start for _, start, end in runs)
        consumed, plain = [], {piece: [] for piece in PIECES}
        for _ in range(options.times):
            chronik.start()
            consumed.append(consume(chronik.bootstrap, records))
            assert chronik.stop() == 0
            if options.cache == "0":
                chronik.lose_data_directory()
            for piece in PIECES:
                plain[piece].append(store.loop(runs, piece))
    rate = size / 1e6 / min(consumed)
    columns = [f"{size / 1e6 / min(plain[p]):.0f} | {min(plain[p]) / min(consumed):.2f}" for p in PIECES]
    print(
        f"| {name} | {len(runs)} of {run_kib} KiB | {size / 1e6:.0f} | {rate:.0f} | {' | '.join(columns)} |", flush=True
    )


def produce(bootstrap, records):
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "batch.size": 64 << 10})
    noise = random.Random(1).randbytes(VALUE_BYTES * 64)
    for number in range(records):
        while True:
            try:
                start = number % 63 * VALUE_BYTES
                producer.produce(TOPIC, noise[start : start + VALUE_BYTES - 8] + number.to_bytes(8, "big"), partition=0)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(120) == 0


def consume(bootstrap, records):
    """Seconds from the first request to the last record; each is looked at."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "load", "enable.auto.commit": False})
    began, seen = time.monotonic(), 0
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    while seen < records:
        for message in consumer.consume(min(1_000, records - seen), timeout=5):
            assert not message.error() and message.offset() == seen, f"{message.offset()} instead of {seen}"
            seen += 1
    took = time.monotonic() - began
    consumer.close()
    return took


def batches_of(name, tail, size):
    """Where the batches are in a segment of one partition: (name, start, end)."""
    log_position = int.from_bytes(tail[-124 + 56 : -124 + 64], "little")
    assert 56 <= log_position < size
    return name, 56, log_position


class Directory:
    def __init__(self, path):
        self.path = path

    def runs(self):
        segments = sorted(self.path.glob("lanes/*/segments/*/*.seg"), key=lambda path: path.name.split("-")[1:])
        return [batches_of(path, path.read_bytes()[-124:], path.stat().st_size) for path in segments]

    def loop(self, runs, piece):
        began = time.monotonic()
        for path, start, end in runs:
            for at in range(start, end, piece):
                with path.open("rb") as file:
                    file.seek(at)
                    wanted = min(piece, end - at)
                    assert len(file.read(wanted)) == wanted
        return time.monotonic() - began


class Bucket:
    def __init__(self, url, delayed):
        self.client, self.signer = s3.client(url), s3.client(delayed)

    def runs(self):
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=s3.BUCKET, Prefix="lanes/")
        objects = [each for page in pages for each in page.get("Contents", []) if each["Key"].endswith(".seg")]
        objects.sort(key=lambda each: each["Key"].rsplit("/", 1)[1].split("-")[1:])
        runs = []
        for each in objects:
            tail = self.client.get_object(Bucket=s3.BUCKET, Key=each["Key"], Range="bytes=-124")["Body"].read()
            url = self.signer.generate_presigned_url("get_object", {"Bucket": s3.BUCKET, "Key": each["Key"]}, 86_400)
            runs.append(batches_of(url, tail, each["Size"]))
        return runs

    def loop(self, runs, piece):
        place = urllib.parse.urlsplit(runs[0][0])
        connection = http.client.HTTPConnection(place.hostname, place.port)
        began = time.monotonic()
        for url, start, end in runs:
            path = url.split(place.netloc, 1)[1]
            for at in range(start, end, piece):
                wanted = min(piece, end - at)
                connection.request("GET", path, headers={"Range": f"bytes={at}-{at + wanted - 1}"})
                answer = connection.getresponse()
                assert answer.status == 206 and len(answer.read()) == wanted
        took = time.monotonic() - began
        connection.close()
        return took


class Delay:
    """A relay on loopback that passes on what clients send only after so many seconds, and what the server sends at
    once: a request that fits into one write takes so much longer."""

    def __init__(self, upstream, seconds):
        self.upstream, self.seconds = urllib.parse.urlsplit(upstream), seconds
        self.loop = asyncio.new_event_loop()

    def __enter__(self):
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        serve = asyncio.start_server(self.relay, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(serve, self.loop).result()
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)

    async def relay(self, reader, writer):
        up_reader, up_writer = await asyncio.open_connection(self.upstream.hostname, self.upstream.port)
        await asyncio.gather(self.copy(reader, up_writer, self.seconds), self.copy(up_reader, writer, 0))

    async def copy(self, reader, writer, delay):
        try:
            while part := await reader.read(1 << 20):
                if delay:
                    await asyncio.sleep(delay)
                writer.write(part)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()


if __name__ == "__main__":
    sys.exit(main())
