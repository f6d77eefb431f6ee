"""The report of `bin/bench guardrails`, in Markdown."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Final

from bench.guardrails_cost import Load, Timing, slopes
from bench.guardrails_peers import NOT_HERE, Peer
from bench.guardrails_rates import Share, grouped, range_of, share, table, worst_first
from bench.guardrails_rows import EXTRACTIONS, HIJACKS, PACKS, Row
from bench.guardrails_targets import LEAST, Target, blocked
from bench.guardrails_verdicts import Verdict

OURS: Final = "Pilothouse"
HEAD: Final = """# Guardrails

Measured on {day} with `bin/bench guardrails` on {cores} cores that others use, too, where it takes
{yardstick:.0f} ms of CPU time to add a million numbers one by one, Python {python}; default policy, no
judge, packs: {packs}.

{data}

*Caught*: blocked. *A rule sees*: caught, or noticed by a rule that acts only where a judge confirms it, so the most
that a judge could catch. *Held back for its language*: escalated because no pack covers it. Attacks that a tool or a
document brought are screened as such. `~de`: the data does not say; language id guessed it. Brackets and `95 %`:
Wilson's interval. The worst language comes first.
"""
WITH_DATA: Final = """{rows:,} rows of the development data, which rules were written beside: a look at what holds and
what does not, no proof of how it goes with attacks that nobody has seen."""
WITHOUT_DATA: Final = """The development data is not here (`PILOTHOUSE_GUARDRAIL_DATA`): only the packs' own probes and
hard negatives are measured, which they have to pass anyway."""
UNLABELLED: Final = (
    "Rows without a label of their own (questions in exams, roles to play, forced answers): reported, not judged."
)
SPANS: Final = """Personal data in answers (English, generated). Names, addresses, places and dates are not looked for;
a number counts as a card, an account or a telephone number only when its check digits or its numbering plan say so. Of
{n:,} redactions, {stray} touch nothing that the data marks.
"""
LEAKS: Final = """Up to 3,000 characters of each pack's sentences as a system prompt: a piece of 160 characters from
anywhere in it, between two paragraphs of talk; a canary of 128 bits, plain and in seven disguises.
"""
COST: Final = """CPU time of the thread; the clock runs on while others use the machine. Messages of every language in
the data, as they come (the length is their median) and put together to a length; probes in every disguise amid harmless
talk. *ns a character more*: from the length before.
"""
LOADING: Final = """A process that screens weighs {before:.0f} MB before and {after:.0f} MB after its first message:
{imported:.0f} MB for the modules and what they import, {lexicon:.0f} MB for the words, {rest:.0f} MB for the rest. It
takes {warm:.2f} s until the first message is screened ({warm_words:.2f} s for the words), and {cold:.2f} s where
nothing was compiled yet.
"""
PEERS: Final = """Every attack, every hard negative and at most {cap} ordinary rows of each set and language: {rows:,}
rows, the same for all, one after the other on the same machine; both others work with the network cut off. *Stopped* is
*caught* above; held back for its language counts for nobody here. CPU time of the process for Node, of the thread for
Python.
"""


def targets(found: Iterable[Target]) -> list[str]:
    note = f"A language counts with {LEAST} rows or more and a pack of its own; the tables below have all of them."
    return [
        "## Against the targets",
        "",
        *table(("what", "target", "measured", ""), (t.cells for t in found), 4),
        note,
        "",
    ]


# --- rows ----------------------------------------------------------------------------------------------------------


def attacks(verdicts: Sequence[Verdict]) -> list[str]:
    found = [verdict for verdict in verdicts if verdict.row.label == "attack"]
    groups = grouped(found, lambda verdict: (verdict.row.set, _family(verdict.row), verdict.row.language))
    head = (
        "set",
        "family",
        "language",
        "pack",
        "rows",
        "caught",
        "95 %",
        "a rule sees",
        "held back for its language",
        "passes",
    )
    lines = [
        (*key, _pack(group), len(group), caught, range_of(caught), share(group, lambda v: v.seen),
         share(group, lambda v: v.uncovered and not v.blocked), share(group, lambda v: v.passes))
        for key, group, caught in worst_first(groups, blocked)
    ]  # fmt: skip
    return ["## Attacks", "", *table(head, lines, 4)]


def harmless(verdicts: Sequence[Verdict]) -> list[str]:
    found = [verdict for verdict in verdicts if verdict.row.label == "benign"]
    hard = [verdict for verdict in found if verdict.row.hard]
    ordinary = [verdict for verdict in found if not verdict.row.hard]
    parts = (("Ordinary messages and documents", ordinary), ("Hard negatives", hard))
    return [line for title, rows in parts for line in _harmless(title, rows)]


def _harmless(title: str, verdicts: Sequence[Verdict]) -> list[str]:
    if not verdicts:
        return []
    groups = grouped(verdicts, lambda verdict: (verdict.row.set, verdict.row.language))
    head = (
        "set",
        "language",
        "pack",
        "rows",
        "held back",
        "95 %",
        "a rule sees",
        "redacted",
        "held back for its language",
    )
    lines = [
        (*key, _pack(group), len(group), held, range_of(held), share(group, lambda v: v.seen),
         share(group, lambda v: v.redacted), share(group, lambda v: v.uncovered))
        for key, group, held in worst_first(groups, lambda v: v.held, more_is_worse=True)
    ]  # fmt: skip
    return [f"## {title}", "", *table(head, lines, 3)]


def unlabelled(verdicts: Sequence[Verdict]) -> list[str]:
    groups = grouped(
        (verdict for verdict in verdicts if verdict.row.label == "mixed"), lambda v: (v.row.set, v.row.family)
    )
    if not groups:
        return []
    lines = [
        (*key, found.of, found, share(rows, lambda v: v.seen)) for key, rows, found in worst_first(groups, blocked)
    ]
    return [
        "## Without a label",
        "",
        UNLABELLED,
        "",
        *table(("set", "family", "rows", "blocked", "a rule sees"), lines, 2),
    ]


def _family(row: Row) -> str:
    return "all" if row.set == PACKS else row.family


def _pack(verdicts: Sequence[Verdict]) -> str:
    return "yes" if verdicts[0].row.has_pack else "no"


# --- answers -------------------------------------------------------------------------------------------------------


def answers(spans: dict[str, Share], strays: Share, leaks: dict[str, dict[str, Share]]) -> list[str]:
    lines = ["## Answers", ""]
    if spans:
        ranked = sorted(spans.items(), key=lambda item: (item[1].rate, -item[1].of))
        cells = ((kind, found.of, found, range_of(found)) for kind, found in ranked)
        lines += [SPANS.format(n=strays.of, stray=strays.hits), *table(("kind", "spans", "redacted", "95 %"), cells)]
    ranked_leaks = sorted(leaks.items(), key=lambda item: (item[1]["verbatim"].rate + item[1]["canary"].rate, item[0]))
    told = ((code, found["verbatim"], found["canary"]) for code, found in ranked_leaks)
    return [*lines, LEAKS, *table(("language", "pieces blocked", "canaries blocked"), told)]


# --- cost ----------------------------------------------------------------------------------------------------------


def cost(timed: Sequence[Timing], cold: Load, warm: Load) -> list[str]:
    head = (
        "texts",
        "characters",
        "CPU median µs",
        "CPU 99 % µs",
        "clock median µs",
        "clock 99 % µs",
        "ns a character more",
    )
    lines = []
    for _, group in itertools.groupby(timed, key=lambda timing: timing.texts):
        same = list(group)
        for timing, slope in zip(same, [None, *slopes(same)], strict=True):
            figures = [f"{value:,.0f}" for value in (*timing.cpu, *timing.wall)]
            lines.append((timing.texts, f"{timing.length:,}", *figures, "" if slope is None else f"{slope:,.0f}"))
    before, imported, read, after = warm.weights_mb
    loading = LOADING.format(
        before=before, after=after, imported=imported - before, lexicon=read - imported, rest=after - read,
        warm=warm.load_s, warm_words=warm.lexicon_s, cold=cold.load_s,
    )  # fmt: skip
    return ["## Cost", "", COST, *table(head, lines), loading]


# --- peers ---------------------------------------------------------------------------------------------------------


def beside(ours: Peer, others: Sequence[Peer], rows: Sequence[Row], cap: int) -> list[str]:
    if not others:
        return []
    guards = [ours, *others]
    about = "; ".join(f"{peer.name}: {peer.about}" for peer in others) + "."
    lines = ["## Beside others", "", PEERS.format(cap=cap, rows=len(rows)), about, NOT_HERE]
    lines += table(("", *(guard.name for guard in guards)), _overall(guards, rows))
    for title, label in (("Attacks stopped", "attack"), ("Harmless messages stopped", "benign")):
        lines += [f"### {title}", "", *_by_language(guards, rows, label)]
    return lines


def _overall(guards: Sequence[Peer], rows: Sequence[Row]) -> list[tuple[object, ...]]:
    kinds = {
        "attacks stopped": [row.label == "attack" for row in rows],
        "of them, hijack and override attempts": [row.label == "attack" and row.family in HIJACKS for row in rows],
        "of them, system-prompt extraction": [row.label == "attack" and row.family in EXTRACTIONS for row in rows],
        "of them, documents that only ask": [row.label == "attack" and row.stage == "passage" for row in rows],
        "ordinary messages stopped": [row.label == "benign" and not row.hard for row in rows],
        "hard negatives stopped": [row.hard for row in rows],
    }
    lines: list[tuple[object, ...]] = [
        (f"{kind} ({sum(of):,})", *(_with_range(stopped(guard, of)) for guard in guards)) for kind, of in kinds.items()
    ]
    for length in ours_and_theirs(guards):
        told = (f"{guard.cpu[length][0]:,.0f} / {guard.cpu[length][1]:,.0f}" for guard in guards)
        lines.append((f"CPU µs for {length:,} characters, median / 99 %", *told))
    lines.append(("seconds to load", *(f"{guard.load_s:.2f}" for guard in guards)))
    lines.append(("MB that it adds to a process", *(f"{guard.added_mb:.0f}" for guard in guards)))
    return lines


def ours_and_theirs(guards: Sequence[Peer]) -> list[int]:
    return sorted(set.intersection(*(set(guard.cpu) for guard in guards)))


def stopped(guard: Peer, of: Sequence[bool]) -> Share:
    hits = [hit for hit, counts in zip(guard.stopped, of, strict=True) if counts]
    return Share(sum(hits), len(hits))


def _with_range(found: Share) -> str:
    return f"{found} ({range_of(found)})"


def _by_language(guards: Sequence[Peer], rows: Sequence[Row], label: str) -> list[str]:
    places = grouped((at for at, row in enumerate(rows) if row.label == label), lambda at: rows[at].language.strip("~"))
    more_is_worse = label == "benign"
    ranked = worst_first(places, lambda at: guards[0].stopped[at], more_is_worse=more_is_worse)
    lines = []
    for language, group, _ in ranked:
        chosen = set(group)
        of = [at in chosen for at in range(len(rows))]
        pack = "yes" if rows[group[0]].has_pack else "no"
        lines.append((language, pack, len(group), *(stopped(guard, of) for guard in guards)))
    return table(("language", "pack", "rows", *(guard.name for guard in guards)), lines, 2)
