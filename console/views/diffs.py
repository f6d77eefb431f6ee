"""Differences for people: words of an answer, lines of a version."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

CONTEXT = 3
LONGEST = 4_000
ALIKE = 0.4


@dataclass(frozen=True, slots=True)
class Piece:
    """`kind`: same, gone, came, changed (a line that has both) or skip (a number of lines left out)."""

    kind: str
    text: str


def words(old: str, new: str) -> list[Piece]:
    """What has to be struck and added to make `old` into `new`, by words."""
    before, after = re.findall(r"\s+|[^\s]+", old), re.findall(r"\s+|[^\s]+", new)
    pieces: list[Piece] = []
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "equal":
            pieces.append(Piece("same", "".join(before[i1:i2])))
            continue
        if i2 > i1:
            pieces.append(Piece("gone", "".join(before[i1:i2])))
        if j2 > j1:
            pieces.append(Piece("came", "".join(after[j1:j2])))
    return pieces


def alike(old: str, new: str) -> bool:
    """Whether marking the changes helps: two texts that share little are read side by side."""
    return SequenceMatcher(None, old.split(), new.split(), autojunk=False).ratio() >= ALIKE


def lines(old: str, new: str) -> list[Piece]:
    """Changed lines with a little around them."""
    before, after = old.splitlines()[:LONGEST], new.splitlines()[:LONGEST]
    pieces: list[Piece] = []
    last = 0
    for group in SequenceMatcher(None, before, after, autojunk=False).get_grouped_opcodes(CONTEXT):
        if skipped := group[0][1] - last:
            pieces.append(Piece("skip", str(skipped)))
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                pieces += [Piece("same", line) for line in before[i1:i2]]
                continue
            pieces += [Piece("gone", line) for line in before[i1:i2]]
            pieces += [Piece("came", line) for line in after[j1:j2]]
        last = group[-1][2]
    if pieces and (skipped := len(before) - last):
        pieces.append(Piece("skip", str(skipped)))
    return pieces


def readable(content: Any) -> str:
    """A version's content as lines: a prompt as its text, the rest as JSON."""
    if isinstance(content, Mapping) and set(content) <= {"text", "opening"} and "text" in content:
        opening = content.get("opening") or {}
        return "\n".join(
            [str(content["text"]), *(f"[opening, {language}] {words}" for language, words in sorted(opening.items()))]
        )
    return json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True)
