"""Policies: which action each family or rule takes, which languages are spoken, how a refusal reads.

`guardrails.reading` makes one of what a person wrote; here is what it decides.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import re2

from guardrails.detectors.topics import Topics
from guardrails.lexicon import languages
from guardrails.normalise import fold
from guardrails.rules import Action, Rule

DEFAULT_POLICY: Final[dict[str, Any]] = {
    "uncovered": "escalate",
    "actions": {
        "instruction_override": "block",
        "persona_jailbreak": "block",
        "prompt_extraction": "block",
        "privilege_claim": "block",
        "fake_delimiters": "block",
        "encoding_smuggling": "block",
        "tool_hijack": "block",
        "exfiltration_channel": "block",
        "data_extraction": "block",
        "personal_data_in": "redact",
        "secrets_in": "redact",
        "prompt_leak": "block",
        "canary": "block",
        "personal_data_out": "redact",
        "secrets_out": "redact",
        "unsafe_link": "redact",
        "ungrounded": "escalate",
    },
    "log_only": [],
    "refusal": {},
}


@dataclass(frozen=True, slots=True)
class Allowed:
    """Words that are all right until a moment (seconds of the epoch), for one rule or, `rule` empty, for all."""

    words: str  # folded
    rule: str
    until: float

    def covers(self, rule: str, matched: str, around: str, now: float) -> bool:
        """Whether the match is a part of these words, and the words stand there whole."""
        return now < self.until and self.rule in ("", rule) and matched in self.words and self.words in around


@dataclass(frozen=True, slots=True)
class Custom:
    """A rule of the policy's own: an expression of RE2, so that no text can make it search for long."""

    rule: Rule
    pattern: "re2._Regexp"


@dataclass(frozen=True, slots=True)
class Judge:
    """Which model is asked about the grey zone (none named: the router's), and what happens when it does not answer."""

    stages: frozenset[str]
    model: str = ""
    timeout_s: float = 4.0
    on_failure: Action = "escalate"


@dataclass(frozen=True, slots=True)
class Private:
    """The kinds of personal data that logs, traces and exports have not, or only as tokens that can be opened."""

    kinds: frozenset[str] = frozenset()
    reversible: bool = False


NOTHING: Final = Private()


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled policy. `hash` covers its content, the scope, the rules and the words of every pack.

    `whole_answers`: a streamed answer leaves when all of it was screened, so until then it can come from another model.
    `regenerate`: families for whose sake an answer is asked for once more before it is withheld.
    """

    hash: str
    languages: frozenset[str]
    uncovered: Action
    actions: Mapping[str, Action]
    log_only: frozenset[str]
    refusals: Mapping[str, str]
    rules: Mapping[str, Rule]
    enforce: bool = True
    whole_answers: bool = False
    allowed: tuple[Allowed, ...] = ()
    custom: tuple[Custom, ...] = ()
    topics: Topics | None = None
    judge: Judge | None = None
    regenerate: frozenset[str] = frozenset()
    private: Private = field(default_factory=Private)

    def would(self, rule: Rule, stage: str) -> Action:
        """What the rule does where it is enforced."""
        default = rule.action(stage)
        if rule.family == "uncovered_language":
            return self.uncovered
        if rule.id in self.actions:
            return self.actions[rule.id]
        return default if default == "allow" else self.actions.get(rule.family, default)

    def action(self, rule: Rule, stage: str) -> Action:
        """What the rule does: what it would do, unless it only logs. What was not screened is never let through."""
        logs = rule.id in self.log_only or not self.enforce
        return "allow" if logs and rule.family not in UNSCREENED else self.would(rule, stage)

    def allows(self, rule: str, body: str, start: int, end: int) -> bool:
        """Whether an entry of the allow-list covers what the rule saw at that place."""
        return self.exception(rule, body, start, end) is not None

    def exception(self, rule: str, body: str, start: int, end: int) -> Allowed | None:
        """The entry of the allow-list that covers what the rule saw at that place."""
        if not self.allowed:
            return None
        matched, now = fold(body[start:end]).strip(), time.time()
        for entry in self.allowed:
            around = fold(body[max(0, start - len(entry.words)) : end + len(entry.words)])
            if entry.covers(rule, matched, around, now):
                return entry
        return None

    def misses(self, spoken: Iterable[str]) -> list[str]:
        """The languages among those spoken that no pack covers, or that this policy does not name."""
        covered = self.languages or languages().keys()
        return sorted(code for code in spoken if code not in covered or code not in languages())

    def judged(self, stage: str) -> bool:
        return self.judge is not None and stage in self.judge.stages


UNSCREENED: Final = frozenset({"uncovered_language", "oversize"})


def refusal(policy: Policy, language: str) -> str:
    """What the customer reads: the policy's words, else the pack's, in that language, else in English."""
    for code in (language, language.split("-", maxsplit=1)[0], "en"):
        if text := policy.refusals.get(code):
            return text
        if code in languages():
            return languages()[code].refusal
    return languages()["en"].refusal
