"""What chooses the model, what is charged when a stream tells or leaves in its own way, and what is kept of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from aiohttp import web

from agents.models import CallBody, Channel
from guardrails import screen
from tests.console.gateway.conftest import MAIL, MODELS, STORY, WEATHER, Gateway, claude, say
from tests.upstream import Asked, Bytes, Calls, Cuts, Hangs, Says, Upstream

# --- usage, wherever it is told --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TellsUsage:
    """Streams a short answer and tells the usage `where`: in the last chunk that has choices, in an extra one, or in
    every chunk, growing.
    """

    where: str

    async def give(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        out = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await out.prepare(request)
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": asked.body["model"]}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        for n, piece in enumerate(("One ", "two ", "three.")):
            choice = {"index": 0, "delta": {"content": piece}, "finish_reason": "stop" if n == 2 else None}
            chunk: dict[str, Any] = {**head, "choices": [choice]}
            if self.where == "every chunk":
                chunk["usage"] = {**usage, "completion_tokens": n * 2 + 1}
            elif self.where == "the last choice" and n == 2:
                chunk["usage"] = usage
            await out.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        if self.where == "an extra chunk":
            await out.write(b"data: " + json.dumps({**head, "choices": [], "usage": usage}).encode() + b"\n\n")
        await out.write(b"data: [DONE]\n\n")
        return out


@pytest.mark.parametrize("door", ["chat", "messages", "responses"])
@pytest.mark.parametrize("where", ["the last choice", "an extra chunk", "every chunk"])
def test_usage_counts_from_whichever_chunk_tells_it(
    gateway: Gateway, upstream: Upstream, case: str, door: str, where: str
) -> None:
    """Streams priced at zero: LiteLLM#37923, #36168."""
    upstream.script("small", TellsUsage(where))
    if door == "chat":
        client = gateway.client(x_pilothouse_case=case)
        list(client.chat.completions.create(model="small", messages=say("Count."), stream=True))
    elif door == "responses":
        list(gateway.client(x_pilothouse_case=case).responses.create(model="small", input="Count.", stream=True))
    else:
        with claude(gateway, x_pilothouse_case=case).messages.stream(
            model="small", max_tokens=20, messages=say("Count.")
        ) as stream:
            assert "".join(stream.text_stream) == "One two three."
    [row] = gateway.wait_for_rows(1, case_ref=case)
    assert (row.cost_nano, row.price) == (20_000, "exact")


@pytest.mark.parametrize("model", MODELS)
def test_a_client_that_leaves_amid_a_message_is_charged_what_came(
    gateway: Gateway, upstream: Upstream, case: str, model: str
) -> None:
    upstream.script(model, Says(STORY, piece=20, pause=0.05) if model == "small" else Says(STORY, piece=2_000))
    with claude(gateway, x_pilothouse_case=case).messages.create(
        model=model, max_tokens=500, messages=say("A story."), stream=True
    ) as stream:
        next(iter(stream))
    [row] = gateway.wait_for_rows(1, case_ref=case)
    assert row.status in ("cancelled", "ok")
    assert row.cost_nano
    assert row.cost_nano <= 60 * 1_000 + 500 * 2_000


# --- the router ------------------------------------------------------------------------------------------------------

TIERS: Any = {"tiers": {"small": ["small"], "large": ["big"]}, "default_tier": "small"}


def test_an_answer_that_is_not_the_json_asked_for_is_asked_of_the_larger_model(
    gateway: Gateway, upstream: Upstream, case: str
) -> None:
    channel = gateway.channel(**TIERS)
    upstream.script("small", Says("Sure! Here is your JSON."))
    upstream.script("big", Says('{"city": "Łódź"}'))
    answer = gateway.client(x_pilothouse_case=case, x_pilothouse_channel=channel).chat.completions.create(
        model="auto", messages=say("The city as JSON, please."), response_format={"type": "json_object"}
    )
    assert json.loads(answer.choices[0].message.content or "") == {"city": "Łódź"}
    first, second = gateway.rows(case_ref=case)
    assert (first.model, second.model, second.tier) == ("small", "big", "large")


def test_a_conversation_keeps_the_larger_tier_that_it_got(gateway: Gateway, upstream: Upstream, case: str) -> None:
    rule = {"name": "with tools", "when": {"tools": True}, "tier": "large"}
    channel = gateway.channel(**TIERS, rules=[rule])
    client = gateway.client(x_pilothouse_case=case, x_pilothouse_channel=channel)
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
    client.chat.completions.create(model="auto", messages=say("Hello"))
    client.chat.completions.create(model="auto", messages=say("Weather?"), tools=tools)
    client.chat.completions.create(model="auto", messages=say("Thank you"))
    assert upstream.models() == ["small", "big", "big"]
    other = gateway.client(x_pilothouse_case=f"{case}-b", x_pilothouse_channel=channel)
    other.chat.completions.create(model="auto", messages=say("Hello"))
    assert upstream.models()[-1] == "small"


def test_a_deadline_ends_the_attempts_at_a_call(gateway: Gateway, upstream: Upstream) -> None:

    channel = gateway.channel(tiers={"default": ["small", "big"]}, default_tier="default", timeout_s=5, deadline_s=1)
    upstream.script("small", Hangs(5))
    upstream.script("big", Hangs(5))
    with pytest.raises(openai.InternalServerError):
        gateway.client(x_pilothouse_channel=channel).chat.completions.create(model="auto", messages=say("Hello"))
    assert upstream.models() == ["small"]


# --- screened whole before the first piece leaves --------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_a_policy_of_whole_answers_fails_over_even_when_a_stream_was_asked_for(
    gateway: Gateway, upstream: Upstream, case: str, model: str
) -> None:
    whole = {**screen.DEFAULT_POLICY, "whole_answers": True}
    channel = gateway.channel(guardrails=whole, tiers={"default": [model, "big"]}, default_tier="default")
    upstream.script(model, Bytes(b'{"half": '))
    upstream.script("big", Calls("weather", {"city": "Łódź"}, text=MAIL))
    client = claude(gateway, x_pilothouse_case=case, x_pilothouse_channel=channel)
    tools: Any = [{"name": "weather", "input_schema": WEATHER}]
    with client.messages.stream(model="auto", max_tokens=99, messages=say("Weather?"), tools=tools) as stream:
        final = stream.get_final_message()
    said, used = final.content
    assert said.type == "text"
    assert "kowalska" not in said.text
    assert used.type == "tool_use"
    assert used.input == {"city": "Łódź"}
    upstream.script(model, Cuts("never seen"))
    upstream.script("big", Says("All of it.", usage=(7, 3, 0)))
    chunks = gateway.client(x_pilothouse_channel=channel).chat.completions.create(
        model="auto", messages=say("A story."), stream=True, stream_options={"include_usage": True}
    )
    seen = list(chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in seen if chunk.choices) == "All of it."
    assert [chunk.usage.total_tokens for chunk in seen if chunk.usage] == [10]
    assert [row.model for row in gateway.rows(case_ref=case)] == [model, "big"]


# --- bodies ----------------------------------------------------------------------------------------------------------


def test_questions_and_answers_are_kept_where_the_channel_wants_it_as_the_guardrails_left_them(
    gateway: Gateway, upstream: Upstream, case: str
) -> None:
    name = gateway.channel()
    Channel.objects.filter(slug=name.partition("/")[2]).update(keep_bodies_days=3)
    gateway.follow()
    upstream.always("small", Says("Of course. " + MAIL, piece=9))
    client = gateway.client(x_pilothouse_case=case, x_pilothouse_channel=name)
    client.chat.completions.create(model="small", messages=say("My card is 4111 1111 1111 1111, is that right?"))
    list(client.chat.completions.create(model="small", messages=say("And streamed?"), stream=True))
    gateway.client(x_pilothouse_case=f"{case}-b").chat.completions.create(model="small", messages=say("Hello"))
    rows = gateway.wait_for_rows(2, case_ref=case) + gateway.rows(case_ref=f"{case}-b")
    whole, streamed, elsewhere = (CallBody.objects.filter(call_id=row.call_id).first() for row in rows)
    assert whole is not None
    assert "4111" not in whole.request
    assert "Of course." in whole.response
    assert "kowalska" not in whole.response
    assert streamed is not None
    assert streamed.response.startswith("Of course.")
    assert "kowalska" not in streamed.response
    assert elsewhere is None
