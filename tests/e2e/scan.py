"""What a search must find, by looking at every record: a second, slow and plain reading of the query language."""

import functools
import json
import random
from dataclasses import dataclass


@functools.cache
def tokens(data):
    """The words of some bytes: runs of alphanumeric characters, case folded; invalid bytes separate."""
    words, word = [], []
    for character in data.decode(errors="replace") + " ":
        if character.isalnum():
            word.append(character)
        elif word:
            words.append("".join(c for letter in word for c in letter.lower().upper().lower() if c.isalnum()))
            word = []
    return [word if len(word.encode()) <= 255 else None for word in words]


@functools.cache
def texts(value):
    """What of a value is read as text: of a JSON document its strings and scalars, each of its own."""
    if value.strip()[:1] not in (b"{", b"[", b'"'):
        return (value,)
    try:
        document = json.loads(value, object_pairs_hook=list, parse_int=str, parse_float=str, parse_constant=float)
    except ValueError:
        return (value,)
    parts, found = [document], []
    while parts:
        part = parts.pop()
        if isinstance(part, list | tuple):
            parts.extend(part)
        else:
            text = part if isinstance(part, str) else json.dumps(part)
            found.append(text.encode(errors="replace"))
    return tuple(found)


def stands_in(phrase, words):
    width = len(phrase)
    return any(words[i : i + width] == phrase for i in range(len(words) - width + 1))


@dataclass(frozen=True)
class Word:
    text: str

    def __str__(self):
        return self.text

    def matches(self, record):
        phrase = tokens(self.text.encode())
        return record.value is not None and any(stands_in(phrase, tokens(text)) for text in texts(record.value))


@dataclass(frozen=True)
class Key:
    key: str

    def __str__(self):
        return f'key:"{self.key}"'

    def matches(self, record):
        return record.key == self.key.encode()


@dataclass(frozen=True)
class Header:
    name: str
    word: str

    def __str__(self):
        return f"headers.{self.name}:{self.word}"

    def matches(self, record):
        phrase = tokens(self.word.encode())
        values = (value for name, value in record.headers if name == self.name and value is not None)
        return any(stands_in(phrase, tokens(value)) for value in values)


@dataclass(frozen=True)
class All:
    def __str__(self):
        return ""

    def matches(self, _):
        return True


@dataclass(frozen=True)
class Not:
    inner: object

    def __str__(self):
        return f"NOT {self.inner}" if isinstance(self.inner, Word | Key | Header) else f"NOT ({self.inner})"

    def matches(self, record):
        return not self.inner.matches(record)


@dataclass(frozen=True)
class And:
    parts: tuple

    def __str__(self):
        return " ".join(f"({part})" if isinstance(part, Or) else str(part) for part in self.parts)

    def matches(self, record):
        return all(part.matches(record) for part in self.parts)


@dataclass(frozen=True)
class Or:
    parts: tuple

    def __str__(self):
        return " OR ".join(str(part) for part in self.parts)

    def matches(self, record):
        return any(part.matches(record) for part in self.parts)


def queries(system):
    """A selection for one system: frequent and rare words, phrases, operators, keys, headers."""
    draw = random.Random(system.topic)
    valued = [record for record in system.records if record.value]
    words = [word for record in draw.sample(valued, 12) for word in tokens(record.value) if word]
    chunk = [part for record in draw.sample(valued, 12) for part in record.value.split()]
    chunk = [part.decode() for part in chunk if is_plain(part)]
    keys = sorted({record.key for record in system.records if record.key})
    key = next(key for key in draw.sample(keys, len(keys)) if is_plain(key)).decode()
    one, two, three = (Word(word) for word in draw.sample(words, 3))
    return [
        All(),
        one,
        And((two, three)),
        Or((one, two)),
        And((one, Not(two))),
        Not(one),
        And((Or((one, two)), Not(And((two, three))))),
        Word(draw.choice(chunk)),
        Key(key),
        Header("level", "disk"),
        And((Header("level", "WARN"), Not(two))),
        Word("blk_7"),
        Word("ошибка"),
        Word("ΜΕΓΆΛΑ"),
        Word("nowhereatall"),
    ]


def is_plain(part):
    """Whether a piece of a line can stand in a query without quotes and has a word in it."""
    return (
        part.isascii()
        and not set(part) & set(b'"()\\:')
        and part not in (b"AND", b"OR", b"NOT")
        and any(tokens(part))
        and None not in tokens(part)
    )


def find(system, query, since=None, until=None, partitions=None):
    """(offset, record) of what matches, newest first: timestamp, partition, offset, all descending."""
    found = []
    for records in system.by_partition():
        for offset, record in enumerate(records):
            in_time = (since is None or record.timestamp >= since) and (until is None or record.timestamp < until)
            in_place = partitions is None or record.partition in partitions
            if in_time and in_place and query.matches(record):
                found.append((offset, record))
    return sorted(found, key=lambda hit: (hit[1].timestamp, hit[1].partition, hit[0]), reverse=True)
