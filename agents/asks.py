"""What the doors hand to the pipeline, and what it hands back."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from agents.snapshot import Live, ScopeState
from budgets.ledger import Limit
from guardrails.policy import NOTHING, Private
from guardrails.screen import Screening, Seen


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf models are called: what the call log names, and the budgets that must have room."""

    scope: ScopeState
    live: Live
    epoch: int
    purpose: str = "gateway"
    case_ref: str = ""
    turn_id: str = ""
    key_prefix: str = ""
    key_limits: tuple[Limit, ...] = ()

    @property
    def limits(self) -> tuple[Limit, ...]:
        return self.scope.limits + self.key_limits

    def names(self) -> dict[str, str]:
        """The part of a log entry that does not change between attempts."""
        return {
            "purpose": self.purpose,
            "agent": self.scope.agent,
            "channel": self.scope.channel,
            "scope": self.scope.name,
            "release": self.live.name,
            "case_ref": self.case_ref,
            "turn_id": self.turn_id,
            "key_prefix": self.key_prefix,
        }


@dataclass(frozen=True, slots=True)
class Ask:
    """One customer message on a managed agent, with what the case already holds."""

    caller: Caller
    message: str
    history: Sequence[tuple[str, str]] = ()  # (customer | agent | person, text), oldest first, without this message
    language: str = ""
    topic: str = ""
    turn_number: int = 1
    clarified: int = 0
    returned: int = 0
    recent_contacts: int = 1
    tester: bool = False
    instruction: str = ""

    @property
    def scope(self) -> ScopeState:
        return self.caller.scope

    @property
    def live(self) -> Live:
        return self.caller.live

    @property
    def said(self) -> list[str]:
        """What was said in the case: repeating it to this customer leaks nothing and claims nothing new."""
        return [self.message, *(text for _, text in self.history)]

    def on(self, caller: Caller) -> Ask:
        return replace(self, caller=caller)


@dataclass(frozen=True, slots=True)
class Plain:
    """One plain gateway call in the wire format named `wire`: `wanted` is a concrete model or `auto`."""

    caller: Caller
    body: Mapping[str, Any]
    wanted: str = "auto"
    wire: str = "chat"

    def on(self, caller: Caller) -> Plain:
        return replace(self, caller=caller)


@dataclass(slots=True)
class Step:
    """One step while it runs; `path` has it when it ends, however it ends."""

    path: Path
    name: str
    result: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def say(self, result: str, **detail: Any) -> None:
        self.result = result
        self.detail.update(detail)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind and issubclass(kind, Exception):
            self.result = self.result or kind.__name__
        ms = round((time.perf_counter() - self.started) * 1000, 3)
        self.path.steps.append({"step": self.name, "ms": ms, "result": self.result, "detail": self.detail})


class Path:
    """The trace of a turn: each step with its milliseconds, its result and its evidence."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    def step(self, name: str) -> Step:
        return Step(self, name)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a turn. `reply` is what the customer may see now; `draft` what the agent would say.

    `findings`: (stage, what was seen, microseconds). `escalate`: what the queue needs to know, when a person is asked.
    """

    outcome: str
    reason: str
    rule: str
    language: str
    reply: str = ""
    reply_by: str = ""
    draft: str = ""
    confidence: float | None = None
    features: Mapping[str, Any] = field(default_factory=dict)
    reasons: Sequence[str] = ()
    citations: Sequence[Mapping[str, Any]] = ()
    findings: Sequence[tuple[str, Sequence[Seen], int]] = ()
    trace: Sequence[Mapping[str, Any]] = ()
    cost_nano: int = 0
    release: str = ""
    release_id: int | None = None
    policy_hash: str = ""
    private: Private = NOTHING
    escalate: Mapping[str, Any] | None = None

    def for_the_person_in_charge(self) -> Outcome:
        """The same without a word to the customer: a person has taken the case over and decides what is said."""
        if self.outcome in ("escalated", "withheld"):
            return replace(self, reply="", reply_by="")
        ask = without_model("owned_by_human", "A person took the case over while the agent was at work.", self.language)
        return replace(
            self, outcome="escalated", reply="", reply_by="", reason=ask.reason, rule=ask.rule, escalate=ask.escalate
        )


def without_model(edge: str, reason: str, language: str) -> Outcome:
    """A turn that goes to a person without any model being asked."""
    return Outcome(
        outcome="escalated",
        reason=edge,
        rule=f"system:{edge}",
        language=language,
        escalate={
            "kind": "case",
            "edge": edge,
            "reason": reason,
            "priority": 2,
            "queue": "default",
            "skill": "",
            "blind": False,
            "deadline_s": None,
            "on_timeout": "keep_waiting",
        },
    )


class Blocked(Exception):
    """A guardrail refuses the question (`stage` inbound) or the answer (outbound) of a plain call."""

    def __init__(self, stage: str, seen: Screening, message: str) -> None:
        super().__init__(message)
        self.stage = stage
        self.seen = seen


class Stale(Exception):
    """The configuration changed since this process looked; nothing was held or sent."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"epoch {epoch}")
        self.epoch = epoch


def new_call_id() -> str:
    return str(uuid.uuid4())
