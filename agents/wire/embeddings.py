"""OpenAI's embeddings: text goes in, numbers come back, so there is nothing to screen and no answer to bound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agents.wire.parts import Part, Place

NAME = "embeddings"
ENDPOINT = "/embeddings"


def asked(body: Mapping[str, Any]) -> Iterator[Part]:  # noqa: ARG001  the protocol's signature
    yield from ()


def asked_instead(body: Mapping[str, Any], place: Place, text: str) -> Mapping[str, Any]:  # noqa: ARG001
    return body


def facts(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"input_chars": len(str(body.get("input"))), "turn_number": 1, "tools": False}


def output_limit(body: Mapping[str, Any], default: int) -> int:  # noqa: ARG001
    return 0


def bounded(body: Mapping[str, Any], default: int) -> Mapping[str, Any]:  # noqa: ARG001
    return body


def unseen_tokens(body: Mapping[str, Any]) -> int:  # noqa: ARG001
    return 0


def said(raw: Mapping[str, Any]) -> list[str]:  # noqa: ARG001
    return []


def said_instead(raw: Mapping[str, Any], texts: Mapping[int, str]) -> Mapping[str, Any]:  # noqa: ARG001
    return raw


def piece(raw: Mapping[str, Any], text: str) -> dict[str, Any]:  # noqa: ARG001
    return dict(raw)


def without_text(raw: Mapping[str, Any]) -> dict[str, Any]:
    return dict(raw)


def streamed(raw: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield dict(raw)
