"""Consumer groups with the tool: how far they are, where they go on, and the tool as a member."""

import re
import signal
import subprocess
from datetime import UTC, datetime

import confluent_kafka as kafka
import pytest
from between import HeldFetches
from chronik import BINARY, PATIENCE, run_tool, until
from confluent_kafka import TopicPartition
from servers.server import free_port


@pytest.fixture
def consumer(shared):
    """Makes consumers that don't outlive the test."""
    clients = []

    def make(group, **settings):
        client = kafka.Consumer(
            {
                "bootstrap.servers": shared.bootstrap,
                "group.id": group,
                "client.id": "reader",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "broker.address.family": "v4",
                **settings,
            }
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


def committed(consumer, group, topic, offsets):
    """Commits as an outsider."""
    places = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
    consumer(group).commit(offsets=places, asynchronous=False)


def offsets(server, group):
    partitions = server.tool_json("group", "describe", group)["partitions"]
    return {row["partition"]: (row["committed"], row["log_end"], row["lag"]) for row in partitions}


def filled(server, topic, lines=10, partitions=2):
    server.tool("topic", "create", topic, "--partitions", partitions)
    for partition in range(partitions if lines else 0):
        server.tool("produce", topic, "--partition", partition, stdin=b"line\n" * lines)


def refused(server, *arguments):
    done = run_tool("--bootstrap", server.bootstrap, "group", *arguments)
    assert done.returncode == 1, done
    return done.stderr.decode()


def test_a_group_with_a_member_is_described(shared, consumer):
    filled(shared, "described")
    client = consumer("readers")
    client.subscribe(["described"])
    until(lambda: client.poll(0.1) and len(client.assignment()) == 2, "both partitions are assigned")
    client.commit(offsets=[TopicPartition("described", 0, 4)], asynchronous=False)

    described = shared.tool_json("group", "describe", "readers")
    assert (described["state"], described["assignor"], described["total_lag"]) == ("Stable", "range", 6)
    [member] = described["members"]
    assert (member["client"], member["assigned"]) == ("reader", {"described": [0, 1]})
    rows = [(row["partition"], row["committed"], row["log_end"], row["lag"]) for row in described["partitions"]]
    assert rows == [(0, 4, 10, 6), (1, None, 10, None)]
    people = shared.tool("group", "describe", "readers").decode()
    assert re.search(r"^ *described +0 +4 +10 +6 +\S+ +reader +/127\.0\.0\.1$", people, re.M), people
    assert re.search(r"^ *described +1 +- +10 +- +\S+ +reader ", people, re.M), people
    assert people.endswith("state: Stable; members: 1, assigned by range; total lag: 6\n"), people

    assert {"group": "readers", "state": "Stable", "protocol_type": "consumer", "members": 1} in (
        shared.tool_json("group", "list")["groups"]
    )
    assert re.search(r"^ *readers +Stable +consumer +1$", shared.tool("group", "list").decode(), re.M)


def test_partitions_without_a_committed_offset_are_shown(shared, consumer):
    filled(shared, "wide", partitions=3)
    committed(consumer, "narrow-readers", "wide", {1: 4})
    assert offsets(shared, "narrow-readers") == {0: (None, 10, None), 1: (4, 10, 6), 2: (None, 10, None)}
    people = shared.tool("group", "describe", "narrow-readers").decode()
    assert re.search(r"^ *wide +0 +- +10 +- +- +- +-$", people, re.M), people
    assert people.endswith("total lag: 6\n"), people


def test_a_member_without_partitions_is_shown(shared, consumer):
    filled(shared, "narrow", partitions=1)
    clients = [consumer("crowd"), consumer("crowd")]
    for client in clients:
        client.subscribe(["narrow"])

    def settled():
        for client in clients:
            client.poll(0.1)
        described = shared.tool_json("group", "describe", "crowd")
        return described["state"] == "Stable" and len(described["members"]) == 2

    until(settled, "both are members")
    people = shared.tool("group", "describe", "crowd").decode()
    assert len(re.findall(r"^ *narrow +0 .* reader ", people, re.M)) == 1, people
    assert len(re.findall(r"^ *- +- +- +- +- +\S+ +reader ", people, re.M)) == 1, people


def test_a_reset_is_shown_and_then_done(shared, consumer):
    filled(shared, "rewound")
    committed(consumer, "rewinder", "rewound", {0: 7})
    reset = ("group", "reset", "rewinder", "--topic", "rewound", "--to", "earliest")
    people = shared.tool(*reset).decode()
    assert re.search(r"^ *rewound +0 +7 +0$", people, re.M) and re.search(r"^ *rewound +1 +- +0$", people, re.M), people
    assert people.endswith("nothing was changed; --execute does it\n")
    assert offsets(shared, "rewinder") == {0: (7, 10, 3), 1: (None, 10, None)}, "a dry run changes nothing"

    assert shared.tool_json(*reset, "--execute") == {
        "group": "rewinder",
        "executed": True,
        "partitions": [
            {"topic": "rewound", "partition": 0, "old": 7, "new": 0},
            {"topic": "rewound", "partition": 1, "old": None, "new": 0},
        ],
    }
    assert offsets(shared, "rewinder") == {0: (0, 10, 10), 1: (0, 10, 10)}
    shared.tool("group", "reset", "rewinder", "--topic", "rewound", "--partition", 1, "--to", "latest", "--execute")
    assert offsets(shared, "rewinder") == {0: (0, 10, 10), 1: (10, 10, 0)}


def test_a_group_can_begin_at_a_time_or_an_offset(shared):
    filled(shared, "timed", partitions=1)
    between = datetime.now(UTC)
    until(lambda: datetime.now(UTC).timestamp() > between.timestamp() + 0.002, "the clock has gone on")
    shared.tool("produce", "timed", stdin=b"later\n")
    for to, new in [(between.isoformat(), 10), ("2100-01-01T00:00:00Z", 11), ("1970-01-01T00:00:00Z", 0), (3, 3)]:
        shared.tool("group", "reset", "fresh", "--topic", "timed", "--to", to, "--execute")
        assert offsets(shared, "fresh")[0][0] == new, to


def test_a_group_with_members_is_neither_reset_nor_deleted(shared, consumer):
    filled(shared, "held")
    client = consumer("holders")
    client.subscribe(["held"])
    until(lambda: client.poll(0.1) and client.assignment(), "the group has a member")
    reset = ("reset", "holders", "--topic", "held", "--to", "latest")
    told = refused(shared, *reset, "--execute")
    assert "has members (1)" in told and "stop them" in told, told
    assert "nor can be now: group holders has members" in shared.tool("group", *reset).decode()
    told = refused(shared, "delete", "holders")
    assert "NON_EMPTY_GROUP (68)" in told and "stop them first" in told, told


def test_groups_are_deleted(shared, consumer):
    filled(shared, "left")
    for group in ("one", "two"):
        committed(consumer, group, "left", {0: 1})
    done = run_tool("--bootstrap", shared.bootstrap, "group", "delete", "one", "never-there", "two")
    assert (done.returncode, done.stdout) == (1, b"deleted group one\ndeleted group two\n"), done
    assert b"there is no group never-there; `chronik group list`" in done.stderr
    assert not {"one", "two"} & {group["group"] for group in shared.tool_json("group", "list")["groups"]}


def test_what_can_not_be_is_explained(shared):
    filled(shared, "bounds")
    assert "there is no group nobody; `chronik group list`" in refused(shared, "describe", "nobody")
    reset = ("reset", "any", "--topic", "bounds", "--to")
    assert "--partition 0 --to 3" in refused(shared, *reset, "3")
    assert "has offsets 0 to 10, not 11" in refused(shared, *reset, "11", "--partition", "0")
    assert "it has 2 partitions" in refused(shared, *reset, "latest", "--partition", "2")
    assert "there is no topic never-made" in refused(shared, "reset", "any", "--topic", "never-made", "--to", "latest")
    done = run_tool("group", "reset", "any", "--topic", "bounds", "--to", "yesterday")
    assert done.returncode == 2 and b"earliest, latest, offsets (0) and times" in done.stderr, done.stderr


@pytest.fixture
def follower(shared, tmp_path):
    """Starts `chronik consume --group --follow`, which prints into a file, and doesn't outlive the test."""
    tools = []

    def follow(topic, group):
        command = [BINARY, "--bootstrap", shared.bootstrap, "consume", topic, "--follow"]
        command += ["--group", group] if group else []
        printed = tmp_path / f"printed-{len(tools)}"
        with printed.open("wb") as out:
            tools.append(subprocess.Popen(command, stdout=out))
        return tools[-1], printed

    yield follow
    for tool in tools:
        tool.kill()
        tool.wait()


def members(server, group):
    """How many partitions each member of a group has, once all know it."""
    listed = [row for row in server.tool_json("group", "list")["groups"] if row["group"] == group]
    if not listed or listed[0]["state"] != "Stable":
        return None
    described = server.tool_json("group", "describe", group)
    return sorted(sum(map(len, member["assigned"].values())) for member in described["members"])


def interrupted(tool, by=signal.SIGINT):
    tool.send_signal(by)
    assert tool.wait(timeout=PATIENCE) == 0


def numbered(server, topic, numbers, partition=0):
    server.tool("produce", topic, "--partition", partition, stdin=b"".join(b"%d\n" % n for n in numbers))


def test_a_group_goes_on_where_it_was(shared):
    filled(shared, "resumed")
    consume = ("consume", "resumed", "--group", "resumers")
    assert shared.tool(*consume) == b"line\n" * 20
    assert offsets(shared, "resumers") == {0: (10, 10, 0), 1: (10, 10, 0)}
    assert shared.tool(*consume) == b""
    shared.tool("produce", "resumed", stdin=b"new\n")
    assert shared.tool(*consume) == b"new\n"
    described = shared.tool_json("group", "describe", "resumers")
    assert (described["state"], described["members"]) == ("Empty", [])
    assert shared.tool("consume", "resumed", "--group", "late", "--from", "end") == b""
    shared.tool("produce", "resumed", stdin=b"newest\n")
    assert shared.tool("consume", "resumed", "--group", "late") == b"newest\n"
    where = ("--bootstrap", shared.bootstrap)
    assert not run_tool(*where, "consume", "resumed", "--group", "later", "--from", "end").stderr
    done = run_tool(*where, "consume", "resumed", "--group", "late", "--from", "beginning")
    assert done.stdout == b"" and b"--from counts only where group late has no offset yet" in done.stderr, done.stderr
    assert b"in 2 of 2 partitions" in done.stderr and b"chronik group reset late --topic resumed" in done.stderr


def test_partitions_that_are_added_are_read(shared, follower):
    shared.tool("topic", "create", "growing")
    printed = [follower("growing", group)[1] for group in ("growers", None)]
    until(lambda: members(shared, "growers") == [1], "the member is there")
    shared.tool("topic", "add-partitions", "growing", "--partitions", 3)
    numbered(shared, "growing", [7], partition=2)
    for file in printed:
        until(lambda file=file: file.read_bytes() == b"7\n", "what was written to a new partition is printed")
    assert members(shared, "growers") == [3]


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_consumer_that_is_told_to_stop_commits_and_leaves(shared, follower, by):
    topic = group = f"stopped-by-{by.name.lower()}"
    shared.tool("topic", "create", topic)
    numbered(shared, topic, range(10))
    tool, printed = follower(topic, group)
    until(lambda: len(printed.read_bytes().splitlines()) == 10, "all is printed")
    interrupted(tool, by)
    described = shared.tool_json("group", "describe", group)
    assert (described["state"], described["members"]) == ("Empty", [])
    assert offsets(shared, group) == {0: (10, 10, 0)}


def test_what_was_not_printed_is_not_committed(shared):
    numbered(shared, "counted", range(10))
    consume = ("consume", "counted", "--group", "counters")
    assert shared.tool(*consume, "--count", 3) == b"0\n1\n2\n"
    assert offsets(shared, "counters") == {0: (3, 10, 7)}
    assert shared.tool(*consume) == b"3\n4\n5\n6\n7\n8\n9\n"


def test_the_tool_leads_a_group_with_another_client(shared, consumer, follower):
    filled(shared, "led", lines=0)
    tool, printed = follower("led", "leaders")
    until(lambda: members(shared, "leaders") == [2], "the tool has both partitions")
    client = consumer("leaders", **{"heartbeat.interval.ms": 300})
    client.subscribe(["led"])
    until(lambda: client.poll(0.1) or members(shared, "leaders") == [1, 1], "each has one")
    until(lambda: client.poll(0.1) or len(client.assignment()) == 1, "the client knows its partition")
    [own] = [place.partition for place in client.assignment()]
    numbered(shared, "led", range(5), partition=1 - own)
    until(lambda: printed.read_bytes() == b"0\n1\n2\n3\n4\n", "the tool prints its partition")
    client.close()
    until(lambda: members(shared, "leaders") == [2], "the tool has both again")
    numbered(shared, "led", range(5, 8), partition=own)
    until(lambda: printed.read_bytes() == b"0\n1\n2\n3\n4\n5\n6\n7\n", "the tool prints both partitions")
    interrupted(tool)
    assert offsets(shared, "leaders") == {own: (3, 3, 0), 1 - own: (5, 5, 0)}
    assert shared.tool_json("group", "describe", "leaders")["state"] == "Empty", "it has left"


def test_the_tool_follows_in_a_group_of_another_client(shared, consumer, follower):
    filled(shared, "joined", lines=0)
    client = consumer("hosts", **{"heartbeat.interval.ms": 300})
    client.subscribe(["joined"])
    until(lambda: client.poll(0.1) or members(shared, "hosts") == [2], "the client has both partitions")
    tool, printed = follower("joined", "hosts")
    until(lambda: client.poll(0.1) or members(shared, "hosts") == [1, 1], "each has one")
    until(lambda: client.poll(0.1) or len(client.assignment()) == 1, "the client knows its partition")
    [own] = [place.partition for place in client.assignment()]
    numbered(shared, "joined", range(3), partition=1 - own)
    until(lambda: printed.read_bytes() == b"0\n1\n2\n", "the tool prints its partition")
    interrupted(tool)
    assert offsets(shared, "hosts")[1 - own] == (3, 3, 0)
    until(lambda: client.poll(0.1) or members(shared, "hosts") == [2], "the client has both again")


@pytest.mark.parametrize("group", ["outlasters", None])
def test_a_follower_outlasts_its_broker(start, tmp_path, group):
    server = start()
    server.set(kafka_port=server.bootstrap.split(":")[1])
    server.tool("topic", "create", "outlasted")
    printed, told = tmp_path / "printed", tmp_path / "told"
    command = [BINARY, "--bootstrap", server.bootstrap, "consume", "outlasted", "--follow"]
    command += ["--group", group] if group else []

    def known():
        return [member["member"] for member in server.tool_json("group", "describe", group)["members"]]

    with printed.open("wb") as out, told.open("wb") as errors:
        tool = subprocess.Popen(command, stdout=out, stderr=errors)
    try:
        numbered(server, "outlasted", range(3))
        until(lambda: printed.read_bytes() == b"0\n1\n2\n", "the tool reads")
        members_before = known() if group else []
        for turn in range(2):
            server.kill()
            until(lambda turn=turn: told.read_text().count("trying again") == turn + 1, "the tool has lost the broker")
            server.start()
            numbered(server, "outlasted", [3 + turn])
            until(lambda turn=turn: printed.read_bytes().endswith(b"%d\n" % (3 + turn)), "the tool reads on")
        assert printed.read_bytes() == b"0\n1\n2\n3\n4\n", "nothing twice"
        until(lambda: told.read_text().count("going on with outlasted") == 2, "the tool says so")
        if group:
            assert known() == members_before, "it is the member that it was"
        interrupted(tool)
        if group:
            assert offsets(server, group) == {0: (5, 5, 0)}
            assert server.tool_json("group", "describe", group)["state"] == "Empty", "it has left"
    finally:
        tool.kill()
        tool.wait()


class Follower:
    """`chronik consume --follow`; gathers what it prints and tells."""

    def __init__(self, server, directory, topic, *options):
        self.printed, self.told = directory / "printed", directory / "told"
        command = [BINARY, "--bootstrap", server.bootstrap, "consume", topic, "--follow", *options]
        with self.printed.open("wb") as out, self.told.open("wb") as errors:
            self.tool = subprocess.Popen(command, stdout=out, stderr=errors)

    def prints(self, *lines):
        wanted = b"".join(b"%d\n" % line for line in lines)
        until(lambda: self.printed.read_bytes() == wanted, f"{lines} are printed, and no others")

    def tells(self, words):
        until(lambda: words in self.told.read_text(), f"the tool says {words}")


@pytest.fixture
def held(start, tmp_path):
    """A server whose fetches can be held, and what starts a follower of it, in a group once it is a member."""
    between = HeldFetches()
    server = start(**between.advertised())
    between.before(server.bootstrap)
    followers = []

    def follow(topic, *options):
        followers.append(Follower(server, tmp_path, topic, *options))
        if "--group" in options:
            until(lambda: members(server, "followers") == [1], "the member is there")
        return followers[-1]

    yield server, between, follow
    for follower in followers:
        follower.tool.kill()
        follower.tool.wait()


# As whom it follows, and where --from leads.
FOLLOWERS = [(), ("--group", "followers"), ("--group", "followers", "--from", "end")]


@pytest.mark.parametrize("options", FOLLOWERS)
def test_a_follower_goes_on_behind_records_that_were_deleted(held, options):
    server, between, follow = held
    server.tool("topic", "create", "shortened")
    follower = follow("shortened", *options)
    between.hold(PATIENCE)
    numbered(server, "shortened", range(6))
    server.tool("topic", "delete-records", "shortened", "--before", 4, "--execute")
    between.release()
    last = 5 if "end" in options else 3
    follower.tells(f"partition 0 of shortened has offsets 4 to 6, not 0: offsets 0 to {last} are skipped")
    numbered(server, "shortened", [6])
    follower.prints(*range(last + 1, 7))
    interrupted(follower.tool)


@pytest.mark.parametrize("options", FOLLOWERS)
def test_a_follower_reads_a_topic_that_was_made_anew_from_its_first_record(held, options):
    server, between, follow = held
    server.tool("topic", "create", "renewed")
    follower = follow("renewed", *options)
    numbered(server, "renewed", range(3))
    follower.prints(0, 1, 2)
    between.hold(PATIENCE)
    server.tool("topic", "delete", "renewed", "--execute")
    server.tool("topic", "create", "renewed", "--partitions", 2)
    numbered(server, "renewed", range(3, 8))
    numbered(server, "renewed", [8], partition=1)
    between.release()
    follower.tells("renewed was deleted and made anew; going on at its first record")
    until(lambda: len(follower.printed.read_bytes().split()) == 9, "all is printed")
    lines = follower.printed.read_bytes().split()
    assert lines[:3] == [b"0", b"1", b"2"] and sorted(lines[3:]) == [b"%d" % line for line in range(3, 9)]
    interrupted(follower.tool)
    if "--group" in options:
        assert offsets(server, "followers") == {0: (5, 5, 0), 1: (1, 1, 0)}


def test_a_follower_waits_for_a_topic_of_the_name(held):
    server, _, follow = held
    numbered(server, "doomed", [0])
    follower = follow("doomed", "--group", "followers")
    follower.prints(0)
    server.tool("topic", "delete", "doomed", "--execute")
    follower.tells("trying again")
    numbered(server, "doomed", [1])
    follower.prints(0, 1)
    server.tool("topic", "delete", "doomed", "--execute")
    until(lambda: follower.told.read_text().count("trying again") >= 2, "it waits again")
    interrupted(follower.tool)


def test_a_follower_does_not_wait_for_a_broker_that_never_was_there():
    done = run_tool("--bootstrap", f"127.0.0.1:{free_port()}", "consume", "any", "--follow")
    assert done.returncode == 1 and b"no Kafka broker answers" in done.stderr, done.stderr


def test_why_the_tool_can_not_be_a_member_is_explained(shared, consumer):
    filled(shared, "strict")
    client = consumer("robins", **{"partition.assignment.strategy": "roundrobin"})
    client.subscribe(["strict"])
    until(lambda: client.poll(0.1) or members(shared, "robins") == [2], "the group has a member")
    done = run_tool("--bootstrap", shared.bootstrap, "consume", "strict", "--group", "robins")
    assert done.returncode == 1 and b"INCONSISTENT_GROUP_PROTOCOL (23), its members" in done.stderr, done.stderr
    done = run_tool("--bootstrap", shared.bootstrap, "consume", "strict", "--group", "any", "--from", 3)
    assert done.returncode == 1 and b"chronik group reset any --topic strict --to 3 --execute" in done.stderr
    done = run_tool("consume", "strict", "--group", "any", "--partition", 0)
    assert done.returncode == 2 and b"cannot be used with" in done.stderr, done.stderr
