"""What goes to a model and what comes back, whatever dialect it speaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from agents.knowledge.search import Hit
from agents.wire import text_of

MOST_TOKENS = 100_000_000
NOWHERE = -1
STREAM_S = 300.0  # no stream goes on for longer


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call; those read from a cache and those written into it are part of the input.

    `counted` is False where the provider told nothing and we estimated from bytes.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    written_tokens: int = 0
    long_written_tokens: int = 0
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asked, in the wire format named `wire` (`body`, without model and stream), and the sources
    behind it.
    """

    body: Mapping[str, Any]
    sources: Sequence[Hit] = ()
    question: str = ""
    language: str = ""
    wire: str = "chat"


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer. `raw` is it in the request's wire format: what a gateway caller gets."""

    text: str
    usage: Usage
    finish: str
    raw: Mapping[str, Any] = field(default_factory=dict)
    unsupported: bool = False


@dataclass(frozen=True, slots=True)
class Delta:
    """One piece of one choice of a streamed answer; `raw` is it in the request's wire format.

    The last one carries the usage where it is told; one that `breaks` begins something else than text: the text before
    is whole. One that belongs to no choice has NOWHERE for it, and tells with
    `finish` that nothing more is said.
    """

    raw: Mapping[str, Any]
    text: str = ""
    usage: Usage | None = None
    finish: str = ""
    choice: int = 0
    breaks: bool = False

    @property
    def ends_text(self) -> bool:
        return bool(self.finish) or self.breaks or self.usage is not None


class Failed(Exception):
    """A model did not answer. `kind`: connect, timeout, rate_limit, server, client, garbage, cut, open (not asked)."""

    def __init__(
        self, kind: str, message: str, *, status: int = 0, retry_after: float = 0.0, sent: bool = True
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.retry_after = retry_after
        self.sent = sent

    @property
    def retryable(self) -> bool:
        """Worth another try at this or another model: everything but a request that the model refuses as such."""
        return self.kind != "client"


def tokens_in(size: int) -> int:
    """About the tokens of so many bytes of text, never fewer than one: 3.6 bytes each, which is generous for English
    and fair for Polish.
    """
    return max(1, round(size / 3.6))


def estimate_tokens(text: str) -> int:
    return tokens_in(len(text.encode("utf-8", "surrogatepass")))


def estimated(request: Request, text: str) -> Usage:
    """The usage of a call whose provider told none: what was sent, and the text that came."""
    came = estimate_tokens(text) if text else 0
    return Usage(tokens_in(len(orjson.dumps(request.body))), came, counted=False)


def plausible(*tokens: int) -> bool:
    """Whether a provider may have counted so many; figures that cannot be are not believed."""
    return all(0 <= count <= MOST_TOKENS for count in tokens)


__all__ = [
    "NOWHERE", "STREAM_S", "Completion", "Delta", "Failed", "Request", "Usage", "estimate_tokens", "estimated",
    "plausible", "text_of", "tokens_in",
]  # fmt: skip
