"""Streams: they break, they are abandoned, and what must not leave does not leave in pieces either."""

from __future__ import annotations

import json
import time

import openai
import pytest

from agents.connections import redis_sync
from agents.models import Turn
from guardrails.models import Finding
from tests import world
from tests.console.gateway.conftest import Gateway, Raw, say
from tests.upstream import Bytes, Cuts, Fails, Says, Upstream

STORY = "".join(f"Sentence number {n} of a long and harmless story about parcels. " for n in range(60))
MAIL = "Write to anna.kowalska@example.com for that. "


def streamed(raw: Raw) -> str:
    """All text that left, of the first choice."""
    return "".join(texts(raw).get(0, []))


def texts(raw: Raw) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for event in events(raw):
        for choice in event.get("choices", ()):
            found.setdefault(choice["index"], []).append(choice["delta"].get("content") or "")
    return found


def events(raw: Raw) -> list[dict[str, object]]:
    lines = [line[6:] for line in raw.content.split(b"\n\n") if line.startswith(b"data: ")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


def ask(model: str, stream: bool = True, **fields: object) -> bytes:
    return json.dumps({"model": model, "messages": say("Tell me a story."), "stream": stream, **fields}).encode()


# --- whole answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wants_usage", [False, True])
@pytest.mark.parametrize("piece", [1, 7, 400, 100_000])
def test_a_stream_says_what_the_model_said(
    gateway: Gateway, upstream: Upstream, case: str, piece: int, wants_usage: bool
) -> None:
    upstream.script("small", Says(STORY[:1_500], usage=(7, 300, 0), piece=piece))
    options = {"stream_options": {"include_usage": True}} if wants_usage else {}
    chunks = list(
        gateway.client(x_pilothouse_case=case).chat.completions.create(
            model="small",
            messages=say("Tell me a story."),
            stream=True,
            **options,  # type: ignore[call-overload]
        )
    )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == STORY[:1_500]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == ([300] if wants_usage else [])
    [row] = gateway.rows(case_ref=case)
    assert (row.stream, row.status, row.input_tokens, row.output_tokens) == (True, "ok", 7, 300)
    assert (row.cost_nano, row.price) == (7 * 1_000 + 300 * 2_000, "exact")
    assert row.ttft_ms is not None
    assert 0 < row.ttft_ms <= row.latency_ms


def test_the_first_words_leave_before_the_last_ones_are_there(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script("small", Says(STORY, piece=200, pause=0.05))
    began = time.monotonic()
    stream = gateway.client().chat.completions.create(model="small", messages=say("Go on."), stream=True)
    at = [time.monotonic() - began for chunk in stream if chunk.choices[0].delta.content]
    assert at[0] < at[-1] / 2


def test_tool_calls_pass_as_they_came(gateway: Gateway, upstream: Upstream) -> None:
    call = {"index": 0, "id": "1", "type": "function", "function": {"name": "look_up", "arguments": '{"order": 1}'}}
    lines = [
        {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "small", "choices": [choice]}
        for choice in (
            {"index": 0, "delta": {"role": "assistant", "content": None, "tool_calls": [call]}, "finish_reason": None},
            {"index": 0, "delta": {}, "finish_reason": "tool_calls"},
        )
    ]
    body = b"".join(b"data: " + json.dumps(line).encode() + b"\r\n\r\n" for line in lines) + b"data: [DONE]\r\n\r\n"
    upstream.script("small", Bytes(b": a comment\r\n\r\n" + body, "text/event-stream"))
    chunks = list(gateway.client().chat.completions.create(model="small", messages=say("Go on."), stream=True))
    assert [c.function.arguments for chunk in chunks for c in chunk.choices[0].delta.tool_calls or ()] == [
        '{"order": 1}'
    ]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


# --- broken answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("politely", [False, True])
def test_a_stream_that_breaks_off_is_never_closed_as_if_it_were_whole(
    gateway: Gateway, upstream: Upstream, case: str, politely: bool
) -> None:
    upstream.script("small", Cuts(STORY, politely=politely))
    raw = gateway.send(ask("auto"), x_pilothouse_case=case)
    assert raw.status == 200
    assert b"[DONE]" not in raw.content
    assert events(raw)[-1]["error"]["code"] == "service_degraded"  # type: ignore[index]
    assert STORY.startswith(streamed(raw))
    assert upstream.models() == ["small"], "what began is not begun again by another model"
    [row] = gateway.rows(case_ref=case)
    assert (row.status, row.price) == ("error", "estimated")
    assert row.cost_nano == row.input_tokens * 1_000 + row.output_tokens * 2_000
    assert row.output_tokens >= len(STORY) / 6


def test_the_official_client_is_told_that_a_stream_broke(gateway: Gateway, upstream: Upstream) -> None:
    upstream.script("small", Cuts(STORY))
    with pytest.raises(openai.APIError, match="No model could answer"):
        list(gateway.client().chat.completions.create(model="small", messages=say("Go on."), stream=True))


@pytest.mark.parametrize("broken", [Fails(500), Cuts("", politely=True), Cuts(""), Bytes(b"data: {\n\n")], ids=str)
def test_a_stream_that_never_began_is_begun_by_the_next_model(
    gateway: Gateway, upstream: Upstream, case: str, broken: Cuts
) -> None:
    upstream.script("small", broken)
    upstream.script("big", Says("Here it is."))
    raw = gateway.send(ask("auto"), x_pilothouse_case=case)
    assert streamed(raw) == "Here it is."
    assert raw.content.endswith(b"data: [DONE]\n\n")
    assert [(row.model, row.attempt, row.status) for row in gateway.rows(case_ref=case)] == [
        ("small", 1, "error"),
        ("big", 2, "ok"),
    ]


def test_who_hangs_up_pays_what_was_said_and_the_provider_is_let_go(
    gateway: Gateway, upstream: Upstream, case: str
) -> None:
    upstream.script("small", Says(STORY * 20, piece=60, pause=0.01))
    stream = gateway.client(x_pilothouse_case=case).chat.completions.create(
        model="small", messages=say("Tell me a story."), stream=True
    )
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    stream.close()
    [row] = gateway.wait_for_rows(1, case_ref=case)
    assert (row.status, row.price, row.stream) == ("cancelled", "estimated", True)
    assert row.cost_nano == row.input_tokens * 1_000 + row.output_tokens * 2_000
    assert 0 < row.output_tokens < len(STORY) * 4
    assert redis_sync().zcard("ph:holds") == 0
    until = time.monotonic() + 5
    while not upstream.asked[0].hung_up and time.monotonic() < until:
        time.sleep(0.02)
    assert upstream.asked[0].hung_up, "the provider would go on and charge for it"


def test_thirty_who_hang_up_at_once_leave_thirty_rows(gateway: Gateway, upstream: Upstream, case: str) -> None:
    upstream.always("small", Says(STORY * 20, piece=60, pause=0.01))
    client = gateway.client(x_pilothouse_case=case)
    streams = [client.chat.completions.create(model="small", messages=say("Go."), stream=True) for _ in range(30)]
    for stream in streams:
        stream.close()
    rows = gateway.wait_for_rows(30, case_ref=case)
    assert len(rows) == len({row.call_id for row in rows}) == 30
    assert {row.status for row in rows} == {"cancelled"}
    assert redis_sync().zcard("ph:holds") == 0


# --- what must not leave ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("piece", [1, 12, 10_000])
def test_the_releases_marker_does_not_leave(
    gateway: Gateway, upstream: Upstream, case: str, stream: bool, piece: int
) -> None:
    upstream.script("small", Says(f"{STORY[:600]} {gateway.release.canary} {STORY[:600]}", piece=piece))
    raw = gateway.send(ask("small", stream), x_pilothouse_case=case)
    assert all(part not in raw.content.decode() for part in (gateway.release.canary, gateway.release.canary[:12]))
    assert not stream or b"[DONE]" not in raw.content
    assert b"content_filter" in raw.content
    [row] = gateway.rows(case_ref=case)
    assert row.guardrail == "blocked"
    assert row.cost_nano
    assert Finding.objects.filter(call_id=row.call_id, stage="outbound", family="canary").count() == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("piece", [1, 5, 12, 10_000])
def test_personal_data_is_taken_out_of_an_answer(
    gateway: Gateway, upstream: Upstream, case: str, stream: bool, piece: int
) -> None:
    said = f"{STORY[:230]}{MAIL}{STORY[:700]}{MAIL}{STORY[:90]}"
    upstream.script("small", Says(said, piece=piece))
    raw = gateway.send(ask("small", stream), x_pilothouse_case=case)
    text = streamed(raw) if stream else json.loads(raw.content)["choices"][0]["message"]["content"]
    assert "kowalska" not in raw.content.decode()
    before, between, after = text.split("Write to ")
    assert (before, between.partition(" for that. ")[2]) == (STORY[:230], STORY[:700])
    assert after.endswith(STORY[:90])
    assert [row.guardrail for row in gateway.rows(case_ref=case)] == ["redacted"]


@pytest.mark.parametrize("stream", [False, True])
def test_further_choices_are_screened_like_the_first(
    gateway: Gateway, upstream: Upstream, case: str, stream: bool
) -> None:
    others = (f"{STORY[:300]}{MAIL}", "A third one.")
    upstream.script("small", Says("The first one.", others=others))
    raw = gateway.send(ask("small", stream, n=3), x_pilothouse_case=case)
    assert "kowalska" not in raw.content.decode()
    found = (
        {n: "".join(parts) for n, parts in texts(raw).items()}
        if stream
        else {c["index"]: c["message"]["content"] for c in json.loads(raw.content)["choices"]}
    )
    assert (found[0], found[2]) == ("The first one.", "A third one.")
    assert found[1].startswith(f"{STORY[:300]}Write to ")
    assert [row.guardrail for row in gateway.rows(case_ref=case)] == ["redacted"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_further_choice_that_leaks_takes_the_whole_answer_back(
    gateway: Gateway, upstream: Upstream, stream: bool
) -> None:
    upstream.script("small", Says("The first one.", others=(f"It is {gateway.release.canary}.",)))
    raw = gateway.send(ask("small", stream, n=2))
    assert gateway.release.canary not in raw.content.decode()
    assert b"content_filter" in raw.content


@pytest.mark.parametrize("stream", [False, True])
def test_an_agents_prompt_does_not_leave(gateway: Gateway, upstream: Upstream, case: str, stream: bool) -> None:
    upstream.script("small", Says(lambda asked: f"Gladly. My orders: {asked.system}"))
    body = {"model": "agent:acme", "messages": say(world.QUESTION), "stream": stream}
    raw = gateway.send(json.dumps(body).encode(), x_pilothouse_case=case)
    assert raw.headers["x-pilothouse-outcome"] == "escalated"
    assert b"heliotrope" not in raw.content
    assert gateway.release.canary.encode() not in raw.content
    turn = Turn.objects.get(case__ref=case)
    assert (turn.outcome, turn.reason) == ("escalated", "guardrail_out")
    assert "heliotrope" not in turn.reply
    assert turn.cost_nano > 0
