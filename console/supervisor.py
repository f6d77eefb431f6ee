"""One machine, one command: starts what Pilothouse consists of, restarts what dies, stops all of it.

Children die with their supervisor (the kernel tells them), so a `kill -9` leaves at most the two databases behind; the next
start on the same data folder adopts those.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from console import embedded

STOP_S = 8.0
READY_S = 60.0
BACK_OFF_S = (0.2, 1.0, 3.0, 10.0)
HEALTHY_AFTER_S = 30.0
LOG_BYTES = 10 * 1024 * 1024
PR_SET_PDEATHSIG = 1
BASE = Path(__file__).resolve().parent.parent


class CannotStart(Exception):
    """One clear line for the person at the terminal."""


@dataclass(slots=True)
class Child:
    """One process of the product; restarted with growing pauses when it dies."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    due: float = field(default=0.0)

    def start(self, logs: Path) -> None:
        path = logs / f"{self.name}.log"
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=BASE, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, preexec_fn=_die_with_parent
            )
        self.started = time.monotonic()

    def watch(self, logs: Path) -> None:
        """Restart it when it has died and its pause is over."""
        if self.process is None or self.process.poll() is None:
            return
        now = time.monotonic()
        if not self.due:
            self.deaths = 0 if now - self.started > HEALTHY_AFTER_S else self.deaths + 1
            pause = BACK_OFF_S[min(self.deaths, len(BACK_OFF_S) - 1)]
            self.due = now + pause
            self._kill_group()
            say(f"{self.name} ended with {self.process.returncode}; starting it again in {pause:g} s (see {logs / self.name}.log)")
        elif now >= self.due:
            self.due = 0.0
            self.start(logs)

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()

    def wait(self, until: float) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
        self._kill_group()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2)

    def _kill_group(self) -> None:
        """Whatever is left of the process and its own children."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # type: ignore[union-attr]


def say(line: str) -> None:
    print(line, flush=True)


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the supervisor dies (Linux; elsewhere the next start cleans up)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    try:
        return run(options)
    except (CannotStart, embedded.CannotStart) as error:
        print(f"pilothouse: {error}", file=sys.stderr)
        return 1


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bin/up", description="Run Pilothouse on this machine.")
    parser.add_argument("--port", type=int, default=int(os.environ.get("PILOTHOUSE_PORT", "8000")))
    parser.add_argument("--host", default=os.environ.get("PILOTHOUSE_HOST", "127.0.0.1"), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("PILOTHOUSE_DATA", BASE / "data")))
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="web processes")
    parser.add_argument("--no-demo", action="store_true", help="start empty")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    stop = _catch_signals()
    data = options.data.resolve()
    with _locked(data), _port_free(options.host, options.port):
        pass_on = {"PILOTHOUSE_DATA": str(data)}
        os.environ.update(pass_on)
        outside = {name: os.environ.get(name) for name in ("DATABASE_URL", "REDIS_URL")}
        _check_reachable(outside)
        with embedded.start(data, postgres=not outside["DATABASE_URL"], redis=not outside["REDIS_URL"]) as found:
            os.environ.update(DATABASE_URL=found.database, REDIS_URL=found.redis)
            _manage("migrate", "--verbosity", "0")
            _manage("collectstatic", "--no-input", "--verbosity", "0")
            _manage("bootstrap", *(["--no-demo"] if options.no_demo else []))
            children = _children(options, data)
            logs = data / "logs"
            logs.mkdir(exist_ok=True)
            try:
                for child in children:
                    child.start(logs)
                _tell_ready(f"http://{options.host}:{options.port}", stop, children, logs)
                while not stop:
                    for child in children:
                        child.watch(logs)
                    time.sleep(0.2)
            finally:
                _stop(children)
    return 0


def _catch_signals() -> list[int]:
    """A list that gets a number when somebody wants us to end."""
    stop: list[int] = []

    def caught(number: int, _: FrameType | None) -> None:
        stop.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, caught)
    return stop


def _children(options: argparse.Namespace, data: Path) -> list[Child]:
    python = sys.executable
    bin_ = Path(python).parent
    address = ["--host", options.host, "--port", str(options.port)]
    return [
        Child(
            "web",
            [str(bin_ / "granian"), "--interface", "asgi", *address, "--workers", str(options.workers), "--loop", "auto", "--no-ws",
             "--backlog", "2048", "--respawn-failed-workers", "--workers-kill-timeout", "5", "console.asgi:application"],
        ),  # fmt: skip
        Child(
            "worker",
            [python, "-m", "celery", "--app", "console", "worker", "--pool", "threads", "--concurrency", "32", "--loglevel", "WARNING",
             "--without-gossip", "--without-mingle", "--hostname", f"worker-{secrets.token_hex(3)}@%h"],
        ),  # fmt: skip
        Child(
            "beat",
            [python, "-m", "celery", "--app", "console", "beat", "--loglevel", "WARNING", "--schedule", str(data / "beat-schedule"),
             "--pidfile", ""],
        ),  # fmt: skip
        Child("drain", [python, "manage.py", "drain"]),
    ]


@contextlib.contextmanager
def _locked(data: Path) -> Iterator[None]:
    """One supervisor for a data folder; the lock goes with the process, however it ends."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        handle = (data / "lock").open("a")
    except OSError as error:
        raise CannotStart(f"The data folder {data} cannot be written: {error.strerror}.") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CannotStart(f"Pilothouse runs on {data} already. Choose another folder with --data.") from error
        yield


@contextlib.contextmanager
def _port_free(host: str, port: int) -> Iterator[None]:
    """Fail before anything is started; a server of ours that is just ending gets three seconds."""
    until = time.monotonic() + 3
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                break
            except OverflowError as error:
                raise CannotStart(f"There is no port {port}.") from error
            except OSError as error:
                if time.monotonic() > until:
                    raise CannotStart(f"Port {port} is taken ({error.strerror}). Choose another one with --port.") from error
        time.sleep(0.2)
    yield


def _check_reachable(outside: dict[str, str | None]) -> None:
    if url := outside["DATABASE_URL"]:
        import psycopg  # noqa: PLC0415

        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.Error as error:
            raise CannotStart(f"DATABASE_URL cannot be reached: {str(error).splitlines()[0]}") from error
    if url := outside["REDIS_URL"]:
        import redis  # noqa: PLC0415

        try:
            redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5).ping()
        except (redis.RedisError, ValueError, OSError) as error:
            raise CannotStart(f"REDIS_URL cannot be reached: {error}") from error


def _manage(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "manage.py", *arguments], cwd=BASE, check=False, stderr=subprocess.PIPE)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise CannotStart(f"manage.py {arguments[0]} failed: {lines[-1]}")


def _tell_ready(url: str, stop: list[int], children: list[Child], logs: Path) -> None:
    """Wait for /readyz, minding the children meanwhile."""
    until = time.monotonic() + READY_S
    while not stop:
        for child in children:
            child.watch(logs)
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:
                if answer.status == 200:
                    say(f"Pilothouse is ready: {url}   (Ctrl-C stops it; logs in {logs})")
                    return
        except (urllib.error.URLError, OSError):
            pass
        if time.monotonic() > until:
            raise CannotStart(f"The web server did not become ready; see {logs}.")
        time.sleep(0.15)


def _stop(children: list[Child]) -> None:
    """The web first, so that no new work comes in; then those who do the work."""
    until = time.monotonic() + STOP_S
    for child in children:
        child.stop()
    for child in children:
        child.wait(until)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
