"""A process that is told lines of JSON, and tells lines of JSON."""

import json
import os
import queue
import subprocess
import threading

# What a slow, busy machine may take until the next line.
PATIENCE = 120


class LineProcess:
    """What it logs goes to a file; it does not outlive its context."""

    def __init__(self, name, command, log, environment=None):
        self.name, self.log = name, log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [*map(str, command)],
                env=os.environ | (environment or {}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
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

    def tell(self, document):
        self.process.stdin.write(json.dumps(document).encode() + b"\n")
        self.process.stdin.flush()

    def next(self, patience=PATIENCE):
        """The next line."""
        try:
            document = self.lines.get(timeout=patience)
        except queue.Empty:
            raise AssertionError(f"{self.name} told nothing for {patience} s\n{self.logged()}") from None
        assert document is not None, f"{self.name} ended: {self.process.wait()}\n{self.logged()}"
        return document

    def logged(self, lines=40):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
