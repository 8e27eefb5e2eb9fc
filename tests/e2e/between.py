"""What stands between Kafka clients and a broker, which tells them to come there."""

import socket
import struct
import threading

PRODUCE, FETCH = 0, 1


class Between:
    """Passes requests and answers on."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def advertised(self):
        """The settings of its broker."""
        return {"bind_addr": "127.0.0.1", "advertised_addr": self.address}

    def before(self, broker):
        """Begins to serve."""
        threading.Thread(target=self._serve, args=(tuple(broker.rsplit(":", 1)),), daemon=True).start()
        return self

    def request(self, api):
        """Called with each request before it is passed on."""

    def drops(self, api):
        """Whether the connection breaks instead of the answer."""
        return False

    def _serve(self, broker):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self._relay, args=(client, broker), daemon=True).start()

    def _relay(self, client, broker):
        with client, socket.create_connection(broker) as upstream:
            while request := self._frame(client):
                [api] = struct.unpack_from(">h", request, 4)
                self.request(api)
                upstream.sendall(request)
                answer = self._frame(upstream)
                if self.drops(api):
                    return
                client.sendall(answer)

    @staticmethod
    def _frame(stream):
        """The next one with its length; nothing once the other side has closed."""
        head = stream.recv(4, socket.MSG_WAITALL)
        return head and head + stream.recv(struct.unpack(">i", head)[0], socket.MSG_WAITALL)


class LostAnswers(Between):
    """Breaks the connection where one of the first Produce requests is answered."""

    def __init__(self, lost):
        super().__init__()
        self.left = lost

    def drops(self, api):
        if api != PRODUCE or not self.left:
            return False
        self.left -= 1
        return True


class HeldFetches(Between):
    """Keeps fetches from the broker while it is told to."""

    def __init__(self):
        super().__init__()
        self._open, self._held = threading.Event(), threading.Event()
        self._open.set()

    def request(self, api):
        if api == FETCH:
            if not self._open.is_set():
                self._held.set()
            self._open.wait()

    def hold(self, patience):
        """Returns once a fetch waits here, so that none is at the broker if there is one client."""
        self._held.clear()
        self._open.clear()
        assert self._held.wait(patience), "no fetch came"

    def release(self):
        self._open.set()
