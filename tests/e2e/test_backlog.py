"""Several indexers share a backlog, and several query workers answer alike."""

import pytest
from backlog import Backlog
from chronik import until
from cloud import Cloud


@pytest.fixture
def cloud():
    with Cloud() as cloud:
        yield cloud


def test_indexers_share_a_backlog_and_none_works_in_vain(cloud, tmp_path):
    with Backlog(tmp_path, cloud, segment_bytes=32 << 10, job_bytes=64 << 10) as backlog:
        pile = backlog.pile("logs", segments=40)
        assert pile.segments >= 40 and pile.jobs >= 10
        assert backlog.ingest.metrics()["chronik_pending_jobs"] == pile.jobs, "no indexer has begun"
        stops = [tmp_path / f"stop-{number}" for number in range(4)]

        def go_on():
            for stop in stops:
                until(stop.exists, "every indexer has taken a job")
            for stop in stops:
                stop.unlink()

        drain = backlog.drain(pile, 4, lambda number: {"failpoints": f"indexer-read=stop@1:{stops[number]}"}, go_on)
        backlog.check(drain)
        assert all(drain.jobs_done), f"each has a share: {drain.jobs_done}"
