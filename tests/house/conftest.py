"""Real instances: `bin/up` as a person would start it, on a free port and a folder of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

BASE = Path(__file__).resolve().parents[2]
START_S = 130  # bin/up gives up after 120 and says why
STOP_S = 12  # bin/up promises 10
NOT_INHERITED = {"DATABASE_URL", "REDIS_URL", "PILOTHOUSE_DATA", "DJANGO_SETTINGS_MODULE"}
KEY = "ph_house001_" + "k" * 32
WITH_PROVIDER = {
    "PILOTHOUSE_API_KEY": KEY, "PILOTHOUSE_PROVIDER_ALLOWED_HOSTS": "127.0.0.1", "UPSTREAM_API_KEY": "sk-house",
}  # fmt: skip


class Instance:
    """One `bin/up` and what it prints."""

    def __init__(self, data: Path, *options: str, port: int | None = None, env: dict[str, str] | None = None) -> None:
        self.data = data
        self.port = port or free_port()
        self._out = data.with_name(f"{data.name}-{time.monotonic_ns()}.out")
        clean = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [BASE / "bin" / "up", "--port", str(self.port), "--data", str(data), *options],
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=clean | (env or {}),
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    def pid(self, name: str) -> int:
        """Of the process that runs now. There is none for a moment when one has died and the next is not there yet."""
        found: list[int] = []

        def written() -> bool:
            with suppress(OSError, IndexError):
                found.append(int((self.data / "run" / f"{name}.pid").read_text().split()[0]))
            return bool(found)

        assert wait_for(written, 20), f"no {name} was started again"
        return found[0]

    def get(self, path: str) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return answer.status

    def wait_until_ready(self) -> Instance:
        wait_for(lambda: "is ready" in self.out or self.process.poll() is not None, START_S)
        assert self.process.poll() is None, self.out
        assert "is ready" in self.out, self.out
        return self

    def fails(self) -> str:
        """What it says when it gives up: one line."""
        assert self.process.wait(30) != 0
        assert self.out.count("\n") == 1, self.out
        assert left_of(self.data) == []
        return self.out

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(STOP_S)

    def clean_up(self) -> None:
        if self.process.poll() is None:
            self.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for(done: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def left_of(data: Path) -> list[str]:
    """Command lines of the processes that belong to this data folder, by their arguments or their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            about = command + (process / "environ").read_bytes()
        except OSError:
            continue
        if int(process.name) != os.getpid() and os.fsencode(data) in about:
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


@contextmanager
def folder() -> Iterator[Path]:
    """Not in pytest's: each of root's sessions that starts closes that one to PostgreSQL's account, whoever uses it."""
    with tempfile.TemporaryDirectory(prefix="pilothouse-") as made:
        yield Path(made)


@contextmanager
def instance(**env: str) -> Iterator[Instance]:
    """One with the demo, in a folder of its own, for as long as this lasts."""
    with folder() as data:
        started = Instance(data / "data", env=env)
        try:
            yield started.wait_until_ready()
        finally:
            started.clean_up()


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with folder() as made:
        yield made


@pytest.fixture(scope="package")
def running() -> Iterator[Instance]:
    """An instance with the demo, for every test that leaves it able to serve the next."""
    with instance(**WITH_PROVIDER) as started:
        yield started


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Instance]]:
    """Starts instances that are gone after the test."""
    started: list[Instance] = []

    def start(*options: str, data: Path = tmp_path / "data", **more: object) -> Instance:
        started.append(Instance(data, *options, **more))
        return started[-1]

    yield start
    for instance in started:
        instance.clean_up()
