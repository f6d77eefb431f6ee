"""THE HOT PATH. Screen the question → reserve the money → choose the model → call it (retry, fall back) → screen the
answer → judge confidence → answer, clarify or escalate by the edge rules and the stage → settle the money and write
the call down. `answer` walks it for a managed turn, `forward` and `forward_stream` for a plain call of the gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any

from agents import attempts, conversations, judging, knowledge, routing, snapshot, wire
from agents.asks import Ask, Blocked, Caller, Outcome, Path, Plain, Stale
from agents.attempts import Attempt
from agents.known import Known
from agents.prompting import MAX_SOURCES, as_screened, compose, is_json, question_of, questions_in, retrieval_question
from agents.providers import Delta, Failed, Request, Usage
from agents.routing import UnknownModel
from agents.streams import LookBacks
from budgets.ledger import Exhausted, Limited
from escalations import edges
from guardrails import screen
from guardrails.rules import ACTIONS
from guardrails.screen import Screening


async def answer(ask: Ask) -> Outcome:
    """What becomes of one customer message. What customers, models and budgets can do is an outcome, not an error.

    :raises Unavailable: Redis is away, so no money can be held.
    """
    while True:
        try:
            return await _walk(ask)
        except Stale as change:  # a rollback arrived before the first call: begin again with what is live now
            ask = ask.on(await _current(ask.caller, change.epoch))


async def _walk(ask: Ask) -> Outcome:
    path, known = Path(), Known(ask)
    with path.step("screened") as step:
        seen = screen.inbound(ask.message, ask.live.guardrails, languages=ask.scope.languages)
        known.screen_question(await judging.judged(ask.caller, "inbound", seen, ask.message, known.judges))
        step.say(
            known.inbound.action, language=known.language, us=known.inbound.us, findings=len(known.inbound.findings)
        )
    if not known.needs_a_person_first:
        with path.step("retrieved") as step:
            known.sources = await _retrieve(ask, known)
            step.say(
                f"{len(known.sources)} passages", sources=[hit.citation(n) for n, hit in enumerate(known.sources, 1)]
            )
        await _draft(ask, known, path)
    with path.step("decided") as step:
        verdict = edges.judge(ask.live.edges, known.facts())
        step.say(verdict.action, edge=verdict.edge, rule=verdict.rule, fired=list(verdict.fired), stage=ask.scope.stage)
    with path.step("settled") as step:
        cost_nano = await known.settle()
        step.say(f"{len(known.attempts)} calls", cost_nano=cost_nano)
    return known.outcome(verdict, path, cost_nano)


async def _retrieve(ask: Ask, known: Known) -> list[knowledge.Hit]:
    """Passages of the live knowledge version that pass their own screening: documents, too, can carry orders."""
    languages = [known.language, *(language for language in ask.scope.languages if language != known.language)]
    hits = await knowledge.search(ask.live.knowledge_id, retrieval_question(ask), languages, ask.topic, MAX_SOURCES)
    seen = [screen.passage(hit.text, ask.live.guardrails) for hit in hits]
    judged = await asyncio.gather(
        *(
            judging.judged(ask.caller, "passage", one, hit.text, known.judges)
            for one, hit in zip(seen, hits, strict=True)
        )
    )
    return [hit for hit, one in zip(hits, judged, strict=True) if known.screen_passage(one)]


async def _draft(ask: Ask, known: Known, path: Path) -> None:
    """Reserve, choose, call, screen, judge. What fails here is a fact for the edge rules."""
    request = compose(ask, known.language, known.inbound.text, known.sources)
    try:
        with path.step("routed") as step:
            kept = await conversations.tier_of(ask.caller)
            choice = routing.choose(ask.live.routes, known.route_facts(), kept=kept)
            step.say(choice.models[0].name, **choice.told(ask.live.routes))
        await attempts.call(ask.caller, choice, request, path, known.attempts)
    except Exhausted as error:
        known.exhausted = error
    except Limited as error:
        known.failure = Failed("rate_limit", str(error), retry_after=error.retry_s, sent=False)
    except Failed as error:
        known.failure = error
    else:
        known.judge(path)
        choice = await _ask_larger(ask, known, choice, request, path)
        await conversations.keep_tier(ask.caller, choice)


async def _ask_larger(ask: Ask, known: Known, choice: routing.Choice, request: Request, path: Path) -> routing.Choice:
    """An answer that cannot be used is asked for once more, one tier up where there is one, else of the same model
    where the policy wants that. Without money or model the first one stays.
    """
    larger = _next(ask.caller, choice, known.unfit, known.withheld, again=True)[0]
    if larger is None:
        return choice
    with path.step("routed") as step:
        step.say(larger.models[0].name, **larger.told(ask.live.routes))
    try:
        await attempts.call(ask.caller, larger, request, path, known.attempts)
    except (Exhausted, Limited, Failed):
        return choice
    known.judge(path)
    return larger


async def forward(plain: Plain) -> Attempt:
    """A plain call, answered whole: guarded, budgeted and written down like every other. The attempt is settled.

    :raises Blocked: question or answer refused; Exhausted: no money; Failed: no model answered; UnknownModel.
    """
    while True:
        try:
            return await _forward(plain)
        except Stale as change:
            plain = plain.on(await _current(plain.caller, change.epoch))


async def _forward(plain: Plain) -> Attempt:
    request, screenings = await _screened(plain)
    choice: routing.Choice | None = await _choose(plain, request.language)
    again = True
    while choice is not None:
        serving, attempt = choice, await attempts.call(plain.caller, choice, request, Path(), [])
        try:
            attempt.screenings += [one for one in screenings if one[1].findings]
            withheld = _withheld(plain, attempt)
        finally:
            await attempt.settle()
        why = "withheld answer" if withheld else "malformed answer" if not _well_formed(plain, attempt) else ""
        choice, again = _next(plain.caller, serving, why, withheld, again=again)
    await conversations.keep_tier(plain.caller, serving)
    if withheld:
        raise Blocked("outbound", withheld, "The answer was withheld by a guardrail.")
    return attempt


def _next(
    caller: Caller, choice: routing.Choice, why: str, withheld: Screening | None, *, again: bool
) -> tuple[routing.Choice | None, bool]:
    """What is asked for an answer that cannot be used: a larger tier, or, once, the same where the policy says so."""
    if why and (larger := routing.larger(caller.live.routes, choice, why)):
        return larger, again
    if withheld and again and screen.regenerates(withheld, caller.live.guardrails):
        return replace(choice, rule="asked again"), False
    return None, again


async def _choose(plain: Plain, language: str) -> routing.Choice:
    """:raises UnknownModel: there is none of that name, not even in the newest configuration; Stale: there may be."""
    caller = plain.caller
    kept = await conversations.tier_of(caller) if plain.wanted == "auto" else ""
    facts = _facts(plain, language) if plain.wanted == "auto" else {}
    try:
        return routing.choose(caller.live.routes, facts, plain.wanted, kept=kept, embeds=plain.wire == "embeddings")
    except UnknownModel:
        if now := await snapshot.newer(caller.epoch):
            raise Stale(now.epoch) from None
        raise


def _facts(plain: Plain, language: str) -> dict[str, Any]:
    pressure = attempts.PRESSURE.get(plain.caller.scope.name, 0.0)
    return {**question_of(plain, language), "pressure": pressure}


def _withheld(plain: Plain, attempt: Attempt) -> Screening | None:
    """Why the answer must not leave, if so; every text of it is screened."""
    seen_all = [_screen_answer(plain, attempt, number, text) for number, text in enumerate(attempt.texts)]
    return next((seen for seen in seen_all if seen.action in ("block", "escalate")), None)


def _well_formed(plain: Plain, attempt: Attempt) -> bool:
    """Whether the answer is JSON where the caller asked for that."""
    wanted = (plain.body.get("response_format") or {}).get("type") if plain.wire == "chat" else ""
    return wanted not in ("json_object", "json_schema") or all(map(is_json, filter(None, attempt.texts)))


async def forward_stream(plain: Plain) -> tuple[Attempt, AsyncIterator[Delta]]:
    """A plain call, streamed: the pieces leave when nothing forbidden can begin in them any more.

    Raises as `forward` does until the first piece; after it the iterator raises `Blocked` or `Failed`. Where the policy
    wants whole answers, everything that can go wrong has gone wrong, or been made good, before the first piece.
    """
    if plain.caller.live.guardrails.whole_answers:
        whole = await forward(plain)
        return whole, _pieces_of(whole)
    while True:
        try:
            request, screenings = await _screened(plain)
            choice = await _choose(plain, request.language)
            attempt, deltas = await attempts.open_stream(plain.caller, choice, request)
            attempt.screenings += [one for one in screenings if one[1].findings]
            await conversations.keep_tier(plain.caller, choice)
            return attempt, _guarded(plain, attempt, deltas)
        except Stale as change:
            plain = plain.on(await _current(plain.caller, change.epoch))


async def _pieces_of(attempt: Attempt) -> AsyncIterator[Delta]:
    for raw in attempt.wire.streamed(attempt.wire_answer()):
        yield Delta(raw)


async def _guarded(plain: Plain, attempt: Attempt, deltas: AsyncIterator[Delta]) -> AsyncIterator[Delta]:
    """The stream behind a look-back buffer, settled however it ends: done, cut, blocked or abandoned by the client."""
    buffer = LookBacks(wire.of(plain.wire), partial(_screen_answer, plain, attempt))
    usage: Usage | None = None
    try:
        async for delta in deltas:
            usage = delta.usage or usage
            for piece in buffer.push(delta):
                attempt.left += piece.text
                yield piece
        for piece in buffer.flush():
            attempt.left += piece.text
            yield piece
    except Failed as error:
        await attempts.settle_failure(attempt, error, buffer.seen, usage)
        raise
    except Blocked:
        await attempt.settle(usage=attempt.so_far(buffer.seen, usage))
        raise
    except (asyncio.CancelledError, GeneratorExit):
        await asyncio.shield(attempt.settle("cancelled", usage=attempt.so_far(buffer.seen, usage), worked=None))
        raise
    await attempt.settle(usage=usage or attempt.so_far(buffer.seen))


async def _screened(plain: Plain) -> tuple[Request, list[tuple[str, Screening]]]:
    """The call with its user and tool texts screened: refused, or redacted in place; the screenings by stage."""
    caller = plain.caller
    asked: list[Attempt] = []
    questions = [
        (part, await judging.judged(caller, part.stage, seen, part.text, asked)) for part, seen in questions_in(plain)
    ]
    body, screenings = as_screened(plain, questions)
    stage, worst = max(screenings, key=lambda one: ACTIONS.index(one[1].action))
    if worst.action in ("block", "escalate"):
        await attempts.write_blocked(caller, plain.wanted, screenings)
        raise Blocked(stage, worst, screen.refusal(caller.live.guardrails, screenings[0][1].language))
    return Request(body, language=screenings[0][1].language, wire=plain.wire), screenings


def _screen_answer(plain: Plain, attempt: Attempt, choice: int, text: str) -> Screening:
    seen = screen.outbound(text, plain.caller.live.guardrails, canary=plain.caller.live.canary)
    if seen.findings:
        attempt.answers[choice] = seen
    return seen


async def _current(caller: Caller, epoch: int) -> Caller:
    """The same caller on the configuration that is live now."""
    now = await snapshot.current(epoch)
    scope = now.scopes[caller.scope.name]
    return replace(caller, scope=scope, live=scope.live_for(caller.case_ref) or caller.live, epoch=now.epoch)
