"""Streams behind a guardrail: text leaves only when nothing forbidden can still begin in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from agents.asks import Blocked
from agents.providers import Delta
from agents.providers.base import NOWHERE
from agents.wire import Wire
from guardrails.screen import Screening

LOOK_BACK = 240
STRIDE = 120


class LookBacks:
    """A look-back for each choice of a stream; what belongs to no choice leaves after all that they hold."""

    def __init__(self, wire: Wire, screen: Callable[[int, str], Screening]) -> None:
        self._wire = wire
        self._screen = screen
        self._of: dict[int, LookBack] = {}

    @property
    def seen(self) -> str:
        return "\n".join(buffer.seen for buffer in self._of.values())

    def push(self, delta: Delta) -> Iterator[Delta]:
        """The pieces that may leave now. :raises Blocked: some text has become something that must not."""
        if delta.choice == NOWHERE:
            if delta.ends_text:
                yield from self.flush()
            yield delta
            return
        if delta.choice not in self._of:
            self._of[delta.choice] = LookBack(self._wire, partial(self._screen, delta.choice))
        yield from self._of[delta.choice].push(delta)

    def flush(self) -> Iterator[Delta]:
        """The rest, screened."""
        for buffer in self._of.values():
            yield from buffer.flush()


class LookBack:
    """Holds the last `LOOK_BACK` characters back and screens the text again after every `STRIDE` new ones.

    Redactions happen inside the held part, so they never reach back into what has left. Pieces without text (roles,
    tool calls, usage) pass as they came, in order.
    """

    def __init__(self, wire: Wire, screen: Callable[[str], Screening]) -> None:
        self.seen = ""
        self._wire = wire
        self._screen = screen
        self._held = ""
        self._tail = ""  # what has left, as context for the next screening
        self._template: dict[str, Any] = {}
        self._unscreened = 0

    def push(self, delta: Delta) -> Iterator[Delta]:
        """The pieces that may leave now. :raises Blocked: the text has become something that must not."""
        if not delta.text:
            if delta.ends_text:
                yield from self.flush()
            yield delta
            return
        self.seen += delta.text
        self._held += delta.text
        self._unscreened += len(delta.text)
        self._template = dict(delta.raw)
        if self._unscreened >= STRIDE and len(self._held) > LOOK_BACK:
            self._check()
            if (cut := len(self._held) - LOOK_BACK) > 0:  # a redaction may have left less than that
                yield self._leave(cut)
        if delta.ends_text:
            yield from self.flush()
            yield Delta(self._wire.without_text(delta.raw), "", delta.usage, delta.finish, delta.choice)

    def flush(self) -> Iterator[Delta]:
        """The rest, screened."""
        if self._held:
            self._check()
            yield self._leave(len(self._held))

    def _check(self) -> None:
        """Screen what is held, with what left before it as context; a redaction replaces the held text."""
        self._unscreened = 0
        verdict = self._screen(self._tail + self._held)
        if verdict.action in ("block", "escalate"):
            raise Blocked("outbound", verdict, "The answer was stopped by a guardrail.")
        if verdict.action == "redact":
            alone = self._screen(self._held)
            self._held = alone.text

    def _leave(self, cut: int) -> Delta:
        piece, self._held = self._held[:cut], self._held[cut:]
        self._tail = (self._tail + piece)[-LOOK_BACK:]
        return Delta(self._wire.piece(self._template, piece), piece)
