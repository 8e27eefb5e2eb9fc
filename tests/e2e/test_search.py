"""Search over HTTP, beyond what the main job asks."""

import random

import pytest
from confluent_kafka.admin import AdminClient
from records import Record, produce
from scan import Word, tokens

T0 = 1_700_000_000_000


def made(server, topic, count, partitions=3, first=0):
    """Records of which every fifth holds `needle`; timestamps repeat."""
    draw = random.Random(topic)
    records = [
        Record(
            value=b"record %d%s" % (n, b" needle" if n % 5 == 0 else b""),
            timestamp=T0 + n // 7 * 10,
            partition=draw.randrange(partitions),
        )
        for n in range(first, first + count)
    ]
    if first == 0:
        server.tool("topic", "create", topic, "--partitions", partitions)
    offsets = produce(server.bootstrap, topic, records)
    return [(record.timestamp, record.partition, offset) for record, offset in zip(records, offsets, strict=True)]


def pages(server, topic, query, **parameters):
    """What each page finds, as (timestamp, partition, offset)."""
    for hits in server.pages(topic, query, **parameters):
        yield [(hit["timestamp"], hit["partition"], hit["offset"]) for hit in hits]


@pytest.mark.parametrize("sort", ["newest", "oldest"])
def test_pages_name_every_record_once_while_records_move_to_the_bucket(start, sort):
    server = start(ship_max_age="1h", index_batch_age="1h")
    there = made(server, "paged", 700)
    turns = iter([lambda: None, server.seal, server.wait_archived])
    found = list(pages(server, "paged", "needle", sort=sort, limit=30, between=lambda: next(turns, lambda: None)()))
    assert all(len(page) == 30 for page in found[:-1])
    expected = sorted((hit for n, hit in enumerate(there) if n % 5 == 0), reverse=sort == "newest")
    assert [hit for page in found for hit in page] == expected


def test_records_of_all_three_places_are_one_answer(start):
    server = start(ship_max_age="1h", index_batch_age="1h")
    hits = made(server, "places", 300)
    server.seal()
    server.wait_archived()
    hits += made(server, "places", 300, first=300)
    server.set(ship_max_age="1s")
    server.kill()
    server.start()
    server.wait_shipped()
    server.set(ship_max_age="1h")
    server.kill()
    server.start()
    hits += made(server, "places", 300, first=600)
    answer = server.search("places", "needle", limit=10_000)
    found = [(hit["timestamp"], hit["partition"], hit["offset"]) for hit in answer["hits"]]
    assert found == sorted((hit for n, hit in enumerate(hits) if n % 5 == 0), reverse=True)
    stands = server.partitions()
    for covered in answer["coverage"]:
        stand = stands["places", covered["partition"]]
        assert (covered["from"], covered["to"]) == (stand["log_start"], stand["high_watermark"])


def test_a_record_is_found_as_soon_as_it_is_acknowledged(shared):
    shared.tool("topic", "create", "fresh")
    for number in range(30):
        produce(shared.bootstrap, "fresh", [Record(b"fresh%d" % number)])
        assert shared.search("fresh", f"fresh{number}")["total"]["value"] == 1


def test_several_topics_and_partitions(shared):
    a, b = made(shared, "several-a", 60), made(shared, "several-b", 60)
    answer = shared.get("/v1/search", topic=["several-a", "several-b"], q="needle", limit=100)
    assert answer["total"]["value"] == 24
    answer = shared.get("/v1/search", topic="several-a", q="needle", limit=100, partition=[0, 2])
    expected = [hit for n, hit in enumerate(a) if n % 5 == 0 and hit[1] in (0, 2)]
    assert sorted((hit["timestamp"], hit["partition"], hit["offset"]) for hit in answer["hits"]) == sorted(expected)
    assert len(b) == 60


def test_times_are_inclusive_and_exclusive_and_may_be_rfc_3339(shared):
    hits = made(shared, "timed", 70)
    expected = [hit for hit in hits if T0 + 20 <= hit[0] < T0 + 50]
    for since, until in [(T0 + 20, T0 + 50), ("2023-11-14T22:13:20.020Z", "2023-11-14T23:13:20.050+01:00")]:
        answer = shared.search("timed", "", limit=100, **{"from": since, "to": until})
        found = [(hit["timestamp"], hit["partition"], hit["offset"]) for hit in answer["hits"]]
        assert found == sorted(expected, reverse=True)


def test_words_of_any_script_and_words_that_are_phrases(shared):
    values = [
        "Größe überschritten",
        "GRÖSSE",
        "接続エラー 番号7",
        "blk_12 at 10.0.0.1",
        "10 0 0 1 blk 12",
        "blk_1 2",
        "Ошибка ДИСКА",
        "ΣΊΣΥΦΟΣ",
        '{"city":"Z\\u00fcrich","stack":"boom\\n\\tat com.acme\\nCaused by"}',
    ]
    produce(shared.bootstrap, "scripts", [Record(value.encode()) for value in values])
    words = "größe ÜBERSCHRITTEN 接続エラー 番号7 blk_12 10.0.0.1 диска σίσυφος zürich caused 1 12"
    for word in words.split():
        expected = {value for value in values if Word(word).matches(Record(value.encode()))}
        found = {hit["value"] for hit in shared.search("scripts", word, limit=100)["hits"]}
        assert found == expected, (word, tokens(word.encode()))


def test_highlights_name_what_matched(shared):
    produce(shared.bootstrap, "highlighted", [Record("größe: Disk FULL, disk gone".encode())])
    [hit] = shared.search("highlighted", "disk")["hits"]
    marked = [hit["value"].encode()[start:end].decode() for start, end in hit["highlights"]]
    assert marked == ["Disk", "disk"]
    produce(shared.bootstrap, "highlighted", [Record(b'{"city":"Z\\u00fcrich"}')])
    [hit] = shared.search("highlighted", "zürich")["hits"]
    assert [hit["value"][start:end] for start, end in hit["highlights"]] == ["Z\\u00fcrich"]


def test_a_search_can_be_posted(shared):
    made(shared, "posted", 20)
    answer = shared.request("POST", "/v1/search", json={"topic": ["posted"], "q": "needle", "limit": 2})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["hits"]) == 2 and answer.json()["total"]["value"] == 4


def test_parameters_that_would_not_count_are_refused(shared):
    shared.tool("topic", "create", "posted-strictly")
    parameters = {"topic": "posted-strictly"}
    for request in [
        {"params": parameters, "json": {"limit": 0}},
        {"data": b'{"limit": 1, "limit": 2}', "headers": {"Content-Type": "application/json"}},
    ]:
        answer = shared.request("POST", "/v1/search", **request)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter"), answer.text


def test_a_total_does_not_count_what_a_deleted_topic_had(shared):
    def page(**cursor):
        answer = shared.search("anew", "needle", limit=7, sort="oldest", **cursor)
        return answer["total"], answer["cursor"], len(answer["hits"])

    made(shared, "anew", 100, partitions=1)
    total, cursor, _ = page()
    assert total == {"value": 20, "relation": "eq"}
    admin = AdminClient({"bootstrap.servers": shared.bootstrap})
    admin.delete_topics(["anew"])["anew"].result(30)
    shared.tool("topic", "create", "anew")
    assert page(cursor=cursor) == ({"value": 0, "relation": "gte"}, None, 0)
    made(shared, "anew", 100, partitions=1, first=100)
    total, cursor, found = page(cursor=cursor)
    assert (total, found) == ({"value": 20, "relation": "gte"}, 7)
    assert page(cursor=cursor)[0] == {"value": 13, "relation": "gte"}


@pytest.mark.parametrize("declared", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "", None])
def test_a_search_that_is_not_posted_as_json_is_refused(shared, declared):
    answer = shared.request("POST", "/v1/search", data=b'{"q":"needle"}', headers={"Content-Type": declared})
    assert (answer.status_code, answer.json()["code"]) == (415, "wrong_media_type")


def test_a_topic_without_search_is_not_searched(shared):
    shared.tool("topic", "create", "unsearched", "--config", "search.enabled=false")
    produce(shared.bootstrap, "unsearched", [Record(b"secret")])
    answer = shared.request("GET", "/v1/search", params={"topic": "unsearched", "q": "secret"})
    assert answer.json()["code"] == "search_disabled"
    assert shared.partitions()["unsearched", 0]["archived_to"] is None
