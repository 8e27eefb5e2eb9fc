"""What clients' programs run against: Chronik, and Apache Kafka, so that a difference is seen as a difference."""

from dataclasses import dataclass

import pytest
from clients.catalog import CLIENTS, Client

CHRONIK, KAFKA = "Chronik", "Apache Kafka"

# Files of tests of clients that are no measure of Apache Kafka 4, and why.
CHRONIK_ALONE = {
    "test_clients.py": "measures the memory of Chronik's process",
    "test_clients_oldest.py": "Kafka 4 closes connections that speak as before record batches (KIP-896)",
}


@dataclass(frozen=True)
class Pair:
    """A client and whose broker it runs against."""

    client: Client
    broker: str


def pairs(having=lambda client: True, everyday=lambda client: True):
    """
    Those clients with each broker, as parameters of tests. With Apache Kafka, which is slow to start again, only the
    newest versions of `everyday` clients are part of every run, the rest of `tests/run --all`.
    """
    newest = {client.library: client for client in reversed(CLIENTS)}.values()
    for client in filter(having, CLIENTS):
        for broker in (CHRONIK, KAFKA):
            rare = broker == KAFKA and not (client in newest and everyday(client))
            marks = [pytest.mark.long] if client.long or rare else []
            name = client.name if broker == CHRONIK else f"{client.name} {broker}"
            yield pytest.param(Pair(client, broker), id=name, marks=marks)
