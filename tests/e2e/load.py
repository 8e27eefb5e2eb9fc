"""Records that are sent without end, and what was acknowledged of them."""

import itertools
import threading

from records import consume, producer

TOPIC = "t"


def value(number):
    return b"number %d " % number + number.to_bytes(8) * (number % 50)


def values(server):
    """All that a consumer gets; there is no gap."""
    [records] = consume(server.bootstrap, TOPIC, 1)
    assert [offset for offset, _ in records] == list(range(len(records))), "no gap"
    return [record.value for _, record in records]


class Load:
    """Sends numbered records until the broker goes away or `end`; notes what was acknowledged, by offset."""

    def __init__(self, server):
        self.acknowledged = {}
        self.refused = 0
        self.client = producer(server.bootstrap, retries=0, message_timeout_ms=5000)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        for number in itertools.count():
            if self.stop.is_set():
                return
            try:
                self.client.produce(TOPIC, value(number), partition=0, on_delivery=self.delivered(number))
            except BufferError:
                self.client.poll(0.1)
            self.client.poll(0.001)

    def delivered(self, number):
        def report(error, message):
            if error is None:
                self.acknowledged[message.offset()] = value(number)
            else:
                self.refused += 1

        return report

    def end(self):
        self.stop.set()
        self.thread.join()
        self.client.purge()
        self.client.flush(10)
        return self.acknowledged

    def check(self, kept):
        """What was acknowledged stands where it was said to stand, as far as `kept` goes; returns what lies above."""
        for offset, sent in self.acknowledged.items():
            assert offset >= len(kept) or kept[offset] == sent, f"offset {offset}"
        return [offset for offset in self.acknowledged if offset >= len(kept)]
