"""LiteLLM's content filter with all that its package has against prompt injection; run by its own Python, not ours.

Reads one JSON string a line, writes `[blocked, µs of CPU, µs]` for each; first what loading took and weighs.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

CATEGORIES = ("prompt_injection_jailbreak", "prompt_injection_system_prompt", "prompt_injection_data_exfiltration")
TEMPLATE = "prompt_injection"
HOOK = "litellm.proxy.guardrails.guardrail_hooks.litellm_content_filter.content_filter"


def main() -> None:
    began, before = time.perf_counter(), _resident_mb()
    guard, blocked = _guard()
    _screened(guard, blocked, "Hello, where is my order?")
    _write({"load_s": time.perf_counter() - began, "before_mb": before, "after_mb": _resident_mb()})
    for line in sys.stdin:
        _write(_screened(guard, blocked, json.loads(line)))


def _guard() -> tuple[Any, type[Exception]]:
    content_filter = importlib.import_module(HOOK)
    logging.disable(logging.WARNING)  # it writes a line for each message that it stops
    folder = Path(str(importlib.import_module("litellm.proxy.guardrails.content_filter_data").__file__)).parent
    template = folder / "policy_templates" / f"{TEMPLATE}.yaml"
    categories = [{"category": name, "enabled": True, "action": "BLOCK"} for name in CATEGORIES]
    categories.append({"category": TEMPLATE, "enabled": True, "action": "BLOCK", "category_file": str(template)})
    guard = content_filter.ContentFilterGuardrail(guardrail_name="bench", categories=categories)
    if set(guard.loaded_categories) != {*CATEGORIES, TEMPLATE}:
        raise SystemExit(f"LiteLLM loaded {sorted(guard.loaded_categories)}.")
    blocked: type[Exception] = importlib.import_module("fastapi").HTTPException
    return guard, blocked


def _screened(guard: Any, blocked: type[Exception], text: str) -> list[float]:
    cpu, wall, stopped = time.thread_time_ns(), time.perf_counter_ns(), 0
    try:
        guard._filter_single_text(text)  # noqa: SLF001  what its hook calls for each message
    except blocked:
        stopped = 1
    return [stopped, (time.thread_time_ns() - cpu) / 1000, (time.perf_counter_ns() - wall) / 1000]


def _resident_mb() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def _write(told: object) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
