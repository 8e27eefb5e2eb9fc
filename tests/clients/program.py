"""A client's program as a process."""

import json
import os
import queue
import subprocess
import threading

# What a slow, busy machine may take until the next event.
PATIENCE = 120


class ClientError(Exception):
    """What the client itself says went wrong."""


class Program:
    """Carries out one request at a time."""

    def __init__(self, client, bootstrap, directory):
        command, environment = client.command()
        self.client = client
        self.log = directory / f"{client.name.replace(' ', '-')}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*map(str, command), bootstrap],
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put(None)

    def begin(self, do, **request):
        """Sends a request without waiting for anything."""
        self.process.stdin.write(json.dumps({"do": do, **request}).encode() + b"\n")
        self.process.stdin.flush()

    def stop(self):
        """Tells what runs until it is told."""
        self.begin("stop")

    def events(self):
        """Until the request is done."""
        while (event := self.event()) != {"done": True}:
            yield event

    def event(self, patience=PATIENCE):
        """The next one, whatever it is."""
        try:
            event = self.lines.get(timeout=patience)
        except queue.Empty:
            raise AssertionError(f"{self.client.name} told nothing for {patience} s\n{self.logged()}") from None
        assert event is not None, f"{self.client.name} ended: {self.process.wait()}\n{self.logged()}"
        if "error" in event:
            raise ClientError(event["error"])
        return event

    def ask(self, do, **request):
        """The events of a request."""
        self.begin(do, **request)
        return list(self.events())

    def logged(self, lines=40):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
