"""Probes in every disguise, and harmless sentences: what screening does to each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from guardrails.concepts import Pack
from guardrails.coverage import STAGES
from guardrails.coverage.mutators import MUTATORS, buried
from guardrails.rules import Action
from guardrails.screen import DEFAULT_POLICY, Screening, compile_policy, inbound, passage

BURIED: Final = "buried"
DISGUISES: Final = (*MUTATORS, BURIED)


@dataclass(frozen=True, slots=True)
class Probe:
    """An attack, whether it is blocked as it stands, and in which disguises (name → blocked)."""

    text: str
    caught: bool
    disguises: Mapping[str, bool]

    @property
    def slips(self) -> tuple[str, ...]:
        return tuple(name for name, blocked in self.disguises.items() if not blocked)


@dataclass(frozen=True, slots=True)
class Negative:
    """A harmless sentence, and what is done to it by which rule."""

    text: str
    action: Action
    rule: str

    @property
    def allowed(self) -> bool:
        return self.action == "allow"


def probes(pack: Pack, family: str) -> tuple[Probe, ...]:
    disguises = _disguises(pack, family)
    return tuple(
        Probe(text, blocked(text, family), {name: blocked(put_on(text), family) for name, put_on in disguises.items()})
        for text in pack.probes.get(family, ())
    )


def negatives(pack: Pack, family: str) -> tuple[Negative, ...]:
    found = [(text, _screened(text, family)) for text in pack.hard_negatives.get(family, ())]
    return tuple(Negative(text, seen.action, seen.findings[0].rule if seen.findings else "") for text, seen in found)


def _disguises(pack: Pack, family: str) -> Mapping[str, Callable[[str], str]]:
    """The harmless text that probes are buried in is the language's own."""
    around = next(iter(pack.hard_negatives.get(family, ())), "")
    return {**MUTATORS, BURIED: partial(buried, harmless=f"{around} ")}


def blocked(text: str, family: str) -> bool:
    return _screened(text, family).action == "block"


def _screened(text: str, family: str) -> Screening:
    policy = compile_policy(DEFAULT_POLICY)
    return inbound(text, policy) if STAGES[family] == "inbound" else passage(text, policy)
