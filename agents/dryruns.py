"""Dry runs: what a guardrail policy would have done to the messages of the last days. No model is asked.

A run goes over its turns in batches. Each batch is one transaction that adds what it found and moves the mark where the
next one begins, if nobody else has moved it: so a run can be broken off, delivered twice or cancelled at any moment.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from agents import snapshot
from agents.models import Agent, DryRun, DryRunChange, Release, Scope, Turn
from agents.models.dryrun import MOST_DAYS
from guardrails import screen
from guardrails.screen import Policy, Screening

MOST_MESSAGES = 50_000
MOST_CHANGES = 500
BATCH = 200  # turns
HISTORY = 12
STOPS = frozenset({"block", "escalate"})
ASKS = "ask"  # grey: a judge would have been asked


class Invalid(Exception):
    """The run cannot be started; the message says why in plain words."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a run comes to: how many messages more would be stopped, let through, redacted or put to a judge."""

    changed: int
    stopped: int
    passed: int
    redacted: int
    asked: int


@dataclass(frozen=True, slots=True)
class _Side:
    """The live release of a scope, and the two policies there."""

    live: snapshot.Live
    policies: tuple[Policy, Policy]


@dataclass(slots=True)
class _Found:
    """What one batch adds."""

    messages: int = 0
    transitions: Counter[str] = field(default_factory=Counter)
    more: Counter[str] = field(default_factory=Counter)
    fewer: Counter[str] = field(default_factory=Counter)
    changes: list[DryRunChange] = field(default_factory=list)

    def added_to(self, counts: Mapping[str, Any]) -> dict[str, dict[str, int]]:
        sums = {"transitions": self.transitions, "more": self.more, "fewer": self.fewer}
        return {name: dict(Counter(counts.get(name, {})) + found) for name, found in sums.items()}


def start(agent: Agent, content: Any, *, days: int, actor: str, scope: Scope | None = None) -> DryRun:
    """A waiting run, which Celery takes up once this has committed.

    :raises Invalid: the policy cannot be used, nothing is live, or another run of the agent is not over.
    """
    if not 1 <= days <= MOST_DAYS:
        raise Invalid(f"A dry run goes over 1 to {MOST_DAYS} days.")
    scopes = [scope] if scope else list(Scope.objects.with_names().filter(channel__agent=agent))
    try:
        for place in {snapshot.place_of(row.name) for row in scopes} | {""}:
            screen.compile_policy(content, place)
    except screen.PolicyError as error:
        raise Invalid(str(error)) from error
    live = {str(row.pk): release.pk for row in scopes if (release := row.stable())}
    if not live:
        raise Invalid("Nothing is live there, so there is nothing to compare with.")
    run = DryRun(agent=agent, scope=scope, content=content, live=live, days=days, actor=actor)
    run.total = _total(run)
    try:
        with transaction.atomic():
            run.save()
            transaction.on_commit(partial(_enqueue, run.pk))
    except IntegrityError as error:
        raise Invalid("Another dry run of this agent is not over yet.") from error
    return run


def _enqueue(pk: int) -> None:
    from agents.tasks import dry_run  # noqa: PLC0415  tasks import this module

    dry_run.delay(pk)


def cancel(run: DryRun) -> bool:
    """Stop it where it is; what it found stays. False when it was over already."""
    return _end(run.pk, DryRun.State.CANCELLED)


def proceed(pk: int) -> None:
    """Run it to its end, from wherever it is; one that is over stays as it is."""
    DryRun.objects.filter(pk=pk, state=DryRun.State.WAITING).update(state=DryRun.State.RUNNING)
    run = DryRun.objects.select_related("agent").filter(pk=pk, state=DryRun.State.RUNNING).first()
    if run is None:
        return
    try:
        sides = _sides(run)
    except screen.PolicyError as error:  # a rule that the policy names has gone since
        _end(pk, DryRun.State.FAILED, str(error))
        return
    while turns := list(_turns(run)[:BATCH]):
        if not _keep(run, turns, _screened(run, turns, sides)):
            return  # cancelled, or another delivery is ahead
        if run.done >= MOST_MESSAGES:
            break
    _end(pk, DryRun.State.DONE)


def told(run: DryRun) -> Told:
    pairs = [(*name.split(">"), n) for name, n in run.counts.get("transitions", {}).items()]

    def of(*after: str, stopped: bool | None = None) -> int:
        return sum(n for old, new, n in pairs if new in after and stopped in (None, old in STOPS))

    return Told(
        changed=sum(n for *_, n in pairs),
        stopped=of(*STOPS, stopped=False),
        passed=of("allow", "redact", stopped=True),
        redacted=of("redact", stopped=False),
        asked=of(ASKS),
    )


def _end(pk: int, state: DryRun.State, error: str = "") -> bool:
    ended = DryRun.objects.unfinished().filter(pk=pk)
    return bool(ended.update(state=state, finished_at=timezone.now(), error=error[:300]))


def _turns(run: DryRun) -> QuerySet[Turn]:
    """The turns that are still to be seen, newest first."""
    rows = Turn.objects.real().filter(
        scope_id__in=[int(pk) for pk in run.live],
        created_at__gt=run.at - timedelta(days=run.days),
        created_at__lte=run.at,
    )
    if run.turn_at is not None:
        rows = rows.filter(Q(created_at__lt=run.turn_at) | Q(created_at=run.turn_at, pk__lt=run.turn_id))
    return rows.order_by("-created_at", "-pk")


def _total(run: DryRun) -> int:
    """How many messages it will see: each turn's, and each draft."""
    found = _turns(run).order_by().aggregate(turns=Count("pk"), drafts=Count("pk", filter=~Q(draft="")))
    return int(min(found["turns"] + found["drafts"], MOST_MESSAGES))


def _sides(run: DryRun) -> dict[int, _Side]:
    """By scope: what is live there, and both policies as they are there."""
    releases = Release.objects.in_bulk(set(run.live.values()))
    sides = {}
    for scope in Scope.objects.with_names().filter(pk__in=[int(pk) for pk in run.live]):
        place = snapshot.place_of(scope.name)
        live = snapshot.compile_release(releases[run.live[str(scope.pk)]], place)
        sides[scope.pk] = _Side(live, (live.guardrails, screen.compile_policy(run.content, place)))
    return sides


def _screened(run: DryRun, turns: Sequence[Turn], sides: Mapping[int, _Side]) -> _Found:
    found, said = _Found(), _said(turns)
    for turn in turns:
        side = sides[turn.scope_id]
        old, new = (screen.inbound(turn.message, policy, languages=run.agent.languages) for policy in side.policies)
        _compare(run, found, turn, "inbound", old, new)
        if turn.draft:
            sources = [*_sources(turn), *said[turn.pk], *side.live.openings.values()]
            old, new = (_answer(turn.draft, side.live, policy, sources) for policy in side.policies)
            _compare(run, found, turn, "outbound", old, new)
    return found


def _answer(draft: str, live: snapshot.Live, policy: Policy, sources: Sequence[str]) -> Screening:
    """The draft as the path screens it."""
    return screen.outbound(draft, policy, system_prompt=live.prompt, canary=live.canary, sources=sources, grounded=True)


def _sources(turn: Turn) -> list[str]:
    return [str(one.get("text", "")) for one in turn.citations]


def _said(turns: Iterable[Turn]) -> dict[UUID, list[str]]:
    """What each turn's case had said up to it, as far as the path remembers: an answer may repeat it."""
    cases: dict[UUID, list[tuple[int, str, str]]] = defaultdict(list)
    drafted = [turn for turn in turns if turn.draft]
    lines = Turn.objects.filter(case__in={turn.case_id for turn in drafted}).order_by("number")
    for case, number, message, reply in lines.values_list("case_id", "number", "message", "reply"):
        cases[case].append((number, message, reply))
    return {
        turn.pk: [
            turn.message,
            *(text for row in cases[turn.case_id] if 0 < turn.number - row[0] <= HISTORY for text in row[1:]),
        ]
        for turn in drafted
    }


def _compare(run: DryRun, found: _Found, turn: Turn, stage: str, old: Screening, new: Screening) -> None:
    found.messages += 1
    before, after = _decision(old), _decision(new)
    if before == after:
        return
    rules_before, rules_after = _rules(old), _rules(new)
    found.transitions[f"{before}>{after}"] += 1
    found.more.update(set(rules_after) - set(rules_before))
    found.fewer.update(set(rules_before) - set(rules_after))
    acting = next((one for seen in (new, old) for one in seen.findings if one.rule in _rules(seen)), None)
    found.changes.append(
        DryRunChange(
            run=run,
            turn=turn,
            at=turn.created_at,
            stage=stage,
            before=before,
            after=after,
            rules_before=rules_before,
            rules_after=rules_after,
            excerpt=acting.excerpt if acting else "",
        )
    )


def _decision(seen: Screening) -> str:
    return ASKS if seen.grey else seen.action


def _rules(seen: Screening) -> list[str]:
    """The rules that decide: those that act, or, where none does, those that a judge is asked about."""
    acting = {one.rule for one in seen.findings if one.action != "allow"}
    return sorted(acting or ({one.rule for one in seen.findings} if seen.grey else set()))


@transaction.atomic
def _keep(run: DryRun, turns: Sequence[Turn], found: _Found) -> bool:
    """Add the batch and move the mark; False when the run is over or somebody else has moved it."""
    mark, done = turns[-1], min(run.done + found.messages, MOST_MESSAGES)
    here = DryRun.objects.filter(pk=run.pk, state=DryRun.State.RUNNING, turn_id=run.turn_id)
    counts, total = found.added_to(run.counts), max(run.total, done)
    if not here.update(turn_at=mark.created_at, turn_id=mark.pk, done=done, total=total, counts=counts):
        return False
    room = MOST_CHANGES - sum(run.counts.get("transitions", {}).values())
    DryRunChange.objects.bulk_create(found.changes[: max(0, room)])
    run.turn_at, run.turn_id, run.done, run.total, run.counts = mark.created_at, mark.pk, done, total, counts
    return True
