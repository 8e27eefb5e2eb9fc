"""The Terraform templates, applied to a local stand-in for AWS, and what was made, asked for through AWS's APIs.

It starts no functions, machines or containers: what is seen is what is sent to AWS. The parts that it does not know
are left out or changed, see LEFT_OUT and CHANGED."""

import json
import re
import zipfile

import boto3
import pytest
from servers.moto import Moto
from terraform import Terraform, missing

# Applying takes minutes; all tests look at one deployment.
pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

GIVEN = ["-var-file=example.tfvars", "-var-file=mine.tfvars.json"]
REGION = "eu-central-1"
APIS = "applicationautoscaling cloudwatch ec2 ecs elbv2 iam lambda logs route53 s3 secretsmanager sqs ssm sts"
# File → kinds of resources that are never finished: there is no RedriveAllowPolicy, and no tags of these targets.
LEFT_OUT = {
    "queue.tf": ["aws_sqs_queue_redrive_allow_policy"],
    "query.tf": ["aws_appautoscaling_target", "aws_appautoscaling_policy"],
}
# It has no detailed monitoring, and answers for a service without a network of its own (host mode) with what the
# provider can't read.
CHANGED = """
resource "aws_instance" "broker" {
  monitoring = false
}
resource "aws_ecs_service" "ingest" {
  network_configuration {
    subnets = var.subnet_ids
  }
}
"""


class Account(Moto):
    """With the policies that AWS itself keeps."""

    def command(self):
        return super().command()[0], {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}


class Cloud:
    """The stand-in, with a network and a secret as an operator has them before."""

    def __init__(self, url):
        self.url = url
        ec2 = self.api("ec2")
        self.vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.subnets = [
            ec2.create_subnet(VpcId=self.vpc, CidrBlock=f"10.0.{at}.0/24", AvailabilityZone=REGION + zone)["Subnet"]
            for at, zone in enumerate("ab")
        ]
        self.routes = ec2.create_route_table(VpcId=self.vpc)["RouteTable"]["RouteTableId"]
        self.token = self.api("secretsmanager").create_secret(Name="token", SecretString="secret")["ARN"]

    def api(self, name):
        keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
        return boto3.client(name, endpoint_url=self.url, region_name=REGION, **keys)

    def variables(self, **more):
        """What an operator puts in place of the example's."""
        return {
            "vpc_id": self.vpc,
            "subnet_ids": [subnet["SubnetId"] for subnet in self.subnets],
            "route_table_ids": [self.routes],
            "client_cidrs": ["10.0.0.0/16", "10.1.0.0/16"],
            "http_token_secret_arn": self.token,
            "bucket_prefix": "events/main",
            "infrequent_access_days": 90,
        } | more

    def provider(self):
        endpoints = "\n".join(f'    {name} = "{self.url}"' for name in APIS.split())
        return (
            'provider "aws" {\n  access_key = "any"\n  secret_key = "any"\n  s3_use_path_style = true\n'
            "  skip_credentials_validation = true\n  skip_metadata_api_check = true\n"
            f"  endpoints {{\n{endpoints}\n  }}\n}}\n"
        )

    def policy(self, role):
        """action → resources that the role's own policy allows, and the statements that deny."""
        text = self.api("iam").get_role_policy(RoleName=f"chronik-{role}", PolicyName=role)["PolicyDocument"]
        allowed, denied = {}, []
        for statement in text["Statement"]:
            if statement["Effect"] == "Deny":
                denied.append(statement)
                continue
            for action in several(statement["Action"]):
                allowed.setdefault(action, []).extend(several(statement["Resource"]))
        return allowed, denied


def several(value):
    return value if isinstance(value, list) else [value]


@pytest.fixture(scope="module")
def cloud():
    with Account() as account:
        yield Cloud(account.url)


@pytest.fixture(scope="module")
def terraform(cloud, tmp_path_factory):
    """The templates, planned with the example's variables and an operator's own."""
    assert missing() is None
    terraform = Terraform(tmp_path_factory.mktemp("applied"))
    for file, kinds in LEFT_OUT.items():
        path = terraform.directory / file
        text = path.read_text()
        for kind in kinds:
            text, found = re.subn(rf'^resource "{kind}" .*?^}}\n', "", text, flags=re.M | re.S)
            assert found == 1, kind
        path.write_text(text)
    with zipfile.ZipFile(terraform.directory / "indexer.zip", "w") as archive:
        archive.writestr("bootstrap", "any program")
    (terraform.directory / "override.tf").write_text(cloud.provider() + CHANGED)
    variables = cloud.variables(indexer_zip="indexer.zip")
    (terraform.directory / "mine.tfvars.json").write_text(json.dumps(variables))
    terraform.init().run("plan", "-input=false", *GIVEN, "-out=plan")
    return terraform


@pytest.fixture(scope="module")
def outputs(cloud, terraform):
    """The plan applied; destroyed in the end."""
    terraform.run("apply", "-parallelism=20", "plan")
    yield {name: output["value"] for name, output in terraform.json("output").items()}
    terraform.run("destroy", "-auto-approve", "-input=false", *GIVEN, "-parallelism=20")
    left = cloud.api("s3").list_buckets()["Buckets"], cloud.api("sqs").list_queues().get("QueueUrls", [])
    assert "chronik-jobs" not in str(left) and f"-{REGION}" not in str(left)


def test_the_bucket_is_private_and_guarded(cloud, outputs):
    s3, bucket = cloud.api("s3"), outputs["bucket"]
    assert set(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    policy = {each["Sid"]: each for each in json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]}
    assert {each["Effect"] for each in policy.values()} == {"Deny"}
    claims = policy["ClaimsAreCreatedOnce"]
    assert f"arn:aws:s3:::{bucket}/events/main/claims/*" in claims["Resource"]
    assert claims["Condition"] == {"Null": {"s3:if-none-match": "true"}}


def test_the_bucket_forgets_versions_and_unfinished_uploads(cloud, outputs):
    rules = cloud.api("s3").get_bucket_lifecycle_configuration(Bucket=outputs["bucket"])["Rules"]
    by_name = {rule["ID"]: rule for rule in rules}
    assert by_name["forget what is deleted"]["NoncurrentVersionExpiration"]["NoncurrentDays"] == 7
    assert by_name["drop uploads that were never finished"]["AbortIncompleteMultipartUpload"]
    (transition,) = by_name["keep old segments for less"]["Transitions"]
    assert (transition["Days"], transition["StorageClass"]) == (90, "STANDARD_IA")


def test_jobs_that_fail_end_in_the_dead_letter_queue(cloud, outputs):
    sqs = cloud.api("sqs")

    def attributes(url):
        return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]

    jobs, dead = attributes(outputs["queue_url"]), attributes(outputs["dead_letter_queue_url"])
    redrive = json.loads(jobs["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"] == dead["QueueArn"]
    # The indexer reports a failure on the fifth receive.
    assert int(redrive["maxReceiveCount"]) > 5
    function = cloud.api("lambda").get_function_configuration(FunctionName="chronik-indexer")
    assert int(jobs["VisibilityTimeout"]) >= 6 * function["Timeout"]
    assert int(dead["MessageRetentionPeriod"]) > int(jobs["MessageRetentionPeriod"])


def test_the_function_takes_jobs_one_by_one_and_gives_back_what_failed(cloud, outputs):
    client = cloud.api("lambda")
    (mapping,) = client.list_event_source_mappings()["EventSourceMappings"]
    assert mapping["FunctionArn"].endswith(":chronik-indexer") and mapping["EventSourceArn"].endswith(":chronik-jobs")
    assert (mapping["BatchSize"], mapping["FunctionResponseTypes"]) == (1, ["ReportBatchItemFailures"])
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 20}
    variables = client.get_function_configuration(FunctionName="chronik-indexer")["Environment"]["Variables"]
    assert variables["S3_BUCKET"] == outputs["bucket"] and variables["S3_PREFIX"] == "events/main"
    assert variables["SQS_QUEUE_URL"] == outputs["queue_url"]


def test_there_are_never_two_brokers(cloud, terraform, outputs):
    ecs = cloud.api("ecs")
    (service,) = ecs.describe_services(cluster="chronik", services=["ingest"])["services"]
    assert service["desiredCount"] == 1
    # The stand-in forgets how a service is deployed.
    planned = {each["address"]: each["change"]["after"] for each in terraform.json("show", "plan")["resource_changes"]}
    ingest = planned["aws_ecs_service.ingest"]
    assert (ingest["deployment_minimum_healthy_percent"], ingest["deployment_maximum_percent"]) == (0, 100)
    task = ecs.describe_task_definition(taskDefinition="chronik-ingest")["taskDefinition"]
    (volume,) = task["volumes"]
    (disk,) = [
        each
        for each in cloud.api("ec2").describe_volumes()["Volumes"]
        if {"Key": "Name", "Value": "chronik-log"} in each.get("Tags", [])
    ]
    assert disk["Size"] == 200 and disk["Encrypted"] and len(disk["Attachments"]) == 1
    assert disk["AvailabilityZone"] == cloud.subnets[0]["AvailabilityZone"]
    (container,) = task["containerDefinitions"]
    mounted = {mount["containerPath"]: mount["sourceVolume"] for mount in container["mountPoints"]}
    assert mounted["/var/lib/chronik"] == volume["name"] and volume["host"]["sourcePath"] == "/var/lib/chronik"


@pytest.mark.parametrize("service", ["ingest", "query"])
def test_containers_have_no_rights_and_no_secrets_in_plain_sight(cloud, outputs, service):
    task = cloud.api("ecs").describe_task_definition(taskDefinition=f"chronik-{service}")["taskDefinition"]
    (container,) = task["containerDefinitions"]
    assert container["readonlyRootFilesystem"] and container["user"] == "10001:10001"
    assert container["linuxParameters"]["capabilities"]["drop"] == ["ALL"]
    assert container["stopTimeout"] > 30
    assert [each["name"] for each in container["secrets"]] == ["CHRONIK_HTTP_TOKEN"]
    assert not [each for each in container["environment"] if "TOKEN" in each["name"] or "KEY" in each["name"]]
    settings = {each["name"]: each["value"] for each in container["environment"]}
    if service == "ingest":
        outside = outputs["bootstrap_servers_outside"]
        assert settings["CHRONIK_LISTENERS"] == "INSIDE://:9092,OUTSIDE://:9094"
        assert (
            settings["CHRONIK_ADVERTISED_LISTENERS"] == f"INSIDE://{outputs['bootstrap_servers']},OUTSIDE://{outside}"
        )
        assert {port["hostPort"] for port in container["portMappings"]} == {8080, 9092, 9094}
        assert settings["CHRONIK_QUERY_ENDPOINTS"] == outputs["search_url"]
        assert settings["CHRONIK_SHIP_MAX_AGE"] == "30s"
    else:
        host = outputs["bootstrap_servers"].removesuffix(":9092")
        assert settings["CHRONIK_INGEST_ENDPOINTS"] == f"http://{host}:8080"


def test_each_network_reaches_its_own_listener(cloud, outputs):
    ec2 = cloud.api("ec2")
    (group,) = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["chronik-broker"]}])[
        "SecurityGroups"
    ]
    rules = [(rule["FromPort"], {each["CidrIp"] for each in rule["IpRanges"]}) for rule in group["IpPermissions"]]
    assert (9094, {"192.168.0.0/16"}) in rules and (9092, {"10.0.0.0/16", "10.1.0.0/16"}) in rules


def test_search_is_inside_of_the_network_only(cloud, outputs):
    balancers = cloud.api("elbv2")
    (balancer,) = balancers.describe_load_balancers(Names=["chronik-query"])["LoadBalancers"]
    assert balancer["Scheme"] == "internal"
    (target,) = balancers.describe_target_groups(Names=["chronik-query"])["TargetGroups"]
    assert target["HealthCheckPath"] == "/health/ready"


def test_names_lead_to_what_was_made(cloud, outputs):
    route53 = cloud.api("route53")
    (zone,) = route53.list_hosted_zones()["HostedZones"]
    records = route53.list_resource_record_sets(HostedZoneId=zone["Id"])["ResourceRecordSets"]
    by_name = {record["Name"].rstrip("."): record for record in records}
    machines = cloud.api("ec2").describe_instances()["Reservations"]
    (machine,) = [each for reservation in machines for each in reservation["Instances"]]
    broker = by_name[outputs["bootstrap_servers"].removesuffix(":9092")]
    assert [each["Value"] for each in broker["ResourceRecords"]] == [machine["PrivateIpAddress"]]
    assert re.match(r"http://([\w.]+):8080", outputs["search_url"])[1] in by_name


def test_each_service_may_do_what_it_does_and_no_more(cloud, outputs):
    objects = f"arn:aws:s3:::{outputs['bucket']}/events/main/"
    queue = f"arn:aws:sqs:{REGION}:123456789012:chronik-jobs"

    query, _ = cloud.policy("query")
    assert query == {"s3:GetObject": [f"{objects}*"], "s3:ListBucket": [objects.split("/")[0]]}

    indexer, _ = cloud.policy("indexer")
    segments = f"{objects}topics/*/segments/*"
    assert indexer["s3:PutObject"] == [f"{objects}topics/*/archives/*", f"{objects}inbox/*", segments]
    assert indexer["s3:AbortMultipartUpload"] == [segments]
    assert indexer["sqs:ReceiveMessage"] == [queue] and indexer["sqs:SendMessage"] == [f"{queue}-dead"]
    assert not [action for action in indexer if action.startswith("s3:Delete")]

    ingest, denied = cloud.policy("ingest")
    assert ingest["s3:PutObject"] == ingest["s3:DeleteObject"] == [f"{objects}*"]
    assert ingest["sqs:SendMessage"] == [queue] and "sqs:ReceiveMessage" not in ingest
    (claims,) = denied
    assert f"{objects}claims/*" in claims["Resource"] and "s3:DeleteObject" in claims["Action"]


def test_alarms_watch_lag_and_dead_letters(cloud, outputs):
    alarms = {each["AlarmName"]: each for each in cloud.api("cloudwatch").describe_alarms()["MetricAlarms"]}
    lag, dead = alarms["chronik-indexing-lag"], alarms["chronik-dead-letters"]
    assert lag["MetricName"] == "ApproximateAgeOfOldestMessage" and lag["Threshold"] == 1800
    assert dead["Dimensions"] == [{"Name": "QueueName", "Value": "chronik-jobs-dead"}] and dead["Threshold"] == 0
    assert alarms["chronik-broker-not-running"]["TreatMissingData"] == "breaching"


def test_outputs_say_how_to_connect(cloud, outputs):
    assert outputs["bootstrap_servers"] in outputs["connect"] and outputs["search_url"] in outputs["connect"]
