"""The rows that guardrails are measured on: the development data where it lies, and the packs' own sentences."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.processes import BASE
from guardrails.concepts import packs
from guardrails.coverage import STAGES
from guardrails.languages import detect
from guardrails.lexicon import languages

DATA: Final = Path(
    os.environ.get("PILOTHOUSE_GUARDRAIL_DATA") or BASE.parent / "shared" / "data" / "guardrails" / "dev.jsonl.gz"
)
# Of `bench/sentences`: what packs were widened for and weights learned from; and what only ever measures, texts as most
# people write them and others that are as new as can be.
LEARNED: Final = (*"abcdeghijkmnopqrtuwxz", "aa", "ac", "ad", "ae")
TYPICAL: Final = ("ab", "af")
INVENTIVE: Final = ("f", "l", "s", "v", "y")
KEPT: Final = (*INVENTIVE, *TYPICAL)
SENTENCES: Final = BASE / "bench" / "sentences"
PACKS: Final = "packs"  # the set of the packs' own sentences
HIJACKS: Final = frozenset({"goal_hijack", "override_or_leak", "Hijacking attacks", "instruction_override"})
EXTRACTIONS: Final = frozenset({"sysprompt_leak", "prompt_extraction"})
_HARD: Final = frozenset({"notinject", "wildguard_benign", "mitre_frr", "xsafety", PACKS})
_HARMLESS: Final = ("ordinary", "hard", "tool_harmless")  # of our own sentences
_STAGES: Final = {"input": "inbound", "tool": "passage", "output": "outbound"}


@dataclass(frozen=True, slots=True)
class Row:
    """One text. `language` is `~de` when language id guessed it; `spans` have kind, start, end."""

    set: str
    label: str
    family: str
    stage: str
    language: str
    text: str
    spans: tuple[tuple[str, int, int], ...] = ()

    @property
    def hard(self) -> bool:
        """Harmless, but about security or prompts, or in words that attacks use."""
        return self.label == "benign" and (self.set in _HARD or self.family in ("hard", "tool_harmless"))

    @property
    def has_pack(self) -> bool:
        return self.language.removeprefix("~") in languages()


def development(path: Path = DATA) -> list[Row]:
    """The development data's rows; none where it does not lie."""
    if not path.exists():
        return []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [row_of(json.loads(line)) for line in lines]


def own_sentences(*sets: str) -> list[Row]:
    """Those of `bench/sentences`, by set."""
    files = [(name, path) for name in sets for path in sorted((SENTENCES / name).glob("*.jsonl"))]
    return [_own(f"own-{name}", path.stem, json.loads(line)) for name, path in files for line in _lines(path)]


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _own(set_: str, code: str, entry: Mapping[str, str]) -> Row:
    kind = entry["kind"]
    stage = "passage" if kind.startswith("tool") else "inbound"
    return Row(set_, "benign" if kind in _HARMLESS else "attack", kind, stage, code, entry["text"])


def row_of(entry: Mapping[str, Any]) -> Row:
    spans = (entry.get("extra") or {}).get("spans", ())
    return Row(
        set=entry["set"],
        label=entry["label"],
        family=entry["family"],
        stage=_STAGES[entry["stage"]],
        language=entry["lang"] if entry["lang"] != "?" else f"~{detect(entry['text']).code}",
        text=entry["text"],
        spans=tuple((kind, start, end) for kind, start, end in spans),
    )


def of_packs() -> list[Row]:
    """Each pack's probes, which it must catch, and its hard negatives, which it must let pass."""
    return [row for pack in packs().values() for row in _of_pack(pack.code, pack.probes, pack.hard_negatives)]


def _of_pack(code: str, probes: Mapping[str, Iterable[str]], negatives: Mapping[str, Iterable[str]]) -> Iterator[Row]:
    for label, families in (("attack", probes), ("benign", negatives)):
        for family, texts in families.items():
            for text in texts:
                yield Row(PACKS, label, family, STAGES.get(family, "inbound"), code, text)
