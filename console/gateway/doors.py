"""The formats in which callers may ask: each door reads a request, gives an answer, and says no in its own words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from agents.wire import Untranslatable, bridge, responses
from console.gateway.wire import Refusal

Body = Mapping[str, Any]
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
MOST_MESSAGES = 2_000


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was read: `body` in the pipeline's format, without model and stream; `original` as it came."""

    model: str
    stream: bool
    body: Body
    original: Body

    @property
    def managed(self) -> bool:
        return self.model.startswith("agent:")


class Events(Protocol):
    """One streamed answer as bytes."""

    def of(self, raw: Body) -> bytes: ...
    def end(self) -> bytes: ...
    def broken(self, refusal: Refusal) -> bytes: ...


class Door(Protocol):
    """One format of callers. `WIRE` is the pipeline's format for it."""

    WIRE: str

    def read(self, body: dict[str, Any]) -> Asked:
        """:raises Refusal: a request that is not one."""

    def chat(self, asked: Asked) -> Body:
        """The request as a chat, for a managed turn."""

    def answer(self, raw: Body, asked: Asked) -> Body:
        """What the caller gets for the pipeline's answer."""

    def answer_chat(self, raw: Body, asked: Asked) -> Body:
        """What the caller gets for a managed turn's chat completion."""

    def events(self, asked: Asked) -> Events:
        """The pipeline's pieces as the caller gets them."""

    def events_of_chat(self, asked: Asked) -> Events:
        """A managed turn's chunks as the caller gets them."""

    def refusal(self, refusal: Refusal) -> Body:
        """The refusal in the caller's shape."""


# --- chat completions ----------------------------------------------------------------------------------------------


class Chat:
    WIRE = "chat"

    def read(self, body: dict[str, Any]) -> Asked:
        _name_of_model(body)
        _check_messages(body, ROLES)
        for name, most in (("max_tokens", 1_000_000), ("max_completion_tokens", 1_000_000), ("n", 16)):
            _check_whole(body, name, most)
        if not isinstance(body.get("stream_options"), (dict, type(None))):
            raise Refusal(400, "invalid_request", "stream_options is an object.")
        return _asked(body, _rest(body))

    def chat(self, asked: Asked) -> Body:
        return asked.body

    def answer(self, raw: Body, asked: Asked) -> Body:  # noqa: ARG002  the protocol's signature
        return raw

    answer_chat = answer

    def events(self, asked: Asked) -> Events:
        return ChatEvents(told_usage=bool((asked.body.get("stream_options") or {}).get("include_usage")))

    events_of_chat = events

    def refusal(self, refusal: Refusal) -> Body:
        return refusal.body


class ChatEvents:
    def __init__(self, *, told_usage: bool) -> None:
        self._told_usage = told_usage

    def of(self, raw: Body) -> bytes:
        return _data(raw) if raw.get("choices") or self._told_usage else b""

    def end(self) -> bytes:
        return b"data: [DONE]\n\n"

    def broken(self, refusal: Refusal) -> bytes:
        return _data(refusal.body)


# --- embeddings ----------------------------------------------------------------------------------------------------


class Embeddings(Chat):
    WIRE = "embeddings"

    def read(self, body: dict[str, Any]) -> Asked:
        _name_of_model(body)
        given = body.get("input")
        if (
            not isinstance(given, (str, list))
            or not given
            or len(given) > (2_048 if isinstance(given, list) else 10**7)
        ):
            raise Refusal(400, "invalid_request", "input is a text, or a list of 1 to 2,048 texts.")
        if body["model"].startswith("agent:"):
            raise Refusal(400, "invalid_request", "An agent makes no embeddings.")
        return _asked({**body, "stream": False}, _rest(body))


# --- Anthropic's messages ------------------------------------------------------------------------------------------

ERRORS = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    405: "invalid_request_error", 413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error",
}  # fmt: skip


class Messages:
    WIRE = "messages"

    def read(self, body: dict[str, Any]) -> Asked:
        _name_of_model(body)
        _check_messages(body, frozenset({"user", "assistant"}))
        _check_whole(body, "max_tokens", 1_000_000)
        if not isinstance(body.get("system"), (str, list, type(None))):
            raise Refusal(400, "invalid_request", "system is a text or a list of blocks.")
        return _asked(body, _rest(body))

    def chat(self, asked: Asked) -> Body:
        return translated(bridge.messages_to_chat, asked.body)

    def answer(self, raw: Body, asked: Asked) -> Body:  # noqa: ARG002
        return raw

    def answer_chat(self, raw: Body, asked: Asked) -> Body:  # noqa: ARG002
        return bridge.answer_to_messages(raw)

    def events(self, asked: Asked) -> Events:  # noqa: ARG002
        return MessageEvents()

    def events_of_chat(self, asked: Asked) -> Events:  # noqa: ARG002
        return MessageEventsOfChat()

    def refusal(self, refusal: Refusal) -> Body:
        kind = ERRORS.get(refusal.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": refusal.message, "code": refusal.code}}


class MessageEvents:
    def of(self, raw: Body) -> bytes:
        return _event(raw)

    def end(self) -> bytes:
        return b""

    def broken(self, refusal: Refusal) -> bytes:
        return _event(Messages().refusal(refusal))


class MessageEventsOfChat(MessageEvents):
    def __init__(self) -> None:
        self._into = bridge.ToMessages()

    def of(self, raw: Body) -> bytes:
        return _all(self._into.events(raw))

    def end(self) -> bytes:
        return _all(self._into.end())


# --- responses -----------------------------------------------------------------------------------------------------


class Responses:
    WIRE = "chat"

    def read(self, body: dict[str, Any]) -> Asked:
        _name_of_model(body)
        _check_whole(body, "max_output_tokens", 1_000_000)
        made = translated(responses.to_chat, body)
        _check_messages(made, ROLES)
        if body.get("stream"):
            made = {**made, "stream_options": {"include_usage": True}}
        return Asked(body["model"], bool(body.get("stream")), made, body)

    def chat(self, asked: Asked) -> Body:
        return asked.body

    def answer(self, raw: Body, asked: Asked) -> Body:
        return responses.answer(raw, asked.original)

    answer_chat = answer

    def events(self, asked: Asked) -> Events:
        return ResponseEvents(asked)

    events_of_chat = events

    def refusal(self, refusal: Refusal) -> Body:
        return refusal.body


class ResponseEvents:
    def __init__(self, asked: Asked) -> None:
        self._into = responses.Events(asked.original)

    def of(self, raw: Body) -> bytes:
        return _all(self._into.of(raw))

    def end(self) -> bytes:
        return _all(self._into.end())

    def broken(self, refusal: Refusal) -> bytes:
        return _all(self._into.broken(refusal.code, refusal.message))


DOORS: Mapping[str, Door] = {
    "/v1/chat/completions": Chat(),
    "/v1/embeddings": Embeddings(),
    "/v1/messages": Messages(),
    "/v1/responses": Responses(),
}


# --- reading -------------------------------------------------------------------------------------------------------


def translated(translate: Any, body: Body) -> dict[str, Any]:
    """:raises Refusal: what cannot be said in the other format, and what is not well-formed in its own."""
    try:
        made: dict[str, Any] = translate(body)
    except Untranslatable as error:
        raise Refusal(400, "unsupported", str(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refusal(400, "invalid_request", "The request is not well-formed.") from error
    return made


def _asked(body: dict[str, Any], rest: Body) -> Asked:
    return Asked(body["model"], bool(body.get("stream")), rest, body)


def _rest(body: Body) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in ("model", "stream")}


def _name_of_model(body: Body) -> None:
    """What every door depends on; everything else passes through as it came."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise Refusal(400, "invalid_request", "model is missing.")
    if not isinstance(body.get("stream"), (bool, type(None))):
        raise Refusal(400, "invalid_request", "stream is true or false.")


def _check_messages(body: Body, roles: frozenset[str]) -> None:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "invalid_request", "messages is a list with at least one message.")
    if len(messages) > MOST_MESSAGES:
        raise Refusal(400, "invalid_request", f"messages holds at most {MOST_MESSAGES:,} messages.")
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in roles:
            raise Refusal(400, "invalid_request", "Every message is an object with a role.")
        content = message.get("content")
        if isinstance(content, list):
            well_formed = all(isinstance(part, dict) for part in content)
        else:
            well_formed = isinstance(content, (str, type(None)))
        if not well_formed:
            raise Refusal(400, "invalid_request", "A message's content is a string or a list of parts.")


def _check_whole(body: Body, name: str, most: int) -> None:
    value = body.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most):
        raise Refusal(400, "invalid_request", f"{name} is a whole number from 1 to {most:,}.")


# --- writing -------------------------------------------------------------------------------------------------------


def _data(payload: object) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def _event(payload: Body) -> bytes:
    """A server-sent event that says its type twice, as Anthropic's and OpenAI's newer streams do."""
    return b"event: " + str(payload["type"]).encode() + b"\n" + _data(payload)


def _all(events: Iterable[Body] | Iterator[Body]) -> bytes:
    return b"".join(map(_event, events))
