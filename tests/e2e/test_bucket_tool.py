"""`chronik bucket`: what it says about buckets and queues that have what is relied on, about those that lack something,
and what it makes. Nothing that it does stays behind or disturbs a broker."""

import itertools
import json

import pytest
from chronik import run_tool
from servers import azurite, gcs, s3, sqs
from servers.azurite import Azurite
from servers.elasticmq import Elasticmq
from servers.faults import Faults, line
from servers.gcs import Gcs
from servers.moto import Moto

numbers = itertools.count()
OBJECTS = ["list", "create", "info", "read", "read a range", "create once", "overwrite", "delete", "clock"]
RIGHTS = ["s3:ListBucket", "s3:PutObject", "s3:GetObject", "s3:DeleteObject"]
NO_KEYS = {"S3_ACCESS_KEY": "", "S3_SECRET_KEY": ""}


@pytest.fixture(scope="module")
def azure():
    with Azurite() as server:
        yield server


@pytest.fixture(scope="module")
def google(moto):
    with Gcs(moto.url) as server:
        yield server


def fresh(kind):
    """A name that nothing else has."""
    return f"{kind}-{next(numbers)}"


class Checked:
    """What `chronik bucket check` answered."""

    def __init__(self, settings):
        done = run_tool("--json", "bucket", "check", settings=settings)
        assert b"panicked" not in done.stderr and done.stdout, done.stderr
        self.text = (done.stdout + done.stderr).decode()
        assert s3.SECRET_KEY not in self.text and "mistyped" not in self.text, self.text
        self.code = done.returncode
        document = json.loads(done.stdout)
        self.contents = document["contents"]
        self.findings = {finding["check"]: finding for finding in document["checks"]}
        assert document["ok"] == (self.code == 0) == (not self.all("missing")), self.text

    def all(self, verdict):
        return [name for name, finding in self.findings.items() if finding["verdict"] == verdict]

    def verdicts(self, *names):
        return [self.findings[name]["verdict"] for name in names]


def initialised(settings):
    done = run_tool("--json", "bucket", "init", settings=settings)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def outcomes(document, outcome):
    return [part["part"] for part in document["parts"] if part["outcome"] == outcome]


def keys(store, bucket=s3.BUCKET, prefix=""):
    """The names of all objects, by a client that is not ours."""
    listing = s3.client(store.url).list_objects_v2(Bucket=bucket, Prefix=prefix)
    return [item["Key"] for item in listing.get("Contents", [])]


def files(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


# What is there


def check_has_everything(settings):
    checked = Checked(settings)
    assert checked.code == 0 and checked.verdicts(*OBJECTS) == ["ok"] * len(OBJECTS), checked.text
    assert checked.contents == {"state": "empty"}
    return checked


@pytest.mark.parametrize("kind", ["minio", "moto"])
def test_a_bucket_on_s3_has_everything(request, kind):
    store, prefix = request.getfixturevalue(kind), fresh("checked")
    check_has_everything(s3.settings(store.url, prefix=prefix))
    assert keys(store, prefix=prefix) == []


def test_a_container_on_azure_has_everything(azure):
    check_has_everything(azurite.settings(fresh("checked"), url=azure.url))


def test_a_bucket_by_the_client_of_google_cloud_storage_has_everything(google, moto):
    prefix = fresh("checked")
    check_has_everything(gcs.settings(google.url, prefix))
    assert keys(moto, prefix=prefix) == []


def test_a_directory_has_everything(tmp_path):
    initialised({"LOCAL_STORAGE_PATH": tmp_path})
    check_has_everything({"LOCAL_STORAGE_PATH": tmp_path})
    assert files(tmp_path) == []


def test_objects_of_another_program_are_reported(minio):
    prefix = fresh("foreign")
    s3.client(minio.url).put_object(Bucket=s3.BUCKET, Key=f"{prefix}/logs/1", Body=b"theirs")
    checked = Checked(s3.settings(minio.url, prefix=prefix))
    assert checked.code == 0 and checked.contents == {"state": "foreign"}, checked.text


def test_people_read_what_each_thing_is_for(minio):
    done = run_tool("bucket", "check", settings=s3.settings(minio.url, prefix=fresh("read")))
    told = done.stdout.decode()
    assert done.returncode == 0 and "it is empty" in told
    assert "create once" in told and "keeps two brokers apart" in told
    assert "no public access: not known by this server" in told


@pytest.mark.parametrize("where", ["local", "s3"])
def test_a_living_broker_is_not_disturbed(start, minio, where):
    prefix = fresh("living")
    server = start(ship_max_age="1s", **(s3.settings(minio.url, prefix=prefix) if where == "s3" else {}))
    server.tool("produce", "t", stdin=b"before\n")
    server.seal()
    server.wait_archived()
    listed = (lambda: keys(minio, prefix=prefix)) if where == "s3" else (lambda: files(server.bucket))
    claims = [key for key in listed() if "claims/" in key]
    checked = Checked(server.settings)
    assert checked.code == 0, checked.text
    assert checked.contents["state"] == "cluster" and checked.contents["incarnation"] == 1
    assert not checked.contents["released"] and "incarnation 00000001" in checked.contents["owner"]
    assert [key for key in listed() if "claims/" in key] == claims
    assert not [key for key in listed() if "probes/" in key]
    server.tool("produce", "t", stdin=b"after\n")
    assert server.tool("consume", "t") == b"before\nafter\n"
    assert server.stop() == 0
    assert Checked(server.settings).contents["released"]


# What is not there


@pytest.mark.parametrize("lacking", RIGHTS)
def test_the_right_that_is_missing_is_named(minio, lacking):
    prefix = fresh("rights")
    session = minio.session([right for right in RIGHTS if right != lacking])
    checked = Checked(s3.settings(minio.url, prefix=prefix, **NO_KEYS) | session)
    missing = [checked.findings[name] for name in checked.all("missing")]
    assert checked.code == 1 and {finding["right"] for finding in missing} == {lacking}, checked.text
    assert all(lacking in finding["remedy"] and s3.BUCKET in finding["remedy"] for finding in missing)
    left = keys(minio, prefix=prefix)
    if lacking == "s3:DeleteObject":
        [key] = left
        assert key.removeprefix(f"{prefix}/") in checked.findings["delete"]["found"]
        assert checked.contents == {"state": "empty"}
    else:
        assert left == []


def test_what_can_not_be_asked_is_no_failure(minio):
    checked = Checked(s3.settings(minio.url, prefix=fresh("asked"), **NO_KEYS) | minio.session(RIGHTS))
    assert checked.code == 0, checked.text
    assert checked.findings["unfinished uploads"]["right"] == "s3:GetLifecycleConfiguration"
    assert checked.verdicts("unfinished uploads", "no public access") == ["unknown", "unknown"]


def test_a_store_that_ignores_create_only_is_told(careless):
    prefix = fresh("careless")
    checked = Checked(s3.settings(careless.url, prefix=prefix))
    assert checked.code == 1 and checked.all("missing") == ["create once"], checked.text
    assert "conditional puts" in checked.findings["create once"]["remedy"]
    assert keys(careless, prefix=prefix) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"S3_SECRET_KEY": "mistyped"}, ["S3_SECRET_KEY", "SignatureDoesNotMatch"]),
        ({"S3_ACCESS_KEY": "mistyped"}, ["S3_ACCESS_KEY", "InvalidAccessKeyId"]),
        ({"S3_BUCKET": "absent"}, ["S3_BUCKET", "absent", "chronik bucket init"]),
        ({"S3_ENDPOINT": "http://127.0.0.1:9"}, ["S3_ENDPOINT", "http://127.0.0.1:9"]),
    ],
)
def test_what_can_not_be_used_at_all_is_told_once(minio, changes, words):
    checked = Checked(s3.settings(minio.url, **changes))
    assert checked.code == 1 and checked.all("missing") == ["list"], checked.text
    assert checked.all("unknown") == OBJECTS[1:]
    assert all(word in str(checked.findings["list"]) for word in words), checked.text


def test_a_directory_that_is_not_there(tmp_path):
    checked = Checked({"LOCAL_STORAGE_PATH": tmp_path / "absent"})
    assert checked.code == 1 and "chronik bucket init" in checked.findings["bucket"]["remedy"]
    assert files(tmp_path) == []


def test_a_lifecycle_rule_that_deletes_history_is_told(moto):
    bucket = fresh("expiring")
    client = s3.client(moto.url)
    client.create_bucket(Bucket=bucket)
    rule = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    checked = Checked(s3.settings(moto.url, bucket=bucket))
    assert checked.all("missing") == ["no expiry"] and '"old"' in checked.findings["no expiry"]["found"]
    assert checked.all("warning") == ["unfinished uploads", "no public access"]
    again = initialised(s3.settings(moto.url, bucket=bucket))
    assert f"bucket {bucket}" in outcomes(again, "kept")
    rules = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert len(rules) == 3 and rule in rules


# Queues


def queue_settings(server, name):
    account = "000000000000" if isinstance(server, Elasticmq) else "123456789012"
    return sqs.settings(f"{server.url}/{account}/{name}")


def attributes(server, name):
    client = sqs.client(server.url)
    url = client.get_queue_url(QueueName=name)["QueueUrl"]
    return client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]


def test_a_queue_is_judged_without_touching_its_jobs(elasticmq, tmp_path):
    client, name = sqs.client(elasticmq.url), fresh("jobs")
    url = sqs.make_queue(elasticmq.url, name, f"{name}-dead")
    client.send_message(QueueUrl=url, MessageBody="job")
    checked = Checked({"LOCAL_STORAGE_PATH": tmp_path} | queue_settings(elasticmq, name))
    assert checked.code == 0, checked.text
    assert checked.verdicts("queue", "dead letters", "receives", "acknowledge jobs", "extend jobs") == ["ok"] * 5
    assert checked.verdicts("visibility", "send jobs", "receive jobs") == ["warning", "unknown", "unknown"]
    [job] = client.receive_message(QueueUrl=url, MessageSystemAttributeNames=["ApproximateReceiveCount"])["Messages"]
    assert job["Attributes"]["ApproximateReceiveCount"] == "1"


def test_what_a_queue_lacks_is_told(moto, tmp_path):
    client, bucket = sqs.client(moto.url), {"LOCAL_STORAGE_PATH": tmp_path}
    checked = Checked(bucket | queue_settings(moto, "absent"))
    assert checked.all("missing") == ["queue"] and "SQS_QUEUE_URL" in checked.findings["queue"]["remedy"]
    bare, hasty = fresh("bare"), fresh("hasty")
    client.create_queue(QueueName=bare)
    assert Checked(bucket | queue_settings(moto, bare)).all("missing") == ["dead letters"]
    url = sqs.make_queue(moto.url, hasty, f"{hasty}-dead")
    policy = json.loads(attributes(moto, hasty)["RedrivePolicy"]) | {"maxReceiveCount": 4}
    hasted = {"RedrivePolicy": json.dumps(policy), "MessageRetentionPeriod": "3600"}
    client.set_queue_attributes(QueueUrl=url, Attributes=hasted)
    checked = Checked(bucket | queue_settings(moto, hasty))
    assert checked.all("missing") == ["receives"] and checked.all("warning") == ["visibility", "retention"]
    again = initialised(bucket | queue_settings(moto, hasty))
    assert {"jobs that come too often go to the dead letters"} <= set(outcomes(again, "different"))
    assert {name: attributes(moto, hasty)[name] for name in hasted} == hasted


def test_a_right_on_a_queue_that_is_missing_is_named(tmp_path):
    bucket = {"LOCAL_STORAGE_PATH": tmp_path}
    with Moto() as server:
        sqs.make_queue(server.url)
        user = server.user(["sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility"])
        server.enforce()
        checked = Checked(bucket | queue_settings(server, sqs.QUEUE) | user)
        assert checked.code == 0, checked.text
        assert checked.findings["acknowledge jobs"]["right"] == "sqs:DeleteMessage"
        assert checked.verdicts("acknowledge jobs", "extend jobs") == ["warning", "ok"]
    with Moto() as server:
        sqs.make_queue(server.url)
        user = server.user(["sqs:DeleteMessage"])
        server.enforce()
        checked = Checked(bucket | queue_settings(server, sqs.QUEUE) | user)
        assert checked.all("missing") == ["queue"], checked.text
        assert checked.findings["queue"]["right"] == "sqs:GetQueueAttributes"


# What is made


def test_a_directory_is_made_once(start, tmp_path):
    settings = {"LOCAL_STORAGE_PATH": tmp_path / "made"}
    first, again = initialised(settings), initialised(settings)
    assert first["changed"] and not again["changed"]
    assert first["settings"]["LOCAL_STORAGE_PATH"] == str(tmp_path / "made")
    check_serves(start, first["settings"])


def check_serves(start, exported, **credentials):
    """A broker works on what was made, by the settings that were printed, and is seen there."""
    named = {name.removeprefix("CHRONIK_"): value for name, value in (exported | credentials).items()}
    server = start(ship_max_age="1s", **named)
    server.tool("produce", "t", stdin=b"order 4711\n")
    server.seal()
    server.wait_archived()
    checked = Checked(server.settings)
    assert checked.code == 0 and checked.contents["incarnation"] == 1, checked.text
    return checked


def made_twice(settings):
    first, again = initialised(settings), initialised(settings)
    assert first["changed"] and not again["changed"], again
    assert set(outcomes(again, "kept")) == set(outcomes(first, "made") + outcomes(first, "kept"))
    assert outcomes(again, "refused") == outcomes(first, "refused") and not outcomes(again, "different")
    assert s3.SECRET_KEY not in json.dumps(first)
    return first


def test_a_bucket_and_a_queue_are_made_once(start, moto):
    bucket, queue = fresh("made"), fresh("jobs")
    keys_only = {"S3_ACCESS_KEY": s3.ACCESS_KEY, "S3_SECRET_KEY": s3.SECRET_KEY} | sqs.credentials()
    first = made_twice(s3.settings(moto.url, bucket=bucket, prefix="team/a") | queue_settings(moto, queue))
    # It answers for versions that were never set in a form that AWS's client can't read, and does not keep the second.
    assert outcomes(first, "refused") == ["versions", "dead letters are taken from that queue alone"]
    client = s3.client(moto.url)
    block = client.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert list(block.values()) == [True] * 4
    rules = {rule["ID"]: rule for rule in client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]}
    assert rules["drop uploads that were never finished"]["AbortIncompleteMultipartUpload"] == {
        "DaysAfterInitiation": 1
    }
    assert rules["forget what is deleted"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 7}
    assert json.loads(attributes(moto, queue)["RedrivePolicy"])["deadLetterTargetArn"].endswith(f":{queue}-dead")
    assert json.loads(attributes(moto, queue)["RedrivePolicy"])["maxReceiveCount"] == 6
    checked = check_serves(start, first["settings"], **keys_only)
    assert not checked.all("warning") and not checked.all("missing"), checked.text


def test_what_a_server_does_not_know_is_told_and_the_rest_is_made(start, minio, elasticmq):
    bucket, queue = fresh("made"), fresh("jobs")
    first = made_twice(s3.settings(minio.url, bucket=bucket) | queue_settings(elasticmq, queue))
    assert set(outcomes(first, "refused")) == {
        "public access block",
        "lifecycle: drop unfinished uploads",
        "dead letters are taken from that queue alone",
        f"encryption of queue {queue}",
        f"encryption of queue {queue}-dead",
    }
    assert all(part["reason"] for part in first["parts"] if part["outcome"] == "refused")
    assert s3.client(minio.url).get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    keys_only = {"S3_ACCESS_KEY": s3.ACCESS_KEY, "S3_SECRET_KEY": s3.SECRET_KEY} | sqs.credentials()
    checked = check_serves(start, first["settings"], **keys_only)
    assert checked.all("warning") == ["unfinished uploads"], checked.text


def test_versions_of_another_program_are_not_expired(minio):
    bucket = fresh("history")
    client = s3.client(minio.url)
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = initialised(s3.settings(minio.url, bucket=bucket))
    assert outcomes(first, "different") == ["lifecycle: forget what is deleted"]
    with pytest.raises(client.exceptions.ClientError, match="NoSuchLifecycleConfiguration"):
        client.get_bucket_lifecycle_configuration(Bucket=bucket)


def test_a_history_that_can_not_be_asked_for_is_not_forgotten(minio):
    bucket = fresh("history")
    client = s3.client(minio.url)
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    with Faults(minio.url) as store:
        store.script(line("slow_down", "GET", "versioning"))
        first = initialised(s3.settings(store.url, bucket=bucket))
    assert "lifecycle: forget what is deleted" in outcomes(first, "refused")
    with pytest.raises(client.exceptions.ClientError, match="NoSuchLifecycleConfiguration"):
        client.get_bucket_lifecycle_configuration(Bucket=bucket)


def test_people_read_what_was_made(tmp_path):
    made = run_tool("bucket", "init", settings={"LOCAL_STORAGE_PATH": tmp_path / "b"}).stdout.decode()
    assert "made" in made and f"export LOCAL_STORAGE_PATH={tmp_path / 'b'}" in made
    again = run_tool("bucket", "init", settings={"LOCAL_STORAGE_PATH": tmp_path / "b"}).stdout.decode()
    assert "was there" in again and "Nothing was changed." in again


def test_what_is_left_to_the_providers_tools(google, azure):
    for settings, tool in [
        (gcs.settings(google.url), b"gcloud storage buckets create"),
        (azurite.settings(url=azure.url), b"az storage container create"),
    ]:
        done = run_tool("bucket", "init", settings=settings)
        assert done.returncode == 1 and tool in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"S3_SECRET_KEY": "mistyped"}, [b"may not be looked at"]),
        ({"S3_ENDPOINT": "http://127.0.0.1:9"}, [b"S3_ENDPOINT"]),
        ({"S3_BUCKET": "No_Bucket"}, [b"No_Bucket"]),
    ],
)
def test_what_can_not_be_made_is_told(minio, changes, words):
    done = run_tool("bucket", "init", settings=s3.settings(minio.url, **changes))
    assert done.returncode == 1 and b"panicked" not in done.stderr and not done.stdout
    assert all(word in done.stderr for word in words) and b"mistyped" not in done.stderr, done.stderr


# Keys of any bucket


def test_segments_of_any_bucket_are_described(start, minio):
    prefix = fresh("described")
    settings = s3.settings(minio.url, prefix=prefix)
    server = start(**settings)
    server.tool("produce", "t", stdin=b"order 4711\n")
    server.seal()
    server.wait_archived()
    for suffix, noun in [(".seg", "segment"), (".ckx", "archive")]:
        [key, *_] = [key.removeprefix(f"{prefix}/") for key in keys(minio, prefix=prefix) if key.endswith(suffix)]
        done = run_tool("--json", noun, "inspect", key, settings=settings)
        assert done.returncode == 0 and key in json.dumps(json.loads(done.stdout)), done.stderr
    done = run_tool("segment", "inspect", "no/such/key", settings=settings)
    assert done.returncode == 1 and b"no/such/key" in done.stderr
