"""A client's program as a process."""

from clients.line_process import PATIENCE, LineProcess


class ClientError(Exception):
    """What the client itself says went wrong."""


class Program(LineProcess):
    """Carries out one request at a time."""

    def __init__(self, client, bootstrap, directory):
        command, environment = client.command()
        self.client = client
        log = directory / f"{client.name.replace(' ', '-')}.log"
        super().__init__(client.name, [*command, bootstrap], log, environment)

    def begin(self, do, **request):
        """Sends a request without waiting for anything."""
        self.tell({"do": do, **request})

    def stop(self):
        """Tells what runs until it is told."""
        self.begin("stop")

    def events(self):
        """Until the request is done."""
        while (event := self.event()) != {"done": True}:
            yield event

    def event(self, patience=PATIENCE):
        """The next one, whatever it is."""
        event = self.next(patience)
        if "error" in event:
            raise ClientError(event["error"])
        return event

    def ask(self, do, **request):
        """The events of a request."""
        self.begin(do, **request)
        return list(self.events())
