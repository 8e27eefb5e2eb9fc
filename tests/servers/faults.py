"""A proxy before an S3 server that does to requests what networks and stores do:
`python -m servers.faults PORT UPSTREAM`.

Its script is a list of lines in JSON, put to `/-/script`; the first that fits a request and is not used up decides:
{"method": "PUT", "path": part of the path, "fault": one of below, "after": requests that go well first, "times": ...}
"""

import asyncio
import json
import sys

import requests

from servers.relay import answer, forward, send, serve
from servers.server import Server

FOREVER = 1 << 30


class Faults(Server):
    """Passes everything on until a test asks for faults."""

    variable = "CHRONIK_TEST_FAULTS"

    def __init__(self, upstream):
        super().__init__()
        self.upstream = upstream

    def command(self):
        return [sys.executable, "-m", "servers.faults", str(self.port), self.upstream], {}

    def answers(self):
        return requests.get(f"{self.url}/-/script", timeout=1).ok

    def script(self, *lines):
        """Takes the place of the script before."""
        requests.put(f"{self.url}/-/script", json=list(lines), timeout=30).raise_for_status()

    def seen(self):
        """How many requests met each fault."""
        return requests.get(f"{self.url}/-/script", timeout=30).json()


class Careless(Faults):
    """A store that ignores the condition that an object must not exist."""

    variable = "CHRONIK_TEST_CARELESS"

    def prepare(self):
        self.script(line("careless"))


def line(fault, method="", path="", after=0, times=FOREVER):
    return {"method": method, "path": path, "fault": fault, "after": after, "times": times}


class Proxy:
    def __init__(self, upstream):
        self.upstream = upstream
        self.lines = []
        self.seen = {}

    async def handle(self, request, writer):
        if request.target == "/-/script":
            return await send(writer, self.control(request))
        fault = self.next(request)
        self.seen[fault] = self.seen.get(fault, 0) + 1
        return await FAULTS[fault](request, writer, self.upstream)

    def control(self, request):
        if request.method == "PUT":
            self.lines, self.seen = json.loads(request.body), {}
        return answer("200 OK", json.dumps(self.seen).encode(), "application/json")

    def next(self, request):
        for line in self.lines:
            if line["method"] in ("", request.method) and line["path"] in request.target:
                if line["after"] > 0:
                    line["after"] -= 1
                    return "none"
                if line["times"] > 0:
                    line["times"] -= 1
                    return line["fault"]
        return "none"


def refusal(status, code):
    body = f"<Error><Code>{code}</Code><Message>as the script says</Message></Error>"
    return answer(status, body.encode())


async def none(request, writer, upstream):
    await send(writer, await forward(request, upstream))


async def cut_before(_request, writer, _upstream):
    """The connection breaks before anything is done."""
    writer.transport.abort()


async def cut_after(request, writer, upstream):
    """It is done, and the connection breaks."""
    await forward(request, upstream)
    writer.transport.abort()


async def error_after(request, writer, upstream):
    """It is done, and the answer says that it was not."""
    await forward(request, upstream)
    await send(writer, refusal("500 Internal Server Error", "InternalError"))


async def cut_within(request, writer, upstream):
    """The answer breaks off in its middle."""
    whole = await forward(request, upstream)
    writer.write(whole.head + b"\r\n" + whole.body[: len(whole.body) // 2])
    await writer.drain()
    writer.close()


async def shorten(request, writer, upstream):
    """The store keeps half of what it was sent, and says that all is well. (It must not look at signatures.)"""
    half = request.without("content-length", "x-amz-checksum-crc64nvme")
    half.body = request.body[: len(request.body) // 2]
    half.headers.append(("Content-Length", str(len(half.body))))
    await send(writer, await forward(half, upstream))


async def slow_down(_request, writer, _upstream):
    await send(writer, refusal("503 Service Unavailable", "SlowDown"))


async def conflict(_request, writer, _upstream):
    """What S3 says to one of two racing writers."""
    await send(writer, refusal("409 Conflict", "ConditionalRequestConflict"))


async def careless(request, writer, upstream):
    await send(writer, await forward(request.without("if-none-match"), upstream))


async def trickle(request, writer, upstream):
    """A link of 1 MiB/s."""
    whole = await forward(request, upstream)
    writer.write(whole.head + b"\r\n")
    for position in range(0, len(whole.body), 64 << 10):
        writer.write(whole.body[position : position + (64 << 10)])
        await writer.drain()
        await asyncio.sleep(1 / 16)


FAULTS = {
    kind.__name__: kind
    for kind in (none, cut_before, cut_after, cut_within, error_after, shorten, slow_down, conflict, careless, trickle)
}

if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Proxy(sys.argv[2]).handle))
