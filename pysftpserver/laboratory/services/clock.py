"""Time: a service of ten lines."""

import time

from pysftpserver.laboratory.service import Client, Service


class Time(Service):
    """Says what time it is here."""

    def on_message(self, client: Client, text: str) -> None:
        self.send(client, time.strftime("%Y-%m-%d %H:%M:%S %z"))
