"""What an answer claims exactly and no source has: numbers, dates, amounts, quotations."""

import re
from collections.abc import Iterator, Sequence

from guardrails.detectors import Span
from guardrails.normalise import fold

_NUMBER = re.compile(
    r"(?<![\w.,:/-])[$€£¥₹+-]?\d[\d.,:/\u00a0\u202f'’-]*\d|(?<![\w.,:/-])[$€£¥₹]\d\b|(?<![\w.,:/-])\d\s?[%€$£]"
)
_QUOTED = re.compile(r"[\"“„«「『]([^\"“”„«»「」『』\n]{12,400})[\"”“»」』]")
_DIGITS = re.compile(r"\d+")
_ALONE = re.compile(r"(?<![\d.,])\d+(?![.,]?\d)")
_QUOTE_WORDS = 4


def ungrounded(text: str, sources: Sequence[str]) -> Iterator[Span]:
    """Numbers of two digits and more, percentages, prices and quotations that stand in none of the sources."""
    known = "\n".join(sources)
    figures = {_figure(found[0]) for found in _NUMBER.finditer(known)} | set(_ALONE.findall(known))
    for found in _NUMBER.finditer(text):
        figure = _figure(found[0])
        if figure and figure not in figures and not all(part in figures for part in _DIGITS.findall(found[0])):
            yield Span("ungrounded", *found.span(), "")
    quoted = fold(known)
    for found in _QUOTED.finditer(text):
        words = fold(found[1]).strip()
        if words.count(" ") + 1 >= _QUOTE_WORDS and words not in quoted:
            yield Span("ungrounded", *found.span(1), "")


def _figure(written: str) -> str:
    """The digits of a number, so that 1,000.00, 1.000,00 and 1000 are one."""
    whole = re.sub(r"[.,](?:0{1,2}|-)$", "", written.strip(" $€£¥₹%+-"))
    return "".join(_DIGITS.findall(whole))
