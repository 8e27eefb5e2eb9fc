"""Members of consumer groups: programs of clients, and what they had."""

import threading
from collections import Counter

import confluent_kafka as kafka
from chronik import PATIENCE, until
from clients.program import Program
from records import Record, consumer, create_topic, produce

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

    def takes_turns(self, stack):
        """One reads all, another joins it and leaves, and the first goes on alone; what they had is committed."""
        one = self.join(stack)
        assert self.round() == [one]
        other = self.join(stack)
        until(lambda: self.round() == [one, other], "both have some", every=0.2)
        other.leave()
        until(lambda: self.round() == [one], "one has all", every=0.2)
        one.leave()
        assert self.committed() == [self.ends] * PARTITIONS

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
