"""What screening costs: time by length, in CPU time of the thread and on the clock; memory; loading."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.guardrails_rates import grouped
from bench.guardrails_rows import Row, of_packs
from bench.processes import BASE
from guardrails.coverage.mutators import MUTATORS
from guardrails.screen import DEFAULT_POLICY, compile_policy, inbound

TEXTS: Final = {200: 600, 500: 600, 2_000: 600, 10_000: 150, 50_000: 60}  # length in characters: how many of them
AS_THEY_COME, ORDINARY, DISGUISED = "messages as they come", "ordinary messages", "attacks in disguise"
_SAMPLE: Final = 3_000
_USUAL: Final = 2_000  # characters of a message, at most
_LOADER: Final = BASE / "bench" / "guardrails_load.py"


@dataclass(frozen=True, slots=True)
class Timing:
    """Microseconds at a length: median and 99th percentile of CPU time, and of the clock."""

    texts: str
    length: int
    cpu: tuple[float, float]
    wall: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Load:
    """Seconds until the first message was screened, and megabytes: before, imported, with its words, all of it."""

    load_s: float
    lexicon_s: float
    weights_mb: tuple[float, ...]

    @property
    def added_mb(self) -> float:
        return self.weights_mb[-1] - self.weights_mb[0]

    @property
    def lexicon_mb(self) -> float:
        return self.weights_mb[2] - self.weights_mb[1]


def timings(rows: Sequence[Row]) -> list[Timing]:
    """`rows`: where ordinary messages come from."""
    policy = compile_policy(DEFAULT_POLICY)
    made: tuple[tuple[str, Callable[[int, int], Iterator[str]]], ...] = (
        (ORDINARY, lambda length, count: ordinary(rows, length, count)),
        (DISGUISED, disguised),
    )
    told = [_as_they_come(rows)]
    for name, texts in made:
        for length, count in TEXTS.items():
            spent = [_spent(text, lambda text: inbound(text, policy)) for text in texts(length, count)]
            told.append(timing(name, length, spent))
    return told


def _as_they_come(rows: Sequence[Row]) -> Timing:
    policy = compile_policy(DEFAULT_POLICY)
    texts = [row.text for row in rows if row.stage == "inbound" and len(row.text) <= _USUAL]
    chosen = random.Random(len(texts)).sample(texts, min(len(texts), _SAMPLE))  # noqa: S311  the same every time
    spent = [_spent(text, lambda text: inbound(text, policy)) for text in chosen]
    return timing(AS_THEY_COME, round(statistics.median(map(len, chosen))), spent)


def yardstick() -> float:
    """Milliseconds of CPU time that the machine takes to add a million numbers: some take thrice as long as others."""
    spent = [_spent("", lambda _: sum(number for number in range(1_000_000))) for _ in range(9)]
    return statistics.median(cpu for cpu, _ in spent) / 1000


def _spent(text: str, screen: Callable[[str], object]) -> tuple[float, float]:
    cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
    screen(text)
    return (time.thread_time_ns() - cpu) / 1000, (time.perf_counter_ns() - wall) / 1000


def timing(texts: str, length: int, spent: Iterable[tuple[float, float]]) -> Timing:
    cpu, wall = zip(*spent, strict=True)
    return Timing(texts, length, _middle_and_most(cpu), _middle_and_most(wall))


def _middle_and_most(values: Sequence[float]) -> tuple[float, float]:
    return statistics.median(values), statistics.quantiles(values, n=100)[-1]


def slopes(timed: Sequence[Timing]) -> list[float]:
    """Nanoseconds of CPU for each character more, from one length to the next."""
    return [
        1000 * (longer.cpu[0] - shorter.cpu[0]) / (longer.length - shorter.length)
        for shorter, longer in itertools.pairwise(timed)
    ]


# --- texts of a length ---------------------------------------------------------------------------------------------


def ordinary(rows: Sequence[Row], length: int, count: int) -> Iterator[str]:
    """Harmless messages of one language after another, each made of whole messages, the last one cut."""
    chance = random.Random(length)  # noqa: S311  the same every time
    spoken = grouped(
        (row for row in rows if row.label == "benign" and row.stage == "inbound"), lambda row: row.language
    )
    for _, texts in zip(range(count), itertools.cycle(spoken.values()), strict=False):
        yield _talk([row.text for row in texts], length, chance)


def disguised(length: int, count: int) -> Iterator[str]:
    """Probes of every pack, disguised, in the middle of harmless talk of their language."""
    chance = random.Random(length)  # noqa: S311  the same every time
    spoken = grouped(of_packs(), lambda row: row.language)
    ways = itertools.cycle(MUTATORS.values())
    for _, texts, way in zip(range(count), itertools.cycle(spoken.values()), ways, strict=False):
        attack = way(chance.choice([row.text for row in texts if row.label == "attack"]))
        around = _talk([row.text for row in texts if row.label == "benign"], max(0, length - len(attack) - 2), chance)
        cut = len(around) // 2
        yield f"{around[:cut]}\n{attack}\n{around[cut:]}"


def _talk(texts: Sequence[str], length: int, chance: random.Random) -> str:
    said, size = [], 0
    while size <= length:
        said.append(chance.choice(texts))
        size += len(said[-1]) + 1
    return "\n".join(said)[:length]


# --- loading -------------------------------------------------------------------------------------------------------


def loads() -> tuple[Load, Load]:
    """In a process of its own: the first time, when nothing is compiled, and then with the compiled file."""
    with tempfile.TemporaryDirectory() as folder:
        ignore = shutil.ignore_patterns("__pycache__", "unproved")
        shutil.copytree(BASE / "guardrails", Path(folder) / "guardrails", ignore=ignore)
        return _load(folder), min((_load(folder) for _ in range(3)), key=lambda load: load.load_s)


def _load(folder: str) -> Load:
    env = {**os.environ, "PYTHONPATH": folder}
    done = subprocess.run([sys.executable, "-P", str(_LOADER)], check=True, capture_output=True, cwd=folder, env=env)
    told = json.loads(done.stdout)
    return Load(told["load_s"], told["lexicon_s"], tuple(told["weights_mb"]))
