"""One machine, one command: starts what Pilothouse consists of, restarts what dies, stops all of it.

Children die with their supervisor (on Linux the kernel tells them); what a `kill -9` leaves behind all the same is
stopped by the next start on the same data folder, which knows it by its process id and birth.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from console import embedded
from console.embedded import CannotStart, Process

READY_S = 120.0
BACK_OFF_S = (0.2, 1.0, 3.0, 10.0, 30.0)
HEALTHY_AFTER_S = 30.0
DEATHS_BEFORE_READY = 3
BASE = Path(__file__).resolve().parent.parent


@dataclass(slots=True)
class Watched:
    """A process that is started again, with growing pauses, when it dies."""

    process: Process
    started: float = 0.0
    deaths: int = 0
    due: float | None = None

    def start(self) -> None:
        self.due = None
        self.started = time.monotonic()
        self.process.start()

    def look(self) -> None:
        now = time.monotonic()
        if self.due is not None:
            if now >= self.due:
                self.start()
        elif not self.process.alive():
            self._died(now)

    def _died(self, now: float) -> None:
        self.deaths = 1 if now - self.started > HEALTHY_AFTER_S else self.deaths + 1
        pause = BACK_OFF_S[min(self.deaths, len(BACK_OFF_S)) - 1]
        self.due = now + pause
        popen = self.process.popen
        how = f"ended with {popen.returncode}" if popen else "is not there"
        self.process.stop()
        say(f"{self.process.name} {how}; starting it again in {pause:g} s (see {self.process.log})")


def say(line: str) -> None:
    print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    try:
        if options.prepare:
            _prepare(demo=not options.no_demo)
        else:
            run(options)
    except (CannotStart, OSError) as error:
        print(f"pilothouse: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    cores = min(2, os.cpu_count() or 1)
    parser = argparse.ArgumentParser(prog="bin/up", description="Run Pilothouse on this machine. Ctrl-C stops it.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("PILOTHOUSE_DATA") or BASE / "data"))
    parser.add_argument("--no-demo", action="store_true", help="start empty")
    hidden = argparse.SUPPRESS
    parser.add_argument("--host", default=os.environ.get("PILOTHOUSE_HOST", "127.0.0.1"), help=hidden)
    parser.add_argument(
        "--web-workers", type=int, default=int(os.environ.get("PILOTHOUSE_WEB_WORKERS", cores)), help=hidden
    )
    parser.add_argument("--threads", type=int, default=int(os.environ.get("PILOTHOUSE_THREADS", "32")), help=hidden)
    parser.add_argument("--prepare", action="store_true", help=hidden)
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> NoReturn:
    """Serve until SIGINT, SIGTERM or SIGHUP."""
    _stop_on_signals()
    url = f"http://{options.host}:{options.port}"
    data = embedded.open_folder(options.data)
    os.chdir(BASE)
    with embedded.lock(data, url):
        outside = {name: os.environ.get(name, "") for name in ("DATABASE_URL", "REDIS_URL")}
        children = _children(options, data)
        for child in children:
            child.stop_leftover()
        _check_port(options.host, options.port)
        _check_reachable(outside)
        own = {"postgres": not outside["DATABASE_URL"], "redis": not outside["REDIS_URL"]}
        with embedded.start(data, **own) as services:
            os.environ["PILOTHOUSE_DATA"] = str(data)
            os.environ["DATABASE_URL"] = outside["DATABASE_URL"] or services.urls.database
            os.environ["REDIS_URL"] = outside["REDIS_URL"] or services.urls.redis
            _run_prepare(data, demo=not options.no_demo)
            watched = [Watched(process, time.monotonic()) for process in services.processes]
            watched += [Watched(child) for child in children]
            try:
                for one in watched[len(services.processes) :]:
                    one.start()
                _wait_until_ready(url, watched)
                say(f"Pilothouse is ready at {url}   (Ctrl-C stops it; logs are in {data / 'logs'})")
                while True:
                    for one in watched:
                        one.look()
                    time.sleep(0.2)
            finally:
                _ignore_signals()
                _stop(children)


def _stop_on_signals() -> None:
    """The first signal unwinds the stack, whatever we are doing; those that follow are not heard."""

    def caught(_number: int, _frame: FrameType | None) -> None:
        _ignore_signals()
        raise SystemExit(0)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, caught)


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which children would inherit


# --- before ------------------------------------------------------------------------------------------------------


def _check_port(host: str, port: int) -> None:
    if not 0 < port < 65536:
        raise CannotStart(f"There is no port {port}; ports go from 1 to 65535.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotStart(
                f"Port {port} cannot be used ({error.strerror}); choose another one with --port."
            ) from error


def _check_reachable(outside: Mapping[str, str]) -> None:
    if url := outside["DATABASE_URL"]:
        import psycopg  # noqa: PLC0415

        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.Error as error:
            raise CannotStart(f"DATABASE_URL cannot be reached: {_first_line(error)}") from error
    if url := outside["REDIS_URL"]:
        import redis  # noqa: PLC0415

        try:
            redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5).ping()
        except (redis.RedisError, ValueError, OSError) as error:
            raise CannotStart(f"REDIS_URL cannot be reached: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _run_prepare(data: Path, *, demo: bool) -> None:
    command = [sys.executable, "-m", "console.supervisor", "--prepare", *([] if demo else ["--no-demo"])]
    log = data / "logs" / "prepare.log"
    follow = embedded.dying_with_parent(signal.SIGKILL)
    with log.open("wb") as errors:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=errors, preexec_fn=follow, check=False)
    if done.returncode:
        lines = log.read_text(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise CannotStart(f"The data could not be prepared: {lines[-1]} (see {log})")


def _prepare(*, demo: bool) -> None:
    """In a process of its own: the database's schema, the static files, the first run's people and demo."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    import django  # noqa: PLC0415
    from django.core.management import call_command  # noqa: PLC0415

    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    _collect_static()
    call_command("bootstrap", no_demo=not demo)


def _collect_static() -> None:
    """Hashing and compressing them takes a while: only when a file, a package or the settings changed."""
    from django.conf import settings  # noqa: PLC0415
    from django.core.management import call_command  # noqa: PLC0415

    sources = [BASE / "requirements.lock", BASE / "console" / "settings.py"]
    sources += sorted(path for path in (BASE / "static").rglob("*") if path.is_file())
    seen = "".join(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n" for path in sources)
    digest = hashlib.sha256(seen.encode()).hexdigest()
    stamp = Path(settings.STATIC_ROOT) / ".collected"
    if not stamp.exists() or stamp.read_text() != digest:
        call_command("collectstatic", verbosity=0, interactive=False)
        stamp.write_text(digest)


# --- while -------------------------------------------------------------------------------------------------------


def _children(options: argparse.Namespace, data: Path) -> list[Process]:
    """In the order in which they stop."""
    run, logs, python = embedded.run_folder(data), data / "logs", sys.executable
    celery = [python, "-m", "celery", "--app", "console"]
    web = [str(Path(python).with_name("granian")), "--interface", "asgi", "--no-ws", "--backlog", "2048"]
    web += ["--host", options.host, "--port", str(options.port), "--workers", str(options.web_workers)]
    web += ["--respawn-failed-workers", "--workers-kill-timeout", "2", "--working-dir", str(BASE)]
    worker = [*celery, "worker", "--pool", "threads", "--concurrency", str(options.threads), "--loglevel", "WARNING"]
    worker += ["--without-gossip", "--without-mingle", "--hostname", f"worker-{secrets.token_hex(3)}@%h"]
    beat = [*celery, "beat", "--loglevel", "WARNING", "--schedule", str(data / "beat-schedule"), "--pidfile", ""]
    drain = [python, str(BASE / "manage.py"), "drain"]
    at_once = signal.SIGKILL  # whatever one of these was doing is taken up again
    return [
        Process("web", [*web, "console.asgi:application"], run, logs, patience=3.5),
        Process("worker", worker, run, logs, orphaned_with=at_once, patience=3.0),
        Process("beat", beat, run, logs, orphaned_with=at_once, patience=1.0),
        Process("drain", drain, run, logs, orphaned_with=at_once, patience=2.0),
    ]


def _wait_until_ready(url: str, watched: Sequence[Watched]) -> None:
    """Asks /readyz, minding the children meanwhile."""
    until = time.monotonic() + READY_S
    while (missing := _missing(url)) is not None:
        for one in watched:
            one.look()
            if one.deaths >= DEATHS_BEFORE_READY:
                raise CannotStart(
                    f"{one.process.name} does not start: {one.process.last_line()} (see {one.process.log})"
                )
        if time.monotonic() > until:
            raise CannotStart(f"Not ready after {READY_S:.0f} s: {missing}")
        time.sleep(0.1)


def _missing(url: str) -> str | None:
    """What /readyz says is missing; None when nothing is."""
    host = os.environ.get("PILOTHOUSE_ALLOWED_HOSTS", "").split(",")[0].strip().lstrip(".")
    headers = {"X-Forwarded-Proto": "https"} | ({"Host": host} if host not in ("", "*") else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}/readyz", headers=headers), timeout=5) as answer:
            answer.read()
            return None
    except urllib.error.HTTPError as error:
        try:
            return json.dumps(json.load(error))[:500]
        except ValueError:
            return f"/readyz answers {error.code}"
    except OSError as error:
        return f"/readyz does not answer ({error})"


def _stop(children: Sequence[Process]) -> None:
    """The web first, so that no new work comes in; then those who do the work; the drain takes what they wrote."""
    web, worker, beat, drain = children
    web.stop()
    worker.ask_to_stop()
    beat.stop()
    worker.stop()
    drain.stop()


if __name__ == "__main__":
    sys.exit(main())
