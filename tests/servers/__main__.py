"""`python -m servers install [--all]`: installs what the tests use; what only `tests/run --all` needs with `--all`.
`python -m servers run COMMAND...`: starts all of them around a command that has their addresses in its environment."""

import contextlib
import os
import subprocess
import sys

from servers.azurite import Azurite
from servers.elasticmq import Elasticmq
from servers.faults import Careless, Faults
from servers.garage import Garage
from servers.gcs import Gcs
from servers.kafka import Kafka
from servers.minio import Minio
from servers.moto import Moto


def main(arguments):
    match arguments:
        case ["install", *everything] if everything in ([], ["--all"]):
            for kind in (Moto, Azurite, Minio, Elasticmq, Kafka, *([Garage] if everything else [])):
                kind.install()
            return 0
        case ["run", *command] if command:
            with contextlib.ExitStack() as stack:
                environment = dict(os.environ)
                for server in start(stack):
                    environment |= server.variables()
                return subprocess.run(command, env=environment, check=False).returncode
        case _:
            sys.exit(__doc__)


def start(stack):
    minio, moto, azurite, elasticmq = (stack.enter_context(kind()) for kind in (Minio, Moto, Azurite, Elasticmq))
    before = [Gcs(moto.url), Faults(minio.url), Careless(moto.url)]
    return [minio, moto, azurite, elasticmq, *(stack.enter_context(server) for server in before)]


sys.exit(main(sys.argv[1:]))
