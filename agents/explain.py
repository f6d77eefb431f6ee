"""What would happen to a message, and why: the path without its calls. Nothing is sent, held or written down.

And the opposite, to see whether a model answers at all: one small call, budgeted and written down like every other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agents import attempts, conversations, routing
from agents.asks import Caller, Path, Plain
from agents.connections import redis_sync
from agents.parts import Model
from agents.prompting import as_screened, question_of, questions_in
from agents.providers import Failed, Request
from agents.routing import Choice
from budgets import ledger
from budgets.ledger import Exhausted, Limited, Unavailable
from guardrails.rules import ACTIONS
from guardrails.screen import Screening


@dataclass(frozen=True, slots=True)
class Hop:
    """One model of the chain. `left_alone_s`: its breaker is open for so long; `most_nano`: what would be held."""

    model: Model
    most_nano: int
    left_alone_s: float | None


@dataclass(frozen=True, slots=True)
class Money:
    """One budget. `fits`: the first hop's hold has room in it."""

    key: str
    period: str
    limit_nano: int
    spent_nano: int
    held_nano: int
    fits: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """`outcome`: "sent", "guardrail" (refused before a model), "budget" (no room), "provider" (all are left alone)."""

    outcome: str
    release: str
    facts: Mapping[str, Any]
    inbound: Screening
    choice: Choice
    degraded: Choice | None
    others: Mapping[str, list[str]]
    hops: tuple[Hop, ...]
    budgets: tuple[Money, ...]


async def explain(plain: Plain) -> Explanation:
    """:raises UnknownModel: a model that the live release does not define. :raises Unavailable: Redis is away."""
    caller = plain.caller
    body, screenings = as_screened(plain, questions_in(plain))
    language, inbound = screenings[0][1].language, max(screenings, key=lambda one: ACTIONS.index(one[1].action))[1]
    kept = await conversations.tier_of(caller) if plain.wanted == "auto" else ""
    balances = await asyncio.to_thread(ledger.balances, redis_sync(), caller.limits)
    now = time.time()
    used = [(found.spent_nano + found.held_nano) / max(1, limit.at(now)) for limit, found in balances.items()]
    full = max(used, default=0.0)
    facts = {**question_of(plain, language), "pressure": round(full, 4)}
    choice = routing.choose(caller.live.routes, facts, plain.wanted, kept=kept)
    degraded = routing.degraded(caller.live.routes, choice, full)
    circuits = await asyncio.to_thread(ledger.open_circuits, redis_sync())
    request = Request(body, wire=plain.wire)
    hops = tuple(
        Hop(model, attempts.most_nano(model, request)[0], circuits.get(model.circuit))
        for model in (degraded or choice).models
    )
    budgets = tuple(
        Money(
            limit.key,
            limit.period,
            limit.at(now),
            found.spent_nano,
            found.held_nano,
            found.spent_nano + found.held_nano + hops[0].most_nano <= limit.at(now) or not hops[0].most_nano,
        )
        for limit, found in balances.items()
    )
    told = (degraded or choice).told(caller.live.routes)
    return Explanation(
        outcome=_outcome(inbound, hops, budgets),
        release=caller.live.name,
        facts=facts,
        inbound=inbound,
        choice=choice,
        degraded=degraded,
        others=told["others"],
        hops=hops,
        budgets=budgets,
    )


def _outcome(inbound: Screening, hops: tuple[Hop, ...], budgets: tuple[Money, ...]) -> str:
    if inbound.action in ("block", "escalate"):
        return "guardrail"
    if not all(budget.fits for budget in budgets):
        return "budget"
    return "provider" if all(hop.left_alone_s for hop in hops) else "sent"


# --- does it answer? -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one small call. `problem` is empty when the model answered."""

    model: str
    ms: float
    text: str
    nano: int
    problem: str


PROBE = {"messages": [{"role": "user", "content": "Answer with the one word: ready"}], "max_tokens": 16}
EMBEDDED = {"input": "ready"}


async def try_model(caller: Caller, name: str) -> Tried:
    """:raises UnknownModel: the live release does not define it."""
    model = caller.live.routes.models.get(name)
    if model is None:
        raise routing.UnknownModel(name)
    caller = replace(caller, purpose="test")
    request = Request(EMBEDDED, wire="embeddings") if model.embeds else Request(PROBE)
    began = time.perf_counter()
    try:
        attempt = await attempts.call(caller, Choice("", "connection test", (model,)), request, Path(), [])
        nano = await attempt.settle()
    except (Failed, Exhausted, Limited, Unavailable, ledger.Open) as error:
        return Tried(name, (time.perf_counter() - began) * 1000, "", 0, str(error))
    text = (attempt.texts or [""])[0]
    return Tried(name, (time.perf_counter() - began) * 1000, text[:200], nano, "")
