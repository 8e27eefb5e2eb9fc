"""What the Python programs share: requests from standard input, answers to standard output."""

import base64
import json
import queue
import sys
import threading

requests = queue.Queue()


def serve(operations):
    """Carries out requests, one after the other, until standard input ends."""
    threading.Thread(target=_read, daemon=True).start()
    while request := requests.get():
        try:
            operations[request["do"]](request)
            tell(done=True)
        except Exception as error:
            tell(error=f"{type(error).__name__}: {error}")


def _read():
    for line in sys.stdin:
        requests.put(json.loads(line))
    requests.put(None)


def told_to_stop():
    """Whether the next request is there; for those that end when told."""
    if requests.empty():
        return False
    stop = requests.get()
    assert stop is None or stop["do"] == "stop", stop
    return True


def tell(**event):
    print(json.dumps(event), flush=True)


def tell_record(partition, offset, timestamp, key, value, headers):
    headers = [[name, encoded(header)] for name, header in headers or ()]
    place = {"partition": partition, "offset": offset}
    tell(record={**place, "timestamp": timestamp, "key": encoded(key), "value": encoded(value), "headers": headers})


def encoded(data):
    return None if data is None else base64.b64encode(data).decode()


def decoded(text):
    return None if text is None else base64.b64decode(text)


def records(request):
    """(key, value, timestamp, headers) of each."""
    for record in request["records"]:
        headers = [(name, decoded(header)) for name, header in record["headers"]]
        yield decoded(record["key"]), decoded(record["value"]), record["timestamp"], headers


def kept(request):
    return {int(partition): offset for partition, offset in request["before"].items()}


def starts(request):
    return {int(partition): offset for partition, offset in request["from"].items()}


def ends(request):
    return {int(partition): offset for partition, offset in request["to"].items()}
