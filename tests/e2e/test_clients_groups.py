"""Consumer groups of every client: two members share, each record is had once, commits survive the broker."""

import contextlib
import threading
from collections import Counter

import confluent_kafka as kafka
import pytest
from brokers import KAFKA, pairs
from chronik import PATIENCE, until
from clients.program import Program
from records import Record, consumer, create_topic, produce
from servers.server import free_port

PARTITIONS = 4


class Member:
    """Of a group; gathers what it committed."""

    def __init__(self, program, topic, group):
        self.program = program
        self.places = []
        self.finished = threading.Event()
        self.error = None
        program.begin("group", topic=topic, group=group)
        threading.Thread(target=self._gather, daemon=True).start()

    def _gather(self):
        try:
            for event in self.program.events():
                if record := event.get("record"):
                    self.places.append((record["partition"], record["offset"]))
        except Exception as error:
            self.error = error
        self.finished.set()

    def leave(self):
        self.program.stop()
        assert self.finished.wait(PATIENCE)
        assert self.error is None, self.error


class Group:
    """A topic, and those who share it; both have the name of the client."""

    def __init__(self, server, client, directory):
        self.server, self.client, self.directory = server, client, directory
        self.name = client.name.replace(" ", "-")
        self.members = []
        self.ends = 0
        create_topic(server.bootstrap, self.name, PARTITIONS)

    def join(self, stack):
        program = stack.enter_context(Program(self.client, self.server.bootstrap, self.directory))
        member = Member(program, topic=self.name, group=self.name)
        self.members.append(member)
        return member

    def round(self):
        """A record to each partition; waits until they were all had, and returns by whom."""
        produce(self.server.bootstrap, self.name, [Record(b"x", partition=p) for p in range(PARTITIONS)])
        sent = {(partition, self.ends) for partition in range(PARTITIONS)}
        self.ends += 1
        until(lambda: self.failed() or sent <= set(self.had()), f"{sent} were had")
        assert not self.failed()
        twice = [place for place, times in Counter(self.had()).items() if times > 1]
        assert twice == [] or self.client.commits_late, "had twice"
        return [member for member in self.members if sent & set(member.places)]

    def had(self):
        return [place for member in self.members for place in list(member.places)]

    def failed(self):
        return [member.error for member in self.members if member.error]

    def committed(self):
        asked = [kafka.TopicPartition(self.name, partition) for partition in range(PARTITIONS)]
        client = consumer(self.server.bootstrap, group_id=self.name)
        try:
            return [found.offset for found in client.committed(asked, timeout=30)]
        finally:
            client.close()


@pytest.fixture
def exit_stack():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(params=pairs(everyday=lambda client: client.language == "Java"))
def pair(request):
    return request.param


@pytest.fixture
def server(request, pair):
    """With a port that it keeps."""
    if pair.broker == KAFKA:
        return request.getfixturevalue("kafka")
    return request.getfixturevalue("start")(kafka_port=free_port())


def test_a_group(server, tmp_path, pair, exit_stack):
    group = Group(server, pair.client, tmp_path)
    one = group.join(exit_stack)
    assert group.round() == [one]
    other = group.join(exit_stack)
    until(lambda: group.round() == [one, other], "both have some", every=0.2)
    other.leave()
    until(lambda: group.round() == [one], "one has all", every=0.2)
    one.leave()
    assert group.committed() == [group.ends] * PARTITIONS
    server.kill()
    server.start()
    assert group.committed() == [group.ends] * PARTITIONS
    late = group.join(exit_stack)
    assert group.round() == [late]
    late.leave()
    assert [offset for _, offset in late.places] == [group.ends - 1] * PARTITIONS, "nothing again from before"
