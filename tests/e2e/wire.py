"""What lies between clients and the broker, and can lose the broker's answers."""

import contextlib
import socket
import threading


class Wire:
    """Passes connections on to `port` of loopback. Threads end with their connections."""

    def __init__(self, port):
        self.broker = ("127.0.0.1", port)
        self.losing = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def lose_answers(self):
        """From now on, on all connections that are open."""
        self.losing.set()

    def pass_answers(self):
        """On connections that lost none."""
        self.losing.clear()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, address = self.listener.accept()
                try:
                    broker = socket.create_connection(self.broker)
                except OSError:
                    client.close()
                    continue
                for arguments in ((client, broker, address, False), (broker, client, address, True)):
                    threading.Thread(target=self._pass_on, args=arguments, daemon=True).start()

    def pieces(self, source, client, answers):
        """What comes from `source` on the connection of a client's address."""
        while data := source.recv(1 << 16):
            yield data

    def _pass_on(self, source, sink, client, answers):
        lost = False
        with contextlib.suppress(OSError):
            for data in self.pieces(source, client, answers):
                lost = lost or (answers and self.losing.is_set())
                if not lost:
                    sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
