"""PostgreSQL and Redis in odd places, for other people, and for one command."""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest
import redis

from console import embedded
from tests.house.conftest import BASE, NOT_INHERITED, left_of

CLEAN = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}


def run(*arguments, **options):
    command = [sys.executable, "-m", "console.embedded", "run", *map(str, arguments)]
    return subprocess.run(
        command, cwd=BASE, env=CLEAN, capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_keeps_its_data_in_a_folder_too_deep_for_a_socket(tmp_path):
    deep = tmp_path / "a folder with spaces" / ("d" * 120)
    for times in (1, 2):
        data = embedded.open_folder(deep)
        with embedded.lock(data), embedded.start(data) as services:
            with redis.Redis.from_url(services.urls.redis) as client:
                assert client.incr("starts") == times
                assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
                assert client.config_get("appendonly") == {"appendonly": "yes"}
            with psycopg.connect(services.urls.database) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS starts ()")
                connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        assert left_of(deep) == []
    assert services.urls == embedded.urls(deep)
    shutil.rmtree(embedded.run_folder(deep))


def test_gives_the_command_its_exit_code_and_leaves_nothing():
    done = run("--", "sh", "-c", 'echo "$PILOTHOUSE_DATA"; exit 7')
    data = Path(done.stdout.strip())
    assert done.returncode == 7, done.stderr
    assert not data.exists()
    assert left_of(data) == []


def test_says_why_postgres_cannot_make_its_files(tmp_path):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = run("--data", tmp_path / "data", "--", "true", preexec_fn=small_files)
    assert done.returncode != 0
    assert "File too large" in done.stderr.splitlines()[-1]


def test_says_when_there_is_no_such_command():
    done = run("--", "there-is-no-such-command")
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_works_for_a_normal_user():
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    python = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"  # ours may lie in root's home
    packages = Path(psycopg.__file__).parents[1]
    try:
        subprocess.run(
            [python, "-c", f"import os; os.listdir({str(packages)!r})"], check=True, capture_output=True, **nobody
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"a normal user reaches neither {python} nor {packages}")
    with tempfile.TemporaryDirectory(prefix="pilothouse-") as folder:
        os.chown(folder, 65534, 65534)
        command = [python, "-m", "console.embedded", "run", "--data", f"{folder}/data", "--", "true"]
        env = CLEAN | {"PYTHONPATH": str(packages)}
        done = subprocess.run(
            command, cwd=BASE, env=env, capture_output=True, text=True, timeout=60, check=False, **nobody
        )
        assert done.returncode == 0, done.stderr


def test_importing_it_loads_neither_the_settings_nor_a_driver():
    code = "import sys, console.embedded; sys.exit('console.settings' in sys.modules or 'psycopg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=BASE, env=CLEAN, check=False).returncode == 0
