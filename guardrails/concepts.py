"""Packs (one language's words for each concept), compiled into one automaton that finds all their words at once."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ahocorasick_rs import AhoCorasick, Implementation

from guardrails.normalise import fold, rot13

PACKS = Path(__file__).parent / "packs"
_LOOSE_LEAST = 4
_MARKER_LEAST = 7
REVERSED, ROT13 = "@reversed", "@rot13"


@dataclass(frozen=True, slots=True)
class Pack:
    """What the guardrails know of one language. `words` maps a concept to stems: `ignor*` any word that begins so,
    `ignore` the whole word, several words a phrase; a language without word edges (`spaces: false`) writes it bare."""

    code: str
    name: str
    scripts: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]
    refusal: str
    common: frozenset[str] = frozenset()
    spaces: bool = True
    respelled: Mapping[str, str] = field(default_factory=dict)
    probes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hard_negatives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def _lists(table: Mapping[str, Iterable[str]] | None) -> dict[str, tuple[str, ...]]:
    return {key: tuple(str(value) for value in values) for key, values in (table or {}).items()}


def read_pack(content: Mapping[str, Any]) -> Pack:
    return Pack(
        code=content["code"],
        name=content["name"],
        scripts=tuple(content["scripts"]),
        words=_lists(content["concepts"]),
        refusal=content.get("refusal", ""),
        common=frozenset(fold(word).strip() for word in content.get("common", ())),
        spaces=content.get("spaces") != "false",
        respelled=content.get("respelled") or {},
        probes=_lists(content.get("probes")),
        hard_negatives=_lists(content.get("hard_negatives")),
    )


def _yaml(path: Path) -> Any:
    # The base loader leaves every scalar a string: "no", "on" and "yes" are words here.
    return yaml.load(path.read_bytes(), Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))  # noqa: S506


@cache
def packs() -> Mapping[str, Pack]:
    return {pack.code: pack for pack in (read_pack(_yaml(path)) for path in sorted(PACKS.glob("*.yaml")))}


def _spellings(stem: str, respelled: Mapping[str, str]) -> Iterable[str]:
    yield stem
    other = stem
    for letter, letters in respelled.items():
        other = other.replace(letter, letters)
    if other != stem:
        yield other


def patterns_of(pack: Pack, stem: str) -> Iterable[str]:
    """The folded strings that the automaton looks for; the spaces are word edges."""
    for spelling in _spellings(stem.lower(), pack.respelled):
        body = fold(spelling.strip("*")).strip()
        if not body:
            continue
        if not pack.spaces:
            yield body
            continue
        yield ("" if spelling.startswith("*") else " ") + body + ("" if spelling.endswith("*") else " ")


@dataclass(frozen=True, slots=True)
class Hit:
    concept: str
    start: int
    end: int
    languages: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Automaton:
    machine: AhoCorasick
    meanings: tuple[tuple[tuple[str, frozenset[str]], ...], ...]

    @classmethod
    def of(cls, table: Mapping[str, Mapping[str, set[str]]]) -> "_Automaton":
        meanings = tuple(tuple((c, frozenset(langs)) for c, langs in entry.items()) for entry in table.values())
        return cls(
            AhoCorasick(list(table), implementation=Implementation.ContiguousNFA, store_patterns=False), meanings
        )

    def hits(self, text: str) -> list[Hit]:
        meanings = self.meanings
        return [
            Hit(concept, start, end, languages)
            for index, start, end in self.machine.find_matches_as_indexes(text, overlapping=True)
            for concept, languages in meanings[index]
        ]


class Lexicon:
    """Every word of every pack. `hits` gives them in the order in which they end in the text."""

    def __init__(self, packs: Iterable[Pack]) -> None:
        self.packs = {pack.code: pack for pack in packs}
        strict: dict[str, dict[str, set[str]]] = {}
        loose: dict[str, dict[str, set[str]]] = {}
        for pack in self.packs.values():
            for concept, stems in pack.words.items():
                for stem in stems:
                    for pattern in patterns_of(pack, stem):
                        strict.setdefault(pattern, {}).setdefault(concept, set()).add(pack.code)
                        if len(body := pattern.replace(" ", "")) >= _LOOSE_LEAST:
                            loose.setdefault(body, {}).setdefault(concept, set()).add(pack.code)
                        for marker, disguised in self._markers(pattern.strip()):
                            strict.setdefault(disguised, {}).setdefault(marker, set()).add(pack.code)
        self._strict = _Automaton.of(strict)
        self._loose = _Automaton.of(loose)
        self.digest = hashlib.sha256(repr(sorted((p, sorted(m)) for p, m in strict.items())).encode()).hexdigest()

    @staticmethod
    def _markers(body: str) -> Iterable[tuple[str, str]]:
        if len(body) < _MARKER_LEAST:
            return
        yield REVERSED, body[::-1]
        if re.fullmatch(r"[a-z ]+", body):
            yield ROT13, rot13(body).text.strip()

    def hits(self, text: str, *, loose: bool = False) -> list[Hit]:
        return (self._loose if loose else self._strict).hits(text)


@cache
def lexicon() -> Lexicon:
    return Lexicon(packs().values())
