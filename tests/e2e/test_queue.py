"""Jobs over a real queue: what indexers take, what no indexer can work on, and a queue that loses everything."""

import json
import uuid

import pytest
from chronik import Chronik, until
from job_queue import Queue
from records import Record, produce
from servers import sqs


@pytest.fixture(params=["elasticmq", "moto"])
def queue(request):
    return Queue(request.getfixturevalue(request.param))


@pytest.fixture
def start_on(start):
    """Starts a server on a queue."""
    return lambda queue, **settings: start(ship_max_age="1s", **queue.settings(), **settings)


def fill(server, topic, count=100):
    produce(server.bootstrap, topic, [Record(b"number %d of many" % number) for number in range(count)])


def found(server, topic):
    return server.search(topic, "many")["total"]["value"]


def test_records_become_archives(queue, start_on):
    server = start_on(queue)
    for topic in ("a", "b"):
        fill(server, topic)
    server.seal()
    server.wait_archived()
    assert [found(server, topic) for topic in ("a", "b")] == [100, 100]
    until(lambda: queue.messages() == 0, "all jobs are acknowledged")
    assert not queue.dead_letters()
    assert server.metrics()["chronik_indexer_jobs_done_total"] >= 2
    assert server.stop() == 0
    server.start()
    server.wait_archived()
    assert [found(server, topic) for topic in ("a", "b")] == [100, 100]


def test_what_is_no_job_goes_to_the_dead_letters_and_holds_up_no_indexer(queue, start_on):
    bodies = ["no job", json.dumps({"v": 99, "kind": "index"}), json.dumps({"v": 0, "kind": "dance"})]
    for body in bodies:
        queue.send(body)
    server = start_on(queue)
    fill(server, "t")
    server.seal()
    server.wait_archived()
    until(lambda: queue.messages() == 0, "the queue is empty")
    letters = queue.dead_letters()
    assert sorted(letters) == sorted(bodies)
    assert "version 99" in letters[bodies[1]] and "dance" in letters[bodies[2]]
    assert server.metrics()["chronik_queue_buried_total"] == 3


def test_without_the_queue_everything_goes_on_but_archives(elasticmq, start_on):
    queue = Queue(elasticmq)
    server = start_on(queue)
    elasticmq.kill()
    fill(server, "t")
    answer = server.request("POST", "/v1/seal")
    assert (answer.status_code, answer.json()["code"]) == (503, "queue_unavailable"), answer.text
    server.wait_shipped()
    assert found(server, "t") == 100, "what has no archive is scanned"
    elasticmq.start()
    queue.make()
    until(lambda: server.request("POST", "/v1/seal").status_code == 200, "the queue takes jobs again")
    server.wait_archived()
    assert found(server, "t") == 100


def test_a_start_without_the_queue(elasticmq, start_on):
    queue = Queue(elasticmq)
    elasticmq.kill()
    server = start_on(queue)
    fill(server, "t")
    assert found(server, "t") == 100
    elasticmq.start()
    queue.make()
    until(lambda: server.request("POST", "/v1/seal").status_code == 200, "the queue takes jobs")
    server.wait_archived()


def test_jobs_that_the_queue_lost_are_sent_again(elasticmq, start_on):
    queue = Queue(elasticmq)
    queue.make(DelaySeconds="900")
    server = start_on(queue)
    fill(server, "t")
    server.seal()
    assert queue.messages() == 1 and server.status()["pending_jobs"] == 1
    elasticmq.kill()
    elasticmq.start()
    queue.make()
    assert queue.messages() == 0
    # The broker takes a job for lost when the queue has been empty for a minute; it looks every half.
    [partition] = server.partitions().values()
    assert partition["archived_to"] == 0
    until(lambda: server.partitions()["t", 0]["archived_to"] == 100, "the job was sent again and done", patience=300)
    assert found(server, "t") == 100
    assert server.metrics()["chronik_unreadable_runs_total"] == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"CHRONIK_QUEUE": "sqs"}, ["SQS_QUEUE_URL"]),
        ({"SQS_QUEUE_URL": "http://127.0.0.1:1/1/jobs"}, ["SQS_QUEUE_URL", "CHRONIK_QUEUE=sqs"]),
        ({"SQS_ENDPOINT": "http://127.0.0.1:1"}, ["SQS_ENDPOINT", "CHRONIK_QUEUE=sqs"]),
        ({"CHRONIK_QUEUE": "sqs", "SQS_QUEUE_URL": "jobs"}, ["SQS_QUEUE_URL", "/ACCOUNT/NAME"]),
        ({"CHRONIK_QUEUE": "sqs", "SQS_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/jobs.fifo"}, ["FIFO"]),
        (
            {"CHRONIK_QUEUE": "sqs", "SQS_QUEUE_URL": "http://127.0.0.1:1/1/jobs", "SQS_ENDPOINT": "localhost:9324"},
            ["SQS_ENDPOINT", "http://HOST:PORT"],
        ),
    ],
)
def test_settings_that_can_not_work(tmp_path, settings, words):
    server = Chronik(tmp_path)
    server.settings |= sqs.credentials() | settings
    refused(server, *words)


def test_queues_that_can_not_work(elasticmq, tmp_path):
    queue = Queue(elasticmq)
    plain = queue.client.create_queue(QueueName=f"plain-{uuid.uuid4()}")["QueueUrl"]
    for url, words in [(f"{queue.url}-absent", ["there is no queue", "SQS_QUEUE_URL"]), (plain, ["dead-letter queue"])]:
        server = Chronik(tmp_path)
        server.settings |= sqs.settings(url)
        refused(server, url, *words)


def refused(server, *words):
    server.spawn()
    assert server.process.wait(timeout=120) in (1, 2), server.last_lines()
    complaint = server.last_lines()
    for word in words:
        assert word in complaint, f"{word!r} is missing in\n{complaint}"
    assert not server.data.exists() and not server.bucket.exists(), "refused before anything starts"
