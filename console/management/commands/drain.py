"""Move calls from the stream into Postgres until told to stop."""

import asyncio
import os
import signal
import socket
import threading
from typing import Any

from django.core.management.base import BaseCommand

from agents import calls, snapshot


class Command(BaseCommand):
    help = "Copies the call stream into Postgres. Any number may run; each entry is written once."

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        threading.Thread(target=lambda: asyncio.run(snapshot.keep("drain")), daemon=True).start()
        calls.drain(stop.is_set, f"{socket.gethostname()}-{os.getpid()}")
