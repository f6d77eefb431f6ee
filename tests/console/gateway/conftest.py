"""The gateway as it runs in production: a real server process, a real provider, the official client.

The server sees only what is committed. So each module commits a world of its own, starts a server on it and leaves an
empty database behind; its tests share that world and tell their rows apart by case reference or call id.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from django.db import connection
from psycopg.conninfo import make_conninfo
from pytest_django import DjangoDbBlocker

from agents import calls, releases, snapshot
from agents.models import Agent, Call, Release, Scope
from console.models import ApiKey
from guardrails import screen
from tests import world
from tests.committed import committed
from tests.upstream import Upstream

BASE = Path(__file__).resolve().parents[3]
PROVIDER_SECRET = "sk-upstream-7d1f0c9e"
STARTS_WITHIN_S = 30
FOLLOWS_WITHIN_S = 10


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error in OpenAI's one shape."""
        body = json.loads(self.content)
        assert set(body) == {"error"}
        assert set(body["error"]) == {"message", "type", "param", "code"}
        assert body["error"]["message"]
        return dict(body["error"])


class Gateway:
    """The running server, the world it serves, and what it wrote down."""

    def __init__(self, url: str, upstream: Upstream, log: Path) -> None:
        self.url = url
        self.upstream = upstream
        self.log = log
        self.agent: Agent
        self.scope: Scope
        self.release: Release
        self.secret: str

    def build(self) -> None:
        self.agent = world.make_agent()
        self.release = world.publish(self.agent, models=world.served_by(self.upstream.url))
        self.scope = world.make_scope(self.agent, release=self.release)
        self.secret = self.issue()

    def issue(self, lifetime: timedelta | None = None, **fields: Any) -> str:
        """A new key of the agent for this door."""
        given = {"name": "Test", "actor": "user:ada", "scopes": ["gateway"], "agent": self.agent, **fields}
        return ApiKey.issue(**given, lifetime=lifetime)[1]

    def channel(self, guardrails: Mapping[str, Any] = screen.DEFAULT_POLICY, **config: Any) -> str:
        """A further channel with a release of its own; the server has followed when this returns."""
        models = world.served_by(self.upstream.url, **config)
        release = world.publish(self.agent, models=models, guardrails=guardrails)
        scope = world.make_scope(self.agent, f"c{uuid.uuid4().hex[:8]}", release=release)
        self.follow()
        return scope.name

    def follow(self) -> None:
        """Return when the server serves what is configured now."""
        epoch = snapshot.bump()
        until = time.monotonic() + FOLLOWS_WITHIN_S
        while not releases.acknowledgements(epoch).done:
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.02)

    def client(self, secret: str = "", **headers: str) -> openai.OpenAI:
        """The official client, changed in nothing but its base URL; `x_pilothouse_case="4711"` sets that header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=secret or self.secret, max_retries=0, default_headers=named, timeout=20
        )

    def send(
        self, content: bytes = b"", path: str = "/v1/chat/completions", method: str = "POST", **headers: str
    ) -> Raw:
        """Raw bytes, for what the official client would never send, and to see all that comes back."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"authorization": f"Bearer {self.secret}", "content-type": "application/json", **named}
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=20)
        try:
            connection.request(method, path, content, sent)
            answer = connection.getresponse()
            return Raw(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def rows(self, **wanted: Any) -> list[Call]:
        """The call log, as the drain writes it, in order of attempts."""
        calls.drain(lambda: calls.lag() == 0, "tests")
        return list(Call.objects.filter(**wanted).order_by("at", "attempt"))

    def wait_for_rows(self, n: int, **wanted: Any) -> list[Call]:
        """The same, for what the server does after the client has gone; a moment longer, so that a double shows."""
        until = time.monotonic() + 10
        while len(self.rows(**wanted)) < n and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.3)
        return self.rows(**wanted)


@pytest.fixture(scope="module")
def db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """In place of the usual one: what is written stays written, until the module is over."""
    with committed(django_db_blocker):
        yield


@pytest.fixture(scope="module")
def house(db: None, provider: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The server that a module's tests share."""
    data = tmp_path_factory.mktemp("gateway")
    port = _free_port()
    gateway = Gateway(f"http://127.0.0.1:{port}", provider, data / "web.log")
    gateway.build()
    with gateway.log.open("wb") as log:
        process = subprocess.Popen(_command(port), cwd=BASE, env=_environment(data), stdout=log, stderr=log)
    try:
        _wait(lambda: _is_up(gateway.url), process, gateway.log)
        gateway.follow()
        yield gateway
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def gateway(house: Gateway) -> Gateway:
    house.upstream.forget()
    world.close_circuits()
    return house


@pytest.fixture
def upstream(gateway: Gateway) -> Upstream:
    return gateway.upstream


@pytest.fixture
def case() -> str:
    """A case reference that no other test uses."""
    return f"case-{uuid.uuid4().hex[:12]}"


STORY = "".join(f"Sentence number {n} of a long and harmless story about parcels. " for n in range(30))
MAIL = "Write to anna.kowalska@example.com for that. "
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
MODELS = ["small", "claude"]  # one of each dialect, at the same price


def claude(gateway: Gateway, secret: str = "", **headers: str) -> anthropic.Anthropic:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return anthropic.Anthropic(
        base_url=gateway.url, api_key=secret or gateway.secret, max_retries=0, default_headers=named, timeout=20
    )


def say(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def _command(port: int) -> list[str]:
    options = ["--interface", "asgi", "--no-ws", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    return [str(Path(sys.executable).with_name("granian")), *options, "console.asgi:application"]


def _environment(data: Path) -> dict[str, str]:
    given = connection.settings_dict
    named = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "console.settings",
        "DATABASE_URL": make_conninfo(**{ours: str(given[theirs]) for ours, theirs in named.items() if given[theirs]}),
        "PILOTHOUSE_DATA": str(data),
        "PILOTHOUSE_PROVIDER_ALLOWED_HOSTS": "127.0.0.1",
        "UPSTREAM_API_KEY": PROVIDER_SECRET,
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _wait(done: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + STARTS_WITHIN_S
    while not done():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.05)
