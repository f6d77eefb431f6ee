"""What one process takes to load the guardrails, printed as JSON; run by its path, in a copy of them."""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path


def main() -> None:
    weights, began = [_resident_mb()], time.perf_counter()
    from guardrails import screen  # noqa: PLC0415  importing is a part of what is measured
    from guardrails.lexicon import lexicon  # noqa: PLC0415

    weights.append(_resident_mb())
    reading = time.perf_counter()
    lexicon()
    read = time.perf_counter() - reading
    gc.collect()
    weights.append(_resident_mb())
    first = time.perf_counter()
    screen.inbound("Hello, where is my order?", screen.compile_policy(screen.DEFAULT_POLICY))
    done = time.perf_counter()
    gc.collect()
    weights.append(_resident_mb())
    told = {"import_s": reading - began, "lexicon_s": read, "first_s": done - first, "load_s": done - began}
    sys.stdout.write(json.dumps({**told, "weights_mb": weights}))


def _resident_mb() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


if __name__ == "__main__":
    main()
