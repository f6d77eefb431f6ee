"""Shares with their uncertainty, and tables of them with the worst first."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final, TypeVar

Z: Final = 1.959964  # of the 95 % interval
Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many."""

    hits: int
    of: int

    @property
    def rate(self) -> float:
        return self.hits / self.of if self.of else 0.0

    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval; it says something for none and for all of them, too."""
        if not self.of:
            return 0.0, 1.0
        spread = Z * Z / self.of
        middle = (self.rate + spread / 2) / (1 + spread)
        half = Z * sqrt(self.rate * (1 - self.rate) / self.of + spread / (4 * self.of)) / (1 + spread)
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        return percent(self.rate) if self.of else "–"


def percent(rate: float) -> str:
    """One decimal, two where one would hide what is there."""
    return f"{rate:.2%}" if 0 < rate < 0.01 else f"{rate:.1%}"


def range_of(share: Share) -> str:
    low, high = share.interval()
    return f"{100 * low:.1f}–{100 * high:.1f}"


def share(items: Iterable[Item], hit: Callable[[Item], bool]) -> Share:
    found = [hit(item) for item in items]
    return Share(sum(found), len(found))


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def worst_first(
    groups: dict[Key, list[Item]], hit: Callable[[Item], bool], *, more_is_worse: bool = False
) -> list[tuple[Key, list[Item], Share]]:
    """The groups by their share of hits, the worst first; of equals, the larger, which is surer."""
    rated = [(key, items, share(items, hit)) for key, items in groups.items()]
    sign = -1 if more_is_worse else 1
    return sorted(rated, key=lambda group: (sign * group[2].rate, -group[2].of, str(group[0])))


def table(head: Sequence[str], lines: Iterable[Sequence[object]], words: int = 1) -> list[str]:
    """A Markdown table; the first `words` columns are words, the others numbers."""
    rule = ["---" if at < words else "---:" for at in range(len(head))]
    return [_line(head), "|" + "|".join(rule) + "|", *map(_line, lines), ""]


def _line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"
