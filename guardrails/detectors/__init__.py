"""Detectors find what has a form of its own: secrets, personal data, leaks, links; as spans of the text as written."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    kind: str
    start: int
    end: int
    label: str  # what stands in its place once it is redacted


def apart(spans: Iterable[Span]) -> list[Span]:
    """The spans in order, without those that overlap an earlier or longer one."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if not kept or span.start >= kept[-1].end:
            kept.append(span)
    return kept


def mask(text: str, spans: Iterable[Span]) -> str:
    """The text with each span's label in its place."""
    pieces, at = [], 0
    for span in apart(spans):
        pieces += [text[at : span.start], span.label]
        at = span.end
    return "".join([*pieces, text[at:]])
