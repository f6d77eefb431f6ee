"""Other guardrails over the same rows on the same machine: what they stop, and what that costs."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench import peers
from bench.guardrails_cost import ordinary
from bench.guardrails_rows import Row
from bench.processes import BASE

LENGTHS: Final = {200: 200, 2_000: 200, 10_000: 40}  # length in characters: how many texts
# None of them may look for anything on the network.
_OFFLINE: Final = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "HF_HUB_OFFLINE": "1", "LITELLM_LOG": "ERROR"}

NOT_HERE: Final = """
Not measured, because they cannot be had without a download from a model hub or an account: LLM Guard (its injection
scanner loads a DeBERTa model from the hub when it is made), NeMo Guardrails (its jailbreak heuristics load gpt2-large;
its injection detection looks for code, SQL and scripts in answers), Prompt Guard, PIGuard and `pytector` (weights on
the hub), Rebuff (asks OpenAI and Pinecone), Lakera Guard and the clouds' (a service).
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """A guard that was measured: which rows it stopped, median and 99th percentile of µs of CPU by length."""

    name: str
    about: str
    stopped: tuple[bool, ...]
    cpu: dict[int, tuple[float, float]]
    load_s: float
    added_mb: float


def measured(rows: Sequence[Row]) -> list[Peer]:
    known = (
        (
            "LiteLLM filter",
            f"the content filter of {peers.LITELLM}, its three categories and template against injection",
            peers.litellm_filter(),
        ),
        ("llm_guardrail", f"{peers.LLM_GUARDRAIL} (npm), injection and jailbreak models", peers.llm_guardrail()),
    )
    return [_measured(name, about, command, rows) for name, about, command in known if command]


def _measured(name: str, about: str, command: list[str], rows: Sequence[Row]) -> Peer:
    sys.stderr.write(f"{name}: {len(rows):,} rows\n")
    texts = [row.text for row in rows]
    lengths = [length for length, count in LENGTHS.items() for _ in range(count)]
    texts += [text for length, count in LENGTHS.items() for text in ordinary(rows, length, count)]
    asked = "".join(json.dumps(text) + "\n" for text in texts)
    env = {**peers.litellm_env(), **_OFFLINE}
    done = subprocess.run(command, input=asked, capture_output=True, check=True, text=True, cwd=BASE, env=env)
    loaded, *told = map(json.loads, done.stdout.splitlines())
    if len(told) != len(texts):
        raise SystemExit(f"{name} answered {len(told)} of {len(texts)} messages.")
    spent: dict[int, list[float]] = {}
    for length, (_, cpu, _) in zip(lengths, told[len(rows) :], strict=True):
        spent.setdefault(length, []).append(cpu)
    return Peer(
        name=name,
        about=about,
        stopped=tuple(bool(stopped) for stopped, _, _ in told[: len(rows)]),
        cpu={length: (statistics.median(cpu), statistics.quantiles(cpu, n=100)[-1]) for length, cpu in spent.items()},
        load_s=loaded["load_s"],
        added_mb=loaded["after_mb"] - loaded["before_mb"],
    )


def wanted() -> bool:
    return os.environ.get("BENCH_PEERS", "1") == "1"
