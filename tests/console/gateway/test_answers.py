"""What any OpenAI client gets by changing its base URL, and what is written down of it."""

from __future__ import annotations

import uuid

import openai
import pytest

from agents import releases
from agents.models import Call, Turn
from tests import world
from tests.console.gateway.conftest import PROVIDER_SECRET, Gateway, say
from tests.upstream import Fails, Says, Upstream


def test_lists_the_models_that_the_key_may_name(gateway: Gateway) -> None:
    found = {model.id for model in gateway.client().models.list()}
    assert found == {"agent:acme", "auto", "small", "big", "claude", "embed", "local/extractive"}
    assert gateway.client().models.retrieve("small").owned_by == "acme"
    with pytest.raises(openai.NotFoundError):
        gateway.client().models.retrieve("nobody")


def test_a_named_model_answers_and_the_call_is_written_down_once(gateway: Gateway, case: str) -> None:
    told = gateway.client(x_pilothouse_case=case).chat.completions.with_raw_response.create(
        model="small", messages=say("Hello"), temperature=0.3
    )
    answer = told.parse()
    assert answer.choices[0].message.content == "Hello from upstream."
    assert (answer.model, answer.usage and answer.usage.total_tokens) == ("small", 15)
    [row] = gateway.rows(case_ref=case)
    assert told.headers["x-pilothouse-call-id"] == str(row.call_id)
    assert told.headers["x-pilothouse-release"] == row.release == str(gateway.release)
    assert told.headers["x-pilothouse-model"] == row.model == "small"
    assert told.headers["x-pilothouse-outcome"] == "answered"
    assert told.headers["x-pilothouse-cost-usd"] == "0.000020000"  # 10 tokens at $1 and 5 at $2 for a million
    assert (row.input_tokens, row.output_tokens, row.cost_nano, row.price) == (10, 5, 20_000, "exact")
    assert (row.attempt, row.status, row.guardrail, row.purpose, row.stream) == (1, "ok", "passed", "gateway", False)
    assert (row.agent, row.channel, row.scope) == ("acme", "acme/web", "acme/web")
    assert row.latency_ms > 0


def test_the_provider_gets_what_the_caller_sent_but_its_key(gateway: Gateway, upstream: Upstream) -> None:
    weather = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    gateway.client().chat.completions.create(model="small", messages=say("Hello"), temperature=0.3, tools=[weather])  # type: ignore[list-item]
    [asked] = upstream.asked
    assert (asked.body["temperature"], asked.body["tools"], asked.body["stream"]) == (0.3, [weather], False)
    assert asked.body["max_tokens"] == 100, "an answer has the bound that its hold was made for"
    assert asked.headers["authorization"] == f"Bearer {PROVIDER_SECRET}"
    assert gateway.secret not in str(asked)


def test_cached_tokens_cost_what_cached_tokens_cost(gateway: Gateway, upstream: Upstream, case: str) -> None:
    upstream.script("small", Says(usage=(10, 5, 4)))
    gateway.client(x_pilothouse_case=case).chat.completions.create(model="small", messages=say("Hello"))
    [row] = gateway.rows(case_ref=case)
    assert (row.cached_tokens, row.cost_nano) == (4, 6 * 1_000 + 4 * 500 + 5 * 2_000)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_usage_is_estimated_never_free(
    gateway: Gateway, upstream: Upstream, case: str, stream: bool
) -> None:
    upstream.script("small", Says("A whole sentence as an answer.", usage=None))
    answer = gateway.client(x_pilothouse_case=case).chat.completions.create(
        model="small", messages=say("Hello"), stream=stream
    )
    list(answer)
    [row] = gateway.rows(case_ref=case)
    assert row.price == "estimated"
    assert row.input_tokens > 0
    assert row.output_tokens > 0
    assert row.cost_nano == row.input_tokens * 1_000 + row.output_tokens * 2_000


def test_auto_takes_the_first_model_of_the_routers_tier(gateway: Gateway, upstream: Upstream, case: str) -> None:
    gateway.client(x_pilothouse_case=case).chat.completions.create(model="auto", messages=say("Hello"))
    assert upstream.models() == ["small"]
    assert [row.tier for row in gateway.rows(case_ref=case)] == ["default"]


def test_a_broken_model_falls_back_and_both_attempts_have_their_row(
    gateway: Gateway, upstream: Upstream, case: str
) -> None:
    upstream.script("small", Fails(500, "GPU on fire"))
    told = gateway.client(x_pilothouse_case=case).chat.completions.with_raw_response.create(
        model="auto", messages=say("Hello")
    )
    assert told.headers["x-pilothouse-model"] == "big"
    assert told.headers["x-pilothouse-cost-usd"] == "0.000200000"
    first, second = gateway.rows(case_ref=case)
    assert (first.model, first.attempt, first.status, first.cost_nano) == ("small", 1, "error", 0)
    assert first.error == "GPU on fire"
    assert (second.model, second.attempt, second.status, second.cost_nano) == ("big", 2, "ok", 200_000)
    assert first.call_id == second.call_id


def test_a_busy_model_is_asked_again_before_the_next_one(gateway: Gateway, upstream: Upstream) -> None:
    channel = gateway.channel(retries=1)
    upstream.script("small", Fails(429, "Slow down.", {"retry-after": "0.01"}))
    gateway.client(x_pilothouse_channel=channel).chat.completions.create(model="auto", messages=say("Hello"))
    assert upstream.models() == ["small", "small"]
    assert [row.status for row in gateway.rows(channel=channel)] == ["error", "ok"]


def test_an_answer_of_the_built_in_model_needs_no_provider(gateway: Gateway, upstream: Upstream, case: str) -> None:
    messages = [{"role": "system", "content": world.RETURNS.body}, *say(world.QUESTION)]
    answer = gateway.client(x_pilothouse_case=case).chat.completions.create(model="local/extractive", messages=messages)
    assert "30 days" in str(answer.choices[0].message.content)
    assert upstream.asked == []
    [row] = gateway.rows(case_ref=case)
    assert (row.price, row.cost_nano) == ("exact", 0)


# --- agent:<slug> ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_managed_agent_answers_from_its_knowledge(
    gateway: Gateway, upstream: Upstream, case: str, stream: bool
) -> None:
    upstream.script("small", Says(world.GOOD))
    told = gateway.client(x_pilothouse_case=case).chat.completions.with_raw_response.create(
        model="agent:acme", messages=say(world.QUESTION), stream=stream
    )
    answer = told.parse()
    text = "".join(c.choices[0].delta.content or "" for c in answer) if stream else answer.choices[0].message.content  # type: ignore[union-attr]
    assert text == world.GOOD
    turn = Turn.objects.get(case__ref=case)
    assert told.headers["x-pilothouse-call-id"] == str(turn.pk)
    assert told.headers["x-pilothouse-outcome"] == turn.outcome == "answered"
    assert told.headers["x-pilothouse-release"] == str(gateway.release)
    assert told.headers["x-pilothouse-cost-usd"] == "0.000020000"
    assert (turn.reply, turn.reply_by, turn.cost_nano) == (world.GOOD, "agent:acme", 20_000)
    [row] = gateway.rows(turn_id=turn.pk)
    assert (row.purpose, row.cost_nano) == ("turn", 20_000)
    [asked] = upstream.asked
    assert world.PROMPT in asked.system
    assert "within 30 days of delivery" in asked.system


def test_a_managed_turn_that_waits_for_a_person_says_so(gateway: Gateway, upstream: Upstream, case: str) -> None:
    told = gateway.client(x_pilothouse_case=case).chat.completions.with_raw_response.create(
        model="agent:acme", messages=say("I want to talk to a human being please.")
    )
    assert told.headers["x-pilothouse-outcome"] == "escalated"
    assert "colleague" in str(told.parse().choices[0].message.content)
    assert Turn.objects.get(case__ref=case).escalation is not None
    assert upstream.asked == []


def test_turns_with_the_same_case_header_are_one_case(gateway: Gateway, upstream: Upstream, case: str) -> None:
    client = gateway.client(x_pilothouse_case=case)
    upstream.always("small", Says(world.GOOD))
    for question in (world.QUESTION, "And who pays for the return parcel?"):
        client.chat.completions.create(model="agent:acme", messages=say(question))
    assert list(Turn.objects.filter(case__ref=case).order_by("number").values_list("number", flat=True)) == [1, 2]
    sent = [(message["role"], message["content"]) for message in upstream.asked[1].body["messages"][1:]]
    assert sent[:2] == [("user", world.QUESTION), ("assistant", world.GOOD)]


def test_what_was_said_before_comes_along_whatever_characters_it_holds(gateway: Gateway, upstream: Upstream) -> None:
    upstream.always("small", Says(world.GOOD))
    before = [*say("Hel\x00lo"), {"role": "assistant", "content": "Good\x00 day."}]
    gateway.client().chat.completions.create(model="agent:acme", messages=[*before, *say(world.QUESTION)])
    assert [message["content"] for message in upstream.asked[0].body["messages"][1:3]] == ["Hello", "Good day."]


# --- a rollback ------------------------------------------------------------------------------------------------------


def test_a_rollback_is_seen_by_the_very_next_call(gateway: Gateway, upstream: Upstream) -> None:
    channel = gateway.channel()
    scope = gateway.agent.channels.get(slug=channel.partition("/")[2]).scopes.get()
    good = scope.stable()
    assert good is not None
    bad = world.publish(gateway.agent, models=world.served_by(upstream.url), prompt=f"Careless {uuid.uuid4().hex}")
    client = gateway.client(x_pilothouse_channel=channel)

    def served() -> str:
        told = client.chat.completions.with_raw_response.create(model="small", messages=say("Hello"))
        return str(told.headers["x-pilothouse-release"])

    for _ in range(5):
        releases.deploy(scope, bad, actor="user:ada")
        assert served() == str(bad)
        releases.roll_back(scope, actor="user:ada", reason="It is careless.")
        assert served() == str(good)
    assert Call.objects.filter(channel=channel, status="expired").count() == 0
    assert len(gateway.rows(channel=channel)) == 10, "a call that began again is one call"
