"""The virtual environment of this checkout: made when missing, filled from a lock when the lock changed. Standard library only."""

import hashlib
import os
import subprocess
import sys

BASE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(BASE, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
LOCKS = {"run": "requirements.lock", "dev": "requirements-dev.lock"}
NEEDED = (3, 11)


def ensure(kind):
    """Return the environment's Python; `kind` is "run" or "dev", and a dev environment serves for running too."""
    if sys.version_info < NEEDED:
        fail("Python %d.%d or newer is needed; this is %s." % (NEEDED + (sys.version.split()[0],)))
    wanted = {name: _stamp(lock) for name, lock in LOCKS.items()}
    present = _read(_stamp_path())
    if os.path.exists(PYTHON) and present in ((wanted["dev"],) if kind == "dev" else (wanted["dev"], wanted["run"])):
        return PYTHON
    print("Installing the locked dependencies (once) …", flush=True)
    if not os.path.exists(PYTHON):
        _run([sys.executable, "-m", "venv", VENV], "The virtual environment cannot be made here; is python3-venv installed?")
    _install(os.path.join(BASE, LOCKS[kind]))
    with open(_stamp_path(), "w") as stamp:
        stamp.write(wanted[kind])
    return PYTHON


def fail(message):
    print("pilothouse: " + message, file=sys.stderr)
    sys.exit(1)


def _install(lock):
    """uv is five times faster than pip; where it has no wheel or no way out, pip does the same."""
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    bootstrap = subprocess.run(pip + ["-r", os.path.join(BASE, "requirements-bootstrap.lock")], capture_output=True)
    if bootstrap.returncode == 0:
        sync = [PYTHON, "-m", "uv", "pip", "install", "--quiet", "--python", PYTHON, "--require-hashes", "-r", lock]
        if subprocess.run(sync, capture_output=True).returncode == 0:
            return
    _run(pip + ["-r", lock], "The dependencies could not be installed; is the package registry reachable?")


def _run(command, message):
    if subprocess.run(command).returncode != 0:
        fail(message)


def _stamp(lock):
    with open(os.path.join(BASE, lock), "rb") as content:
        return hashlib.sha256(content.read() + sys.version.encode()).hexdigest()


def _stamp_path():
    return os.path.join(VENV, "pilothouse-lock")


def _read(path):
    try:
        with open(path) as content:
            return content.read()
    except OSError:
        return ""
