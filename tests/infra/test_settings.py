"""What the templates set for the services: a setting that a service doesn't know would be ignored without a word."""

import re
import subprocess

import pytest
import yaml
from chart import CASES, render
from chronik import program
from place import INFRA
from terraform import TEMPLATES

SERVICES = ("ingest", "indexer", "query")
SETTING = re.compile(r"\b(?:CHRONIK|OBJECT_STORE|S3|SQS|GCS|AZURE)_[A-Z_]+\b")


def known(service):
    told = subprocess.run([program(f"chronik-{service}"), "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"\[env: (\w+)", told))


def settings(names):
    return {name for name in names if SETTING.fullmatch(name)}


def is_workload(each):
    return each["kind"] in ("StatefulSet", "Deployment")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_knows_what_the_compose_file_tells_it(service):
    told = settings(yaml.safe_load((INFRA / "compose.yaml").read_text())["services"][service]["environment"])
    assert told and told <= known(service)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_knows_what_the_chart_tells_it(service):
    pods = [each["spec"]["template"]["spec"] for case in CASES.values() for each in render(**case) if is_workload(each)]
    containers = [container for pod in pods for container in pod["containers"] if container["name"] == service]
    told = settings(entry["name"] for container in containers for entry in container["env"])
    assert told and told <= known(service)


def test_the_services_know_what_terraform_tells_them():
    told = set(SETTING.findall("".join(path.read_text() for path in [*TEMPLATES.glob("*.tf*")])))
    assert told and told <= set.union(*map(known, SERVICES))
