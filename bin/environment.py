"""The virtual environment of this checkout: made when missing, filled from a lock when the lock changed.

Standard library only, and in words that an old Python 3 understands well enough to say that it is too old.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

BASE = Path(__file__).resolve().parent.parent
VENV = BASE / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "pilothouse-lock"
BOOTSTRAP = BASE / "requirements-bootstrap.lock"
LOCKS = {"run": BASE / "requirements.lock", "dev": BASE / "requirements-dev.lock"}
OTHERS = ("python3.12", "python3.11", "python3.13", "python3.14")


def ensure(kind: str) -> str:
    """The environment's Python. `kind` is "run" or "dev"; what satisfies "dev" satisfies "run" as well."""
    good_enough = {_stamp(name) for name in (kind, "dev")}
    if _present() in good_enough:
        return str(PYTHON)
    folder = os.open(BASE, os.O_RDONLY)  # two commands at once in a fresh clone: one installs, the other waits
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if _present() not in good_enough:
            print("Installing the locked dependencies (once) …", flush=True)
            kind = "dev" if _present().startswith("dev ") else kind  # never take the tools away from who works here
            _make()
            _fill(LOCKS[kind])
            STAMP.write_text(_stamp(kind))
    except OSError as error:
        fail("The virtual environment cannot be made in {}: {}".format(BASE, error.strerror))  # noqa: UP032
    finally:
        os.close(folder)
    return str(PYTHON)


def fail(message: str) -> NoReturn:
    print("pilothouse: " + message, file=sys.stderr, flush=True)
    sys.exit(1)


def _stamp(kind: str) -> str:
    return kind + " " + hashlib.sha256(LOCKS[kind].read_bytes()).hexdigest()


def _present() -> str:
    """The kind and the hash of the lock that the environment was filled from; '' when there is none that works."""
    try:
        return STAMP.read_text() if PYTHON.exists() else ""
    except OSError:
        return ""


def _make() -> None:
    if PYTHON.exists():
        return
    command = [_interpreter(), "-m", "venv", "--clear", str(VENV)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        hint = " (on Debian: apt-get install python3-venv)" if "ensurepip" in done.stdout + done.stderr else ""
        fail("python -m venv failed{}: {}".format(hint, _last_line(done)))  # noqa: UP032


def _interpreter() -> str:
    """This Python, or a newer one on PATH where this one is too old."""
    if _suits(sys.executable):
        return sys.executable
    for name in OTHERS:
        found = shutil.which(name)
        if found and _suits(found):
            return found
    fail("Python 3.11 or newer is needed; {} is {}.".format(sys.executable, sys.version.split()[0]))  # noqa: UP032


def _suits(python: str) -> bool:
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0


def _fill(lock: Path) -> None:
    """uv is five times faster than pip; where it has no wheel or no way out, pip does the same."""
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"]
    if _works([*pip, str(BOOTSTRAP)]):
        sync = [
            "-m",
            "uv",
            "pip",
            "sync",
            "--quiet",
            "--compile-bytecode",
            "--python",
            str(PYTHON),
            "--require-hashes",
            str(lock),
        ]
        if _works([str(PYTHON), *sync]):
            return
    done = subprocess.run([*pip, str(lock)], capture_output=True, text=True, check=False)
    if done.returncode:
        fail("The dependencies could not be installed: " + _last_line(done))


def _works(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[-1] if lines else "it said nothing"
