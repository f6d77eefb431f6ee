"""The guardrails on attacks and harmless messages in many languages, their cost, and others: `bin/bench guardrails`.

Reads the development data where it lies (PILOTHOUSE_GUARDRAIL_DATA), else the packs' own sentences alone.
BENCH_PEERS=0 leaves the others out.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from bench import chart, guardrails_cost, guardrails_peers, guardrails_report, guardrails_rows, guardrails_targets
from bench.guardrails_peers import Peer
from bench.guardrails_rates import Share, grouped, worst_first
from bench.guardrails_rows import HIJACKS, INVENTIVE, PACKS, TYPICAL, Row
from bench.guardrails_targets import Target
from bench.guardrails_verdicts import Verdict, inside, judged, leaks, personal_data
from bench.processes import BASE
from guardrails.lexicon import languages

FOLDER: Final = BASE / "docs" / "benchmarks"
CAP: Final = 100  # ordinary rows of a set and language that the others get, too
OURS: Final = guardrails_report.OURS


def main() -> None:
    rows = guardrails_rows.development()
    own = guardrails_rows.of_packs()
    verdicts = judged([*rows, *own])
    measured = [verdict for verdict in verdicts if verdict.row.set != PACKS] or verdicts
    timed = guardrails_cost.timings(rows or own)
    cold, warm = guardrails_cost.loads()
    leaked = leaks()
    hijacks = judged(inside([v.row for v in measured if _is_hijack(v) and v.row.has_pack], _documents(rows)))
    found = [
        *guardrails_targets.of_rows(measured, hijacks),
        *_unseen(TYPICAL, "typical, nothing was learned from it"),
        *_unseen(INVENTIVE, "inventive, nothing was learned from it"),
        guardrails_targets.of_leaks(leaked.values()),
        *guardrails_targets.of_cost(timed, warm),
    ]
    sample = _sample(measured)
    others = guardrails_peers.measured([v.row for v in sample]) if guardrails_peers.wanted() else []
    ours = Peer(OURS, "", tuple(v.blocked for v in sample), _cpu(timed), warm.load_s, warm.added_mb)
    lines = [
        _head(len(rows)), *guardrails_report.targets(found), *_charts(measured, [ours, *others], sample),
        *guardrails_report.attacks(verdicts), *guardrails_report.harmless(verdicts),
        *guardrails_report.unlabelled(verdicts),
        *guardrails_report.answers(*personal_data(row for row in rows if row.stage == "outbound"), leaked),
        *guardrails_report.cost(timed, cold, warm),
        *guardrails_report.beside(ours, others, [v.row for v in sample], CAP),
    ]  # fmt: skip
    text = "\n".join(lines)
    (FOLDER / "guardrails.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def _unseen(sets: Sequence[str], of: str) -> list[Target]:
    return guardrails_targets.of_unseen(judged(guardrails_rows.own_sentences(*sets)), of)


def _is_hijack(verdict: Verdict) -> bool:
    return verdict.row.label == "attack" and verdict.row.family in HIJACKS


def _documents(rows: Sequence[Row]) -> list[Row]:
    """Harmless documents for attacks to hide in."""
    found = [row for row in rows if row.family == "email_document"]
    return found or [row for row in guardrails_rows.of_packs() if row.label == "benign"]


def _sample(verdicts: Sequence[Verdict]) -> list[Verdict]:
    kept = [verdict for verdict in verdicts if verdict.row.label == "attack" or verdict.row.hard]
    ordinary = (verdict for verdict in verdicts if verdict.row.label == "benign" and not verdict.row.hard)
    for rows in grouped(ordinary, lambda v: (v.row.set, v.row.language)).values():
        kept += rows[:: -(-len(rows) // CAP)]
    return kept


def _cpu(timed: Sequence[guardrails_cost.Timing]) -> dict[int, tuple[float, float]]:
    return {timing.length: timing.cpu for timing in timed if timing.texts == guardrails_cost.ORDINARY}


def _head(rows: int) -> str:
    data = guardrails_report.WITH_DATA.format(rows=rows) if rows else guardrails_report.WITHOUT_DATA
    return guardrails_report.HEAD.format(
        day=datetime.now(UTC).date(), cores=os.cpu_count(), python=platform.python_version(),
        yardstick=guardrails_cost.yardstick(),
        packs=" ".join(languages()), data=data,
    )  # fmt: skip


# --- charts --------------------------------------------------------------------------------------------------------


def _charts(verdicts: Sequence[Verdict], guards: Sequence[Peer], sample: Sequence[Verdict]) -> list[str]:
    hijack, ordinary = [_is_hijack(v) for v in sample], [v.row.label == "benign" and not v.row.hard for v in sample]
    hard = [v.row.hard for v in sample]
    charts = {
        "guardrails.svg": (_languages(verdicts), "Hijack attempts caught, by language, in %"),
        "guardrails-caught.svg": (_stopped(guards, hijack, 100), "Hijack attempts caught, all languages, in %"),
        "guardrails-ordinary.svg": (_stopped(guards, ordinary, 10_000), "Stopped of 10,000 ordinary messages"),
        "guardrails-hard.svg": (_stopped(guards, hard, 10_000), "Stopped of 10,000 hard negatives"),
    }
    lines = []
    for name, (values, title) in charts.items():
        if any(values.values()):
            (FOLDER / name).write_text(chart.bars(values, title, OURS), encoding="utf-8")
            lines += [f"![{title}]({name})", ""]
    return lines


def _languages(verdicts: Sequence[Verdict]) -> dict[str, float]:
    known = languages()
    rows = [v for v in verdicts if _is_hijack(v) and v.row.has_pack]
    groups = grouped(rows, lambda v: v.row.language.removeprefix("~"))
    large = {code: group for code, group in groups.items() if len(group) >= guardrails_targets.LEAST}
    return {known[code].name: 100 * found.rate for code, _, found in worst_first(large, guardrails_targets.blocked)}


def _stopped(guards: Sequence[Peer], of: Sequence[bool], scale: int) -> dict[str, float]:
    shares: dict[str, Share] = {guard.name: guardrails_report.stopped(guard, of) for guard in guards}
    return {name: scale * found.rate for name, found in shares.items()}


if __name__ == "__main__":
    main()
