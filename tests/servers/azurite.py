"""Azurite: Azure's blobs."""

import base64
import hashlib
import hmac
import subprocess
from email.utils import formatdate

import requests

from servers.cache import installed
from servers.server import Server

VERSION = "3.37.0"
CONTAINER = "chronik"
ACCOUNT = "devstoreaccount1"
# The same on every emulator, and printed in Azure's manual.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def build(folder):
    options = ["--prefix", folder, "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(["npm", "install", *options, f"azurite@{VERSION}"], check=True)


class Azurite(Server):
    """Blobs in memory."""

    variable = "CHRONIK_TEST_AZURITE"

    @classmethod
    def install(cls):
        return installed(f"azurite-{VERSION}", build) / "node_modules/.bin/azurite-blob"

    def command(self):
        place = ["--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--location", self.directory]
        return [self.install(), *place, "--silent", "--skipApiVersionCheck", "--disableTelemetry"], {}

    def answers(self):
        return requests.get(f"{self.url}/{ACCOUNT}?comp=list", timeout=1).status_code == 403

    def prepare(self):
        make_container(self.url)

    def variables(self):
        # The second is how clients of Azure find an emulator that is not on its usual port.
        return super().variables() | {"AZURITE_BLOB_STORAGE_URL": self.url}


def make_container(url, name=CONTAINER):
    """Makes the container unless it is there."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    named = "".join(f"{key}:{value}\n" for key, value in sorted(headers.items()))
    # Eleven lines of standard headers are empty; the emulator's account stands in its paths twice.
    text = "PUT\n" + "\n" * 11 + named + f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signature = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}"
    answer = requests.put(f"{url}/{ACCOUNT}/{name}?restype=container", headers=headers, timeout=30)
    assert answer.status_code in (201, 409), answer.text


def settings(prefix="", container=CONTAINER, url=None):
    """Chronik's settings for the emulator at `url`."""
    return {
        "OBJECT_STORE_BACKEND": "azure",
        "AZURE_USE_EMULATOR": "true",
        "AZURE_CONTAINER": container,
        "AZURE_PREFIX": prefix,
    } | ({"AZURITE_BLOB_STORAGE_URL": url} if url else {})
