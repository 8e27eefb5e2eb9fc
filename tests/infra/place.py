"""Where the templates and the tools that check them are, and how a tool is run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from servers.cache import FOLDER

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
# What a slow, busy machine may take for one run of a tool.
PATIENCE = 540


def commands(chapter):
    """What the page about deploying says to type."""
    page = (INFRA / "README.md").read_text()
    return page.split(f"\n## {chapter}\n", 1)[1].split("```sh\n", 1)[1].split("\n```", 1)[0]


def tool(name):
    """The program `name`: one that `tests/infra/install.sh` built, one of the Python environment, or the system's."""
    places = [*(FOLDER / "infra").glob(f"{name}-*/bin"), Path(sys.executable).parent]
    found = shutil.which(name, path=os.pathsep.join(map(str, places))) or shutil.which(name)
    assert found, f"{name} is not there: tests/run installs it"
    return found


def run(name, *arguments, code=0, **options):
    """Runs a tool to its end and returns its standard output; fails with all it said on another exit code."""
    done = subprocess.run(
        [tool(name), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        stdin=None if "input" in options else subprocess.DEVNULL,
        **options,
    )
    assert done.returncode == code, f"{name} {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
