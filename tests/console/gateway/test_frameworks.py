"""A well-known agent framework on our base URL, unchanged, in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.console.gateway.conftest import BASE, Gateway
from tests.upstream import Calls, Says, Upstream

LOCK = BASE / "tests" / "clients" / "openai-agents.lock"
HOME = BASE / ".clients" / "openai-agents"


@dataclass
class Framework:
    """Reading it takes seconds, so one process runs all agents, one after the other."""

    process: subprocess.Popen[str]

    def run(self, **ask: object) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(ask) + "\n")
        self.process.stdin.flush()
        return dict(json.loads(self.process.stdout.readline()))


@pytest.fixture(scope="module")
def framework(python: str) -> Iterator[Framework]:
    command = [python, str(BASE / "tests" / "clients" / "openai_agents.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HOME) as process:
        yield Framework(process)


@pytest.fixture(scope="module")
def python() -> str:
    """Made once, filled from its lock; without a package registry in reach the tests are skipped, on CI they fail."""
    found, stamp = HOME / "bin" / "python", HOME / "filled-from"
    if not stamp.exists() or stamp.read_bytes() != LOCK.read_bytes():
        venv.create(HOME, clear=True, with_pip=False)
        uv = Path(sys.executable).with_name("uv")
        command = [str(uv), "pip", "install", "-q", "--python", str(found), "--require-hashes", "-r", str(LOCK)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode and os.environ.get("CI") != "true":
            pytest.skip("The framework cannot be installed: no package registry in reach.")
        assert done.returncode == 0, done.stderr
        stamp.write_bytes(LOCK.read_bytes())
    return str(found)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["small", "claude"])
@pytest.mark.parametrize("kind", ["chat", "responses"])
def test_an_agent_of_the_framework_uses_its_tool_and_answers(
    gateway: Gateway, upstream: Upstream, framework: Framework, kind: str, model: str, stream: bool
) -> None:
    upstream.script(model, Calls("weather", {"city": "Łódź"}), Says("It rains in Łódź."))
    told = framework.run(base_url=f"{gateway.url}/v1", key=gateway.secret, kind=kind, model=model, stream=stream)
    assert told["asked_for"] == ["Łódź"]
    assert told["said"] == "It rains in Łódź."
    assert told.get("pieces", told["said"]) == told["said"]
    assert len(upstream.asked) == 2
    assert "8 degrees, rain" in json.dumps(upstream.asked[1].body)
