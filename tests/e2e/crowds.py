"""Clients by the thousand, made of bare sockets: nonsense that they send, and members of one group."""

import asyncio
import contextlib
import itertools
import random
import socket
import struct
from collections import Counter
from functools import cache
from pathlib import Path

FRAMES = Path(__file__).parents[2] / "shared/wire/tests/frames"
INT_MAX = 2**31 - 1


def framed(body):
    return struct.pack(">i", len(body)) + body


def header(key, version, correlation=7):
    return struct.pack(">hhih", key, version, correlation, 5) + b"crowd"


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


def bytes_of(data):
    return struct.pack(">i", len(data)) + data


@cache
def genuine():
    """Requests of real clients, with their lengths."""
    return [path.read_bytes() for path in sorted(FRAMES.glob("*/*.req.bin"))]


# What a client sends; each knows the chance that its client has.


def any_bytes(chance):
    return chance.randbytes(chance.randrange(1, 2000))


def wrong_length(chance):
    length = chance.choice([-1, 0, 1, 3, 9, 100 << 20, (100 << 20) + 1, INT_MAX, -INT_MAX])
    return struct.pack(">i", length) + chance.choice(genuine())[4:]


def garbage_behind_a_header(chance):
    body = chance.choice([b"\xff", b"\x7f\xff\xff\xff", b"\0", b"\x80", chance.randbytes(7)]) * chance.randrange(200)
    return framed(header(chance.randrange(81), chance.randrange(18)) + body)


def unknown_api(chance):
    return framed(header(chance.choice([-1, 90, 999, 32767]), chance.choice([-1, 0, 99])))


def cut_short(chance):
    """Whole to its length field, but not beyond some byte."""
    frame = chance.choice(genuine())
    return frame[: chance.randrange(len(frame))]


def shortened(chance):
    """Its length says where it was cut."""
    body = chance.choice(genuine())[4:]
    return framed(body[: chance.randrange(1, len(body))])


def bits_flipped(chance):
    body = bytearray(chance.choice(genuine())[4:])
    for _ in range(chance.randrange(1, 6)):
        body[chance.randrange(4, len(body))] ^= 1 << chance.randrange(8)
    return framed(bytes(body))


def huge_claim(chance):
    """Somewhere it says that more follows than there can be."""
    body = bytearray(chance.choice(genuine())[4:])
    at = chance.randrange(8, len(body))
    body[at : at + 4] = chance.choice([b"\x7f\xff\xff\xff", b"\xff\xff\xff\x0f", b"\x7f\xff", b"\x05\xf5\xe1\x00"])
    return framed(bytes(body))


def flood(chance):
    """More answers than buffers take; none is read."""
    return framed(header(18, 0)) * chance.randrange(200, 2000)


def genuine_together(chance):
    return b"".join(chance.choices(genuine(), k=5))


NONSENSE = [
    any_bytes,
    wrong_length,
    garbage_behind_a_header,
    unknown_api,
    cut_short,
    shortened,
    bits_flipped,
    huge_claim,
    flood,
    genuine_together,
]


class Fool:
    """A client that does so many foolish things, one connection each; which ones is decided by its number."""

    def __init__(self, address, number):
        host, port = address.split(":")
        self.address = (host, int(port))
        self.chance = random.Random(number)
        self.connection = None

    async def connect(self):
        self.connection = socket.socket()
        self.connection.setblocking(False)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.get_running_loop().sock_connect(self.connection, self.address)

    async def greet(self):
        """What is answered is there for the broker too, not only in the system's queue."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self.connection, framed(header(18, 0)))
        assert await loop.sock_recv(self.connection, 4096)

    async def run(self, acts):
        for act in range(acts):
            if act > 0:
                await self.connect()
            with self.connection, contextlib.suppress(OSError):
                await self.act()

    async def act(self):
        loop = asyncio.get_running_loop()
        # Who is not read stops sending.
        await asyncio.wait_for(loop.sock_sendall(self.connection, self.chance.choice(NONSENSE)(self.chance)), 2)
        match self.chance.randrange(4):
            case 0:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case 1:
                self.connection.shutdown(socket.SHUT_WR)
                await asyncio.wait_for(loop.sock_recv(self.connection, 4096), 2)
            case 2:
                await asyncio.wait_for(loop.sock_recv(self.connection, 1), 0.2)


async def nonsense(address, clients, acts, all_connected):
    """Calls `all_connected` once all are there at the same time, before any of them sends nonsense."""
    fools = [Fool(address, number) for number in range(clients)]
    await asyncio.gather(*(fool.connect() for fool in fools))
    await asyncio.gather(*(fool.greet() for fool in fools))
    await asyncio.to_thread(all_connected)
    await asyncio.gather(*(fool.run(acts) for fool in fools))


class Group:
    """Members of one group, and how many of them know of each generation."""

    def __init__(self, name, members):
        self.name = name
        self.members = members
        self.settled = Counter()

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, address, name, size, session_ms=30_000):
        members = [Member(name, session_ms) for _ in range(size)]
        try:
            for member in members:
                await member.connect(address)
            yield cls(name, members)
        finally:
            for member in members:
                member.close()

    def without(self, gone):
        return Group(self.name, [member for member in self.members if member is not gone])

    async def settle(self):
        """Until all of them are in one generation, and know it."""
        await asyncio.gather(*(self._settle(member) for member in self.members))

    async def _settle(self, member):
        while True:
            if await member.join() == 0 and await member.sync() == 0:
                self.settled[member.generation] += 1
                if await self._stays(member):
                    return

    async def _stays(self, member):
        """Gives signs of life until all others are in its generation; not if that ends before."""
        while self.settled[member.generation] < len(self.members):
            if await member.heartbeat() != 0:
                return False
            await asyncio.sleep(0.1)
        return True

    async def heartbeats(self):
        """What one of each is answered."""
        return set(await asyncio.gather(*(member.heartbeat() for member in self.members)))


class Member:
    """A member that asks by hand, as clients of Kafka 1.0 do."""

    def __init__(self, group, session_ms):
        self.group, self.session_ms = group, session_ms
        self.id, self.generation, self.assignment = "", -1, b""
        self.led = []
        self.numbers = itertools.count()
        self.writer = None

    async def connect(self, address):
        self.reader, self.writer = await asyncio.open_connection(*address.split(":"))

    def close(self):
        if self.writer:
            self.writer.close()

    def send(self, key, version, body):
        self.writer.write(framed(header(key, version, next(self.numbers)) + body))

    async def answer(self):
        """Its bytes after the throttle time."""
        [length] = struct.unpack(">i", await self.reader.readexactly(4))
        return (await self.reader.readexactly(length))[8:]

    async def ask(self, key, version, body):
        self.send(key, version, body)
        return await self.answer()

    async def join(self):
        subscription = struct.pack(">hi", 0, 1) + string("t") + struct.pack(">i", -1)
        body = string(self.group) + struct.pack(">ii", self.session_ms, 60_000) + string(self.id)
        body += string("consumer") + struct.pack(">i", 1) + string("range") + bytes_of(subscription)
        answer = Answer(await self.ask(11, 2, body))
        error, self.generation = answer.number(">h"), answer.number(">i")
        _, leader, self.id = answer.string(), answer.string(), answer.string()
        self.led = []
        for _ in range(answer.number(">i")):
            self.led.append(answer.string())
            answer.bytes()
        assert (len(self.led) > 0) == (leader == self.id)
        return error

    async def sync(self):
        """The leader gives each its number."""
        shares = [string(member) + bytes_of(struct.pack(">i", number)) for number, member in enumerate(self.led)]
        body = self.claim() + struct.pack(">i", len(shares)) + b"".join(shares)
        answer = Answer(await self.ask(14, 1, body))
        error, self.assignment = answer.number(">h"), answer.bytes()
        return error

    async def heartbeat(self):
        self.send_heartbeat()
        return await self.alive()

    def send_heartbeat(self):
        self.send(12, 1, self.claim())

    async def alive(self):
        return Answer(await self.answer()).number(">h")

    async def leave(self):
        return Answer(await self.ask(13, 1, string(self.group) + string(self.id))).number(">h")

    def claim(self):
        return string(self.group) + struct.pack(">i", self.generation) + string(self.id)


class Answer:
    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, kind):
        [number] = struct.unpack_from(kind, self.data, self.at)
        self.at += struct.calcsize(kind)
        return number

    def take(self, length):
        self.at += max(length, 0)
        return self.data[self.at - max(length, 0) : self.at]

    def string(self):
        return self.take(self.number(">h")).decode()

    def bytes(self):
        return self.take(self.number(">i"))
