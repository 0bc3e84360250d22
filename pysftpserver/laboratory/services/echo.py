"""Echo: answers as the original server does."""

from __future__ import annotations

from pysftpserver.laboratory.service import Client, Service


class Echo(Service):
    """Says what it has received."""

    def on_message(self, client: Client, text: str) -> None:
        client.send(f'I received "{text}" from you.')
