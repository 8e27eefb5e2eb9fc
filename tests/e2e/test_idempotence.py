"""Idempotent producers: what is sent again is written once, whatever happens to the broker meanwhile."""

import struct
import threading

from by_hand import appended_by_hand, ask, batch
from chronik import until
from records import consume, producer, watermarks
from servers import s3
from servers.faults import Faults, line
from servers.moto import Moto

OUT_OF_ORDER = 45


def new_producer_id(bootstrap):
    answer = ask(bootstrap, 22, 0, struct.pack(">hi", -1, 0))
    _, code, producer_id, epoch = struct.unpack(">ihqh", answer)
    assert (code, epoch) == (0, 0)
    return producer_id


def numbered(producer_id, sequence):
    return batch(producer_id=producer_id, sequence=sequence)


def test_every_record_is_there_once_and_in_order_though_the_broker_is_killed(start):
    server = start(ship_max_age="1s")
    server.set(kafka_port=server.bootstrap.split(":")[1])
    client = producer(server.bootstrap, enable_idempotence=True, message_timeout_ms=120_000)
    failures = []
    sent = 20_000
    killed = threading.Event()

    def kill_and_start():
        for _ in range(3):
            until(lambda: server.metrics()["chronik_unshipped_bytes"] > 0, "something is written")
            server.kill()
            server.start()
        killed.set()

    killer = threading.Thread(target=kill_and_start)
    killer.start()
    number = 0
    while number < sent or not killed.is_set():
        client.produce("t", b"%d" % number, partition=0, on_delivery=lambda error, _: error and failures.append(error))
        client.poll(0.001 if number % 50 == 0 else 0)
        number += 1
        if len(client) > 50_000:
            client.poll(0.1)
    killer.join()
    assert client.flush(120) == 0
    assert not failures
    [read] = consume(server.bootstrap, "t", 1)
    assert [record.value for _, record in read] == [b"%d" % n for n in range(number)]


def test_batches_sent_again_have_their_first_offsets_after_kill_9_and_recovery(start):
    server = start(ship_max_age="1s")
    server.tool("topic", "create", "t")
    producer_id = new_producer_id(server.bootstrap)
    append = lambda sequence: appended_by_hand(server.bootstrap, "t", numbered(producer_id, sequence))  # noqa: E731
    assert [append(n) for n in range(2)] == [(0, 0), (0, 1)]
    server.kill()
    server.start()
    assert [append(n) for n in range(5)] == [(0, n) for n in range(5)], "two were durable, three are new"
    assert append(7) == (OUT_OF_ORDER, -1)
    assert server.stop() == 0
    server.lose_data_directory()
    server.start()
    assert [append(n) for n in range(6)] == [(0, n) for n in range(6)]
    assert watermarks(server.bootstrap, "t", 1) == [(0, 6)]
    assert new_producer_id(server.bootstrap) > producer_id


def test_a_producer_that_was_silent_for_long_goes_on_where_it_was(start):
    server = start(producer_id_expiration="2s")
    server.tool("topic", "create", "t")
    producer_id = new_producer_id(server.bootstrap)
    assert appended_by_hand(server.bootstrap, "t", numbered(producer_id, 0)) == (0, 0)

    def goes_on():
        """A gap is refused as long as the broker remembers the producer."""
        code, offset = appended_by_hand(server.bootstrap, "t", numbered(producer_id, 9))
        assert code in (0, OUT_OF_ORDER)
        return code == 0 and offset == 1

    until(goes_on, "the producer is forgotten")
    assert appended_by_hand(server.bootstrap, "t", numbered(producer_id, 10)) == (0, 2)


def test_batches_behind_a_first_one_that_was_refused_for_now_wait_for_it(start):
    """What is behind it would be taken for the beginning otherwise, and the first one never again."""
    with Moto() as moto, Faults(moto.url) as store:
        settings = s3.settings(store.url)
        server = start(
            ship_max_age="1s", ship_max_bytes="256KiB", wal_rotation_size="256KiB", wal_max_bytes="1MiB", **settings
        )
        server.tool("topic", "create", "t")
        store.script(line("slow_down", method="PUT"))

        def fill():
            return appended_by_hand(server.bootstrap, "t", batch(times=(0,) * 6000))[0] != 0

        until(fill, "the log is full")
        reports = []
        client = producer(server.bootstrap, enable_idempotence=True, linger_ms=0, batch_num_messages=1)
        values = [b"z" * 200_000, b"1", b"2"]
        for value in values:
            client.produce("t", value, partition=0, on_delivery=lambda error, message: reports.append((error, message)))
            client.poll(0.05)
        store.script()
        assert client.flush(120) == 0
        assert [error for error, _ in reports] == [None] * 3
        [read] = consume(server.bootstrap, "t", 1)
        assert [record.value for _, record in read][-3:] == values
