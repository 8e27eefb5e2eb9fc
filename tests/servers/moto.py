"""moto: a stand-in for AWS that speaks S3 and SQS. It believes every signature and keeps everything in memory."""

import subprocess
import sys

import requests

from servers import s3
from servers.cache import installed
from servers.server import Server

VERSION = "5.2.5"


def build(folder):
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, f"moto[server]=={VERSION}"], check=True)


class Moto(Server):
    """One account of AWS; a restart empties it."""

    variable = "CHRONIK_TEST_MOTO"

    @classmethod
    def install(cls):
        return installed(f"moto-{VERSION}", build) / "bin/moto_server"

    def command(self):
        return [self.install(), "-H", "127.0.0.1", "-p", str(self.port)], {}

    def answers(self):
        return requests.get(f"{self.url}/moto-api/", timeout=1).ok

    def prepare(self):
        s3.make_bucket(self.url)
