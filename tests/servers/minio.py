"""MinIO: S3 with conditional puts that are atomic, and checksums that are verified."""

import json
import os
import subprocess

import boto3
import requests

from servers import s3
from servers.cache import installed
from servers.server import Server

VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"


def build(folder):
    environment = {"GOBIN": str(folder), "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -trimpath"}
    module = f"github.com/minio/minio@{VERSION}"
    subprocess.run(["go", "install", "-ldflags=-s -w", module], env=os.environ | environment, check=True)


class Minio(Server):
    """Keeps its objects through kill -9."""

    variable = "CHRONIK_TEST_MINIO"

    @classmethod
    def install(cls):
        return installed(f"minio-{VERSION[-12:]}", build) / "minio"

    def command(self):
        options = ["--address", f"127.0.0.1:{self.port}", "--quiet", "--anonymous"]
        environment = {
            "MINIO_ROOT_USER": s3.ACCESS_KEY,
            "MINIO_ROOT_PASSWORD": s3.SECRET_KEY,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }
        return [self.install(), "server", *options, self.directory / "objects"], environment

    def answers(self):
        return requests.get(f"{self.url}/minio/health/ready", timeout=1).ok

    def prepare(self):
        s3.make_bucket(self.url)

    def session(self, actions):
        """Credentials that allow these actions alone, as the AWS chain finds them."""
        sts = boto3.client(
            "sts",
            endpoint_url=self.url,
            region_name=s3.REGION,
            aws_access_key_id=s3.ACCESS_KEY,
            aws_secret_access_key=s3.SECRET_KEY,
        )
        role = {"RoleArn": "arn:aws:iam::123456789012:role/any", "RoleSessionName": "tests"}
        made = sts.assume_role(**role, Policy=json.dumps(s3.policy(actions)))["Credentials"]
        return {
            "AWS_ACCESS_KEY_ID": made["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"],
            "AWS_SESSION_TOKEN": made["SessionToken"],
        }
