"""A clock for a process, which tests set."""

import mmap
import subprocess
from pathlib import Path

MINUTE_NANOSECONDS = 60 * 10**9


class Clock:
    """All clocks that the process reads, those of its timers too, are ahead by what `advance` was told."""

    def __init__(self, file):
        self.file = file
        self.library = file.with_suffix(".so")
        source = Path(__file__).with_suffix(".c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", self.library, source], check=True)
        file.write_bytes(bytes(8))
        with file.open("r+b") as opened:
            self.nanoseconds = memoryview(mmap.mmap(opened.fileno(), 8)).cast("q")

    def advance(self, minutes):
        self.nanoseconds[0] += minutes * MINUTE_NANOSECONDS

    def settings(self):
        """What the process must have in its environment."""
        return {"LD_PRELOAD": self.library, "TEST_CLOCK": self.file}
