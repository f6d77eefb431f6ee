"""The wire formats of callers: what is new in a request, what an answer says, and how to say it again, redacted.

The pipeline knows no format: it asks the one that the request came in. `bridge` translates between them for providers
that speak another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from agents.wire import chat, embeddings, messages
from agents.wire.parts import Part, Place, Untranslatable, text_of

Body = Mapping[str, Any]


class Wire(Protocol):
    """One format; its modules are its implementations."""

    NAME: str
    ENDPOINT: str

    def asked(self, body: Body) -> Iterator[Part]:
        """The texts that came since the last answer: the caller's questions, and what tools brought."""

    def asked_instead(self, body: Body, place: Place, text: str) -> Body:
        """The request with the text at that place replaced; pictures and other parts stay."""

    def facts(self, body: Body) -> dict[str, Any]:
        """What routes may depend on: input_chars, turn_number, tools."""

    def output_limit(self, body: Body, default: int) -> int:
        """The most tokens that the answers to this request can have, all choices together."""

    def bounded(self, body: Body, default: int) -> Body:
        """The request with an output limit in it, the default where the caller gave none."""

    def unseen_tokens(self, body: Body) -> int:
        """A bound on the input tokens that do not stand in the body's bytes: pictures and files."""

    def said(self, raw: Body) -> list[str]:
        """The texts of an answer, each on its own."""

    def said_instead(self, raw: Body, texts: Mapping[int, str]) -> Body:
        """The answer with some of its texts replaced."""

    def piece(self, raw: Body, text: str) -> dict[str, Any]:
        """A piece of a stream like this one, with another text."""

    def without_text(self, raw: Body) -> dict[str, Any]:
        """A piece of a stream without its text; whatever else it carries stays."""

    def streamed(self, raw: Body) -> Iterator[dict[str, Any]]:
        """A whole answer as the pieces of a stream."""


_WIRES: Mapping[str, Wire] = {wire.NAME: wire for wire in (chat, messages, embeddings)}


def of(name: str) -> Wire:
    return _WIRES[name]


__all__ = ["Part", "Place", "Untranslatable", "Wire", "of", "text_of"]
