"""Log shippers with an output to Kafka: each line arrives, though the broker is killed meanwhile."""

import pytest
from by_hand import codec_of, fetch_by_hand
from chronik import until
from clients.shippers import SHIPPERS
from records import consume, create_topic
from servers.server import free_port


@pytest.fixture(params=[pytest.param(shipper, id=shipper.name) for shipper in SHIPPERS])
def shipper(request):
    return request.param


@pytest.mark.long
def test_each_line_arrives_though_the_broker_is_killed(start, shipper, tmp_path):
    server = start(kafka_port=free_port())
    create_topic(server.bootstrap, "logs")
    directory = tmp_path / "shipper"
    directory.mkdir()
    file, sent = tmp_path / "lines", []

    def say(count):
        lines = [f"line {number} of a log, with ümlauts" for number in range(len(sent), len(sent) + count)]
        sent.extend(lines)
        with file.open("a") as log:
            log.writelines(f"{line}\n" for line in lines)

    def arrived():
        assert process.poll() is None, (directory / "log").read_text(errors="replace")
        [read] = consume(server.bootstrap, "logs", 1)
        return {record.value.decode() for _, record in read}

    say(500)
    process = shipper.start(directory, file=file, topic="logs", bootstrap=server.bootstrap, codec="gzip")
    try:
        until(lambda: arrived() == set(sent), "all lines are there", every=0.2)
        server.kill()
        say(500)
        server.start()
        say(500)
        until(lambda: arrived() == set(sent), "all lines are there, and those of meanwhile", every=0.2)
    finally:
        process.kill()
        process.wait()
    assert "gzip" in {codec_of(batch) for batch in fetch_by_hand(server.bootstrap, "logs", 0)}
