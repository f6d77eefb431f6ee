"""Packs: one language's words for each concept, with probes and harmless sentences that prove them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from guardrails.normalise import fold

_LATIN_LEAST = 5  # shorter Latin words are whole words in languages without word edges, too
PACKS = Path(__file__).parent / "packs"


@dataclass(frozen=True, slots=True)
class Language:
    """What screening needs to know of a language beside its words for concepts.

    `common`: its commonest words, folded; `frequent`: these and what comes again and again in the pack's sentences.
    """

    code: str
    name: str
    scripts: tuple[str, ...]
    refusal: str
    common: frozenset[str] = frozenset()
    frequent: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Pack(Language):
    """`words` maps a concept to stems: `ignor*` any word that begins so, `ignore` the whole word, several words a
    phrase; a language without word edges (`spaces: false`) writes it bare. `respelled`: letters written differently."""

    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
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


def read_yaml(text: bytes) -> Any:
    # The base loader leaves every scalar a string: "no", "on" and "yes" are words here.
    return yaml.load(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))  # noqa: S506


def pack_files() -> list[Path]:
    return sorted(PACKS.glob("*.yaml"))


@cache
def packs() -> Mapping[str, Pack]:
    """Every pack, whole. It takes a second to read: screening makes do with `lexicon.languages`."""
    return {pack.code: pack for pack in (read_pack(read_yaml(path.read_bytes())) for path in pack_files())}


@cache
def pack(code: str) -> Pack:
    """One pack. :raises FileNotFoundError: there is none."""
    return read_pack(read_yaml((PACKS / f"{code}.yaml").read_bytes()))


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
        if not pack.spaces and not (body.isascii() and len(body) < _LATIN_LEAST):
            yield body
            continue
        yield ("" if spelling.startswith("*") else " ") + body + ("" if spelling.endswith("*") else " ")
