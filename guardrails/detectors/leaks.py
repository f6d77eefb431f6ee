"""What must not leave: the release's canary, and runs of its system prompt."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from guardrails.detectors import Span
from guardrails.normalise import View, fold

_CANARY_PART = 12
_RUN, _RUN_WIDE, _STRIDE = 30, 12, 3
_WIDE = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u1100-\u11ff]")


def compact(folded: str) -> str:
    return folded.replace(" ", "")


def canary_leaked(canary: str, views: Iterable[View]) -> View | None:
    """The first view in which the canary, or half of it, stands; cut up, turned round or in other letters included."""
    needle = compact(fold(canary))
    if len(needle) < _CANARY_PART:
        return None
    half = max(_CANARY_PART, len(needle) // 2)
    parts = {needle[:half], needle[-half:]}
    parts |= {part[::-1] for part in parts}
    for view in views:
        body = compact(view.text)
        if any(part in body for part in parts):
            return view
    return None


@lru_cache(maxsize=256)
def _shingles(prompt: str) -> tuple[frozenset[str], int]:
    """Every third run of the prompt: any copy two letters longer than a run holds one of them whole."""
    body = compact(fold(prompt))
    size = _RUN_WIDE if len(_WIDE.findall(body)) * 2 > len(body) else _RUN
    size = min(size, max(len(body), 1))
    if len(body) < _RUN_WIDE:
        return frozenset(), size
    starts = {*range(0, len(body) - size + 1, _STRIDE), len(body) - size}
    return frozenset(body[at : at + size] for at in starts), size


def prompt_leaked(prompt: str, views: Iterable[View], sources: Sequence[str]) -> tuple[View, int] | None:
    """The first view that repeats some six words of the prompt, and where; what a source says too is no leak."""
    shingles, size = _shingles(prompt)
    if not shingles:
        return None
    known: frozenset[str] | None = None
    for view in views:
        body = compact(view.text)
        for at in range(len(body) - size + 1):
            if (run := body[at : at + size]) in shingles:
                if known is None:
                    known = _repeated(shingles, size, sources)
                if run not in known:
                    return view, at
    return None


def _repeated(shingles: frozenset[str], size: int, sources: Sequence[str]) -> frozenset[str]:
    bodies = [compact(fold(source)) for source in sources]
    return shingles.intersection(body[at : at + size] for body in bodies for at in range(len(body) - size + 1))


def place(text: str, at: int) -> Span:
    """The span of the text around the `at`-th letter of its compact view."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high) // 2
        if len(compact(fold(text[:middle]))) <= at:
            low = middle + 1
        else:
            high = middle
    start = max(0, low - 1)
    return Span("prompt-leak", start, min(len(text), start + 2 * _RUN), "[withheld]")
