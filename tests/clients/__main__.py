"""`python -m clients install [--all]`: installs the clients that the tests use; those that take long with `--all`.
`python -m clients page`: docs/clients.md."""

import sys

from clients.catalog import CLIENTS
from clients.page import page


def main(arguments):
    match arguments:
        case ["install", *everything] if everything in ([], ["--all"]):
            for client in CLIENTS:
                if everything or not client.long:
                    client.command()
        case ["page"]:
            sys.stdout.write(page())
        case _:
            sys.exit(__doc__)


main(sys.argv[1:])
