"""A clock for a process, which tests set."""

from pathlib import Path


class Clock:
    """All times that the process sees, those of its timers too, run on from what `advance` says."""

    def __init__(self, file):
        self.file = file
        self.minutes = 0
        self.advance(0)

    def advance(self, minutes):
        self.minutes += minutes
        # At once: a process that met an empty file would see its clock jump to and fro.
        new = self.file.with_name(f"{self.file.name}.new")
        new.write_text(f"+{self.minutes}m")
        new.replace(self.file)

    def settings(self):
        """What the process must have in its environment."""
        [library] = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
        return {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": self.file, "FAKETIME_NO_CACHE": "1"}
