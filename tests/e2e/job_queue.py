"""A queue for jobs on a real server, seen from outside."""

import uuid

from servers import sqs


class Queue:
    """A queue of one test's own with its dead letters."""

    def __init__(self, server, **attributes):
        self.server = server
        self.client = sqs.client(server.url)
        self.name = f"jobs-{uuid.uuid4()}"
        self.make(**attributes)

    def make(self, **attributes):
        self.dead_url = self.client.create_queue(QueueName=f"{self.name}-dead")["QueueUrl"]
        self.url = sqs.make_queue(self.server.url, self.name, f"{self.name}-dead")
        if attributes:
            self.client.set_queue_attributes(QueueUrl=self.url, Attributes=attributes)

    def settings(self):
        return sqs.settings(self.url)

    def send(self, body, **options):
        self.client.send_message(QueueUrl=self.url, MessageBody=body, **options)

    def receive(self, **options):
        taken = self.client.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10, **options)
        return taken.get("Messages", [])

    def visible(self):
        """How many may be received."""
        return self.count("")

    def messages(self):
        """How many it holds, in whatever state."""
        return self.count("", "NotVisible", "Delayed")

    def count(self, *states):
        names = [f"ApproximateNumberOfMessages{state}" for state in states]
        counts = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(counts[name]) for name in names)

    def dead_letters(self):
        """Body → why it is here, or None where no reason was given; each is seen once."""
        taken = self.client.receive_message(
            QueueUrl=self.dead_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=600
        )
        return {
            message["Body"]: message.get("MessageAttributes", {}).get("reason", {}).get("StringValue")
            for message in taken.get("Messages", [])
        }
