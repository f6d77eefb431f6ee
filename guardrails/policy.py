"""Policies: which action each family or rule takes, which languages are spoken, how a refusal reads."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from guardrails import lexicon, rules
from guardrails.lexicon import languages
from guardrails.rules import ACTIONS, Action, Rule


class PolicyError(ValueError):
    """A policy that cannot be used; the message is a plain sentence."""


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
    },
    "log_only": [],
    "refusal": {},
}
_KEYS = frozenset({"languages", "uncovered", "actions", "log_only", "refusal", "whole_answers"})
_KEPT = 256


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled policy. `hash` covers its content, the rules and the words of every pack.

    `whole_answers`: a streamed answer leaves when all of it was screened, so until then it can come from another model.
    """

    hash: str
    languages: frozenset[str]
    uncovered: Action
    actions: Mapping[str, Action]
    log_only: frozenset[str]
    refusals: Mapping[str, str]
    whole_answers: bool = False

    def action(self, rule: Rule, stage: str) -> Action:
        default = rule.stages.get(stage, "allow")
        if rule.id in self.log_only:
            return "allow"
        if rule.family == "uncovered_language":
            return self.uncovered
        if rule.id in self.actions:
            return self.actions[rule.id]
        return default if default == "allow" else self.actions.get(rule.family, default)


_compiled: OrderedDict[str, Policy] = OrderedDict()


def compile_policy(content: Mapping[str, Any]) -> Policy:
    """Compile a policy's JSON content; the same content gives the same object.

    `actions` maps a family, or one rule, to an action. A rule that only observes (its default is `allow`, as for a
    customer's own e-mail address) keeps observing when its family is named, and acts when the rule itself is named.
    Raises PolicyError with a plain sentence.
    """
    if not isinstance(content, Mapping):
        raise PolicyError("A guardrail policy is an object.")
    try:
        written = json.dumps(content, sort_keys=True, ensure_ascii=True)
    except (TypeError, ValueError) as error:
        raise PolicyError("A guardrail policy holds only what JSON can hold.") from error
    key = hashlib.sha256(f"{written}\n{rules.digest()}\n{lexicon.digest()}".encode()).hexdigest()
    if (policy := _compiled.get(key)) is None:
        policy = _compiled[key] = _policy(content, key)
        if len(_compiled) > _KEPT:
            _compiled.popitem(last=False)
    return policy


def _policy(content: Mapping[str, Any], key: str) -> Policy:
    if unknown := sorted(set(content) - _KEYS):
        raise PolicyError(f"A guardrail policy has no setting named '{unknown[0]}'.")
    uncovered = content.get("uncovered", "escalate")
    if uncovered not in ("escalate", "block"):
        raise PolicyError("A message in a language that is not covered can be escalated or blocked, nothing else.")
    return Policy(
        hash=key,
        languages=_languages(content.get("languages", ())),
        uncovered=uncovered,
        actions=_actions(content.get("actions", {})),
        log_only=_log_only(content.get("log_only", ())),
        refusals=_refusals(content.get("refusal", {})),
        whole_answers=_whole_answers(content.get("whole_answers", False)),
    )


def _languages(value: Any) -> frozenset[str]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise PolicyError("The languages of a guardrail policy are a list of codes.")
    for code in value:
        if code not in languages():
            raise PolicyError(f"The guardrails have no pack for the language '{code}'.")
    return frozenset(value)


def _actions(value: Any) -> dict[str, Action]:
    if not isinstance(value, Mapping):
        raise PolicyError("The actions of a guardrail policy are an object of families or rules.")
    for name, action in value.items():
        if name not in rules.families() and name not in rules.rules():
            raise PolicyError(f"There is no guardrail family or rule named '{name}'.")
        if action not in ACTIONS:
            raise PolicyError(f"The action of '{name}' is one of allow, redact, escalate, block.")
        if name in ("uncovered_language", "uncovered-language", "oversize") and action in ("allow", "redact"):
            raise PolicyError(
                f"What '{name}' reports was not screened, so it can be escalated or blocked, nothing else."
            )
    return dict(value)


def _log_only(value: Any) -> frozenset[str]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise PolicyError("The rules that only log are a list of names.")
    for name in value:
        if name not in rules.rules():
            raise PolicyError(f"There is no guardrail rule named '{name}'.")
        if name in ("uncovered-language", "oversize"):
            raise PolicyError(f"The rule '{name}' cannot only log: what it reports was not screened.")
    return frozenset(value)


def _whole_answers(value: Any) -> bool:
    if not isinstance(value, bool):
        raise PolicyError("whole_answers is true or false.")
    return value


def _refusals(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(t, str) and t.strip() for t in value.values()):
        raise PolicyError("The refusals of a guardrail policy are an object of texts by language.")
    return dict(value)


def refusal(policy: Policy, language: str) -> str:
    """What the customer reads: the policy's words, else the pack's, in that language, else in English."""
    for code in (language, language.split("-", maxsplit=1)[0], "en"):
        if text := policy.refusals.get(code):
            return text
        if code in languages():
            return languages()[code].refusal
    return languages()["en"].refusal
