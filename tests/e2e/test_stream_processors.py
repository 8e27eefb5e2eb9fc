"""Stream processors: what is in one topic arrives in another, though the broker is killed meanwhile."""

import pytest
from chronik import PATIENCE, until
from clients.processors import PROCESSORS
from records import Record, consume, create_topic, produce
from servers.server import free_port

PARTITIONS = 3


@pytest.fixture(params=[pytest.param(processor, id=processor.name) for processor in PROCESSORS])
def processor(request):
    return request.param


@pytest.mark.long
def test_a_job_goes_on_after_kill_9(start, processor, tmp_path):
    server = start(kafka_port=free_port())
    for topic in ("source", "sink"):
        create_topic(server.bootstrap, topic, PARTITIONS)
    sent = []

    def send(count):
        values = [f"value {number}" for number in range(len(sent), len(sent) + count)]
        sent.extend(values)
        records = [Record(value.encode(), partition=n % PARTITIONS) for n, value in enumerate(values)]
        produce(server.bootstrap, "source", records, "lz4")

    def arrived():
        assert job.poll() is None, (directory / "log").read_text(errors="replace")
        read = consume(server.bootstrap, "sink", PARTITIONS)
        return {record.value.decode() for found in read for _, record in found}

    send(300)
    directory = tmp_path / "job"
    job = processor.start(directory, server.bootstrap, "source", "sink")
    try:
        until(lambda: arrived() == {value.upper() for value in sent}, "all values are there", every=0.5)
        server.kill()
        server.start()
        send(300)
        until(lambda: arrived() == {value.upper() for value in sent}, "those of later, too", every=0.5)
        job.stdin.close()
        assert job.wait(PATIENCE) == 0, (directory / "log").read_text(errors="replace")
    finally:
        job.kill()
        job.wait()
