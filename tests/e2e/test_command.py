"""The operator's tool, for people and for programs."""

import json
import re
import socket
import subprocess
from pathlib import Path

from between import LostAnswers
from by_hand import batch, produce_by_hand
from chronik import BINARY, PATIENCE, run_shell, run_tool, until

GOLDEN = Path(__file__).parents[1] / "golden"
LINES = b"".join(b"order-%d:order %d paid\n" % (n % 5, n) for n in range(50))


def produced(server, topic, *options, partitions=1):
    server.tool("topic", "create", topic, "--partitions", partitions)
    return server.tool_json("produce", topic, *options, stdin=LINES)


def consumed(server, *arguments):
    return [json.loads(line) for line in server.tool("--json", "consume", *arguments).splitlines()]


def test_topics_are_created_and_listed(shared):
    assert shared.tool("topic", "create", "created").decode() == "created topic created with 1 partition\n"
    assert shared.tool_json("topic", "create", "created-too", "--partitions", 4) == {
        "topic": "created-too",
        "partitions": 4,
    }
    listed = {topic["topic"]: topic["partitions"] for topic in shared.tool_json("topic", "list")["topics"]}
    assert (listed["created"], listed["created-too"]) == (1, 4)
    assert re.search(r"^ *created-too +4$", shared.tool("topic", "list").decode(), re.M)


def test_a_topic_is_described_with_what_was_set_of_it(shared):
    shared.tool("topic", "create", "looked-at", "--partitions", 2, "--config", "max.message.bytes=1000")
    shared.tool("produce", "looked-at", "--partition", 1, stdin=b"one\ntwo\n")
    described = shared.tool_json("topic", "describe", "looked-at")
    places = [(row["partition"], row["log_start"], row["log_end"]) for row in described["partitions"]]
    assert places == [(0, 0, 0), (1, 0, 2)]
    assert {row["leader"] for row in described["partitions"]} == {shared.bootstrap}
    assert described["settings"] == {"max.message.bytes": "1000"}
    assert described["retention"] == {"ms": None, "bytes": None}
    assert sum(tier["records"] for tier in described["tiers"]) == 2
    shown = shared.tool("topic", "describe", "looked-at").decode()
    assert re.search(rf"^ *1 +{shared.bootstrap} +0 +2$", shown, re.M)
    assert re.search(r"^ *max.message.bytes +1000$", shown, re.M)
    shared.tool("topic", "create", "plain")
    assert "no settings of its own" in shared.tool("topic", "describe", "plain").decode()
    # All else is told without HTTP, where nothing listens and where something does that says nothing.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port, told in ((1, "no server answers"), (silent.getsockname()[1], "did not answer within 10s")):
            where = ("--bootstrap", shared.bootstrap, "--http", f"http://127.0.0.1:{port}")
            done = run_tool(*where, "--json", "topic", "describe", "looked-at")
            assert done.returncode == 0
            assert re.search(f"where the records lie is not known: .*{told}", done.stderr.decode())
            assert json.loads(done.stdout) == described | {"tiers": None}


def test_settings_of_a_topic_are_changed_together(shared):
    shared.tool("topic", "create", "altered", "--config", "max.message.bytes=1000")
    altered = ("topic", "alter", "altered")
    changed = shared.tool_json(*altered, "--set", "search.value.format=text", "--unset", "max.message.bytes")
    assert changed == {"topic": "altered", "settings": {"search.value.format": "text"}}
    assert shared.tool_json("topic", "describe", "altered")["settings"] == changed["settings"]
    for wrong, told in [
        (("--set", "search.positions=true", "--set", "no.such.setting=1"), "no.such.setting"),
        (("--set", "max.message.bytes=-1"), "max.message.bytes"),
        (("--set", "search.positions=true", "--unset", "search.positions"), "names search.positions twice"),
    ]:
        done = run_tool("--bootstrap", shared.bootstrap, *altered, *wrong)
        assert done.returncode == 1 and told in done.stderr.decode(), done.stderr
    assert shared.tool_json("topic", "describe", "altered")["settings"] == changed["settings"]
    shown = shared.tool(*altered, "--unset", "search.value.format").decode()
    assert shown == "changed topic altered, which has now\nno settings of its own\n"
    for arguments in ((), ("--set", "search.positions"), ("--set", "=1")):
        assert run_tool("--bootstrap", shared.bootstrap, *altered, *arguments).returncode == 2


def test_partitions_are_added(shared):
    shared.tool("topic", "create", "grows")
    grow = ("topic", "add-partitions", "grows", "--partitions")
    grown = shared.tool_json(*grow, 3)
    assert grown == {"topic": "grows", "old_partitions": 1, "partitions": 3}
    shared.tool("produce", "grows", "--partition", 2, stdin=b"x\n")
    assert re.search(r"^ *grows +3 +4$", shared.tool(*grow, 4).decode(), re.M)
    for count in (4, 3):
        done = run_tool("--bootstrap", shared.bootstrap, *grow, count)
        assert done.returncode == 1 and b"INVALID_PARTITIONS" in done.stderr
        assert b"has 4 partitions already" in done.stderr, done.stderr
    assert len(shared.tool_json("topic", "describe", "grows")["partitions"]) == 4


def test_lines_go_out_in_batches_that_the_topic_takes(shared):
    shared.tool("topic", "create", "narrow", "--config", "max.message.bytes=1000")
    lines = b"".join(b"%d\n" % number for number in range(1000))
    assert shared.tool_json("produce", "narrow", stdin=lines)["records"] == 1000
    assert shared.tool("consume", "narrow") == lines
    done = run_tool("--bootstrap", shared.bootstrap, "produce", "narrow", stdin=b"fits\n" + b"x" * 2000 + b"\n")
    assert done.returncode == 1 and b"1000 are allowed" in done.stderr, done.stderr


def test_topics_are_deleted_once_they_were_shown(shared):
    shared.tool("topic", "create", "doomed", "--partitions", 2)
    shared.tool("topic", "create", "doomed-too")
    shared.tool("produce", "doomed", stdin=b"x\ny\n")
    delete = ("topic", "delete", "doomed", "doomed-too")
    shown = shared.tool(*delete).decode()
    assert re.search(r"^ *doomed +2 +2$", shown, re.M) and "nothing was deleted; --execute does it" in shown
    topics = [
        {"topic": "doomed", "partitions": 2, "offsets": 2},
        {"topic": "doomed-too", "partitions": 1, "offsets": 0},
    ]
    assert shared.tool_json(*delete) == {"executed": False, "topics": topics}
    assert shared.tool_json(*delete, "--execute") == {"executed": True, "topics": topics}
    left = {topic["topic"] for topic in shared.tool_json("topic", "list")["topics"]}
    assert not left & {"doomed", "doomed-too"}
    assert run_tool("--bootstrap", shared.bootstrap, "topic", "delete").returncode == 2


def test_topics_that_are_not_there_can_not_be_changed(shared):
    commands = [("describe",), ("alter", "--unset", "search.positions"), ("add-partitions", "--partitions", 2)]
    for arguments in [*commands, ("delete", "--execute")]:
        done = run_tool("--bootstrap", shared.bootstrap, "topic", *arguments, "absent")
        assert done.returncode == 1 and b"there is no topic absent" in done.stderr, done.stderr


def test_a_setting_that_is_given_twice_is_named(shared):
    twice = ("max.message.bytes=1000", "search.positions=true", "max.message.bytes=2000")
    shared.tool("topic", "create", "set-once")
    for command, option in (("create", "--config"), ("alter", "--set")):
        settings = [part for setting in twice for part in (option, setting)]
        done = run_tool("--bootstrap", shared.bootstrap, "topic", command, "set-once", *settings)
        assert done.returncode == 1 and b"names max.message.bytes twice" in done.stderr, done.stderr
    assert shared.tool_json("topic", "describe", "set-once")["settings"] == {}


def test_values_that_are_given_twice_are_refused(shared):
    for arguments, told in [
        (("consume", "any", "--partition", 1, "--partition", 1), b"--partition names 1 twice"),
        (("group", "reset", "any", "--topic", "any", "--to", "latest", *["--partition", 0] * 2), b"names 0 twice"),
        (("topic", "delete-records", "any", "--before", "latest", *["--partition", 0] * 2), b"names 0 twice"),
        (("topic", "delete", "one", "two", "one"), b"topic delete names one twice"),
        (("group", "delete", "one", "one"), b"group delete names one twice"),
    ]:
        done = run_tool("--bootstrap", shared.bootstrap, *arguments)
        assert done.returncode == 1 and told in done.stderr, done.stderr


def test_values_that_can_not_be_are_refused():
    for arguments, told in [
        (("--bootstrap", "localhost", "status"), b"has no port; accepted is HOST:PORT"),
        (("--bootstrap", ":9092", "status"), b"has no host; accepted is HOST:PORT"),
        (("--json", "consume", "any", "--partition", -1), b"-1 is not in 0.."),
        (("consume", "any", "--from", -1), b"accepted are beginning, end and offsets"),
        (("consume", "any", "--count", -1), b"invalid value '-1' for '--count"),
        (("consume", ""), b"a value is required for '<TOPIC>'"),
        (("topic", "create", ""), b"a value is required for '<TOPIC>'"),
        (("topic", "delete", ""), b"a value is required for '<TOPIC>...'"),
        (("topic", "alter", "any", "--unset="), b"a value is required for '--unset"),
        (("consume", "any", "--group="), b"a value is required for '--group"),
        (("produce", "any", "--partition=-1"), b"-1 is not in 0.."),
        (("produce", "any", "--key-separator="), b"a value is required for '--key-separator"),
        (("search", "a,,b", "word"), b"names a topic without a name"),
        (("--http", "http://a:0", "status"), b"has port 0"),
    ]:
        done = run_tool(*arguments)
        assert done.returncode == 2 and told in done.stderr, done.stderr


def test_a_topic_that_cannot_be_created_is_explained(shared):
    shared.tool("topic", "create", "twice")
    for arguments in [("twice",), ("not/a/name",), ("odd", "--config", "no.such.setting=1")]:
        done = run_tool("--bootstrap", shared.bootstrap, "topic", "create", *arguments)
        assert done.returncode == 1
        assert re.match(rb"chronik: creating topic \S+ was refused: [A-Z_]+ \(\d+\), .", done.stderr), done.stderr


def test_lines_become_records(shared):
    answer = produced(shared, "lines")
    assert answer == {
        "topic": "lines",
        "records": 50,
        "partitions": [{"partition": 0, "records": 50, "first": 0, "last": 49}],
    }
    assert shared.tool("consume", "lines") == LINES
    assert shared.tool("consume", "lines", "--from", 48) == b"".join(LINES.splitlines(True)[48:])
    assert shared.tool("consume", "lines", "--count", 2) == b"".join(LINES.splitlines(True)[:2])
    assert shared.tool("consume", "lines", "--from", "end") == b""


def test_what_lies_before_a_batch_that_can_not_be_decoded_is_printed(shared):
    shared.tool("produce", "undecodable", stdin=b"one\ntwo\n")
    assert produce_by_hand(shared.bootstrap, "undecodable", batch(attributes=1)) == 0
    shared.tool("produce", "undecodable", stdin=b"last\n")
    done = run_tool("--bootstrap", shared.bootstrap, "consume", "undecodable")
    assert (done.returncode, done.stdout) == (1, b"one\ntwo\n")
    assert b"partition 0 of undecodable holds a batch at offset 2 that can't be read" in done.stderr
    assert b"its records do not decompress" in done.stderr
    assert done.stderr.endswith(b"chronik consume undecodable --partition 0 --from 3\n"), done.stderr
    assert shared.tool("consume", "undecodable", "--partition", 0, "--from", 3) == b"last\n"
    assert shared.tool("consume", "undecodable", "--count", 2) == b"one\ntwo\n", "it is not reached"


def test_any_bytes_are_lines(shared):
    odd = b"\xff\xfe\n\nwith\rreturn\r\n" + b"x" * 100_000 + b"\n"
    assert shared.tool("produce", "any-bytes", stdin=odd).startswith(b"4 records acknowledged")
    assert shared.tool("consume", "any-bytes") == odd
    assert consumed(shared, "any-bytes", "--count", 1)[0]["value"] == {"base64": "//4="}


def test_keys_headers_and_partitions(shared):
    produced(shared, "keyed", "--key-separator", ":", "--header", "source=test", "--codec", "zstd", partitions=3)
    records = consumed(shared, "keyed")
    assert len(records) == 50
    homes = {}
    for record in records:
        assert record["headers"] == [{"key": "source", "value": "test"}]
        assert homes.setdefault(record["key"], record["partition"]) == record["partition"], "a key has one partition"
    assert {record["key"] for record in records} == {f"order-{n}" for n in range(5)}
    [first] = {record["partition"] for record in records if record["key"] == "order-1"}
    assert all(record["partition"] == first for record in consumed(shared, "keyed", "--partition", first))


def test_a_fixed_partition(shared):
    answer = produced(shared, "fixed", "--partition", 2, partitions=3)
    assert [partition["partition"] for partition in answer["partitions"]] == [2]
    done = run_tool("--bootstrap", shared.bootstrap, "produce", "fixed", "--partition", 3, stdin=b"x\n")
    assert done.returncode == 1 and b"it has 3 partitions" in done.stderr


def test_an_offset_is_one_partitions(shared):
    produced(shared, "spread", "--partition", 2, partitions=3)
    done = run_tool("--bootstrap", shared.bootstrap, "consume", "spread", "--from", 48)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"spread has 3 of them" in done.stderr and b"--partition 0 --from 48" in done.stderr, done.stderr
    at = ("spread", "--partition", 2, "--from", 48)
    assert shared.tool("consume", *at) == b"".join(LINES.splitlines(True)[48:])


def test_lines_are_written_once_though_answers_are_lost(start):
    between = LostAnswers(3)
    server = start(**between.advertised())
    between.before(server.bootstrap)
    done = run_tool("--bootstrap", between.address, "--json", "produce", "once", stdin=LINES)
    assert done.returncode == 0, done.stderr
    [appended] = json.loads(done.stdout)["partitions"]
    assert (between.left, appended["first"], appended["last"]) == (0, 0, 49)
    assert server.tool("consume", "once") == LINES


def test_producing_goes_on_when_the_broker_is_back(start):
    server = start()
    server.set(kafka_port=server.bootstrap.split(":")[1])
    command = [BINARY, "--bootstrap", server.bootstrap, "produce", "patient"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as tool:
        tool.stdin.write("before\n")
        tool.stdin.flush()
        until(lambda: ("patient", 0) in server.partitions(), "the topic is there")
        until(lambda: server.partitions()["patient", 0]["high_watermark"] == 1, "the first line is written")
        server.kill()
        tool.stdin.write("after\n")
        tool.stdin.close()
        assert "sending again for 120 s" in tool.stderr.readline()
        server.start()
        assert tool.wait(timeout=PATIENCE) == 0
        assert tool.stderr.read() == "chronik: going on with patient\n"
        assert tool.stdout.read() == "2 records acknowledged in patient\n"
    assert server.tool("consume", "patient") == b"before\nafter\n"


def test_following_prints_what_comes(shared):
    shared.tool("produce", "followed", stdin=b"before\n")
    shared.tool("produce", "followed", stdin=b"after\n")
    assert shared.tool("consume", "followed", "--follow", "--count", 2) == b"before\nafter\n"


def test_search_for_people_and_programs(shared):
    produced(shared, "searched", "--key-separator", ":")
    people = shared.tool("search", "searched", "key:order-3 paid", "--limit", 3).decode()
    assert re.search(r"order-3 +order 48 paid$", people, re.M)
    assert "3 of 10 found" in people and "--cursor" in people
    answer = shared.tool_json("search", "searched", "17 OR 18", "--sort", "oldest")
    assert [hit["value"] for hit in answer["hits"]] == ["order 17 paid", "order 18 paid"]
    assert answer["total"] == {"value": 2, "relation": "eq"}
    assert shared.tool("search", "searched", "nowhere").startswith(b"0 of 0 found")


def test_a_wrong_query_is_explained(shared):
    shared.tool("topic", "create", "asked")
    done = run_tool("--http", shared.http, "search", "asked", "(open")
    assert done.returncode == 1
    assert b"invalid_query" in done.stderr and b"at byte 0" in done.stderr


def test_status_and_seal(shared):
    produced(shared, "sealed")
    assert b"in the bucket" in shared.tool("seal")
    [topic] = [topic for topic in shared.tool_json("status")["topics"] if topic["topic"] == "sealed"]
    assert topic["partitions"][0]["shipped_to"] == 50
    assert re.search(r"^ *sealed +0 +0 +50 +50 ", shared.tool("status").decode(), re.M)


def test_segments_and_archives_are_described(shared):
    produced(shared, "described")
    shared.seal()
    shared.wait_archived()
    topic_id = next(topic["id"] for topic in shared.status()["topics"] if topic["topic"] == "described")
    environment = {"LOCAL_STORAGE_PATH": shared.bucket}

    segments = sorted((shared.bucket / "lanes").rglob("*.seg"))
    descriptions = [json.loads(run_tool("--json", "segment", "inspect", path).stdout) for path in segments]
    [rows] = [
        topic["partitions"]
        for description in descriptions
        for topic in description["topics"]
        if topic["id"] == topic_id
    ]
    assert [(row["partition"], row["first"], row["last"]) for row in rows] == [(0, 0, 49)]
    key = str(segments[-1].relative_to(shared.bucket))
    by_key = run_tool("segment", "inspect", key, settings=environment)
    assert by_key.returncode == 0 and key.encode() in by_key.stdout

    [archive] = sorted((shared.bucket / "topics" / topic_id).rglob("*.ckx"))
    description = json.loads(run_tool("--json", "archive", "inspect", archive).stdout)
    assert [(run["partition"], run["first"], run["last"]) for run in description["runs"]] == [(0, 0, 49)]
    assert run_tool("archive", "inspect", archive).returncode == 0


def test_pages_are_described(tmp_path):
    for name, height in [("page-v0.page", 0), ("page-inner-v0.page", 1)]:
        page = GOLDEN / name
        description = json.loads(run_tool("--json", "page", "inspect", page).stdout)
        assert description["height"] == height and description["partitions"][0]["partition"] == 0
        assert bool(description["runs"]) == (height == 0) and bool(description["pages"]) == (height > 0)
        told = run_tool("page", "inspect", page)
        assert told.returncode == 0 and description["topic"].encode() in told.stdout
        bytes_ = bytearray(page.read_bytes())
        bytes_[70] ^= 1
        copy = tmp_path / name
        copy.write_bytes(bytes_)
        done = run_tool("page", "inspect", copy)
        assert done.returncode == 1 and name.encode() in done.stderr and b"checksum" in done.stderr


def test_damage_is_found(start, tmp_path):
    server = start()
    server.tool("produce", "damaged", stdin=LINES)
    server.seal()
    server.wait_archived()
    for suffix, noun in [("seg", "segment"), ("ckx", "archive")]:
        [path] = list(server.bucket.rglob(f"*.{suffix}"))[:1]
        bytes_ = bytearray(path.read_bytes())
        bytes_[len(bytes_) // 3] ^= 0x40
        copy = tmp_path / path.name
        copy.write_bytes(bytes_)
        done = run_tool(noun, "inspect", copy)
        told = done.stdout + done.stderr
        assert b"damage" in told or b"checksum" in told.lower(), told


def test_what_is_neither_file_nor_key(tmp_path):
    done = run_tool("segment", "inspect", "no/such/thing", directory=tmp_path)
    assert done.returncode == 1 and b"no/such/thing" in done.stderr
    (tmp_path / "text").write_text("not a segment, and longer than any trailer " * 10)
    done = run_tool("archive", "inspect", "text", directory=tmp_path)
    assert done.returncode == 1 and b"text" in done.stderr and b"panicked" not in done.stderr


def test_version():
    assert re.fullmatch(rb"chronik \d+\.\d+\.\d+\n", run_tool("version").stdout)
    assert re.fullmatch(r"\d+\.\d+\.\d+", json.loads(run_tool("--json", "version").stdout)["version"])


def test_no_broker_there():
    done = run_tool("--bootstrap", "127.0.0.1:1", "topic", "list")
    assert done.returncode == 1 and b"127.0.0.1:1" in done.stderr and b"--bootstrap" in done.stderr
    done = run_tool("--http", "http://127.0.0.1:1", "status")
    assert done.returncode == 1 and b"127.0.0.1:1" in done.stderr and b"--http" in done.stderr


def test_an_advertised_address_that_can_not_be_reached_is_named(start):
    server = start(bind_addr="127.0.0.1", advertised_addr="127.0.0.1:1")
    told = f"the broker on {server.bootstrap} advertises 127.0.0.1:1 to its clients, and no Kafka broker answers there"
    server.tool("topic", "create", "advertised")
    for command in (("consume", "advertised"), ("group", "list"), ("topic", "describe", "advertised")):
        done = run_tool("--bootstrap", server.bootstrap, *command)
        assert done.returncode == 1 and told in done.stderr.decode(), done.stderr
        assert b"CHRONIK_ADVERTISED_ADDR" in done.stderr, done.stderr
    command = [BINARY, "--bootstrap", server.bootstrap, "produce", "advertised"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tool:
        tool.stdin.write("line\n")
        tool.stdin.flush()
        assert told in (line := tool.stderr.readline()), line
        assert line.endswith("; sending again for 120 s, Ctrl-C ends this\n"), line
        tool.kill()


def test_what_is_no_address():
    for address, told in [("ftp://x", b"neither http nor https"), ("http://", b"is not a URL")]:
        done = run_tool("--http", address, "status")
        assert done.returncode == 2 and told in done.stderr and b"http://10.0.0.5:8080" in done.stderr, done.stderr


def test_a_password_in_an_address_is_not_repeated():
    done = run_tool("--http", "http://me:secret@x", "status")
    assert done.returncode == 2 and b"//x" in done.stderr, done.stderr
    assert b"secret" not in done.stderr and b"me:" not in done.stderr, done.stderr


def test_unknown_topic(shared):
    done = run_tool("--bootstrap", shared.bootstrap, "consume", "never-made")
    assert done.returncode == 1 and b"there is no topic never-made" in done.stderr
    assert "never-made" not in [topic["topic"] for topic in shared.tool_json("topic", "list")["topics"]]
    done = run_tool("--http", shared.http, "search", "never-made", "x")
    assert done.returncode == 1 and b"never-made" in done.stderr and b"unknown_topic" in done.stderr


def test_a_reader_that_has_enough(shared):
    shared.tool("produce", "long", stdin=b"x" * 70 + b"\n" + LINES * 200)
    done = run_shell(f"'{BINARY}' --bootstrap {shared.bootstrap} consume long | head -n 1")
    assert done == (b"x" * 70 + b"\n", b"")


def test_the_ready_line_names_commands_that_work(start):
    server = start()
    until(lambda: server.lines.qsize() >= 3, "three commands are printed")
    commands = [server.lines.get().strip().removeprefix("try").strip() for _ in range(3)]
    assert run_shell(commands[0])[0].startswith(b"1 record acknowledged")
    assert run_shell(commands[1])[0] == b"hello world\n"
    assert b"hello world" in run_shell(commands[2])[0]
