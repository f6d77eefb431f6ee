"""What the formats have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Place = tuple[int, ...]
# What a picture or a file that is only named can cost at most, in tokens: the dearest published picture (a small model
# that counts 48,000 for one), and a document of some hundred pages.
PICTURE_TOKENS = 50_000
FILE_TOKENS = 200_000


@dataclass(frozen=True, slots=True)
class Part:
    """One text of a request. `stage`: "inbound" is a question, "passage" a document, "tool" what a tool answered."""

    place: Place
    stage: Literal["inbound", "passage", "tool"]
    text: str


class Untranslatable(ValueError):
    """The request needs something that the provider's format does not have."""


def since_last_answer(messages: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The messages that came after the assistant's last one, each with its place."""
    last = max((n for n, message in enumerate(messages) if message.get("role") == "assistant"), default=-1)
    return ((n, messages[n]) for n in range(last + 1, len(messages)))


def text_of(content: Any) -> str:
    """The plain text of a message's content: a string, or its list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(
            str(part.get("text", "")) for part in content if isinstance(part, Mapping) and part.get("type") == "text"
        )
    return ""
