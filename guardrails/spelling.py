"""What a language looks like: the groups of three letters that its pack's sentences are made of.

For what the language model does not know: it takes three Swahili sentences in ten for noise.
"""

from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import cache

from guardrails.compiling import parts, threes

_LEAST, _AHEAD = 0.8, 0.1  # of a text's groups, and that many more than of any other language
_LEAST_LIKELY = 0.65  # where the language model thinks of the language, too
_LEAST_GROUPS = 20
_MOST_LETTERS = 400


def looks_like(text: str, spoken: AbstractSet[str], likely: AbstractSet[str] = frozenset()) -> str:
    """The spoken language that nearly all of the text's groups of letters are usual in, and of no other; or "". Of one
    that is likely for another reason, fewer need be."""
    groups = threes(text[:_MOST_LETTERS])
    if len(groups) < _LEAST_GROUPS:
        return ""
    usual, codes = _usual()
    found = Counter(usual.get(group, 0) for group in groups)
    counts = [sum(times for mask, times in found.items() if mask >> at & 1) for at in range(len(codes))]
    best, next_best = sorted(range(len(codes)), key=lambda at: -counts[at])[:2]
    least = _LEAST_LIKELY if codes[best] in likely else _LEAST
    sure = counts[best] >= least * len(groups) and counts[best] - counts[next_best] >= _AHEAD * len(groups)
    return codes[best] if sure and codes[best] in spoken else ""


@cache
def _usual() -> tuple[Mapping[str, int], tuple[str, ...]]:
    """The languages that each group is usual in, a bit for each, and their codes."""
    codes, usual = parts("codes", "spelling")
    return usual, codes
