"""moto: a stand-in for AWS that speaks S3 and SQS. It accepts every signature until it is asked to enforce
rights, and keeps everything in memory."""

import json
import subprocess
import sys

import boto3
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

    def user(self, actions):
        """Credentials of a new user who may do these actions alone, as the AWS chain finds them."""
        iam = boto3.client(
            "iam",
            endpoint_url=self.url,
            region_name=s3.REGION,
            aws_access_key_id=s3.ACCESS_KEY,
            aws_secret_access_key=s3.SECRET_KEY,
        )
        iam.create_user(UserName="user")
        iam.put_user_policy(UserName="user", PolicyName="only", PolicyDocument=json.dumps(s3.policy(actions)))
        key = iam.create_access_key(UserName="user")["AccessKey"]
        return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    def enforce(self):
        """From now on rights are asked for, until it is started again."""
        requests.post(f"{self.url}/moto-api/reset-auth", data=b"0", timeout=30).raise_for_status()
