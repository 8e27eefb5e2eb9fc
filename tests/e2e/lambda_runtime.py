"""AWS Lambda as the tests need it: the runtime API of a function, with deadlines that are kept by force, functions that
die and are started again, and an event source that honours `batchItemFailures`."""

import json
import queue
import subprocess
import threading
import time
import uuid
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from chronik import BINARY, PATIENCE, clean_environment, until

BOOTSTRAP = BINARY.with_name("bootstrap")
ARN = "arn:aws:lambda:eu-central-1:123456789012:function:indexer"


def unpacked(zip_file, directory):
    """The program in a function's zip file, put into `directory` with the rights that it has there."""
    with zipfile.ZipFile(zip_file) as archive:
        assert archive.namelist() == ["bootstrap"]
        path = Path(archive.extract("bootstrap", directory))
        path.chmod(archive.getinfo("bootstrap").external_attr >> 16 & 0o777)
    return path


@dataclass
class Message:
    """A message in the queue, and how often it was handed out."""

    body: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    receives: int = 0

    def record(self):
        return {
            "messageId": self.id,
            "receiptHandle": f"{self.id}-{self.receives}",
            "body": self.body,
            "attributes": {"ApproximateReceiveCount": str(self.receives)},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:jobs",
            "awsRegion": "eu-central-1",
        }


def bodies(jobs):
    return [json.dumps(job) for job in jobs]


class Jobs:
    """A queue: what is not deleted comes again, at most `receives_max` times, then it is dead."""

    def __init__(self, bodies, receives_max=6):
        self.waiting = [Message(body) for body in bodies]
        self.in_flight = []
        self.dead = []
        self.receives_max = receives_max
        self.changed = threading.Condition()
        self.closed = False

    def receive(self, most):
        """Waits for messages; none are left once it is closed."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.closed)
            taken = [] if self.closed else self.waiting[:most]
            del self.waiting[: len(taken)]
            for message in taken:
                message.receives += 1
            self.in_flight += taken
            return taken

    def settle(self, messages, failed):
        """Deletes what is done; the rest becomes visible again, or dead."""
        with self.changed:
            for message in messages:
                self.in_flight.remove(message)
                if message.id in failed:
                    (self.dead if message.receives >= self.receives_max else self.waiting).append(message)
            self.changed.notify_all()

    def wait_empty(self):
        with self.changed:
            assert self.changed.wait_for(lambda: not self.waiting and not self.in_flight, PATIENCE)

    def close(self):
        with self.changed:
            self.closed = True
            self.changed.notify_all()


@dataclass
class Invocation:
    """A batch handed to a function, and what became of it: answered, failed, timed out or crashed."""

    messages: list[Message]
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    outcome: str = ""
    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0
    init_seconds: float = 0.0
    peak_bytes: int = 0

    def event(self):
        return json.dumps({"Records": [message.record() for message in self.messages]}).encode()


class ApiServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A connection that breaks is that of a function that was killed."""


class Function:
    """One process, and the runtime API that it alone speaks to."""

    def __init__(self, binary, settings, timeout, log, directory):
        self.timeout = timeout
        self.offers = queue.Queue()
        self.events = queue.Queue()
        self.server = ApiServer(("127.0.0.1", 0), runtime_api(self))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        settings = settings | {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.server.server_port}"}
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [binary],
            env=clean_environment(settings),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        code = self.process.wait()
        self.offers.put(None)
        self.events.put(("crashed", code))

    def alive(self):
        return self.process.poll() is None

    def end(self):
        self.process.kill()
        self.process.wait()
        self.server.shutdown()
        self.server.server_close()

    def invoke(self, invocation):
        """Hands the batch over and waits for its end, whichever that is."""
        self.offers.put(invocation)
        deadline = None
        while not invocation.outcome:
            try:
                left = PATIENCE if deadline is None else max(0, deadline - time.monotonic())
                event, value = self.events.get(timeout=left)
            except queue.Empty:
                event, value = "timed out", None
            if event == "init":
                invocation.init_seconds = value - self.started
            elif event == "taken":
                started, deadline = value, value + self.timeout
            else:
                invocation.outcome = event
                invocation.seconds = time.monotonic() - started if deadline else 0.0
        if event == "answered":
            invocation.failed = [failure["itemIdentifier"] for failure in value["batchItemFailures"]]
            invocation.peak_bytes = self.peak_bytes()
        else:
            invocation.failed = [message.id for message in invocation.messages]
        if event in ("timed out", "crashed"):
            self.end()

    def peak_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))


def runtime_api(function):
    class RuntimeApi(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        ready = False

        def do_GET(self):
            assert self.path == "/2018-06-01/runtime/invocation/next", self.path
            if not RuntimeApi.ready:
                RuntimeApi.ready = True
                function.events.put(("init", time.monotonic()))
            invocation = function.offers.get()
            if invocation is None:
                self.close_connection = True
                return
            function.events.put(("taken", time.monotonic()))
            self.answer(
                200,
                invocation.event(),
                {
                    "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                    "Lambda-Runtime-Deadline-Ms": int((time.time() + function.timeout) * 1000),
                    "Lambda-Runtime-Invoked-Function-Arn": ARN,
                },
            )

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            function.events.put(("answered" if self.path.endswith("/response") else "failed", body))
            self.answer(202, b"{}", {})

        def answer(self, status, body, headers):
            self.send_response(status)
            for name, value in (headers | {"Content-Length": len(body)}).items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return RuntimeApi


class Lambda:
    """Polls `jobs` and has them worked by up to `concurrency` functions, each one batch at a time."""

    def __init__(
        self, directory, jobs, concurrency=1, batch=1, timeout=PATIENCE, memory=1024, binary=BOOTSTRAP, **settings
    ):
        self.directory = Path(directory)
        self.jobs, self.batch, self.timeout, self.binary = jobs, batch, timeout, binary
        self.tmp = self.directory / "tmp"
        self.tmp.mkdir(parents=True)
        self.log = self.directory / "log"
        self.settings = {
            "AWS_LAMBDA_FUNCTION_NAME": "indexer",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": memory,
            "TMPDIR": self.tmp,
            **settings,
        }
        self.invocations = []
        self.functions = {}
        self.threads = [threading.Thread(target=self.poll, args=(slot,)) for slot in range(concurrency)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.jobs.close()
        for function in list(self.functions.values()):
            function.process.kill()
        for thread in self.threads:
            thread.join()

    def poll(self, slot):
        while messages := self.jobs.receive(self.batch):
            function = self.functions.get(slot)
            if function is None or not function.alive():
                with self.log.open("ab") as log:
                    function = self.functions[slot] = Function(self.binary, self.settings, self.timeout, log, self.tmp)
            invocation = Invocation(messages)
            function.invoke(invocation)
            self.invocations.append(invocation)
            self.jobs.settle(messages, invocation.failed)
        if slot in self.functions:
            self.functions[slot].end()

    def outcomes(self):
        return [invocation.outcome for invocation in self.invocations]

    def wait_outcome(self, outcome):
        until(lambda: outcome in self.outcomes(), f"an invocation has {outcome}")

    def log_lines(self):
        """What the functions logged, but for what fail points say."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if not line.startswith("fail point ")]
