"""What a walk down the path has learnt so far: the facts that the edge rules judge, and the outcome made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from agents import confidence
from agents.asks import Ask, Outcome, Path
from agents.attempts import PRESSURE, Attempt
from agents.knowledge import Hit
from agents.knowledge.text import content_lemmas
from agents.prompting import declines
from agents.providers import Failed
from budgets.ledger import Exhausted
from escalations import edges
from guardrails import screen
from guardrails.screen import Screening, Seen

OUT_OF_SCOPE_SCORE = 0.16
AMBIGUOUS_MARGIN = 0.10
AMBIGUOUS_BAND = (0.20, 0.50)
AMBIGUOUS_WORDS = 4
EVEN_MARGIN = 0.02
EVEN_WORDS = 3
LOW_PRESSURE = 0.95


class Known:
    """The state of one walk; each step fills its part."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.language = ask.language or (ask.scope.languages or ("en",))[0]
        self.inbound: Screening
        self.sources: list[Hit] = []
        self.passage_seen: list[Seen] = []
        self.attempts: list[Attempt] = []
        self.judges: list[Attempt] = []  # attempts at asking a judge, settled
        self.exhausted: Exhausted | None = None
        self.failure: Failed | None = None
        self.outbound: Screening | None = None
        self.features: confidence.Features | None = None
        self.confidence: float | None = None

    def screen_question(self, seen: Screening) -> None:
        self.inbound = seen
        self.signals = edges.signals(self.ask.message, seen.language)
        if (
            seen.covered
            and seen.language != "?"
            and (seen.language in self.ask.scope.languages or not self.ask.language)
        ):
            self.language = seen.language

    def screen_passage(self, seen: Screening) -> bool:
        """Whether the passage may be shown to a model."""
        self.passage_seen.extend(seen.findings)
        return seen.action in ("allow", "redact")

    @property
    def needs_a_person_first(self) -> bool:
        """No model is asked when the answer could not be used anyway."""
        return (
            self.inbound.action in ("block", "escalate")
            or not self.inbound.covered
            or self.ask.scope.paused
            or (self.ask.scope.stage == "pilot" and not self.ask.tester)
            or self.signals.asked_for_person
            or self.signals.legal
        )

    def route_facts(self) -> dict[str, Any]:
        return {
            "topic": self.ask.topic,
            "language": self.language,
            "input_chars": len(self.ask.message),
            "turn_number": self.ask.turn_number,
            "tools": False,
            "pressure": PRESSURE.get(self.ask.scope.name, 0.0),
        }

    def judge(self, path: Path) -> None:
        """Screen the answer of the attempt that succeeded, then say how far it can be trusted."""
        live = self.ask.live
        completion = self.attempts[-1].completion
        assert completion is not None
        if declines(completion.text):
            completion = replace(completion, unsupported=True)
        if (opening := live.openings.get(self.language)) and not completion.unsupported:
            completion = replace(completion, text=f"{opening} {completion.text}")
        with path.step("screened_answer") as step:
            self.outbound = screen.outbound(
                completion.text,
                live.guardrails,
                system_prompt=live.prompt,
                canary=live.canary,
                sources=[*(hit.text for hit in self.sources), *self.ask.said, *live.openings.values()],
                grounded=True,
            )
            step.say(self.outbound.action, us=self.outbound.us, findings=len(self.outbound.findings))
        with path.step("judged") as step:
            self.features = confidence.features(completion, self.sources, self.language)
            self.confidence = confidence.confidence(self.features)
            step.say(f"{self.confidence:.2f}", reasons=confidence.reasons(self.features), **self.features.as_dict())

    @property
    def unfit(self) -> str:
        """Why the answer cannot be used, though a larger model's might; empty when it can."""
        if self.withheld:
            return "withheld answer"
        if self.sources and self.features is not None and self.features.unsupported:
            return "no answer"
        return ""

    @property
    def withheld(self) -> Screening | None:
        """The screening that keeps the answer back, if one does."""
        return self.outbound if self.outbound and self.outbound.action in ("block", "escalate") else None

    @property
    def top_score(self) -> float:
        return self.sources[0].score if self.sources else 0.0

    @property
    def choices(self) -> tuple[str, ...]:
        """What the customer may have meant: the titles of the best documents that fit about equally well."""
        titles: list[str] = []
        for hit in self.sources:
            near = hit.score >= self.top_score - AMBIGUOUS_MARGIN and hit.language == self.sources[0].language
            if near and hit.title not in titles:
                titles.append(hit.title)
        return tuple(titles[:3])

    @property
    def ambiguous(self) -> bool:
        """A short question that several documents fit about equally: none of them well, or all of them the same."""
        low, high = AMBIGUOUS_BAND
        words = len(content_lemmas(self.ask.message, self.language))
        middling = low <= self.top_score <= high and words <= AMBIGUOUS_WORDS
        even = self.features is not None and self.features.margin <= EVEN_MARGIN and words <= EVEN_WORDS
        return len(self.choices) > 1 and self.top_score >= low and (middling or even)

    def facts(self) -> edges.Facts:
        """Everything that the edge rules may ask about."""
        seen = self.features
        pressure = max((attempt.hold.pressure for attempt in self.attempts), default=0.0)
        return edges.Facts(
            stage=self.ask.scope.stage,
            tester=self.ask.tester,
            paused=self.ask.scope.paused,
            language=self.language,
            covered=self.inbound.covered,
            screening_in=self.inbound.action,
            findings_families_in=families(self.inbound),
            screening_out=self.outbound.action if self.outbound else "allow",
            findings_families_out=families(self.outbound),
            asked_for_person=self.signals.asked_for_person,
            legal=self.signals.legal,
            anger=self.signals.anger,
            out_of_scope=not self.needs_a_person_first and self.top_score < OUT_OF_SCOPE_SCORE,
            answerable=bool(seen and not seen.unsupported),
            support=seen.support if seen else None,
            top_score=self.top_score if seen else None,
            margin=seen.margin if seen else None,
            confidence=self.confidence,
            ambiguous=self.ambiguous,
            choices=self.choices,
            clarified_count=self.ask.clarified,
            returned_count=self.ask.returned,
            contact_count=self.ask.recent_contacts,
            budget_state="spent" if self.exhausted else "low" if pressure >= LOW_PRESSURE else "ok",
            integration="timeout"
            if self.failure and self.failure.kind == "timeout"
            else "down"
            if self.failure
            else "ok",
        )

    async def settle(self) -> int:
        """Settle the attempt that answered (the failed ones are settled already); the turn's cost in nano-dollars."""
        for attempt in self.attempts:
            attempt.screenings = [("inbound", self.inbound)] + ([("outbound", self.outbound)] if self.outbound else [])
            await attempt.settle()
        return sum(attempt.cost_nano for attempt in (*self.attempts, *self.judges))

    def outcome(self, verdict: edges.Verdict, path: Path, cost_nano: int) -> Outcome:
        """The stage has the last word: in shadow nothing of the agent's leaves, whatever the rules say."""
        draft = self.outbound.text if self.outbound else ""
        shadow = self.ask.scope.stage == "shadow" and not self.ask.tester
        outcome = "withheld" if shadow else OUTCOMES[verdict.action]
        reply, by = self._reply(outcome, verdict, draft)
        return Outcome(
            outcome=outcome,
            reply=reply,
            reply_by=by,
            draft=draft if self.features and not self.features.unsupported else "",
            reason="shadow" if shadow and verdict.action == "answer" else verdict.edge,
            rule=verdict.rule,
            language=self.language,
            confidence=self.confidence,
            features=self.features.as_dict() if self.features else {},
            reasons=confidence.reasons(self.features) if self.features else [],
            citations=[hit.citation(n) for n, hit in enumerate(self.sources, 1)],
            findings=self._findings(),
            trace=path.steps,
            cost_nano=cost_nano,
            release=self.ask.live.name,
            release_id=self.ask.live.id,
            policy_hash=self.ask.live.guardrails.hash,
            private=self.ask.live.guardrails.private,
            escalate=self._escalation(verdict, blind=shadow) if outcome in ("escalated", "withheld") else None,
        )

    def _reply(self, outcome: str, verdict: edges.Verdict, draft: str) -> tuple[str, str]:
        if outcome == "withheld":
            return "", ""
        if outcome == "answered":
            return draft, f"agent:{self.ask.scope.agent}"
        if outcome == "refused" and verdict.edge == "guardrail_in":
            return screen.refusal(self.ask.live.guardrails, self.language), verdict.rule
        return self._message(verdict), verdict.rule

    def _message(self, verdict: edges.Verdict) -> str:
        """The rule's line to the customer, in their language where there is one."""
        text = verdict.message.get(self.language) or verdict.message.get("en", "")
        resets = self.exhausted.resets_at if self.exhausted else datetime.now(UTC)
        return text.replace("{choices}", "\n".join(f"• {title}" for title in self.choices)).replace(
            "{resets_at}", resets.strftime("%Y-%m-%d %H:%M UTC")
        )

    def _escalation(self, verdict: edges.Verdict, *, blind: bool) -> Mapping[str, Any]:
        return {
            "kind": "draft" if self.features and not self.features.unsupported else "case",
            "edge": "shadow" if blind else verdict.edge,
            "reason": edges.explain(verdict, self.facts()),
            "priority": verdict.priority,
            "queue": verdict.queue,
            "skill": verdict.skill,
            "blind": blind,
            "deadline_s": verdict.deadline_s,
            "on_timeout": verdict.on_timeout,
            "rules_fired": list(verdict.fired),
            "rule": verdict.rule,
        }

    def _findings(self) -> list[tuple[str, tuple[Seen, ...], int]]:
        rows = [("inbound", self.inbound.findings, self.inbound.us), ("passage", tuple(self.passage_seen), 0)]
        if self.outbound:
            rows.append(("outbound", self.outbound.findings, self.outbound.us))
        return [row for row in rows if row[1]]


OUTCOMES = {"answer": "answered", "clarify": "clarified", "escalate": "escalated", "refuse": "refused"}


def families(screening: Screening | None) -> frozenset[str]:
    return frozenset(seen.family for seen in screening.findings) if screening else frozenset()
