"""Servers under measurement: started, waited for, weighed, stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

BASE = Path(__file__).resolve().parent.parent
WORKERS = "2"


@contextmanager
def process(
    command: list[str], port: int, env: Mapping[str, str] | None = None, patience_s: float = 90
) -> Iterator[int]:
    """The process id, once the port takes connections. An `env` of its own replaces ours."""
    started = subprocess.Popen(
        command, cwd=BASE, env=env or dict(os.environ), stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _wait_for(started, port, patience_s)
        yield started.pid
    finally:
        _stop(started)


def _stop(started: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGTERM)
        try:
            started.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def granian(target: str, port: int) -> list[str]:
    """The server as `bin/up` starts it."""
    command = [str(Path(sys.executable).with_name("granian")), "--interface", "asgi", "--no-ws", "--backlog", "2048"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", WORKERS, "--log-level", "warning"]
    return [*command, "--working-dir", str(BASE), target]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def memory_mb(pid: int) -> float:
    """Resident memory of the process and its children, in MB."""
    return sum(_resident_kb(one) for one in _family(pid)) / 1024


def cpu_s(pid: int) -> float:
    """Seconds of CPU that the process and its children have used: what a busy machine blurs least."""
    tasks = [task for one in _family(pid) for task in Path(f"/proc/{one}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def _family(pid: int) -> list[int]:
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def _resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


def _wait_for(started: subprocess.Popen[bytes], port: int, patience_s: float) -> None:
    until = time.monotonic() + patience_s
    while time.monotonic() < until and started.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(f"{started.args!r} does not listen on port {port}.")
