"""`python -m clients install [--all]`: installs the clients and tools that the tests use; with `--all` those that take
long, too. `python -m clients page`: docs/clients.md."""

import sys

from clients import tools
from clients.catalog import CLIENTS, OLDEST
from clients.page import page
from clients.processors import PROCESSORS
from clients.shippers import SHIPPERS


def main(arguments):
    match arguments:
        case ["install", *everything] if everything in ([], ["--all"]):
            tools.command()
            for client in CLIENTS + OLDEST:
                if everything or not client.long:
                    client.command()
            if everything:
                for shipper in SHIPPERS:
                    shipper.install()
                for processor in PROCESSORS:
                    processor.command()
        case ["page"]:
            sys.stdout.write(page())
        case _:
            sys.exit(__doc__)


main(sys.argv[1:])
