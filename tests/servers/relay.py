"""One HTTP/1.1 request a connection, passed on: what proxies of the tests are made of."""

import asyncio
import contextlib
import dataclasses
import urllib.parse

# A segment is 64 MiB at most; a request is held in memory.
BODY_BYTES_MAX = 96 << 20
HEAD_BYTES_MAX = 64 << 10


@dataclasses.dataclass
class Request:
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name):
        return next((value for known, value in self.headers if known.lower() == name), None)

    def without(self, *names):
        """The same request without some of its headers."""
        return dataclasses.replace(self, headers=[h for h in self.headers if h[0].lower() not in names])


@dataclasses.dataclass
class Answer:
    head: bytes
    body: bytes

    def with_header(self, name, value):
        return dataclasses.replace(self, head=self.head + f"{name}: {value}\r\n".encode())


def answer(status, body=b"", kind="application/xml"):
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    return Answer(head.encode(), body)


async def read_request(reader, writer):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = line.split(" ", 2)
    headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines]
    request = Request(method, target, headers, b"")
    size = int(request.header("content-length") or 0)
    assert size <= BODY_BYTES_MAX and not request.header("transfer-encoding"), "a body that is not passed on"
    if request.header("expect"):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.body = await reader.readexactly(size)
    return request


async def forward(request, upstream):
    """The whole answer of `upstream`, which is asked by a connection of its own."""
    place = urllib.parse.urlsplit(upstream)
    reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=HEAD_BYTES_MAX)
    with contextlib.closing(writer):
        lines = [f"{request.method} {request.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in request.without("connection", "expect").headers]
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + request.body)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n"))[:-2]
        return Answer(head, await reader.read())


async def send(writer, answer):
    writer.write(answer.head + b"\r\n" + answer.body)
    await writer.drain()


async def serve(port, handle):
    """Serves for ever; `handle(request, writer)` deals with each request and may cut its connection."""

    async def connected(reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                await handle(await read_request(reader, writer), writer)
            finally:
                writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port, limit=HEAD_BYTES_MAX)
    async with server:
        await server.serve_forever()
