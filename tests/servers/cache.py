"""What was installed stays for the next run."""

import contextlib
import fcntl
import os
import shutil
from pathlib import Path

FOLDER = Path(os.environ.get("CHRONIK_TEST_CACHE", Path.home() / ".cache/chronik-tests"))


def installed(name, install):
    """The folder of `name`, which carries its version; `install(folder)` fills it if that was never finished."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder = FOLDER / name
    with alone(FOLDER / f"{name}.lock"):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            install(folder)
            (folder / "complete").touch()
    return folder


@contextlib.contextmanager
def alone(path):
    """One process at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
