"""HTTP: problems, records, status, metrics, health."""

import pytest
from records import Record, consume, produce


def problem(server, method, path, **options):
    answer = server.request(method, path, **options)
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code and document["type"] == "about:blank"
    assert document["title"] and document["detail"]
    return answer.status_code, document


@pytest.mark.parametrize(
    ("parameters", "status", "code"),
    [
        ({"topic": "never-made", "q": "x"}, 404, "unknown_topic"),
        ({"topic": "here", "q": "(x"}, 400, "invalid_query"),
        ({"topic": "here", "q": "x" * 300}, 400, "invalid_query"),
        ({"topic": "here", "limit": 10_001}, 400, "invalid_parameter"),
        ({"topic": "here", "from": "yesterday"}, 400, "invalid_parameter"),
        ({"topic": "here", "from": 2, "to": 1}, 400, "invalid_parameter"),
        ({"topic": "here", "sort": "best"}, 400, "invalid_parameter"),
        ({"topic": "here", "colour": "red"}, 400, "invalid_parameter"),
        ({"topic": "here", "cursor": "guessed"}, 400, "invalid_cursor"),
        ({"topic": "here", "partition": 7}, 404, "unknown_partition"),
    ],
)
def test_a_search_that_cannot_be(shared, parameters, status, code):
    produce(shared.bootstrap, "here", [Record(b"x")])
    got, document = problem(shared, "GET", "/v1/search", params=parameters)
    assert (got, document["code"]) == (status, code)


def test_a_wrong_query_names_the_position(shared):
    produce(shared.bootstrap, "here", [Record(b"x")])
    _, document = problem(shared, "GET", "/v1/search", params={"topic": "here", "q": "one two) three"})
    assert document["position"] == 7


def test_a_cursor_of_another_search_is_refused(shared):
    produce(shared.bootstrap, "cursors", [Record(b"x")] * 5)
    cursor = shared.search("cursors", "x", limit=2)["cursor"]
    _, document = problem(shared, "GET", "/v1/search", params={"topic": "cursors", "q": "y", "cursor": cursor})
    assert document["code"] == "invalid_cursor"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/v1", 404), ("DELETE", "/v1/status", 405), ("GET", "/v1/seal", 405)],
)
def test_paths_that_are_not_there(shared, method, path, status):
    assert problem(shared, method, path)[0] == status


def test_records_as_json_wherever_they_lie(start):
    server = start(ship_max_age="1h")
    records = [Record(b"v%d" % n, key=b"k", timestamp=1_700_000_000_000 + n) for n in range(10)]
    records.append(Record(None, key=b"\xff", headers=(("a", None), ("a", b"\xc3\x28")), timestamp=1))
    path = "/v1/topics/read/partitions/0/records"
    for place in ("tail", "bucket"):
        if place == "tail":
            produce(server.bootstrap, "read", records)
        else:
            server.seal()
            server.kill()
            server.lose_data_directory()
            server.start()
        answer = server.get(path, offset=8, limit=5)
        expected = [records[offset].document("read", offset) for offset in (8, 9, 10)]
        got = answer["records"]
        assert [{name: record[name] for name in expected[0]} for record in got] == expected, place
    assert problem(server, "GET", path, params={"offset": 12})[1]["code"] == "offset_out_of_range"
    assert problem(server, "GET", "/v1/topics/no/partitions/0/records", params={"offset": 0})[0] == 404


@pytest.mark.parametrize(
    ("path", "parameter", "told"),
    [
        ("/v1/topics/here/partitions/x/records", "partition", '"x"'),
        ("/v1/topics/here/partitions/0/records?offset=-1", "offset", '"-1"'),
        ("/v1/topics/here/partitions/0/records?ofset=500", "ofset", "offset and limit"),
        ("/v1/status?topic=here", "topic", "no parameters"),
    ],
)
def test_a_parameter_that_cannot_be_is_named(shared, path, parameter, told):
    produce(shared.bootstrap, "here", [Record(b"x")])
    status, document = problem(shared, "GET", path)
    assert (status, document["code"], document["parameter"]) == (400, "invalid_parameter", parameter)
    assert told in document["detail"] and "parse" not in document["detail"], document["detail"]


def test_seal_takes_no_parameters(shared):
    assert problem(shared, "POST", "/v1/seal?topic=here")[1]["parameter"] == "topic"


def test_status_has_its_fields(shared):
    produce(shared.bootstrap, "stands", [Record(b"x")])
    status = shared.status()
    assert {"topics", "unshipped_bytes", "oldest_unshipped_ms", "pending_jobs"} <= status.keys()
    [topic] = [topic for topic in status["topics"] if topic["topic"] == "stands"]
    assert topic["id"]
    assert topic["partitions"][0].keys() == {"partition", "log_start", "high_watermark", "shipped_to", "archived_to"}


def test_metrics_have_the_names_that_dashboards_expect(shared):
    produce(shared.bootstrap, "measured", [Record(b"x")])
    consume(shared.bootstrap, "measured", 1)
    shared.search("measured", "x")
    shared.seal()
    shared.wait_archived()
    metrics = shared.metrics()
    for name in [
        "fetch_wal_hit_rate",
        "fetch_segment_hit_rate",
        "wal_indexer_lag_seconds",
        "tantivy_archive_size_bytes",
        "chronik_wal_fsync_seconds_count",
        "chronik_unshipped_bytes",
        "chronik_unshipped_age_seconds",
        "chronik_pending_jobs",
    ]:
        assert name in metrics, sorted(metrics)
    assert metrics["chronik_wal_fsync_seconds_count"] > 0
    assert metrics["tantivy_archive_size_bytes"] > 0
    assert metrics["fetch_wal_hit_rate"] > 0
    assert shared.request("GET", "/metrics").headers["content-type"].startswith("text/plain")


def test_health(shared):
    assert shared.request("GET", "/health/live").status_code == 200
    assert shared.request("GET", "/health/ready").status_code == 200


def test_the_catalog_survives_many_topics(start):
    server = start(ship_max_age="1s")
    for number in range(40):
        server.tool("topic", "create", f"topic-{number}", "--partitions", 5)
        produce(server.bootstrap, f"topic-{number}", [Record(b"word%d" % number, partition=number % 5)])
    server.seal()
    server.wait_archived()
    server.kill()
    server.lose_data_directory()
    server.start()
    for number in range(40):
        [hit] = server.search(f"topic-{number}", f"word{number}")["hits"]
        assert (hit["partition"], hit["offset"]) == (number % 5, 0)
