"""The Terraform templates: formatted and valid."""

import re

import pytest
from terraform import TEMPLATES, Terraform, missing

reason = missing()
runs = pytest.mark.skipif(reason is not None, reason=str(reason))


@runs
def test_the_templates_are_formatted_and_valid(tmp_path):
    terraform = Terraform(tmp_path).init()
    terraform.run("fmt", "-check", "-diff", "-recursive")
    assert terraform.json("validate")["diagnostics"] == []


def test_the_example_gives_what_has_no_default_and_nothing_unknown():
    declared = re.findall(r'^variable "(\w+)" \{(.*?)^\}', (TEMPLATES / "variables.tf").read_text(), re.M | re.S)
    needed = {name for name, body in declared if not re.search(r"^  default ", body, re.M)}
    given = set(re.findall(r"^(\w+) +=", (TEMPLATES / "example.tfvars").read_text(), re.M))
    assert needed and needed <= given <= {name for name, _ in declared}


def test_everything_that_can_be_set_is_explained_and_used():
    text = "".join(path.read_text() for path in TEMPLATES.glob("*.tf"))
    for name, body in re.findall(r'^variable "(\w+)" \{(.*?)^\}', text, re.M | re.S):
        assert re.search(r'^  description = "[A-Z].*"$', body, re.M), name
        assert f"var.{name}" in text, name
