"""Marks: what punctuation says, found in the text as written and placed beside the concepts of its folded view."""

import re
import unicodedata
from collections.abc import Iterator
from itertools import islice

import regex

from guardrails.lexicon import ANY_LANGUAGE, Hit, bit
from guardrails.normalise import fold_lengths, visible

_MARKS: tuple[tuple[str, tuple[str, ...], re.Pattern[str]], ...] = (
    (
        "#delimiter",
        ("<|", "[inst", "[/inst", "<<", "<s", "<a", "</", "[s", "[/s"),
        re.compile(
            r"<\|[ ]?(?:im_(?:start|end|sep)|system|user|assistant|endoftext|end|begin_of_text|"
            r"start_header_id|eot_id)[ ]?\|>"
            r"|\[/?INST\]|<</?SYS>>|</?(?:system|system[_ -]?prompt|system[_ -]?message|assistant)>"
            r"|\[/?system\](?!\w)",
            re.IGNORECASE,
        ),
    ),
    (
        "#role",
        ("system", "assistant", "developer", "admin", "ai", "instruction", "prompt", "user input"),
        re.compile(
            r"^[ \t>*#\"'\[({=-]{0,12}(?:system|assistant|developer|admin(?:istrator)?|ai)"
            r"(?:[ _-](?:prompt|message|instructions?|note|override))?"
            r"[\])}*\"']{0,3}[ ]?:|^#{2,4}[ ]?(?:system|new|updated?)?[ ]?(?:instructions?|prompt)\b"
            r"|\"role\"\s{0,3}:\s{0,3}\"(?:system|assistant|developer)\""
            r"|(?<!-)-{2,10}+[ ]?(?:begin|end|start)?[ ]?(?:of )?"
            r"(?:system|user input|prompt|new instructions?)[ \w]{0,20}+-{2}",
            re.IGNORECASE | re.MULTILINE,
        ),
    ),
    (
        "#url",
        ("http", "www.", "hxxp"),
        re.compile(r"(?:h(?:tt|xx)ps?://|\bwww\.)[^\s)>\]\"']{3,200}", re.IGNORECASE),
    ),
    ("#email", ("@",), re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{2,63}")),
    (
        "#beacon",
        ("](", "<img"),
        re.compile(
            r"!\[[^\]\[\n]{0,200}+\]\(\s?(?:https?:)?//(?=[^)(\s]{0,300}[?=/])[^)(\[\s{<$%]{0,300}+(?:\{|%7B|<|\[|\$)"
            r"|<img[^<>]{0,200}?src\s?=\s?[\"']?https?://[^<>{$%]{0,300}+(?:\{|%7B|\$)",
            re.IGNORECASE,
        ),
    ),
)
_SIGNS = ("<", "[", ":", "#", "@", "--", "www")  # no mark is without one of these
_MOST, _MOST_SIGNS = 500, 100
# What a message is, apart from its words: asking, quoting, giving numbers, shouting, announcing.
_PUNCTUATION = re.compile(
    r"(?P<question>[?؟？])|(?P<quote>[\"“”„«»「」『』])|(?P<digits>\d{2,})|(?P<bang>[!！])|(?P<colon>[:：])"
)
PUNCTUATION = frozenset(f"#{name}" for name in _PUNCTUATION.groupindex)
# Invisible characters, combining marks and full-width forms, which would hide a mark.
_DRESSED = re.compile(
    "[\u00ad\u0300-\u036f\u180b-\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufe00-\ufe0f\ufeff-\uffef\U000e0000-\U000e01ef]"
)


# As Unicode's stream-safe format has it: putting longer runs in order takes time by the square of their length.
_STACKED = regex.compile(r"(\p{M}{30})\p{M}+")


def marks(text: str) -> Iterator[Hit]:
    if not text.isascii() and _DRESSED.search(text):
        text = unicodedata.normalize("NFKC", _STACKED.sub(r"\1", visible(text)))
    lowered = text.lower()
    if not any(sign in lowered for sign in _SIGNS):
        return
    spans = [
        (name, *found.span())
        for name, needs, pattern in _MARKS
        if any(need in lowered for need in needs)
        for found in islice(pattern.finditer(text), _MOST)
    ]
    lengths = fold_lengths(text, {place for _, *places in spans for place in places})
    for name, start, end in spans:
        yield Hit(lengths[start], lengths[end] + 1, name, ANY_LANGUAGE)


def punctuation(text: str) -> Iterator[tuple[int, int, int]]:
    """Where signs stand in the folded view, for what words weigh together, as (start, end, concept's bit)."""
    found = [(f"#{sign.lastgroup}", sign.start()) for sign in islice(_PUNCTUATION.finditer(text), _MOST_SIGNS)]
    if found:
        lengths = fold_lengths(text, {place for _, place in found})
        for name, place in found:
            yield lengths[place], lengths[place] + 1, bit(name)
