"""The peers beside ours, installed into `.bench/` on the first run: gateways that only forward, and guardrails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.processes import BASE, WORKERS

HOME = BASE / ".bench"
LITELLM = "litellm[proxy]==1.106.2"
PORTKEY = "@portkey-ai/gateway@1.15.2"
LLM_GUARDRAIL = "llm_guardrail@2.1.2"
MASTER_KEY = "sk-bench"


def litellm(port: int, upstreams: dict[str, int]) -> list[str] | None:
    """LiteLLM's proxy, a model for each upstream; None where it cannot be installed."""
    home = _litellm_home()
    if home is None:
        return None
    lines = ["model_list:"]
    for model, upstream in upstreams.items():
        lines += [f"  - model_name: {model}", "    litellm_params:", "      model: openai/bench"]
        lines += [f"      api_base: http://127.0.0.1:{upstream}/v1", "      api_key: sk-bench"]
    config = HOME / "litellm.yaml"
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [
        str(home / "bin" / "litellm"),
        "--config",
        str(config),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--num_workers",
        WORKERS,
    ]


def litellm_filter() -> list[str] | None:
    """LiteLLM's content filter, which reads messages and tells which it stops; None where it cannot be installed."""
    home = _litellm_home()
    return [str(home / "bin" / "python"), "-P", str(BASE / "bench" / "peer_litellm.py")] if home else None


def _litellm_home() -> Path | None:
    home = HOME / "litellm"
    if (home / "bin" / "litellm").exists() or (
        _ran([sys.executable, "-m", "venv", str(home)]) and _ran([str(home / "bin" / "pip"), "install", "-q", LITELLM])
    ):
        return home
    return None


def litellm_env() -> dict[str, str]:
    """Neither our database nor our Redis, which it would take for its own, and no look at the network for prices."""
    ours = {"DATABASE_URL", "REDIS_URL"}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return {**kept, "LITELLM_MASTER_KEY": MASTER_KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def portkey(port: int) -> list[str] | None:
    """Portkey's gateway; the upstream is named by a header. None where there is no Node."""
    script = _from_npm("portkey", PORTKEY, Path("@portkey-ai", "gateway", "build", "start-server.js"))
    return ["node", str(script), "--headless", f"--port={port}"] if script else None


def llm_guardrail() -> list[str] | None:
    """The classifier that its npm package carries; None where there is no Node."""
    script = _from_npm("llm_guardrail", LLM_GUARDRAIL, Path("llm_guardrail", "index.js"))
    return ["node", str(BASE / "bench" / "peer_llm_guardrail.mjs"), str(script)] if script else None


def _from_npm(name: str, package: str, script: Path) -> Path | None:
    home = HOME / name
    whole = home / "node_modules" / script
    if not whole.exists():
        home.mkdir(parents=True, exist_ok=True)
        if not shutil.which("npm") or not _ran(["npm", "install", "--silent", "--prefix", str(home), package]):
            return None
    return whole


def portkey_headers(upstream: int) -> dict[str, str]:
    return {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://127.0.0.1:{upstream}/v1"}


def _ran(command: list[str]) -> bool:
    HOME.mkdir(exist_ok=True)
    sys.stderr.write(f"installing a peer: {Path(command[0]).name} {' '.join(command[1:])}\n")
    return subprocess.run(command, cwd=HOME, check=False, stdout=subprocess.DEVNULL).returncode == 0
