"""Keys, tokens, private keys and passwords, by the prefixes and forms their makers gave them."""

import re
from collections.abc import Iterator

from guardrails.detectors import Span

_BOUND = r"(?<![A-Za-z0-9_-])"
_KEYS: tuple[tuple[str, str], ...] = (
    ("AKIA", r"AKIA[0-9A-Z]{16}\b"),
    ("ASIA", r"ASIA[0-9A-Z]{16}\b"),
    ("gh", r"gh[pousr]_[A-Za-z0-9]{30,255}"),
    ("github_pat_", r"github_pat_[A-Za-z0-9_]{40,255}"),
    ("glpat-", r"glpat-[A-Za-z0-9_-]{20,100}"),
    ("sk-", r"sk-(?:ant-|proj-|or-)?[A-Za-z0-9_-]{20,250}"),
    ("sk_", r"sk_(?:live|test)_[A-Za-z0-9]{16,250}"),
    ("rk_", r"rk_(?:live|test)_[A-Za-z0-9]{16,250}"),
    ("xox", r"xox[abeoprs]-[A-Za-z0-9-]{10,250}"),
    ("AIza", r"AIza[0-9A-Za-z_-]{35}"),
    ("ya29.", r"ya29\.[0-9A-Za-z_-]{20,250}"),
    ("hf_", r"hf_[A-Za-z0-9]{30,100}"),
    ("npm_", r"npm_[A-Za-z0-9]{30,100}"),
    ("pypi-", r"pypi-[A-Za-z0-9_-]{40,250}"),
    ("dop_v1_", r"dop_v1_[a-f0-9]{40,100}"),
    ("SG.", r"SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,64}"),
    ("eyJ", r"eyJ[A-Za-z0-9_-]{8,4000}\.eyJ[A-Za-z0-9_-]{4,4000}\.[A-Za-z0-9_-]{8,1000}"),
)
_COMPILED = tuple((prefix, re.compile(_BOUND + pattern)) for prefix, pattern in _KEYS)
_PRIVATE = re.compile(r"-----BEGIN (?:[A-Z]+ ){0,3}PRIVATE KEY-----")
_PRIVATE_MOST = 8_000
_DSN = re.compile(r"\b[a-z][a-z0-9+]{2,20}://[^\s:/@]{1,100}:(?P<value>[^\s@/\[]{3,100})@[\w.-]")
_NAMED = re.compile(
    r"(?i)(?<![a-z])(?:pass(?:word|wort|wd|code)?|pwd|hasło|haslo|kennwort|contraseña|mot de passe|wachtwoord|senha|"
    r"heslo|пароль|secret(?:[_ -]?key)?|api[_ -]?key|access[_ -]?(?:key|token)|auth[_ -]?token|client[_ -]?secret)"
    r"[\"']?\s{0,2}(?:[:=]|\bis\b|\bto\b|\bist\b|\bes\b|\best\b)\s{0,2}[\"']?(?P<value>(?=[^\s\"']{0,100}[0-9!@#$%^&*])[^\s\"'\[<>,;]{8,200})"
)
_NAMES = (
    "pass",
    "pwd",
    "hasł",
    "hasl",
    "wort",
    "contrase",
    "wacht",
    "senha",
    "heslo",
    "парол",
    "secret",
    "key",
    "token",
)


def secrets(text: str) -> Iterator[Span]:
    for prefix, pattern in _COMPILED:
        if prefix in text:
            for found in pattern.finditer(text):
                yield Span("secret", *found.span(), "[secret]")
    if "PRIVATE KEY" in text:
        yield from _private_keys(text)
    if "://" in text and "@" in text:
        for found in _DSN.finditer(text):
            yield Span("secret", *found.span("value"), "[secret]")
    lowered = text.lower()
    if any(name in lowered for name in _NAMES):
        for found in _NAMED.finditer(text):
            yield Span("secret", *found.span("value"), "[secret]")


def _private_keys(text: str) -> Iterator[Span]:
    """From the key's first line to its last, or as far as a key can reach."""
    at = 0
    while found := _PRIVATE.search(text, at):
        last = text.find("PRIVATE KEY-----", found.end(), found.end() + _PRIVATE_MOST)
        at = last + len("PRIVATE KEY-----") if last >= 0 else min(len(text), found.end() + _PRIVATE_MOST)
        yield Span("secret", found.start(), at, "[secret]")
