"""Services of their own: a broker and query workers as processes that meet in a bucket."""

import re
import signal
import socket

import pytest
import requests
from chronik import BINARY, PATIENCE, Chronik, Ingest, Query, program, run_tool, until
from records import Record, consume, produce

SERVICES = [Ingest, Query]
TOKEN = "s3cret-token"


@pytest.fixture
def pair(start):
    """A broker that ships only on request, and a query worker over its bucket."""
    ingest = start("ingest", Ingest, ship_max_age="1h")
    return ingest, start("query", Query, local_storage_path=ingest.bucket)


def records(first, count):
    return [Record(b"order %d paid" % number, timestamp=1_700_000_000_000 + number) for number in range(first, count)]


def found(query, topic, word="paid"):
    """The offsets that a search finds; None as long as the worker does not know the topic."""
    answer = query.request("GET", "/v1/search", params={"topic": topic, "q": word, "limit": 10_000, "sort": "oldest"})
    if answer.status_code == 404:
        return None
    assert answer.status_code == 200, answer.text
    return [hit["offset"] for hit in answer.json()["hits"]]


def test_a_query_worker_answers_for_what_is_in_the_bucket(pair):
    ingest, query = pair
    assert found(query, "orders") is None
    produce(ingest.bootstrap, "orders", records(0, 50))
    ingest.seal()
    until(lambda: found(query, "orders") == list(range(50)), "the worker reads the new catalog")

    produce(ingest.bootstrap, "orders", records(50, 60))
    answer = query.search("orders", "paid", limit=100)
    assert answer["coverage"] == [{"topic": "orders", "partition": 0, "from": 0, "to": 50}], (
        "it has no tail, and says so"
    )
    assert answer["not_searched"] == [] and answer["total"] == {"value": 50, "relation": "eq"}
    ingest.seal()
    until(lambda: found(query, "orders") == list(range(60)), "the worker reads the newer catalog")

    page = query.get("/v1/topics/orders/partitions/0/records", offset=59)
    assert [record["value"] for record in page["records"]] == ["order 59 paid"]
    [hit] = query.tool_json("search", "orders", "59")["hits"]
    assert hit["offset"] == 59


def test_query_workers_answer_alike(pair, start):
    ingest, query = pair
    workers = [query, *(start(f"query-{n}", Query, local_storage_path=ingest.bucket) for n in range(2))]
    produce(ingest.bootstrap, "orders", records(0, 300), codec="zstd")
    ingest.seal()
    for worker in workers:
        until(lambda worker=worker: found(worker, "orders") == list(range(300)), "the worker reads the new catalog")
    for parameters in ({"limit": 7}, {"sort": "oldest", "from": 1_700_000_000_100}, {"limit": 0}):
        answers = [{**worker.search("orders", "order", **parameters), "took_ms": None} for worker in workers]
        assert answers[0]["total"]["value"] >= 200
        assert all(answer == answers[0] for answer in answers)


def test_each_service_is_killed_and_comes_back(pair):
    ingest, query = pair
    produce(ingest.bootstrap, "orders", records(0, 20))
    ingest.seal()
    until(lambda: found(query, "orders") == list(range(20)), "the worker reads the new catalog")

    query.kill()
    assert found(query.start(), "orders") == list(range(20))

    produce(ingest.bootstrap, "orders", records(20, 30))
    ingest.kill()
    assert found(query, "orders") == list(range(20)), "searches need no broker"
    ingest.start()
    ingest.seal()
    until(lambda: found(query, "orders") == list(range(30)), "the worker reads the new catalog")
    [read] = consume(ingest.bootstrap, "orders", 1)
    assert [record.value for _, record in read] == [record.value for record in records(0, 30)]


def test_a_stop_in_good_order(pair):
    ingest, query = pair
    produce(ingest.bootstrap, "orders", records(0, 10))
    assert ingest.stop() == 0
    assert list(ingest.bucket.rglob("*.seg")), "a clean stop ships everything"
    until(lambda: found(query, "orders") == list(range(10)), "the worker reads the last catalog")
    assert query.stop() == 0
    ingest.lose_data_directory()
    ingest.start()
    assert len(consume(ingest.bootstrap, "orders", 1)[0]) == 10


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_both_signals_end_a_worker_well(pair, name):
    _, query = pair
    query.process.send_signal(name)
    assert query.process.wait(timeout=PATIENCE) == 0


def test_health_and_metrics(pair):
    for service, metric in zip(pair, ["chronik_unshipped_bytes", "chronik_search_requests_total"], strict=True):
        assert service.request("GET", "/health/live").status_code == 200
        assert service.request("GET", "/health/ready").status_code == 200
        assert metric in service.metrics()


def test_a_broker_without_indexers_says_so(pair):
    ingest, _ = pair
    assert "no indexer" in ingest.last_lines()


def test_a_worker_without_a_bucket_says_so(tmp_path):
    query = Query(tmp_path / "query", local_storage_path=tmp_path / "nowhere").spawn()
    assert query.process.wait(timeout=PATIENCE) == 1
    assert str(tmp_path / "nowhere") in query.last_lines()


@pytest.mark.parametrize("kind", [Chronik, Ingest, Query])
def test_the_token(start, tmp_path, kind):
    (tmp_path / "server" / "bucket").mkdir(parents=True)
    server = start(kind=kind, http_token=TOKEN, log="debug")
    for path in ("/health/live", "/health/ready"):
        assert requests.get(server.http + path, timeout=PATIENCE).status_code == 200
    for path in ("/metrics", "/v1/search?topic=t", "/v1/status", "/nowhere"):
        for headers in ({}, {"Authorization": "Bearer guess"}, {"Authorization": f"Basic {TOKEN}"}):
            refusal = requests.get(server.http + path, headers=headers, timeout=PATIENCE)
            assert refusal.status_code == 401 and refusal.json()["code"] == "unauthorized"
            assert refusal.headers["content-type"] == "application/problem+json"
            assert refusal.headers["www-authenticate"].startswith("Bearer")
        assert server.request("GET", path).status_code != 401
    assert server.metrics()
    assert server.stop() == 0
    assert TOKEN not in server.last_lines(100_000) and not any(TOKEN in line for line in server.ready_lines)


def test_the_tool_sends_the_token(start):
    server = start(http_token=TOKEN)
    server.tool("produce", "t", stdin=b"hello world\n")
    assert [hit["value"] for hit in server.tool_json("search", "t", "hello")["hits"]] == ["hello world"]
    assert server.tool("--http-token", TOKEN, "seal")
    done = run_tool("--http", server.http, "status")
    assert done.returncode == 1 and b"unauthorized" in done.stderr and b"CHRONIK_HTTP_TOKEN" in done.stderr


def test_the_token_is_never_shown():
    settings = {"CHRONIK_HTTP_TOKEN": TOKEN}
    for arguments in (("standalone", "--help"), ("status", "--help"), ("standalone", "--http-port", "many")):
        done = run_tool(*arguments, settings=settings)
        assert TOKEN.encode() not in done.stdout + done.stderr
    for wrong in ("", "two words", "größe"):
        done = run_tool("standalone", settings={"CHRONIK_HTTP_TOKEN": wrong})
        assert done.returncode == 1 and b"CHRONIK_HTTP_TOKEN" in done.stderr
        assert not wrong or wrong.encode() not in done.stderr


def test_http_follows_kafka_beyond_loopback_only_with_a_token(start):
    server = start(advertised_addr="127.0.0.1", http_token=TOKEN)
    listening = f"{server.http.removeprefix('http://127.0.0.1')}"
    assert requests.get(f"http://127.0.0.2{listening}/health/live", timeout=PATIENCE).status_code == 200
    server.stop()
    del server.settings["CHRONIK_HTTP_TOKEN"]
    server.start()
    listening = f"{server.http.removeprefix('http://127.0.0.1')}"
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.2{listening}/health/live", timeout=PATIENCE)


@pytest.mark.parametrize("kind", SERVICES)
def test_a_used_http_port(tmp_path, kind):
    (tmp_path / "bucket").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = kind(tmp_path, http_port=port).spawn()
        assert server.process.wait(timeout=PATIENCE) == 1
    assert str(port) in server.last_lines() and "CHRONIK_HTTP_PORT" in server.last_lines()


@pytest.mark.parametrize("service", ["ingest", "query"])
@pytest.mark.parametrize(
    ("setting", "value", "accepted"),
    [
        ("CHRONIK_HTTP_PORT", "70000", "65535"),
        ("CHRONIK_HTTP_BIND", "0.0.0.0", "CHRONIK_HTTP_TOKEN"),
        ("CHRONIK_CACHE_MEMORY_BYTES", "much", "64MiB"),
        ("OBJECT_STORE_BACKEND", "floppy", "local"),
    ],
)
def test_a_wrong_value_is_told_alike_by_command_and_program(tmp_path, service, setting, value, accepted):
    commands = {"chronik": (BINARY, [service]), f"chronik-{service}": (program(f"chronik-{service}"), [])}
    told = []
    for name, (binary, arguments) in commands.items():
        done = run_tool(*arguments, settings={setting: value}, directory=tmp_path, binary=binary)
        assert done.returncode in (1, 2)
        complaint = done.stderr.decode()
        assert setting in complaint and value in complaint and accepted in complaint, complaint
        told.append((done.returncode, re.sub(rf"^{name}:", "", complaint).split("\n")[0]))
    assert told[0] == told[1]
    assert not list(tmp_path.iterdir()), "refused before anything starts"


@pytest.mark.parametrize("service", ["ingest", "query"])
def test_what_is_not_there_yet_is_refused_alike(service):
    for binary, arguments in ((BINARY, [service]), (program(f"chronik-{service}"), [])):
        done = run_tool(*arguments, settings={"CHRONIK_NODE_ID": "x"}, binary=binary)
        assert done.returncode == 2 and b"CHRONIK_NODE_ID" in done.stderr and b"not there yet" in done.stderr


def test_help_names_only_what_makes_sense():
    helps = {
        name: run_tool("--help", binary=program(f"chronik-{name}")).stdout.decode() for name in ("ingest", "query")
    }
    for setting in ("--http-token", "--cache-memory-bytes", "--local-storage-path"):
        assert all(setting in text for text in helps.values()), setting
    for setting in ("--kafka-port", "--wal-max-bytes", "--index-batch-age", "--indexer-memory-bytes"):
        assert setting not in helps["query"], setting
    assert "--kafka-port" in helps["ingest"] and "--indexer-memory-bytes" not in helps["ingest"]
