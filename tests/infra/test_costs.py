"""The tables of the paper on costs are what its arithmetic gives."""

import importlib.util
import math
import re

import pytest
from place import INFRA

spec = importlib.util.spec_from_file_location("costs", INFRA / "costs.py")
costs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(costs)


def test_the_page_shows_what_is_computed():
    text = costs.PAGE.read_text()
    assert costs.page(text) == text, "run infra/costs.py --write"


def test_the_bucket_is_paid_by_steps():
    assert costs.kept(1_000) == pytest.approx(23)
    assert costs.kept(50_000) == pytest.approx(1_150)
    assert costs.kept(60_000) == pytest.approx(1_150 + 220)
    assert costs.kept(600_000) == pytest.approx(1_150 + 9_900 + 2_100)


def test_little_is_shipped_by_age_and_much_by_size():
    assert costs.Load(1, "zstd").segments == pytest.approx(1 / 10)
    much = costs.Load(1000, "uncompressed")
    assert much.segments == pytest.approx(1.07e9 / 2**26)
    assert much.lanes == math.ceil(1070 / costs.LANE_MB_S)


def test_small_batches_wait_for_more():
    assert costs.Load(1, "uncompressed").jobs == pytest.approx(costs.TOPICS / 60)
    assert costs.Load(1, "zstd").jobs == pytest.approx(0.148e6 / 2**20)
    assert costs.Load(0.001, "zstd").jobs == pytest.approx(costs.TOPICS / 600)


def test_a_job_reads_from_every_segment_since_the_one_before():
    assert costs.Load(1, "uncompressed").job_reads() == pytest.approx(6), "a minute, shipped every 10 s"
    assert costs.Load(100, "uncompressed").job_reads() == pytest.approx(costs.TOPICS), "64 MiB of each"


def test_compaction_is_what_the_planner_makes_of_it():
    text = (INFRA.parent / "ingest/src/compaction/tests.rs").read_text()
    load = r'TopicLoad::new\(\s*"([\d,]+) MB/s, (\w+)",[^"]*"([\d.]+) times, (\d+) MiB a job'
    planned = {
        (kind, int(rate.replace(",", ""))): (float(times), int(mib))
        for rate, kind, times, mib in re.findall(load, text)
        if kind in costs.STORED
    }
    assert planned == costs.COMPACTED


def test_a_compaction_is_done_within_half_of_the_time_that_a_function_has():
    for kind in costs.STORED:
        for rate in costs.RATES:
            load = costs.Load(rate, kind)
            assert load.compactors() / load.compactions < 450
    largest = 4 * 2**30 / 1e6
    assert largest / costs.LAMBDA_MB_S < 450, "a page"


def test_little_is_compacted_by_many_reads_and_much_by_large_ones():
    little, much = costs.Load(1, "uncompressed"), costs.Load(1000, "uncompressed")
    for load in little, much:
        mib = load.compacted_job / 2**20
        assert load.compaction_writes() == math.ceil(mib / 8) + 2 * math.ceil(mib / 1024) + 2
    assert little.compaction_reads() / little.compacted_job > 5 * much.compaction_reads() / much.compacted_job
