"""What the guardrails, with the default policy, say to each row."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from bench.guardrails_rates import Share
from bench.guardrails_rows import Row
from guardrails.concepts import Pack, packs
from guardrails.coverage import mutators
from guardrails.screen import DEFAULT_POLICY, Screening, compile_policy, inbound, outbound, passage

_WITH_JUDGE: Final = {**DEFAULT_POLICY, "judge": {"stages": ["inbound", "passage"], "on_failure": "escalate"}}
_EXCERPT, _LEAKS = 160, 20
_CANARY: Final = "b1946ac92492d2347c6235b4d2611184"
_CANARY_DISGUISES: Final = ("upper", "zero-width", "full-width", "spaced", "dotted", "base64", "backwards")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`seen`: blocked, or noticed by a rule that only a judge could make act. `uncovered`: held back for its language.

    `held`: blocked, or escalated for another reason than its language.
    """

    row: Row
    blocked: bool
    seen: bool
    uncovered: bool
    held: bool
    redacted: bool

    @property
    def passes(self) -> bool:
        """Reaches the model as if nothing were the matter."""
        return not self.held and not self.uncovered


def judged(rows: Iterable[Row]) -> list[Verdict]:
    """Verdicts on what comes in; answers are another matter, see `personal_data`."""
    return [_verdict(row, _screened(row, DEFAULT_POLICY)) for row in rows if row.stage != "outbound"]


def _screened(row: Row, content: Mapping[str, Any]) -> Screening:
    policy = compile_policy(content)
    return inbound(row.text, policy) if row.stage == "inbound" else passage(row.text, policy)


def _verdict(row: Row, screening: Screening) -> Verdict:
    by_rule = {finding.rule: finding.action for finding in screening.findings}
    uncovered = by_rule.pop("uncovered-language", None) is not None
    blocked = "block" in by_rule.values()
    return Verdict(
        row=row,
        blocked=blocked,
        seen=blocked or _screened(row, _WITH_JUDGE).grey,
        uncovered=uncovered,
        held=blocked or "escalate" in by_rule.values(),
        redacted="redact" in by_rule.values(),
    )


def inside(attacks: Sequence[Row], documents: Sequence[Row]) -> list[Row]:
    """Each attack as a paragraph in the middle of a document that a tool brought."""
    made = []
    for at, attack in enumerate(attacks):
        document = documents[at % len(documents)].text
        cut = document.find("\n", len(document) // 2)
        cut = cut if cut >= 0 else len(document)
        made.append(replace(attack, stage="passage", text=f"{document[:cut]}\n{attack.text}\n{document[cut:]}"))
    return made


# --- answers -------------------------------------------------------------------------------------------------------


def personal_data(rows: Iterable[Row]) -> tuple[dict[str, Share], Share]:
    """By kind, how many of the spans an answer's screening covers with a redaction; its redactions that touch none."""
    found: dict[str, list[bool]] = {}
    strays: list[bool] = []
    for row in rows:
        places = _redactions(row.text)
        for kind, start, end in row.spans:
            found.setdefault(kind, []).append(any(low < end and start < high for low, high in places))
        strays += [not any(low < end and start < high for _, start, end in row.spans) for low, high in places]
    return {kind: Share(sum(hits), len(hits)) for kind, hits in found.items()}, Share(sum(strays), len(strays))


def _redactions(text: str) -> list[tuple[int, int]]:
    findings = outbound(text, compile_policy(DEFAULT_POLICY)).findings
    return [(finding.start, finding.end) for finding in findings if finding.action == "redact"]


def leaks() -> dict[str, dict[str, Share]]:
    """By language: verbatim pieces of a system prompt in an answer, and the canary in disguise, that are blocked."""
    return {pack.code: _leaks(pack) for pack in packs().values()}


def _leaks(pack: Pack) -> dict[str, Share]:
    texts = [text for texts in pack.hard_negatives.values() for text in texts]
    prompt, talk = " ".join(texts[::2])[:3_000], " ".join(texts[1::2])[:400]
    excerpts = [f"{talk}\n{excerpt}\n{talk}" for excerpt in _excerpts(prompt)]
    canaries = [f"{talk} {mutators.MUTATORS[name](_CANARY)} {talk}" for name in _CANARY_DISGUISES]
    policy = compile_policy(DEFAULT_POLICY)
    verbatim = [outbound(text, policy, system_prompt=prompt).action == "block" for text in excerpts]
    canary = [outbound(text, policy, canary=_CANARY).action == "block" for text in [_CANARY, *canaries]]
    return {"verbatim": Share(sum(verbatim), len(verbatim)), "canary": Share(sum(canary), len(canary))}


def _excerpts(prompt: str) -> Iterator[str]:
    chance = random.Random(prompt)  # noqa: S311  the same every time
    for _ in range(_LEAKS):
        start = chance.randrange(max(1, len(prompt) - _EXCERPT))
        yield prompt[start : start + _EXCERPT]
