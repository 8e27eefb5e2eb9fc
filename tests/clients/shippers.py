"""Log shippers with an output to Kafka, of the system's packages, unpacked rather than installed: two of them can't be
the system's own log, and none is to touch it."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from servers.cache import installed

# All of them follow a file, and know again after a restart how far they were.
RSYSLOG = """global(workDirectory="{directory}")
module(load="imfile")
module(load="omkafka")
input(type="imfile" file="{file}" tag="test" ruleset="ship")
template(name="line" type="string" string="%msg%")
ruleset(name="ship") {{
    action(type="omkafka" topic="{topic}" broker="{bootstrap}" template="line" resubmitOnFailure="on"
        confParam=["compression.codec={codec}", "broker.address.family=v4", "queue.buffering.max.ms=50"])
}}
"""

SYSLOG_NG = """@version: 3.38
source lines {{ file("{file}" follow-freq(0.2) flags(no-parse)); }};
destination ship {{
    kafka-c(
        bootstrap-servers("{bootstrap}")
        topic("{topic}")
        message("$MSG")
        config(compression.codec("{codec}") broker.address.family("v4") queue.buffering.max.ms("50"))
    );
}};
log {{ source(lines); destination(ship); }};
"""


@dataclass(frozen=True)
class Shipper:
    """At the version of the system's packages."""

    name: str
    packages: tuple[str, ...]
    configuration: str
    # Its program in the folder of the packages, with its arguments.
    arguments: Callable
    # As a table says it.
    tested: str

    def install(self):
        return installed(f"shipper-{'-'.join(self.packages)}", lambda folder: unpack(folder, self.packages))

    def start(self, directory, **values):
        """A process that ships `file` to `topic`; what it says is in `log`."""
        folder = self.install()
        configuration = directory / "configuration"
        configuration.write_text(self.configuration.format(directory=directory, **values))
        libraries = os.pathsep.join(sorted({str(library.parent) for library in folder.rglob("*.so*")}))
        with (directory / "log").open("ab") as log:
            return subprocess.Popen(
                [str(part) for part in self.arguments(folder, configuration, directory)],
                env=os.environ | {"LD_LIBRARY_PATH": libraries},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


def rsyslog(folder, configuration, directory):
    modules = next(folder.glob("usr/lib/*/rsyslog"))
    return [folder / "usr/sbin/rsyslogd", "-n", "-f", configuration, "-i", directory / "pid", "-M", modules]


def syslog_ng(folder, configuration, directory):
    files = ("--persist-file", "persist", "--control", "control", "--pidfile", "pid")
    own = [part if part.startswith("-") else directory / part for part in files]
    modules = next(folder.glob("usr/lib/syslog-ng/*/libkafka.so")).parent
    program = [folder / "usr/sbin/syslog-ng", "--foreground", "--no-caps", "--stderr"]
    return [*program, "--cfgfile", configuration, "--module-path", modules, *own]


TESTED = "follows a file: each line arrives, compressed, those written while the broker is down, too"
SHIPPERS = [
    Shipper("rsyslog", ("rsyslog", "rsyslog-kafka"), RSYSLOG, rsyslog, f"omkafka {TESTED}"),
    Shipper("syslog-ng", ("syslog-ng-core", "syslog-ng-mod-rdkafka"), SYSLOG_NG, syslog_ng, f"kafka-c() {TESTED}"),
]


def unpack(folder, packages):
    """Those, and what they need that the system does not have."""
    as_root = [] if os.getuid() == 0 else ["sudo"]
    subprocess.run([*as_root, "apt-get", "update", "--quiet=2"], check=True)
    (folder / "packages/partial").mkdir(parents=True)
    options = ["--quiet=2", "--yes", "--no-install-recommends", "--download-only", "--reinstall"]
    places = ["-o", f"Dir::Cache::archives={folder / 'packages'}", "-o", "Debug::NoLocking=true"]
    subprocess.run(["apt-get", "install", *options, *places, *packages], check=True)
    for package in (folder / "packages").glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
