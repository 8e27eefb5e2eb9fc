"""The real program as a process: started, watched, killed, started again."""

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import requests

BINARY = Path(os.environ.get("CHRONIK_BINARY", Path(__file__).parents[2] / "target/debug/chronik"))
READY = re.compile(r" is ready: (?:Kafka on (.+), )?HTTP on (http://\S+)$")
# Of several listeners the ready line says the names too, and of each where it is advertised if that is elsewhere.
LISTENER = re.compile(r"(\S+) \(([\w.-]+)[,)]")
# How settings begin that are given by their whole names.
WHOLE = ("CHRONIK_", "LOCAL_", "OBJECT_", "S3_", "SQS_", "GCS_", "AZUR", "AWS_", "GOOGLE_", "LD_", "TEST_")
# What a slow, busy machine may take for anything that is waited for.
PATIENCE = 120


class Died(AssertionError):
    """The process ended when it should have served."""


def until(condition, what, patience=PATIENCE, every=0.03):
    """Waits until `condition()` gives something true, and returns that; asks every so many seconds."""
    deadline = time.monotonic() + patience
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {patience} s in vain until {what}"
        threading.Event().wait(every)
    return result


def clean_environment(settings):
    """The environment of this process without settings of Chronik, and with `settings`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CHRONIK_", "S3_", "SQS_", "GCS_", "AZURE_"))}
    return kept | {name: str(value) for name, value in settings.items()}


def program(name):
    """A service as a program of its own: `chronik-query`."""
    return BINARY.with_name(name)


class Chronik:
    """A standalone server over `directory`: data in `data`, the bucket in `bucket`, output in `log`."""

    command = (BINARY, "standalone")

    def __init__(self, directory, **settings):
        self.directory = Path(directory)
        self.data = self.directory / "data"
        self.bucket = self.directory / "bucket"
        self.log = self.directory / "log"
        self.settings = {
            "CHRONIK_DATA_DIR": self.data,
            "LOCAL_STORAGE_PATH": self.bucket,
            "CHRONIK_KAFKA_PORT": 0,
            "CHRONIK_HTTP_PORT": 0,
        }
        self.process = None
        self.bootstrap = self.http = None
        # name → address, where there are several.
        self.listeners = {}
        self.ready_lines = []
        self.set(**settings)

    def set(self, **settings):
        """Changes settings (`ship_max_age="1s"` is CHRONIK_SHIP_MAX_AGE) for the next start."""
        for name, value in settings.items():
            name = name.upper()
            self.settings[name if name.startswith(WHOLE) else f"CHRONIK_{name}"] = value
        if "CHRONIK_LISTENERS" in self.settings:
            self.settings.pop("CHRONIK_KAFKA_PORT", None)
        return self

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.running():
            self.kill()

    def running(self):
        return self.process is not None and self.process.poll() is None

    def spawn(self):
        """Starts the process without waiting for anything."""
        self.directory.mkdir(parents=True, exist_ok=True)
        log = self.log.open("ab")
        self.process = subprocess.Popen(
            self.command,
            env=clean_environment(self.settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        log.close()
        self.lines = queue.Queue()
        threading.Thread(target=self._read, args=(self.process.stdout, self.lines), daemon=True).start()
        return self

    @staticmethod
    def _read(stream, lines):
        for line in stream:
            lines.put(line.decode().rstrip("\n"))
        lines.put(None)

    def start(self):
        """Starts the process and waits for its ready line."""
        return self.spawn().wait_ready()

    def wait_ready(self):
        self.ready_lines = []
        while True:
            line = self.lines.get(timeout=PATIENCE)
            if line is None:
                raise Died(f"exit code {self.process.wait()} instead of a ready line\n{self.last_lines()}")
            self.ready_lines.append(line)
            if found := READY.search(line):
                self.listeners = {name: address for address, name in LISTENER.findall(found[1] or "")}
                self.bootstrap = found[1] and found[1].split()[0]
                self.http = found[2]
                return self

    def kill(self):
        """kill -9"""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE)

    def lose_data_directory(self):
        assert not self.running()
        shutil.rmtree(self.data)

    def last_lines(self, lines=60):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    # HTTP

    def request(self, method, path, **options):
        if token := self.settings.get("CHRONIK_HTTP_TOKEN"):
            options.setdefault("headers", {"Authorization": f"Bearer {token}"})
        return requests.request(method, self.http + path, timeout=PATIENCE, **options)

    def get(self, path, **parameters):
        answer = self.request("GET", path, params=parameters)
        assert answer.status_code == 200, f"{path} {parameters}: {answer.status_code} {answer.text}"
        return answer.json()

    def seal(self):
        answer = self.request("POST", "/v1/seal")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def status(self):
        return self.get("/v1/status")

    def partitions(self):
        """(topic, partition) → where it stands."""
        return {(t["topic"], p["partition"]): p for t in self.status()["topics"] for p in t["partitions"]}

    def wait_shipped(self):
        until(lambda: all(p["shipped_to"] == p["high_watermark"] for p in self.partitions().values()), "all is shipped")

    def wait_archived(self, patience=PATIENCE):
        def archived():
            return all(p["archived_to"] == p["high_watermark"] for p in self.partitions().values())

        until(archived, "all is archived", patience)

    def search(self, topic, query="", **parameters):
        return self.get("/v1/search", topic=topic, q=query, **parameters)

    def pages(self, topic, query="", between=lambda: None, **parameters):
        """The hits of each page; follows the cursor, and calls `between` after each page that is not the last."""
        cursor = {}
        while True:
            answer = self.search(topic, query, **parameters, **cursor)
            yield answer["hits"]
            if not answer["cursor"]:
                return
            cursor = {"cursor": answer["cursor"]}
            between()

    def metrics(self):
        """Name with labels → value."""
        lines = self.request("GET", "/metrics").text.splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}

    # The operator's tool

    def tool(self, *arguments, stdin=b"", code=0):
        """Runs `chronik` against this server; returns its standard output."""
        where = ("--http", self.http, *(("--bootstrap", self.bootstrap) if self.bootstrap else ()))
        known = {name: value for name, value in self.settings.items() if name == "CHRONIK_HTTP_TOKEN"}
        done = run_tool(*where, *arguments, stdin=stdin, settings=known)
        assert done.returncode == code, (
            f"{arguments}: {done.returncode}\n{done.stdout.decode()}\n{done.stderr.decode()}"
        )
        return done.stdout

    def tool_json(self, *arguments, **options):
        return json.loads(self.tool("--json", *arguments, **options))


class Ingest(Chronik):
    """A broker alone."""

    command = (program("chronik-ingest"),)


class Indexer(Chronik):
    """An indexer; it has neither Kafka clients nor data."""

    command = (program("chronik-indexer"),)


class Query(Chronik):
    """A query worker; it has no data, and reads the bucket of `ingest`."""

    command = (program("chronik-query"),)

    def reads(self, ingest):
        return self.set(local_storage_path=ingest.bucket)


def run_tool(*arguments, stdin=b"", settings=None, directory=None, binary=BINARY):
    """Runs `chronik` to its end."""
    return subprocess.run(
        [binary, *map(str, arguments)],
        env=clean_environment(settings or {}),
        cwd=directory,
        input=stdin,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )


def run_shell(line, directory=None):
    """Runs a line as a person types it; returns standard output and standard error."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        env=clean_environment({}),
        cwd=directory,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, f"{line}: {done.returncode}\n{done.stdout.decode()}\n{done.stderr.decode()}"
    return done.stdout, done.stderr
