"""Attempts at models: each holds its money before it is sent and settles once, with its line in the call log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from agents import bodies, holds, providers, routing, wire
from agents.asks import Caller, Path, Stale, new_call_id
from agents.connections import redis_async
from agents.lines import entry_of, findings_json, worst
from agents.parts import Model
from agents.providers import Completion, Delta, Failed, Request, Usage
from agents.providers.base import STREAM_S, estimate_tokens, tokens_in
from agents.retries import RETRIES
from budgets import ledger, prices
from budgets.ledger import Hold
from budgets.stream import ENTRY, STREAM, pack
from guardrails.screen import Screening

RETRY_PAUSE_S = 0.2
LONGEST_WAIT_S = 1.0  # a provider that wants to be left alone for longer is
SPARE_S = 60  # from the end of an attempt to its settlement, at the very most


class Degraded(Exception):
    """A budget is nearly used up: `choice`, a cheaper chain, serves instead."""

    def __init__(self, choice: routing.Choice) -> None:
        super().__init__(choice.rule)
        self.choice = choice


@dataclass(slots=True)
class Attempt:
    """One attempt at one model, from its hold to its settlement."""

    caller: Caller
    model: Model
    choice: routing.Choice
    hold: Hold
    input_bytes: int
    wire: wire.Wire
    at: datetime
    most_nano: int
    body: Mapping[str, Any]
    stream: bool = False
    started: float = field(default_factory=time.perf_counter)
    first_token: float | None = None
    completion: Completion | None = None
    screenings: list[tuple[str, Screening]] = field(default_factory=list)
    answers: dict[int, Screening] = field(default_factory=dict)  # of a plain call, by choice
    settled: bool = False
    cost_nano: int = 0
    left: str = ""  # of a stream: what the caller got

    async def settle(
        self,
        status: str = "ok",
        error: str = "",
        usage: Usage | None = None,
        *,
        error_class: str = "",
        worked: bool | None = True,
        pause_s: float = 0.0,
    ) -> int:
        """Give back the hold, charge what was used, write the call down; once. Returns nano-dollars.

        `worked` and `pause_s` are what the breaker learns of the provider.
        """
        if self.settled:
            return self.cost_nano
        self.settled = True
        usage = usage or (self.completion.usage if self.completion else Usage(0, 0))
        self.cost_nano = cost_of(self.model, usage)
        if status == "ok":
            holds.learn(self.model.name, self.most_nano, self.cost_nano)
        entry = self._entry(status, error, usage) | {"error_class": error_class}
        await ledger.settle(redis_async(), self.hold, self.cost_nano, entry, worked=worked, pause_s=pause_s)
        return self.cost_nano

    def wire_answer(self) -> dict[str, Any]:
        """The answer as the caller gets it: the model's name is ours, and what a guardrail took out is not in it."""
        assert self.completion is not None
        redacted = {n: seen.text for n, seen in self.answers.items() if seen.action == "redact"}
        raw = self.wire.said_instead(self.completion.raw, redacted) if redacted else self.completion.raw
        return {**raw, "model": self.model.name}

    @property
    def texts(self) -> list[str]:
        """What each choice of the answer says."""
        return self.wire.said(self.completion.raw) if self.completion else []

    def so_far(self, text: str, told: Usage | None = None) -> Usage:
        """The usage to charge when an answer broke off: the whole input, which some providers have `told` by then, and
        the tokens that came.
        """
        came = estimate_tokens(text) if text else 0
        if told is not None:
            return replace(told, output_tokens=max(told.output_tokens, came), counted=False)
        return Usage(tokens_in(self.input_bytes), came, counted=False)

    def _entry(self, status: str, error: str, usage: Usage) -> dict[str, str]:
        now = time.perf_counter()
        screenings = self.screenings + [("outbound", seen) for seen in self.answers.values() if seen.findings]
        certainty = self.model.price.certainty
        price = "estimated" if certainty == "exact" and not usage.counted else certainty
        return {
            **entry_of(self.caller, self.hold.call_id, self.hold.attempt, self.at),
            "provider": self.model.dialect,
            "model": self.model.name,
            "tier": self.choice.tier,
            "rule": self.choice.rule,
            "stream": "1" if self.stream else "",
            "status": status,
            "error": error[:300],
            "guardrail": worst(screenings),
            "findings": findings_json(screenings) if self.caller.purpose == "gateway" else "",
            "input_tokens": str(usage.input_tokens),
            "cached_tokens": str(usage.cached_tokens),
            "output_tokens": str(usage.output_tokens),
            "latency_ms": f"{(now - self.started) * 1000:.2f}",
            "ttft_ms": f"{(self.first_token - self.started) * 1000:.2f}" if self.first_token else "",
            # The budgets were charged at the ceiling; that is a bound, not what the call cost.
            "cost_nano": "" if price == "unknown" else str(self.cost_nano),
            "charged_nano": str(self.cost_nano),
            "price": price,
            "price_version": self.model.price.version,
            "largest_nano": self._largest(usage),
            **(self._bodies() if self.caller.scope.keeps_bodies else {}),
        }

    def _bodies(self) -> dict[str, str]:
        """Question and answer as the guardrails left them."""
        answer = orjson.dumps(self.wire_answer()).decode() if self.completion else self.left
        return {"request": orjson.dumps(self.body).decode()[: bodies.LONGEST], "response": answer[: bodies.LONGEST]}

    def _largest(self, usage: Usage) -> str:
        """What a call that the router placed would have cost at the largest tier."""
        if not self.choice.tier:
            return ""
        largest = self.caller.live.routes.largest
        return "" if largest.price.certainty == "unknown" else str(cost_of(largest, usage))


def cost_of(model: Model, usage: Usage) -> int:
    """Nano-dollars."""
    return prices.cost(
        model.price,
        usage.input_tokens,
        usage.cached_tokens,
        usage.output_tokens,
        usage.written_tokens,
        usage.long_written_tokens,
    )


async def write_blocked(caller: Caller, wanted: str, screenings: list[tuple[str, Screening]]) -> None:
    """A question that was refused reached no model, but is in the log all the same."""
    entry = {
        **entry_of(caller, new_call_id(), 1, datetime.now(UTC)),
        "model": wanted,
        "status": "blocked",
        "guardrail": worst(screenings),
        "findings": findings_json(screenings),
        "cost_nano": "0",
        "price": "exact",
    }
    await redis_async().xadd(STREAM, {ENTRY: pack(entry)})


async def reserve(
    caller: Caller,
    model: Model,
    choice: routing.Choice,
    request: Request,
    call_id: str,
    number: int,
    *,
    stream: bool = False,
) -> Attempt:
    """Hold the most that the attempt can cost in every budget that applies.

    :raises Exhausted: some budget has no room; nothing is held. :raises Stale: the configuration changed.
    :raises Open: the provider is left alone. :raises Degraded: a budget runs low, a cheaper tier serves.
    """
    most, size, tokens = most_nano(model, request)
    nano = most
    if caller.limits and all(limit.balanced for limit in caller.limits):
        nano = holds.usual(model.name, nano)
    at = datetime.now(UTC)
    entry = {
        **entry_of(caller, call_id, number, at),
        "model": model.name,
        "provider": model.dialect,
        "tier": choice.tier,
        "rule": choice.rule,
    }
    longest = STREAM_S if stream else max(caller.live.routes.timeout_s, model.timeout_s)
    try:
        hold = await ledger.reserve(
            redis_async(),
            call_id,
            number,
            nano,
            caller.limits,
            ttl_s=longest + SPARE_S,
            context=entry,
            circuit=model.circuit,
            tokens=tokens,
        )
    except ledger.Exhausted as error:
        if cheaper := routing.degraded(caller.live.routes, choice, 1.0):
            raise Degraded(cheaper) from error
        raise
    if hold.epoch > caller.epoch:
        await ledger.release(redis_async(), hold)
        raise Stale(hold.epoch)
    if cheaper := routing.degraded(caller.live.routes, choice, hold.pressure):
        await ledger.release(redis_async(), hold)
        raise Degraded(cheaper)
    PRESSURE[caller.scope.name] = hold.pressure
    return Attempt(caller, model, choice, hold, size, wire.of(request.wire), at, most, request.body, stream)


def most_nano(model: Model, request: Request) -> tuple[int, int, int]:
    """(nano-dollars, bytes, tokens): the most that the call can cost, its size, and about what it takes of a rate."""
    form = wire.of(request.wire)
    size = len(orjson.dumps(request.body))  # all of it: schemas of tools and of the answer are input, too
    output = form.output_limit(request.body, model.max_output_tokens)
    paid = size + form.unseen_tokens(request.body)
    nano = prices.upper_bound(model.price, paid, output, writes=model.dialect == "anthropic")
    return nano, size, tokens_in(size) + output


# The fullest budget's share used, by scope, as this process last heard it: what rules may route by.
PRESSURE: dict[str, float] = {}


def _line_up(choice: routing.Choice, retries: int) -> list[tuple[Model, bool]]:
    """The chain; its first model is there again, and marked so, before the next one is asked."""
    first, *others = choice.models
    return [(first, False), *[(first, True)] * retries, *((model, False) for model in others)]


def _worth_asking(again: bool, failure: Failed) -> bool:
    """A second try at the same model: not at one that is left alone, and only while retries are few."""
    return not again or (failure.kind != "open" and RETRIES.take())


def _time_for(model: Model, caller: Caller, deadline: float) -> float:
    """Seconds for the next attempt: the model's own time-out, and what is left of the time for all attempts."""
    return min(model.timeout_s or caller.live.routes.timeout_s, deadline - time.monotonic())


def not_asked(error: ledger.Open) -> Failed:
    return Failed("open", str(error), sent=False, retry_after=error.retry_s)


async def call(caller: Caller, choice: routing.Choice, request: Request, path: Path, made: list[Attempt]) -> Attempt:
    """The first attempt that answers, not settled yet; the failed ones before it are. All are appended to `made`.

    :raises Exhausted: before a model answered; Failed: the last failure when none did.
    """
    try:
        return await _call(caller, choice, request, path, made)
    except Degraded as down:
        return await _call(caller, down.choice, request, path, made)


async def _call(caller: Caller, choice: routing.Choice, request: Request, path: Path, made: list[Attempt]) -> Attempt:
    call_id, number, failure = new_call_id(), 0, Failed("client", "No model is configured.", sent=False)
    RETRIES.call()
    deadline = time.monotonic() + caller.live.routes.deadline_s
    for model, again in _line_up(choice, caller.live.routes.retries):
        if not _worth_asking(again, failure):
            continue
        within_s = _time_for(model, caller, deadline)
        if within_s <= 0:
            break
        number += 1
        if failure.sent:
            await asyncio.sleep(min(failure.retry_after, LONGEST_WAIT_S) or RETRY_PAUSE_S)
        with path.step("held") as step:
            try:
                attempt = await reserve(caller, model, choice, request, call_id, number)
            except ledger.Open as error:
                failure = not_asked(error)
                step.say("circuit open", model=model.name, retry_s=error.retry_s)
                continue
            except Degraded as down:
                step.say("degraded", model=model.name, tier=down.choice.tier, rule=down.choice.rule)
                raise
            made.append(attempt)
            step.say(
                f"${attempt.hold.nano / 1e9:.6f}",
                model=model.name,
                nano=attempt.hold.nano,
                pressure=attempt.hold.pressure,
            )
        try:
            with path.step("called") as step:
                attempt.completion = await providers.complete(model, request, within_s)
                usage = attempt.completion.usage
                step.say("ok", model=model.name, tokens=usage.output_tokens, input_tokens=usage.input_tokens)
        except Failed as error:
            path.steps[-1].update(result=error.kind, detail={"model": model.name, "error": str(error)})
            await settle_failure(attempt, error)
            failure = error
            if not error.retryable:
                break
        except BaseException:
            await asyncio.shield(attempt.settle("cancelled", usage=attempt.so_far(""), worked=None))
            raise
        else:
            return attempt
    raise failure


async def settle_failure(attempt: Attempt, error: Failed, text: str = "", told: Usage | None = None) -> None:
    """An attempt that broke off after it was sent is charged its input and what came; a refused one costs nothing."""
    broke_off = error.sent and error.kind in ("timeout", "cut", "garbage")
    status = "timeout" if error.kind == "timeout" else "error"
    await attempt.settle(
        status,
        str(error),
        attempt.so_far(text, told) if broke_off else Usage(0, 0),
        error_class=error.kind,
        worked=False if error.retryable else None,
        pause_s=error.retry_after if error.retry_after > LONGEST_WAIT_S else 0.0,
    )


async def open_stream(caller: Caller, choice: routing.Choice, request: Request) -> tuple[Attempt, AsyncIterator[Delta]]:
    """An attempt whose first piece has arrived, and its pieces. Until then a failure fails over unseen."""
    try:
        return await _open_stream(caller, choice, request)
    except Degraded as down:
        return await _open_stream(caller, down.choice, request)


async def _open_stream(
    caller: Caller, choice: routing.Choice, request: Request
) -> tuple[Attempt, AsyncIterator[Delta]]:
    call_id, number, failure = new_call_id(), 0, Failed("client", "No model is configured.", sent=False)
    RETRIES.call()
    deadline = time.monotonic() + caller.live.routes.deadline_s
    for model, again in _line_up(choice, caller.live.routes.retries):
        if not _worth_asking(again, failure):
            continue
        within_s = _time_for(model, caller, deadline)
        if within_s <= 0:
            break
        number += 1
        try:
            attempt = await reserve(caller, model, choice, request, call_id, number, stream=True)
        except ledger.Open as error:
            failure = not_asked(error)
            continue
        deltas = providers.stream(model, request, within_s)
        try:
            first = await anext(deltas)
        except StopAsyncIteration:
            failure = Failed("cut", "The provider ended the stream before the answer began.")
            await settle_failure(attempt, failure)
        except Failed as error:
            failure = error
            await settle_failure(attempt, error)
            if not error.retryable:
                break
        except BaseException:
            await asyncio.shield(attempt.settle("cancelled", usage=attempt.so_far(""), worked=None))
            raise
        else:
            attempt.first_token = time.perf_counter()
            return attempt, _from(first, deltas)
    raise failure


async def _from(first: Delta, rest: AsyncIterator[Delta]) -> AsyncIterator[Delta]:
    yield first
    async for delta in rest:
        yield delta
