"""Requests that no client would send."""

import socket
import struct


def ask(address, key, version, body, flexible=False):
    """One request; returns the answer after its correlation id."""
    host, port = address.split(":")
    header = struct.pack(">hhih", key, version, 7, 4) + b"test" + (b"\0" if flexible else b"")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(struct.pack(">i", len(header + body)) + header + body)
        stream = connection.makefile("rb")
        [length] = struct.unpack(">i", stream.read(4))
        answer = stream.read(length)
    assert answer[:4] == struct.pack(">i", 7)
    return answer[4:]


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def varint(number):
    raw, encoded = number << 1 ^ number >> 63, b""
    while raw >= 0x80:
        raw, encoded = raw >> 7, encoded + bytes([raw & 0x7F | 0x80])
    return encoded + bytes([raw])


def batch(attributes=0, producer_id=-1, damage=0, times=(0,), latest=None, sequence=0):
    """
    A record for each of the times, not compressed whatever the attributes say; `latest` is what the header claims of
    them if it isn't true, and `damage` is done to the checksum. With a producer id it has epoch 0 and the sequence.
    """
    records = b""
    for offset, time in enumerate(times):
        record = b"\0" + varint(time - times[0]) + varint(offset) + b"\1\2v\0"
        records += varint(len(record)) + record
    epoch, sequence = (-1, -1) if producer_id < 0 else (0, sequence)
    latest = max(times) if latest is None else latest
    last, count = len(times) - 1, len(times)
    body = struct.pack(">hiqqqhii", attributes, last, times[0], latest, producer_id, epoch, sequence, count)
    body += records
    rest = struct.pack(">ibI", -1, 2, crc32c(body) ^ damage) + body
    return struct.pack(">qi", 0, len(rest)) + rest


def produce_by_hand(address, topic, records, version=3):
    return appended_by_hand(address, topic, records, version)[0]


def appended_by_hand(address, topic, records, version=3):
    """Error code and base offset."""
    name = struct.pack(">h", len(topic)) + topic.encode()
    body = struct.pack(">hhii", -1, -1, 30_000, 1) + name + struct.pack(">iii", 1, 0, len(records)) + records
    answer = ask(address, 0, version, body)
    return struct.unpack_from(">hq", answer, 4 + len(name) + 4 + 4)


def fetch_by_hand(address, topic, partition, offset=0):
    """The batches from there on, byte for byte, up to 64 MiB; asks as the oldest client does that reads batches."""
    name = struct.pack(">h", len(topic)) + topic.encode()
    limit = 64 << 20
    body = struct.pack(">iiiibi", -1, 0, 1, limit, 0, 1) + name + struct.pack(">iiqi", 1, partition, offset, limit)
    answer = ask(address, 1, 4, body)
    start = 4 + 4 + len(name) + 4
    _, code, _, _, aborted = struct.unpack_from(">ihqqi", answer, start)
    assert code == 0 and aborted <= 0, (code, aborted)
    records, batches = answer[start + 26 + 4 :], []
    while records:
        length = 12 + struct.unpack_from(">i", records, 8)[0]
        batches.append(records[:length])
        records = records[length:]
    return batches


def end_by_hand(address, topic, partition):
    """The offset that the next record gets."""
    name = struct.pack(">h", len(topic)) + topic.encode()
    answer = ask(address, 2, 1, struct.pack(">ii", -1, 1) + name + struct.pack(">iiq", 1, partition, -1))
    _, code, _, offset = struct.unpack_from(">ihqq", answer, 4 + len(name) + 4)
    assert code == 0, code
    return offset


def codec_of(batch):
    [attributes] = struct.unpack_from(">h", batch, 21)
    return ["none", "gzip", "snappy", "lz4", "zstd"][attributes & 7]


def records_in(batch):
    [last_offset_delta] = struct.unpack_from(">i", batch, 23)
    return last_offset_delta + 1


def producer_id_of(batch):
    [producer_id] = struct.unpack_from(">q", batch, 43)
    return producer_id
