"""What calls cost of the most that they can cost, as this process has seen: the smaller holds of balanced budgets.

A strict budget holds the most that a call can cost, so it is never overspent. Where every budget of a call is balanced,
the hold is the 99th percentile of what the model's calls used of that bound, with a tenth on top; one call in a hundred
may be charged more than was held, and what that adds up to is shown as overshoot.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

SAMPLES, LEAST, EVERY = 1_000, 200, 50
SHARE, MARGIN = 0.99, 1.1


@dataclass(slots=True)
class _Seen:
    shares: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    usual: float = 1.0
    since: int = 0


_seen: dict[str, _Seen] = {}


def learn(model: str, most_nano: int, nano: int) -> None:
    if most_nano <= 0:
        return
    seen = _seen.setdefault(model, _Seen())
    seen.shares.append(nano / most_nano)
    seen.since += 1
    if seen.since >= EVERY and len(seen.shares) >= LEAST:
        seen.since = 0
        ordered = sorted(seen.shares)
        seen.usual = min(1.0, ordered[int(SHARE * (len(ordered) - 1))] * MARGIN)


def usual(model: str, most_nano: int) -> int:
    """Nano-dollars to hold where that is enough; the most itself until enough calls were seen."""
    seen = _seen.get(model)
    return most_nano if seen is None else max(1, round(most_nano * seen.usual)) if most_nano else 0


def forget() -> None:
    _seen.clear()
