"""The main job: records of real systems go in by Kafka, are found by search, and come back from the bucket alone."""

import itertools

from material import START, systems
from records import consume, produce
from scan import find, queries


def test_records_live_on_in_the_bucket_and_are_found_at_every_stage(start):
    everything = systems()
    expectations = [Expectations(system) for system in everything]

    def check(server):
        for expectation in expectations:
            expectation.check(server)

    server = start(ship_max_age="1h", index_batch_age="1h")
    for system in everything:
        server.tool("topic", "create", system.topic, "--partitions", system.partitions)
        offsets = produce(server.bootstrap, system.topic, system.records, system.codec)
        next_offset = [itertools.count() for _ in range(system.partitions)]
        assert offsets == [next(next_offset[record.partition]) for record in system.records]

    stands = server.partitions()
    assert all(p["shipped_to"] == 0 for p in stands.values()), "nothing ships before its age"
    check(server)

    server.kill()
    server.set(ship_max_age="1s").start()
    server.wait_shipped()
    assert all(p["archived_to"] == 0 for p in server.partitions().values()), "nothing is archived before its age"
    check(server)

    server.seal()
    server.wait_archived()
    check(server)

    server.kill()
    server.lose_data_directory()
    server.start()
    assert "recovered" in server.last_lines()
    check(server)

    more = [everything[0].records[0]] * 3
    first = len(everything[0].by_partition()[more[0].partition])
    assert produce(server.bootstrap, everything[0].topic, more) == [first, first + 1, first + 2]
    server.seal()
    server.wait_archived()


class Expectations:
    """What consumers and searches must bring of one system, found by a scan of the input."""

    def __init__(self, system):
        self.system = system
        asked = queries(system)
        self.searches = [(query, {}, find(system, query)) for query in asked]
        since, end = START + 60_000, START + 200_000
        self.searches.append((asked[1], {"from": since, "to": end}, find(system, asked[1], since, end)))
        last = system.partitions - 1
        self.searches.append((asked[5], {"partition": last}, find(system, asked[5], partitions=[last])))

    def check(self, server):
        read = consume(server.bootstrap, self.system.topic, self.system.partitions)
        for got, records in zip(read, self.system.by_partition(), strict=True):
            wrong = next((pair for pair in zip(got, enumerate(records), strict=False) if pair[0] != pair[1]), None)
            assert wrong is None, f"{self.system.topic}: read {wrong[0]} where {wrong[1]} was written"
            assert len(got) == len(records)
        for query, parameters, expected in self.searches:
            self.check_search(server, query, parameters, expected)

    def check_search(self, server, query, parameters, expected):
        topic = self.system.topic
        answer = server.search(topic, str(query), limit=10_000, **parameters)
        hits = answer["hits"]
        where = [(hit["partition"], hit["offset"]) for hit in hits]
        assert where == [(record.partition, offset) for offset, record in expected], f"{topic}: {query}"
        for hit, (offset, record) in zip(hits, expected, strict=True):
            assert {**hit, **record.document(topic, offset)} == hit
        assert answer["total"] == {"value": len(expected), "relation": "eq"}
        assert answer["not_searched"] == []
