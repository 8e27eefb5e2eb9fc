"""How fast groups commit offsets, on any broker that speaks Kafka's protocol.

Each of the groups commits an offset of one partition again and again, as consumers without members do (OffsetCommit 2).
The requests are spread over the connections, and sent without waiting for answers, as far as the broker reads them. The
time goes from the first byte to the last answer. Afterwards each group's offset is asked for, and has to be its last.

In the environment of the tests, with a broker that runs:

    PYTHONPATH=tests:tests/e2e python tests/load/commits.py 127.0.0.1:9092
"""

import argparse
import socket
import struct
import threading
import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from crowds import framed, header, string

TOPIC = "commits"
COORDINATOR, COMMIT, OFFSETS = 10, 8, 9


def main():
    options = parse()
    prepare(options.bootstrap)
    for round_ in range(options.rounds):
        ready(options.bootstrap)
        commits = [
            (group, round_ * options.each + number + 1)
            for number in range(options.each)
            for group in range(options.groups)
        ]
        seconds, answers = exchange(options, [commit(*pair) for pair in commits])
        assert all(answer[-2:] == b"\0\0" for answer in answers), "an offset was not committed"
        print(f"{len(commits)} offsets in {seconds:.2f} s, {len(commits) / seconds:,.0f}/s", flush=True)
    _, answers = exchange(options, [ask_offset(group) for group in range(options.groups)])
    last = options.rounds * options.each
    assert all(offset(answer) == last for answer in answers), "an offset is not the last"
    print(f"each of {options.groups} groups stands at its last offset")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bootstrap", help="the broker's address, HOST:PORT")
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--each", type=int, default=5, help="offsets that a group commits")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def prepare(bootstrap):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    try:
        admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(60)
    except KafkaException as error:
        if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
            raise


def ready(bootstrap):
    """Waits until groups have their coordinator, which Kafka makes a topic for at the first question."""
    deadline = time.monotonic() + 60
    while True:
        [answer] = on_connection(bootstrap, [framed(header(COORDINATOR, 0) + string("g0"))])
        if answer[4:6] == b"\0\0" and on_connection(bootstrap, [commit(0, 0)])[0][-2:] == b"\0\0":
            return
        assert time.monotonic() < deadline, "no coordinator for 60 s"
        time.sleep(0.2)


def commit(group, committed):
    alone = string(f"g{group}") + struct.pack(">i", -1) + string("") + struct.pack(">qi", -1, 1)
    return framed(header(COMMIT, 2) + alone + string(TOPIC) + struct.pack(">iiqh", 1, 0, committed, -1))


def ask_offset(group):
    return framed(
        header(OFFSETS, 1) + string(f"g{group}") + struct.pack(">i", 1) + string(TOPIC) + struct.pack(">ii", 1, 0)
    )


def offset(answer):
    """Of the one partition: its number, the offset, metadata, error code."""
    partition, committed = struct.unpack_from(">iq", answer, 4 + 4 + 2 + len(TOPIC) + 4)
    assert (partition, answer[-2:]) == (0, b"\0\0")
    return committed


def exchange(options, requests):
    """Seconds, and all answers; a group's requests go over one connection, in order."""
    shares = [[] for _ in range(options.connections)]
    for number, request in enumerate(requests):
        shares[number % options.groups % options.connections].append(request)
    answers = [[] for _ in shares]

    def one(number):
        answers[number] = on_connection(options.bootstrap, shares[number])

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(shares))]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - begun
    found = [answer for some in answers for answer in some]
    assert len(found) == len(requests), "a connection was lost"
    return seconds, found


def on_connection(bootstrap, requests):
    host, port = bootstrap.split(":")
    with socket.create_connection((host, int(port)), timeout=120) as connection:
        sending = threading.Thread(target=connection.sendall, args=(b"".join(requests),))
        sending.start()
        answers = list(read(connection, len(requests)))
        sending.join()
    return answers


def read(connection, count):
    """Answers without their lengths."""
    buffered = b""
    while count > 0:
        received = connection.recv(1 << 18)
        assert received, "the broker closed the connection"
        buffered, at = buffered + received, 0
        while len(buffered) - at >= 4:
            [length] = struct.unpack_from(">i", buffered, at)
            if len(buffered) - at - 4 < length:
                break
            yield buffered[at + 4 : at + 4 + length]
            at, count = at + 4 + length, count - 1
        buffered = buffered[at:]


if __name__ == "__main__":
    main()
