"""A program that serves on loopback."""

import contextlib
import os
import random
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import requests

# What a slow, busy machine may take to start it.
PATIENCE = 120
TESTS = str(Path(__file__).parents[1])


def free_port():
    """Not one of those that the system gives to connections, of which one could have it before the server does."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Server:
    """Started, killed, started again on the same port; `directory` is kept meanwhile."""

    # Name in the environment under which tests find its address.
    variable = None

    def __init__(self):
        self.install()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.scratch = tempfile.TemporaryDirectory(prefix=f"{type(self).__name__.lower()}-")
        self.directory = Path(self.scratch.name)
        self.log = self.directory / "log"
        self.process = None

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.callback(self.close)
            self.start()
            stack.pop_all()
        return self

    def __exit__(self, *_):
        self.close()

    @classmethod
    def install(cls):
        """Does nothing if it was done before."""

    def command(self):
        """What is run, and what it has in its environment."""
        raise NotImplementedError

    def answers(self):
        raise NotImplementedError

    def prepare(self):
        """Runs after each start: what tests find in it."""

    def start(self):
        """Starts it and waits until it answers."""
        command, environment = self.command()
        environment = os.environ | {"PYTHONPATH": TESTS} | environment
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text(errors="replace")
            threading.Event().wait(0.05)
        self.prepare()
        return self

    def kill(self):
        """kill -9"""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def close(self):
        self.kill()
        self.scratch.cleanup()

    def variables(self):
        """What tests find in their environment."""
        return {self.variable: self.url}

    def _answers(self):
        try:
            return self.answers()
        except requests.RequestException:
            return False
