"""Images as the container file describes them, without a registry or a compiler: the stage that compiles is replaced
by what was compiled before, and the base by a Debian that was made here. The rest is built as it is written."""

import re
import shutil

from chronik import BINARY
from docker import DEBIAN, pack
from place import INFRA, ROOT

PROGRAMS = ("chronik", "chronik-ingest", "chronik-indexer", "chronik-query")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
# What the container file's BASE is here.
BASE = "debian"


def prepare(docker, directory):
    """Gives the daemon what images begin with. Returns the folder that they are built from, which looks like the
    project's own."""
    programs = {f"src/target/dist/{name}": BINARY.parent / name for name in PROGRAMS}
    built = pack(directory / "built.tar", programs | {CERTIFICATES[1:]: CERTIFICATES})
    docker.image("built", built)
    built.unlink()
    docker.image(BASE, DEBIAN)
    text, found = re.subn(
        r"^FROM \$\{RUST\} AS build$.*?(?=^FROM )",
        "FROM built AS build\n",
        (INFRA / "Containerfile").read_text(),
        flags=re.M | re.S,
    )
    assert found == 1
    context = directory / "context"
    shutil.copytree(INFRA / "compose", context / "infra/compose")
    shutil.copy(INFRA / "chronik-health", context / "infra")
    shutil.copy(ROOT / ".dockerignore", context)
    (context / "infra/Containerfile").write_text(text)
    return context


def build(docker, context, target):
    """Builds the image of one target under the name that the container file gives as its example."""
    name = target if target == "chronik" else f"chronik-{target}"
    file = context / "infra/Containerfile"
    docker.run("build", "--file", file, f"--build-arg=BASE={BASE}", "--target", target, "--tag", name, context)
    return name
