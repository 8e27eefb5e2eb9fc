"""What linters of security and style say about the templates. Exceptions in Terraform stand there."""

import shutil

import pytest
import yaml
from chart import CASES, render
from place import run
from terraform import TEMPLATES

# Their installation takes minutes.
pytestmark = pytest.mark.long

EXCEPTIONS = {
    "CKV_K8S_11": "a limit of CPU throttles a broker that could have it; memory is limited",
    "CKV_K8S_15": "tags are versions, which don't change",
    "CKV_K8S_21": "the namespace is the release's",
    "CKV_K8S_35": "settings are variables, the token and keys among them",
    "CKV_K8S_43": "images are named by the operator, who may give a digest",
}


def checkov(directory, *frameworks):
    run(
        "checkov",
        "--quiet",
        "--compact",
        "--skip-download",
        "--directory",
        directory,
        "--framework",
        *frameworks,
        "--skip-check",
        ",".join(EXCEPTIONS),
    )


def test_tflint_finds_nothing_in_the_terraform_templates():
    assert run("tflint", "--chdir", TEMPLATES) == ""


def test_checkov_finds_nothing_in_the_terraform_templates(tmp_path):
    shutil.copytree(TEMPLATES, tmp_path / "terraform", ignore=shutil.ignore_patterns(".terraform*"))
    checkov(tmp_path / "terraform", "terraform", "secrets")


def test_checkov_finds_nothing_in_what_the_chart_makes(tmp_path):
    for name, values in CASES.items():
        (tmp_path / f"{name.replace(' ', '-')}.yaml").write_text(yaml.safe_dump_all(render(**values)))
    checkov(tmp_path, "kubernetes")
