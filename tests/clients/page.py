"""docs/clients.md, which says what the tests of the clients hold them to."""

from servers.kafka import VERSION as KAFKA_VERSION

from clients.catalog import CLIENTS, CODECS, OLDEST
from clients.processors import PROCESSORS
from clients.shippers import SHIPPERS
from clients.tools import TOOLS

HEAD = f"""# Clients

Unmodified clients, each at the version that is named, against the real program, and the same tests against Apache Kafka
{KAFKA_VERSION}, so that a difference would be seen. What a cell says is tested
(`tests/e2e/test_clients_records.py`, `tests/e2e/test_clients_groups.py`, `tests/e2e/test_clients_idempotence.py`);
`just clients` writes this page from what the tests hold each client to (`tests/clients/catalog.py`).

- **Topics**: created, described, deleted; one that is there or is missing is refused.
- **Delete records**: those below an offset. Every client sees where the log starts then, and reads from there.
- **Codecs**: keyed records with headers, tombstones and bytes that are no text, in each codec that the client has. The
  batches arrive in that codec, and another client reads the same bytes.
- **Reads**: what another client wrote in all those codecs, from the beginning and from the middle of a batch.
- **Offsets**: the first, the end, and those for times.
- **Groups**: a member joins another one, leaves it, and is followed by a third one after kill -9 of the broker. Each
  record is had once by what the group committed.
- **Idempotent**: kill -9 of the broker, three times, while the client produces, with records written whose
  acknowledgements are lost: each record once, in order.

"""

FOOT = """
"no": the client has no such thing. What differs is the same with Apache Kafka, which is held to the same. Every run
holds it to Topics, Codecs, Reads and Offsets with the newest version of each client, and to Groups with that of Java;
`tests/run --all` to everything.
"""

OLDEST_HEAD = """
## The oldest clients

Those of before record batches, and kafka-python told that the broker is as old: messages of magic 0 and 1, which Kafka
4 no longer takes (`tests/e2e/test_clients_oldest.py`).

- **Codecs**: what the client writes arrives as batches in the codec that it chose.
- **Reads**: what another client wrote in all those codecs, without its headers, which messages don't have.
- **Timestamps**: messages have them since Kafka 0.10.
- **Groups**: a member joins another one and leaves it. Each record is had once by what the group committed.

"""

TOOLS_HEAD = f"""
## Command line tools

Those of Apache Kafka {KAFKA_VERSION}, unmodified: what they print and the codes that they end with
(`tests/e2e/test_kafka_tools.py`; `tests/run --all` holds Apache Kafka to the same).

| tool | what is tested |
| --- | --- |
"""

AROUND_HEAD = """
## Log shippers and stream processors

Those that `tests/run --all` runs, while the broker is killed with kill -9 (`tests/e2e/test_log_shippers.py`,
`tests/e2e/test_stream_processors.py`). The shippers are of Debian's packages.

| program | what is tested |
| --- | --- |
"""


def page():
    tested = ["topics", "delete records", "codecs", "reads", "offsets", "groups", "idempotent"]
    heads = ["client", "language", *tested, "what differs"]
    rows = [heads, ["---"] * len(heads), *map(row, CLIENTS)]
    tools = [[f"`{name}`", tool.tested] for name, tool in TOOLS.items()]
    around = [[program.name, program.tested] for program in (*SHIPPERS, *PROCESSORS)]
    parts = [HEAD, table(rows), FOOT, OLDEST_HEAD, table(oldest()), AROUND_HEAD, table(around)]
    return "".join([*parts, TOOLS_HEAD, table(tools)])


def oldest():
    heads = ["client", "language", "codecs", "reads", "timestamps", "groups", "when"]
    yield from (heads, ["---"] * len(heads))
    for client in OLDEST:
        timestamps = "ok" if client.has_timestamps else "no"
        when = "`tests/run --all`" if client.long else "every run"
        yield [client.name, client.language, ", ".join(client.codecs), "ok", timestamps, "ok", when]


def table(rows):
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def row(client):
    codecs = "all" if client.codecs == CODECS else ", ".join(client.codecs)
    has = (client.deletes_records, client.joins_groups, client.idempotent)
    deletes, groups, idempotent = ("ok" if it else "no" for it in has)
    named = [client.name, client.language]
    return [*named, "ok", deletes, codecs, "ok", "ok", groups, idempotent, "; ".join(differences(client))]


def differences(client):
    if client.grouped:
        yield "reads in groups alone"
    if client.none_is_the_end:
        yield "the offset for a time after all records is the end"
    if client.empty_is_null:
        yield "a header without bytes is null"
    if client.sorts_headers:
        yield "headers are in the order of their names"
    if client.commits_late:
        yield "a record that is in hand when a member joins may be had by both"
    if client.long:
        yield "tested by `tests/run --all`"
