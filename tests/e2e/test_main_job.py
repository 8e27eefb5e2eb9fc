"""The main job: records of real systems go in by Kafka, are found by search, and come back from the bucket alone."""

import itertools

from material import START, systems
from records import consume, produce
from scan import find, queries


def test_records_live_on_in_the_bucket_and_are_found_at_every_stage(start):
    everything = systems()
    server = start(ship_max_age="1h", index_batch_age="1h")
    for system in everything:
        server.tool("topic", "create", system.topic, "--partitions", system.partitions)
        offsets = produce(server.bootstrap, system.topic, system.records, system.codec)
        next_offset = [itertools.count() for _ in range(system.partitions)]
        assert offsets == [next(next_offset[record.partition]) for record in system.records]

    stands = server.partitions()
    assert all(p["shipped_to"] == 0 for p in stands.values()), "nothing ships before its age"
    check(server, everything)

    server.kill()
    server.set(ship_max_age="1s").start()
    server.wait_shipped()
    assert all(p["archived_to"] == 0 for p in server.partitions().values()), "nothing is archived before its age"
    check(server, everything)

    server.seal()
    server.wait_archived()
    check(server, everything)

    server.kill()
    server.lose_data_directory()
    server.start()
    assert "recovered" in server.tail()
    check(server, everything)

    more = [everything[0].records[0]] * 3
    first = len(everything[0].by_partition()[more[0].partition])
    assert produce(server.bootstrap, everything[0].topic, more) == [first, first + 1, first + 2]
    server.seal()
    server.wait_archived()


def check(server, everything):
    for system in everything:
        expected = [list(enumerate(records)) for records in system.by_partition()]
        assert consume(server.bootstrap, system.topic, system.partitions) == expected
        for query in queries(system):
            check_search(server, system, query)
        check_search(server, system, queries(system)[1], since=START + 60_000, until=START + 200_000)
        check_search(server, system, queries(system)[5], partitions=[system.partitions - 1])


def check_search(server, system, query, since=None, until=None, partitions=None):
    parameters = {"limit": 10_000}
    parameters |= {name: value for name, value in (("from", since), ("to", until), ("partition", partitions)) if value}
    answer = server.search(system.topic, str(query), **parameters)
    expected = find(system, query, since, until, partitions)
    hits = answer["hits"]
    where = [(hit["partition"], hit["offset"]) for hit in hits]
    assert where == [(record.partition, offset) for offset, record in expected], f"{system.topic}: {query}"
    for hit, (offset, record) in zip(hits, expected, strict=True):
        assert {**hit, **record.document(system.topic, offset)} == hit
    assert answer["total"] == {"value": len(expected), "relation": "eq"}
    assert answer["not_searched"] == []
