"""Consumer groups, with real clients: partitions are shared, offsets stay, and members go on after a restart."""

import confluent_kafka as kafka
import pytest
from chronik import until
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from records import Record, produce

PARTITIONS = 4


class Member:
    """A consumer of the group; what it was assigned, and what it has read."""

    def __init__(self, bootstrap, topic="t", group="g", **settings):
        self.assignments = []
        self.read = []
        self.client = kafka.Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 30_000,
                "heartbeat.interval.ms": 300,
                "broker.address.family": "v4",
                **{name.replace("_", "."): value for name, value in settings.items()},
            }
        )
        self.client.subscribe([topic], on_assign=self._assigned)

    def _assigned(self, _, partitions):
        self.assignments.append({partition.partition for partition in partitions})

    def poll(self):
        message = self.client.poll(0.1)
        if message is not None and not message.error():
            self.read.append((message.partition(), message.offset()))

    def owned(self):
        return {partition.partition for partition in self.client.assignment()}

    def commit(self):
        self.client.commit(asynchronous=False)


def poll_until(members, condition, what):
    def poll():
        for member in members:
            member.poll()
        return condition()

    until(poll, what)


def fill(bootstrap, first, last):
    """Records `first` to `last` in each partition."""
    produce(bootstrap, "t", [Record(b"%d" % n, partition=p) for n in range(first, last) for p in range(PARTITIONS)])


def committed(bootstrap, group="g"):
    client = kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": group, "broker.address.family": "v4"})
    try:
        return [p.offset for p in client.committed([TopicPartition("t", p) for p in range(PARTITIONS)], 60)]
    finally:
        client.close()


@pytest.fixture
def server(start):
    server = start(num_partitions=PARTITIONS, ship_max_age="1s", group_initial_rebalance_delay="0s")
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    admin.create_topics([NewTopic("t", PARTITIONS, 1)])["t"].result(60)
    return server


def test_members_share_the_partitions_and_take_over_from_each_other(server):
    fill(server.bootstrap, 0, 50)
    first = Member(server.bootstrap)
    poll_until([first], lambda: len(first.read) == 50 * PARTITIONS, "the first one has read all")
    first.commit()
    second = Member(server.bootstrap)
    members = [first, second]
    poll_until(members, lambda: len(first.owned()) == len(second.owned()) == 2, "each has half")
    assert first.owned() | second.owned() == set(range(PARTITIONS))
    fill(server.bootstrap, 50, 60)
    poll_until(members, lambda: len(first.read) + len(second.read) == 60 * PARTITIONS, "both have read the rest")
    assert sorted(first.read + second.read) == [(p, n) for p in range(PARTITIONS) for n in range(60)]
    first.commit()
    first.client.close()
    poll_until([second], lambda: len(second.owned()) == PARTITIONS, "the second one has all")
    second.client.close()


def test_members_go_on_after_a_restart_without_a_rebalance(server):
    members = [Member(server.bootstrap), Member(server.bootstrap)]
    poll_until(members, lambda: all(len(member.owned()) == 2 for member in members), "each has half")
    fill(server.bootstrap, 0, 5)
    poll_until(members, lambda: sum(len(member.read) for member in members) == 5 * PARTITIONS, "all is read")
    for member in members:
        member.commit()
    rebalances = [len(member.assignments) for member in members]
    server.set(kafka_port=server.bootstrap.split(":")[1])
    for end in [server.stop, server.kill]:
        end()
        server.start()
        before = sum(len(member.read) for member in members)
        fill(server.bootstrap, 5, 10)
        poll_until(
            members, lambda n=before: sum(len(member.read) for member in members) == n + 5 * PARTITIONS, "they read on"
        )
        for member in members:
            member.commit()
        assert [len(member.assignments) for member in members] == rebalances
    assert committed(server.bootstrap) == [15] * PARTITIONS
    for member in members:
        member.client.close()


def test_a_static_member_comes_back_to_its_partitions(server):
    static = {"group.instance.id": "one", "session.timeout.ms": 45_000}
    first, other = Member(server.bootstrap, **static), Member(server.bootstrap)
    members = [first, other]
    poll_until(members, lambda: all(len(member.owned()) == 2 for member in members), "each has half")
    owned, rebalances = first.owned(), len(other.assignments)
    first.client.close()
    back = Member(server.bootstrap, **static)
    poll_until([back, other], lambda: back.owned() == owned, "it has what it had")
    assert len(other.assignments) == rebalances
    for member in [back, other]:
        member.client.close()


def test_committed_offsets_survive_kill_9_and_the_loss_of_the_disk(server):
    fill(server.bootstrap, 0, 20)
    member = Member(server.bootstrap)
    poll_until([member], lambda: len(member.read) == 20 * PARTITIONS, "all is read")
    member.commit()
    assert committed(server.bootstrap) == [20] * PARTITIONS
    server.kill()
    server.start()
    assert committed(server.bootstrap) == [20] * PARTITIONS
    assert committed(server.bootstrap, "another") == [kafka.OFFSET_INVALID] * PARTITIONS
    assert server.stop() == 0
    server.lose_data_directory()
    server.start()
    assert committed(server.bootstrap) == [20] * PARTITIONS


def test_offsets_of_lost_records_move_back_to_the_ends(server):
    fill(server.bootstrap, 0, 20)
    ahead = kafka.Consumer({"bootstrap.servers": server.bootstrap, "group.id": "g", "broker.address.family": "v4"})
    ahead.commit(offsets=[TopicPartition("t", 0, 1000), TopicPartition("t", 1, 20)], asynchronous=False)
    ahead.close()
    assert committed(server.bootstrap) == [1000, 20] + [kafka.OFFSET_INVALID] * 2
    assert server.stop() == 0
    server.lose_data_directory()
    server.start()
    assert committed(server.bootstrap) == [20, 20] + [kafka.OFFSET_INVALID] * 2
