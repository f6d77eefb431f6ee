"""A well-known agent framework on our base URL, unchanged, in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from tests.console.gateway.conftest import BASE, Gateway
from tests.upstream import Calls, Says, Upstream

LOCK = BASE / "tests" / "clients" / "openai-agents.lock"
HOME = BASE / ".clients" / "openai-agents"


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
    gateway: Gateway, upstream: Upstream, python: str, kind: str, model: str, stream: bool
) -> None:
    upstream.script(model, Calls("weather", {"city": "Łódź"}), Says("It rains in Łódź."))
    told = run(python, gateway, kind, model, stream)
    assert told["asked_for"] == ["Łódź"]
    assert told["said"] == "It rains in Łódź."
    assert told.get("pieces", told["said"]) == told["said"]
    assert len(upstream.asked) == 2
    assert "8 degrees, rain" in json.dumps(upstream.asked[1].body)


def run(python: str, gateway: Gateway, kind: str, model: str, stream: bool) -> dict[str, Any]:
    script = str(BASE / "tests" / "clients" / "openai_agents.py")
    command = [python, script, f"{gateway.url}/v1", gateway.secret, kind, model, "1" if stream else "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=HOME)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))
