"""The indexer as a Lambda function: whatever dies, strikes or comes twice, each run gets one live archive."""

import json
import random
import subprocess
import threading
from pathlib import Path

import pytest
from chronik import clean_environment, until
from lambda_runtime import BOOTSTRAP, Jobs, bodies
from lambda_world import PARTITIONS, World
from records import Record, produce


@pytest.fixture
def world(start, tmp_path):
    return World(start(**World.SETTINGS), tmp_path)


def test_several_functions_share_jobs_that_come_twice(world):
    jobs = Jobs(bodies(world.jobs()) * 2)
    with world.functions(jobs, concurrency=3) as functions:
        jobs.wait_empty()
    assert functions.outcomes() == ["answered"] * 6
    assert len(world.results()) == 6 and len(world.archives()) == 6
    assert list(functions.tmp.iterdir()) == [], "nothing is written to a function's disk"
    world.check()


def test_one_batch_has_good_and_bad_messages(world):
    good = world.jobs()
    bad = ["", "{}", json.dumps(good[0] | {"v": 9}), json.dumps(good[0] | {"kind": "compact"})]
    jobs = Jobs([*bad, *bodies(good)])
    with world.functions(jobs, batch=10) as functions:
        jobs.wait_empty()
    assert {message.body for message in jobs.dead} == set(bad)
    assert set(functions.outcomes()) == {"answered"}, "refused, not crashed"
    assert len(world.results()) == len(good), "the good ones were done the first time"
    lines = functions.log_lines()
    assert any("version 9" in line["message"] for line in lines), "the reason is logged"
    world.check()


STEPS = ["indexer-read", "indexer-building", "indexer-archived", "indexer-reported"]


@pytest.mark.parametrize("step", STEPS)
def test_a_function_that_dies_at_a_step_leaves_nothing_half_done(world, tmp_path, step):
    died = tmp_path / "died"
    jobs = Jobs(bodies(world.jobs()))
    with world.functions(jobs, CHRONIK_FAILPOINTS=f"{step}=abort@2:{died}") as functions:
        jobs.wait_empty()
    assert died.exists() and sorted(functions.outcomes()) == ["answered"] * 3 + ["crashed"]
    results = world.results()
    assert len(results) == (4 if step == "indexer-reported" else 3)
    named = {archive["key"] for result in results for archive in result["archives"]}
    there = {str(archive.relative_to(world.bucket)) for archive in world.archives()}
    assert named <= there and len(there) - len(named) == (step == "indexer-archived"), (
        "at most an object without a name"
    )
    world.check()


def test_functions_that_are_killed_at_any_moment_lose_nothing(start, tmp_path):
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    draw = random.Random(seed)
    world = World(start(**World.SETTINGS), tmp_path, topics=8)
    jobs = Jobs(bodies(world.jobs()) * 2, receives_max=1000)
    ended = threading.Event()
    with world.functions(jobs, concurrency=2) as functions:

        def kill():
            for _ in range(12):
                if ended.wait(draw.uniform(0, 0.25)):
                    return
                for function in list(functions.functions.values()):
                    if draw.random() < 0.5:
                        function.process.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        killer.join()
        jobs.wait_empty()
        ended.set()
    for result in world.results():
        for archive in result["archives"]:
            assert (world.bucket / archive["key"]).stat().st_size == archive["size"], "what is named is there in full"
    world.check()


def test_a_deadline_that_strikes_gives_the_job_back_in_time(world, tmp_path):
    stopped = tmp_path / "stopped"
    jobs = Jobs(bodies(world.jobs()[:1]))
    point = f"indexer-building=stop@1:{stopped}"
    with world.functions(jobs, timeout=10, CHRONIK_FAILPOINTS=point) as functions:
        until(stopped.exists, "the index is being built")
        until(lambda: functions.invocations, "the time is up")
        assert functions.outcomes()[0] == "answered" and functions.invocations[0].failed, "given back, by itself"
        assert not world.results() and not world.archives(), "nothing is registered half"
        stopped.unlink()
        jobs.wait_empty()
    assert len(world.results()) == 1 and len(world.archives()) == 1
    assert any("time is up" in line["message"] for line in functions.log_lines())


def test_a_function_that_is_stopped_by_force_is_started_again(world, tmp_path):
    stopped = tmp_path / "stopped"
    jobs = Jobs(bodies(world.jobs()))
    point = f"indexer-reported=stop@3:{stopped}"
    with world.functions(jobs, timeout=10, CHRONIK_FAILPOINTS=point) as functions:
        functions.wait_outcome("timed out")
        jobs.wait_empty()
    assert len(world.results()) == 4, "one job is done twice, its first result stands"
    world.check()


def test_what_the_time_allows_is_registered_and_the_rest_is_sent_again(world):
    [job] = world.jobs()[:1]
    jobs = Jobs([json.dumps(job)])
    with world.functions(jobs, timeout=20, CHRONIK_FAILPOINTS="indexer-read=delay@1:10s"):
        jobs.wait_empty()
    [result] = world.results()
    covered = [run for archive in result["archives"] for run in archive["runs"]]
    assert 0 < len(covered) < sum(len(place["runs"]) for place in job["inputs"]), "whole runs, not all of them"
    world.check(index_batch_age="1s", index_batch_bytes="1")


def test_the_fifth_try_is_not_made_but_reported(world):
    jobs = Jobs(bodies(world.jobs()[:1]), receives_max=20)
    jobs.waiting[0].receives = 4
    with world.functions(jobs):
        jobs.wait_empty()
    [result] = world.results()
    assert result["archives"] == [] and all("4 times" in run["reason"] for run in result["unreadable"])
    assert len(result["unreadable"]) > 0 and not world.archives()


def test_memory_stays_below_the_functions_size(start, tmp_path):
    world = World(start(**World.SETTINGS), tmp_path, topics=1, records=4)
    draw = random.Random(7)
    lines = [
        Record(b" ".join(b"%x" % draw.getrandbits(32) for _ in range(60)), partition=n % PARTITIONS, timestamp=n)
        for n in range(80_000)
    ]
    produce(world.server.bootstrap, "topic-0", lines, "lz4")
    world.server.wait_shipped()
    jobs = Jobs(bodies(world.jobs()))
    with world.functions(jobs, memory=512) as functions:
        jobs.wait_empty()
    assert functions.outcomes() == ["answered"]
    [result] = world.results()
    assert result["unreadable"] == [] and len(result["archives"]) > 1, "split by memory"
    peak = functions.invocations[0].peak_bytes
    print(f"peak {peak >> 20} MiB of 512, {len(result['archives'])} archives")
    assert peak < 512 << 20
    assert list(functions.tmp.iterdir()) == []


def test_logs_are_json_and_tell_no_secrets(world):
    jobs = Jobs(bodies(world.jobs()))
    with world.functions(jobs) as functions:
        jobs.wait_empty()
    assert "secret-" not in functions.log.read_text(), "no record is logged"
    lines = functions.log_lines()
    requests = {invocation.request_id for invocation in functions.invocations}
    done = [line for line in lines if line["message"] == "a job is done"]
    assert {line["span"]["request_id"] for line in done} == requests
    assert {line["job"] for line in done} == {job["id"] for job in world.jobs()}
    assert all(line["bytes"] > 0 and line["seconds"] > 0 and line["records"] == 400 for line in done)


@pytest.mark.parametrize(
    "settings, told",
    [
        ({}, "AWS_LAMBDA_RUNTIME_API"),
        ({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": 256}, "512 MB"),
        ({"LOCAL_STORAGE_PATH": "/nowhere"}, "/nowhere"),
        ({"OBJECT_STORE_BACKEND": "floppy"}, "floppy"),
    ],
)
def test_a_function_that_can_not_work_says_why(settings, told):
    lambda_settings = {
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1",
        "AWS_LAMBDA_FUNCTION_NAME": "indexer",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": 1024,
    }
    given = lambda_settings | settings if settings else {}
    done = subprocess.run([BOOTSTRAP], env=clean_environment(given), capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    assert told in json.loads(done.stdout.splitlines()[-1])["message"]


def test_only_builds_for_tests_have_fail_points():
    tree = subprocess.run(
        ["cargo", "tree", "--workspace", "--edges", "features,normal", "--invert", "chronik-service"],
        capture_output=True,
        check=True,
        cwd=Path(__file__).parent,
        text=True,
    ).stdout
    assert "chronik-service" in tree and "failpoints" not in tree and "testing" not in tree
