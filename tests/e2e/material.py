"""Input: real log files where CHRONIK_TEST_LOGS names them, generated lines otherwise; in both cases with other
scripts, invalid UTF-8, keys, headers, nulls and tombstones among them."""

import os
import random
from dataclasses import dataclass
from pathlib import Path

from records import CODECS, Record

START = 1_700_000_000_000
SCRIPTS = [
    "Ошибка соединения с сервером базы данных",
    "σφάλμα σύνδεσης ΜΕΓΆΛΑ ΓΡΆΜΜΑΤΑ",
    "接続エラー データベース サーバー",
    "连接 数据库 服务器 错误 42",
    "Größe überschritten, STRASSE gesperrt, naïve façade",
    "emoji 🚀 between 🧨 words",
    "خطأ في الاتصال بالخادم",
]


@dataclass
class System:
    """One system's log: a topic."""

    topic: str
    codec: str
    partitions: int
    records: list[Record]

    def by_partition(self):
        """[partition][offset], as they must come back."""
        return [[record for record in self.records if record.partition == p] for p in range(self.partitions)]


def systems():
    """A topic for each system; the five codecs take turns, every third topic has several partitions."""
    made = []
    for index, (name, lines) in enumerate(sources()):
        draw = random.Random(name)
        partitions = 4 if index % 3 == 0 else 1
        made.append(
            System(
                topic=f"logs.{name}",
                codec=CODECS[index % len(CODECS)],
                partitions=partitions,
                records=[record(draw, line, number, partitions) for number, line in enumerate(mixed(draw, lines))],
            )
        )
    return made


def sources():
    """(system, its lines as bytes)"""
    folder = os.environ.get("CHRONIK_TEST_LOGS")
    if folder:
        files = sorted(Path(folder).glob("*_2k.log"))
        assert files, f"CHRONIK_TEST_LOGS is {folder}, where there are no *_2k.log files"
        return [(file.name.removesuffix("_2k.log"), file.read_bytes().splitlines()) for file in files]
    return [(name, generated(name)) for name in ("gateway", "storage", "scheduler", "mailer", "billing", "search")]


def generated(name):
    draw = random.Random(name)
    levels = ["INFO", "WARN", "ERROR", "DEBUG"]
    verbs = ["received", "stored", "rejected", "forwarded", "expired", "Connection reset by"]
    lines = []
    for number in range(2000):
        line = (
            f"{draw.choice(levels)} {name}.{draw.choice('ABC')}lass: {draw.choice(verbs)} blk_{draw.randrange(10**9)} "
            f"from 10.{draw.randrange(4)}.{draw.randrange(256)}.{draw.randrange(256)}:{draw.randrange(65536)} "
            f"in {draw.randrange(5000)} ms ({draw.getrandbits(64):016x})"
        )
        lines.append(line.encode() + b" trace=" + draw.randbytes(200).hex().encode() * (number % 100 == 0))
    return lines


def mixed(draw, lines):
    """The lines, with what log files of one country lack."""
    for line in lines:
        yield line
        if draw.random() < 0.02:
            yield draw.choice(SCRIPTS).encode()
        if draw.random() < 0.01:
            yield b"broken \xff\xfe bytes " + draw.randbytes(12) + b" inside blk_" + str(draw.randrange(99)).encode()
        if draw.random() < 0.005:
            yield b""


def record(draw, line, number, partitions):
    words = line.split()
    key = None
    if draw.random() < 0.5:
        key = words[draw.randrange(len(words))] if words else b""
    headers = []
    if draw.random() < 0.3:
        headers.append(("level", draw.choice([b"info", b"WARN", b"error: Disk full", b"\xff\x00"])))
    if draw.random() < 0.1:
        headers += [("trace-id", draw.randbytes(8).hex().encode()), ("empty", b""), ("null", None)]
    return Record(
        value=None if key is not None and draw.random() < 0.04 else line,
        key=key,
        # Seldom backwards, as clocks do.
        timestamp=START + number * 250 - (draw.randrange(60_000) if draw.random() < 0.05 else 0),
        partition=draw.randrange(partitions),
        headers=tuple(headers),
    )
