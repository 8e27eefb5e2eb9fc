"""Terraform over a copy of the templates, with providers from a mirror on this machine."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from place import INFRA, PATIENCE

TEMPLATES = INFRA / "terraform"
# Where a mirror of providers is looked for.
MIRRORS = [*Path("/opt").glob("*/registry.terraform.io/hashicorp/aws")]


def missing():
    """Why Terraform can't be run here, or None."""
    if not shutil.which("terraform"):
        return "terraform is not on this machine"
    if not MIRRORS:
        return "no mirror of Terraform's provider aws is on this machine"
    return None


class Terraform:
    """The templates in `directory`, initialised."""

    def __init__(self, directory):
        self.directory = directory / "terraform"
        shutil.copytree(TEMPLATES, self.directory, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
        configuration = directory / "terraform.rc"
        mirror = MIRRORS[0].parents[1]
        configuration.write_text(
            "disable_checkpoint = true\n"
            f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror.parent}"\n  }}\n}}\n'
        )
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "TF_"))} | {
            "TF_CLI_CONFIG_FILE": str(configuration),
            "TF_IN_AUTOMATION": "1",
        }

    def init(self):
        self.run("init", "-input=false")
        return self

    def run(self, command, *arguments, patience=PATIENCE):
        """Runs a command of Terraform and returns its standard output."""
        done = subprocess.run(
            ["terraform", f"-chdir={self.directory}", command, "-no-color", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )
        assert done.returncode == 0, f"terraform {command} {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, command, *arguments):
        return json.loads(self.run(command, "-json", *arguments))
