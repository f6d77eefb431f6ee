"""What every test shares: no network but this machine's, and no memory of the run before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from pytest_socket import enable_socket, socket_allow_hosts

from agents.connections import redis_sync
from budgets import ledger
from tests.upstream import Upstream

LOOPBACK = ["127.0.0.1", "::1", "localhost"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without Chromium, browser tests are skipped with the reason; on CI that is a failure."""
    if shutil.which("chromium") or os.environ.get("CI") == "true":
        return
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.skip(reason="Chromium is missing: apt-get install chromium"))


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup() -> None:
    """Unix sockets (PostgreSQL, Redis) stay open; of the network, only this machine can be reached."""
    enable_socket()
    socket_allow_hosts(LOOPBACK, allow_unix_socket=True)


@pytest.fixture(scope="session", autouse=True)
def counted() -> None:
    """As the first process of a new installation does: there is nothing to count, so money can be reserved."""
    ledger.rebuild(redis_sync(), {})


@pytest.fixture(scope="session")
def provider() -> Iterator[Upstream]:
    """The one provider of models that all tests share; who scripts it tells it to forget first."""
    server = Upstream().start()
    yield server
    server.stop()
