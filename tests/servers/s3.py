"""What S3 servers have in common for tests."""

import boto3
from botocore.config import Config

ACCESS_KEY = "chronik-tests"
SECRET_KEY = "chronik-tests-secret"
REGION = "us-east-1"
BUCKET = "chronik"


def client(url, access_key=ACCESS_KEY, secret_key=SECRET_KEY):
    """A client that is not ours, to look at a bucket from outside."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 8}),
    )


def make_bucket(url, name=BUCKET):
    """Makes the bucket unless it is there."""
    s3 = client(url)
    if name not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=name)


def policy(actions):
    """What allows these actions, and no other, on everything."""
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": ["*"]}]}


def settings(url, bucket=BUCKET, prefix="", **changes):
    """Chronik's settings for a bucket at `url`."""
    return {
        "OBJECT_STORE_BACKEND": "s3",
        "S3_ENDPOINT": url,
        "S3_DISABLE_SSL": "true",
        "S3_REGION": REGION,
        "S3_BUCKET": bucket,
        "S3_ACCESS_KEY": ACCESS_KEY,
        "S3_SECRET_KEY": SECRET_KEY,
        "S3_PREFIX": prefix,
    } | changes
