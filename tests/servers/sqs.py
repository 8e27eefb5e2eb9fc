"""What servers that speak SQS's protocol have in common for tests."""

import json

import boto3
from botocore.config import Config

from servers.s3 import ACCESS_KEY, REGION, SECRET_KEY

QUEUE = "jobs"
DEAD_LETTERS = "dead"
# Jobs are reported as failed the fifth time, so they must come at least as often.
RECEIVES_MAX = 8


def client(url):
    """A client that is not ours, to look at queues from outside."""
    return boto3.client(
        "sqs",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(retries={"max_attempts": 2}),
    )


def make_queue(url, name=QUEUE, dead_letters=DEAD_LETTERS):
    """Makes the queue and its dead letters unless they are there; returns the queue's URL."""
    sqs = client(url)
    dead = sqs.create_queue(QueueName=dead_letters)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": RECEIVES_MAX})
    return sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy})["QueueUrl"]


def credentials():
    """What the AWS chain finds first."""
    return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": REGION}


def settings(queue_url, **changes):
    """Chronik's settings for a queue."""
    return {"CHRONIK_QUEUE": "sqs", "SQS_QUEUE_URL": queue_url} | credentials() | changes
