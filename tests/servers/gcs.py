"""Google Cloud Storage, as far as its XML protocol is S3's: a translator before moto,
`python -m servers.gcs PORT UPSTREAM`. It shows that we use the client of Google's storage rightly; it does not show how
Google's storage behaves."""

import asyncio
import itertools
import json
import sys
import time

import requests

from servers import s3
from servers.relay import forward, send, serve
from servers.server import Server


class Gcs(Server):
    """Has the bucket of the store behind it."""

    variable = "CHRONIK_TEST_GCS"

    def __init__(self, upstream):
        super().__init__()
        self.upstream = upstream

    def command(self):
        return [sys.executable, "-m", "servers.gcs", str(self.port), self.upstream], {}

    def answers(self):
        return requests.get(f"{self.url}/{s3.BUCKET}", timeout=1).ok

    def variables(self):
        return super().variables() | credentials(self.url)


def credentials(url):
    """Google's own settings, which make its client come here without asking Google for a token."""
    account = {"gcs_base_url": url, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    return {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account), "GOOGLE_ALLOW_HTTP": "true"}


def settings(url, prefix="", bucket=s3.BUCKET):
    """Chronik's settings for the bucket."""
    return {"OBJECT_STORE_BACKEND": "gcs", "GCS_BUCKET": bucket, "GCS_PREFIX": prefix} | credentials(url)


CREDENTIAL = f"{s3.ACCESS_KEY}/20260101/{s3.REGION}/s3/aws4_request"
SIGNATURE = f"AWS4-HMAC-SHA256 Credential={CREDENTIAL}, SignedHeaders=host, Signature=0"


def translated(request):
    if request.header("x-goog-if-generation-match") == "0":
        request.headers.append(("If-None-Match", "*"))
    request = request.without("authorization", "x-goog-if-generation-match")
    request.headers.append(("Authorization", SIGNATURE))
    path, mark, query = request.target.partition("?")
    request.target = path.replace("%2F", "/") + mark + query
    return request


async def handle(request, writer, upstream, generations):
    answer = await forward(translated(request), upstream)
    await send(writer, answer.with_header("x-goog-generation", next(generations)))


if __name__ == "__main__":
    generations = itertools.count(time.time_ns())
    asyncio.run(serve(int(sys.argv[1]), lambda *call: handle(*call, sys.argv[2], generations)))
