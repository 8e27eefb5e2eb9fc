"""Garage: a store that speaks S3 and ignores the condition that an object must not exist."""

import subprocess
import tempfile

import requests

from servers import s3
from servers.cache import installed
from servers.server import Server, free_port

VERSION = "2.5.0"


def build(folder):
    features = ["--no-default-features", "--features", "bundled-libs,sqlite"]
    with tempfile.TemporaryDirectory() as objects:
        where = ["--root", folder, "--target-dir", objects]
        # Not for its speed, so it is compiled without what takes longest.
        cargo = ["cargo", "install", "--quiet", "--locked", "--debug", *features, *where, f"garage@{VERSION}"]
        subprocess.run(cargo, check=True)


class Garage(Server):
    """One node, with the bucket in it."""

    @classmethod
    def install(cls):
        return installed(f"garage-{VERSION}", build) / "bin/garage"

    def command(self):
        settings = self.directory / "garage.toml"
        settings.write_text(f"""
            metadata_dir = "{self.directory}/metadata"
            data_dir = "{self.directory}/objects"
            db_engine = "sqlite"
            replication_factor = 1
            rpc_bind_addr = "127.0.0.1:{free_port()}"
            rpc_secret = "{"0" * 64}"

            [s3_api]
            s3_region = "{s3.REGION}"
            api_bind_addr = "127.0.0.1:{self.port}"
        """)
        environment = {
            "GARAGE_DEFAULT_ACCESS_KEY": s3.ACCESS_KEY,
            "GARAGE_DEFAULT_SECRET_KEY": s3.SECRET_KEY,
            "GARAGE_DEFAULT_BUCKET": s3.BUCKET,
        }
        return [self.install(), "--config", settings, "server", "--single-node", "--default-bucket"], environment

    def answers(self):
        # It refuses who has no key, but only once it serves.
        return requests.get(self.url, timeout=1).status_code == 403 and self.has_bucket()

    def has_bucket(self):
        return s3.BUCKET in [bucket["Name"] for bucket in s3.client(self.url).list_buckets()["Buckets"]]
