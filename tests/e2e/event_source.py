"""Lambda's event source over a real queue: what it hands to functions is deleted unless the answer names it as failed,
and becomes visible again by itself once the queue's visibility timeout is over."""

import threading
from dataclasses import dataclass

from chronik import until

ARN = "arn:aws:sqs:eu-central-1:123456789012:jobs"


@dataclass
class Received:
    """A message as the queue gave it out."""

    message: dict

    @property
    def id(self):
        return self.message["MessageId"]

    @property
    def entry(self):
        return {"Id": self.id, "ReceiptHandle": self.message["ReceiptHandle"]}

    def record(self):
        return {
            "messageId": self.id,
            "receiptHandle": self.message["ReceiptHandle"],
            "body": self.message["Body"],
            "md5OfBody": self.message["MD5OfBody"],
            "attributes": self.message["Attributes"],
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": ARN,
            "awsRegion": "eu-central-1",
        }


class EventSource:
    """Stands where tests without a queue have `Jobs`."""

    def __init__(self, queue):
        self.queue = queue
        self.closed = threading.Event()

    def receive(self, most):
        """Waits for messages; none are left once it is closed."""
        while not self.closed.is_set():
            answer = self.queue.client.receive_message(
                QueueUrl=self.queue.url, MaxNumberOfMessages=most, WaitTimeSeconds=1, AttributeNames=["All"]
            )
            if messages := answer.get("Messages"):
                return [Received(message) for message in messages]
        return []

    def settle(self, messages, failed):
        if done := [message.entry for message in messages if message.id not in failed]:
            self.queue.client.delete_message_batch(QueueUrl=self.queue.url, Entries=done)

    def wait_empty(self):
        until(lambda: self.queue.messages() == 0, "every message is done with or dead")

    def close(self):
        self.closed.set()
