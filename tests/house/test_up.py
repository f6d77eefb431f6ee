"""`bin/up` from start to stop, and what it says when it cannot start."""

import os
import signal
import socket

from tests.house.conftest import STOP_S, free_port, left_of, wait_for


def test_comes_up_and_shows_its_secrets(running):
    assert running.get("/healthz") == 200
    assert running.get("/readyz") == 200
    assert running.out.count("(shown once)") == 2
    assert f"http://127.0.0.1:{running.port}" in running.out


def test_starts_a_worker_again_that_was_killed(running):
    before = running.pid("worker")
    os.kill(before, signal.SIGKILL)
    assert wait_for(lambda: "worker ended with -9; starting it again" in running.out, 5)
    assert wait_for(lambda: running.pid("worker") != before, 5)
    assert running.get("/healthz") == 200


def test_refuses_a_second_start_on_the_same_folder(running, up):
    second = up(data=running.data)
    assert second.process.wait(30) != 0
    assert second.out.count("\n") == 1
    assert f"already (process {running.process.pid} http://127.0.0.1:{running.port})" in second.out
    assert running.get("/healthz") == 200
    assert running.process.poll() is None


def test_two_run_side_by_side_and_one_survives_kill_9(running, up):
    first_life = up("--no-demo").wait_until_ready()
    assert first_life.get("/healthz") == running.get("/healthz") == 200
    assert "Administrator" in first_life.out
    os.kill(first_life.process.pid, signal.SIGKILL)
    first_life.process.wait()

    second_life = up("--no-demo", port=first_life.port).wait_until_ready()
    assert "Administrator" not in second_life.out, "the same data, not new data"
    assert sum("granian" in command for command in left_of(second_life.data)) <= 4, "one web server with its workers"

    assert second_life.stop() == 0
    assert wait_for(lambda: left_of(second_life.data) == [], 1), left_of(second_life.data)
    assert running.get("/healthz") == 200


def test_ctrl_c_while_it_starts_leaves_nothing(up):
    instance = up("--no-demo")
    assert wait_for((instance.data / "run" / "postgres.pid").exists, 30)
    assert instance.stop(signal.SIGINT) == 0
    assert wait_for(lambda: left_of(instance.data) == [], STOP_S)


def test_says_that_the_port_is_taken(up):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"Port {port} cannot be used" in up(port=port).fails()


def test_says_that_the_folder_cannot_be_written(up, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "cannot be used" in up(data=tmp_path / "file").fails()


def test_says_that_the_database_cannot_be_reached(up):
    url = f"postgresql://somebody:s3cret@127.0.0.1:{free_port()}/none"
    line = up(env={"DATABASE_URL": url}).fails()
    assert "DATABASE_URL cannot be reached" in line
    assert "s3cret" not in line


def test_says_that_redis_cannot_be_reached(up):
    assert "REDIS_URL cannot be reached" in up(env={"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}).fails()
