"""Consumer groups of every client: two members share, each record is had once, commits survive the broker."""

import pytest
from brokers import KAFKA, pairs
from members import PARTITIONS, Group
from servers.server import free_port


@pytest.fixture(params=pairs(lambda client: client.joins_groups, everyday=lambda client: client.language == "Java"))
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
    group.takes_turns(exit_stack)
    server.kill()
    server.start()
    assert group.committed() == [group.ends] * PARTITIONS
    late = group.join(exit_stack)
    assert group.round() == [late]
    late.leave()
    assert [offset for _, offset in late.places] == [group.ends - 1] * PARTITIONS, "nothing again from before"
