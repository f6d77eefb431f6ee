"""From a policy's JSON content, as people write and version it, to a policy that decides."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import re2

from guardrails import compiling, rules
from guardrails.detectors.topics import Topics
from guardrails.lexicon import languages
from guardrails.normalise import fold
from guardrails.policy import UNSCREENED, Allowed, Custom, Judge, Policy, Private
from guardrails.rules import ACTIONS, Action, Rule

_KEPT = 256
_MOST_ENTRIES = 200
_LONGEST_PATTERN, _PATTERN_BYTES = 500, 1 << 18
_OVERRIDDEN = frozenset({"actions", "log_only", "uncovered", "topics", "mode"})
_STAGES = frozenset({"inbound", "passage", "tool"})
_KINDS = frozenset({"email", "phone", "card", "iban", "national-number", "secret"})


class PolicyError(ValueError):
    """A policy that cannot be used; the message is a plain sentence."""


_compiled: OrderedDict[str, Policy] = OrderedDict()


def compile_policy(content: Mapping[str, Any], scope: str = "") -> Policy:
    """Compile a policy's JSON content for a scope (`web`, or `web/billing`); the same content gives the same object.

    `actions` maps a family, or one rule, to an action. A rule that only observes (its default is `allow`, as for a
    customer's own e-mail address) keeps observing when its family is named, and acts when the rule itself is named.
    `scopes` says what is different on a channel, then on one of its topics.
    Raises PolicyError with a plain sentence.
    """
    if not isinstance(content, Mapping):
        raise PolicyError("A guardrail policy is an object.")
    try:
        written = json.dumps(content, sort_keys=True, ensure_ascii=True)
    except (TypeError, ValueError) as error:
        raise PolicyError("A guardrail policy holds only what JSON can hold.") from error
    names = _scopes_on_the_way(content, scope)
    key = hashlib.sha256(f"{written}\n{names}\n{rules.digest()}\n{compiling.digest()}".encode()).hexdigest()
    if (policy := _compiled.get(key)) is None:
        for other in _scopes(content):
            _policy(_overridden(content, [other]), key)  # a mistake in any of them is a mistake in the policy
        policy = _compiled[key] = _policy(_overridden(content, names), key)
        if len(_compiled) > _KEPT:
            _compiled.popitem(last=False)
    return policy


def _scopes(content: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    value = content.get("scopes", {})
    if not isinstance(value, Mapping) or not all(isinstance(part, Mapping) for part in value.values()):
        raise PolicyError(
            "The scopes of a guardrail policy are an object of channels, each with what is different there."
        )
    for name, part in value.items():
        if unknown := sorted(set(part) - _OVERRIDDEN):
            raise PolicyError(f"The scope '{name}' cannot have a setting named '{unknown[0]}' of its own.")
    return value


def _scopes_on_the_way(content: Mapping[str, Any], scope: str) -> list[str]:
    """The overrides that apply, the channel's before its topic's."""
    wanted = [scope.partition("/")[0], scope] if "/" in scope else [scope]
    return [name for name in wanted if name in _scopes(content)]


def _overridden(content: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    whole = dict(content)
    for name in names:
        for setting, value in content["scopes"][name].items():
            both = isinstance(value, Mapping) and isinstance(whole.get(setting), Mapping)
            whole[setting] = {**whole[setting], **value} if both else value
    return whole


def _policy(content: Mapping[str, Any], key: str) -> Policy:
    if unknown := sorted(set(content) - _READERS.keys()):
        raise PolicyError(f"A guardrail policy has no setting named '{unknown[0]}'.")
    custom = _custom(content.get("custom", ()))
    known = {**rules.rules(), **{entry.rule.id: entry.rule for entry in custom}}
    read = {
        name: reader(content[name], known)
        for name, reader in _READERS.items()
        if reader is not None and name in content
    }
    return Policy(
        hash=key,
        languages=read.get("languages", frozenset()),
        uncovered=read.get("uncovered", "escalate"),
        actions=read.get("actions", {}),
        log_only=read.get("log_only", frozenset()),
        refusals=read.get("refusal", {}),
        rules=known,
        enforce=read.get("mode", True),
        whole_answers=read.get("whole_answers", False),
        allowed=read.get("allow", ()),
        custom=custom,
        topics=read.get("topics"),
        judge=read.get("judge"),
        regenerate=read.get("regenerate", frozenset()),
        private=read.get("private", Private()),
    )


# --- one reader a setting ---------------------------------------------------------------------------------------------

Known = Mapping[str, Rule]


def _texts(value: Any, sentence: str) -> Sequence[str]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
        raise PolicyError(sentence)
    return value


def _objects(value: Any, sentence: str) -> Sequence[Mapping[str, Any]]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(one, Mapping) for one in value):
        raise PolicyError(sentence)
    if len(value) > _MOST_ENTRIES:
        raise PolicyError(f"A list of a guardrail policy has at most {_MOST_ENTRIES} entries.")
    return value


def _languages(value: Any, _: Known) -> frozenset[str]:
    for code in _texts(value, "The languages of a guardrail policy are a list of codes."):
        if code not in languages():
            raise PolicyError(f"The guardrails have no pack for the language '{code}'.")
    return frozenset(value)


def _uncovered(value: Any, _: Known) -> Action:
    if value not in ("escalate", "block"):
        raise PolicyError("A message in a language that is not covered can be escalated or blocked, nothing else.")
    return value  # type: ignore[no-any-return]


def _actions(value: Any, known: Known) -> dict[str, Action]:
    if not isinstance(value, Mapping):
        raise PolicyError("The actions of a guardrail policy are an object of families or rules.")
    families = {rule.family for rule in known.values()}
    for name, action in value.items():
        if name not in families and name not in known:
            raise PolicyError(f"There is no guardrail family or rule named '{name}'.")
        if action not in ACTIONS:
            raise PolicyError(f"The action of '{name}' is one of allow, redact, escalate, block.")
        if (name in UNSCREENED or name == "uncovered-language") and action in ("allow", "redact"):
            raise PolicyError(
                f"What '{name}' reports was not screened, so it can be escalated or blocked, nothing else."
            )
    return dict(value)


def _log_only(value: Any, known: Known) -> frozenset[str]:
    for name in _texts(value, "The rules that only log are a list of names."):
        if name not in known:
            raise PolicyError(f"There is no guardrail rule named '{name}'.")
        if known[name].family in UNSCREENED:
            raise PolicyError(f"The rule '{name}' cannot only log: what it reports was not screened.")
    return frozenset(value)


def _mode(value: Any, _: Known) -> bool:
    if value not in ("enforce", "log_only"):
        raise PolicyError("The mode of a guardrail policy is enforce or log_only.")
    return bool(value == "enforce")


def _whole_answers(value: Any, _: Known) -> bool:
    if not isinstance(value, bool):
        raise PolicyError("whole_answers is true or false.")
    return value


def _refusals(value: Any, _: Known) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(t, str) and t.strip() for t in value.values()):
        raise PolicyError("The refusals of a guardrail policy are an object of texts by language.")
    return dict(value)


def _allow(value: Any, known: Known) -> tuple[Allowed, ...]:
    entries = _objects(
        value, "The allow-list is a list of objects with text, until and, where it is for one rule, rule."
    )
    return tuple(_allowed(entry, known) for entry in entries)


def _allowed(entry: Mapping[str, Any], known: Known) -> Allowed:
    text, rule, until = entry.get("text"), entry.get("rule", ""), entry.get("until")
    if not isinstance(text, str) or not (words := fold(text).strip()):
        raise PolicyError("An entry of the allow-list has the words that are all right as its text.")
    if rule and rule not in known:
        raise PolicyError(f"There is no guardrail rule named '{rule}'.")
    if rule and known[rule].family in UNSCREENED:
        raise PolicyError(f"The rule '{rule}' has no exceptions: what it reports was not screened.")
    try:
        day = date.fromisoformat(until)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise PolicyError("An entry of the allow-list ends on a day: until, as in 2026-12-31.") from error
    ends = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    return Allowed(words, rule, ends.timestamp())


def _custom(value: Any) -> tuple[Custom, ...]:
    entries = _objects(value, "The custom rules are a list of objects with id, pattern and action.")
    read = tuple(_custom_rule(entry) for entry in entries)
    if len({entry.rule.id for entry in read}) < len(read):
        raise PolicyError("Two custom rules have the same id.")
    return read


def _custom_rule(entry: Mapping[str, Any]) -> Custom:
    name, action = entry.get("id"), entry.get("action")
    if not isinstance(name, str) or not name.replace("-", "").isalnum() or not name.isascii() or len(name) > 40:
        raise PolicyError("The id of a custom rule is at most 40 letters, digits and hyphens.")
    if name in rules.rules() or name in rules.families():
        raise PolicyError(f"'{name}' is the name of a rule that is there already.")
    if action not in ACTIONS:
        raise PolicyError(f"The action of '{name}' is one of allow, redact, escalate, block.")
    stages = _texts(entry.get("stages", ["inbound"]), f"The stages of '{name}' are a list.")
    if not stages or set(stages) - {*_STAGES, "outbound"}:
        raise PolicyError(f"The stages of '{name}' are some of inbound, passage, tool, outbound.")
    rule = Rule(name, 1, "custom", "medium", dict.fromkeys(stages, action))
    return Custom(rule, _expression(name, entry.get("pattern")))


def _expression(name: str, pattern: Any) -> "re2._Regexp":
    if not isinstance(pattern, str) or not pattern or len(pattern) > _LONGEST_PATTERN:
        raise PolicyError(f"The pattern of '{name}' is an expression of at most {_LONGEST_PATTERN} characters.")
    if not pattern.isascii() and any("\ud800" <= letter <= "\udfff" for letter in pattern):
        raise PolicyError(f"The pattern of '{name}' has characters that are none: halves of a surrogate pair.")
    options = re2.Options()
    options.max_mem, options.log_errors, options.case_sensitive = _PATTERN_BYTES, False, False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else error.args[0]
        raise PolicyError(f"The pattern of '{name}' cannot be used: {reason}.") from error
    if compiled.search("") is not None:
        raise PolicyError(f"The pattern of '{name}' fits an empty text, so it fits everything.")
    return compiled


def _topics(value: Any, _: Known) -> Topics:
    fine = isinstance(value, Mapping) and set(value) <= {"allowed", "forbidden", "least"}
    groups = [value.get("allowed", {}), value.get("forbidden", {})] if fine else []
    if not fine or not all(isinstance(group, Mapping) for group in groups):
        raise PolicyError("The topics of a guardrail policy are allowed and forbidden ones, each with examples.")
    for group in groups:
        for name, examples in group.items():
            if not all(one.strip() for one in _texts(examples, f"The topic '{name}' has a list of examples.")):
                raise PolicyError(f"The topic '{name}' has an empty example.")
    least = value.get("least", 0.1)
    if isinstance(least, bool) or not isinstance(least, (int, float)) or not 0 < least < 1:
        raise PolicyError("How near an answer has to be to an allowed topic (least) is a number between 0 and 1.")
    return Topics.of(groups[0], groups[1], float(least))


def _judge(value: Any, _: Known) -> Judge:
    if not isinstance(value, Mapping) or set(value) - {"stages", "model", "timeout_s", "on_failure"}:
        raise PolicyError("The judge of a guardrail policy has stages, model, timeout_s and on_failure.")
    stages = _texts(value.get("stages", ["inbound"]), "The stages of the judge are a list.")
    if not stages or set(stages) - _STAGES:
        raise PolicyError("The judge can be asked about inbound, passage and tool texts.")
    seconds, failure = value.get("timeout_s", 4.0), value.get("on_failure")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0.1 <= seconds <= 30:
        raise PolicyError("The judge has between 0.1 and 30 seconds (timeout_s).")
    if failure not in ("allow", "escalate", "block"):
        raise PolicyError("Say what happens when the judge does not answer: on_failure is allow, escalate or block.")
    if not isinstance(value.get("model", ""), str):
        raise PolicyError("The model of the judge is the name of one of the release's models.")
    return Judge(frozenset(stages), value.get("model", ""), float(seconds), failure)


def _regenerate(value: Any, known: Known) -> frozenset[str]:
    families = {rule.family for rule in known.values()}
    for name in _texts(value, "The families to regenerate for are a list."):
        if name not in families:
            raise PolicyError(f"There is no guardrail family named '{name}'.")
    return frozenset(value)


def _private(value: Any, _: Known) -> Private:
    if not isinstance(value, Mapping) or set(value) - {"kinds", "reversible"}:
        raise PolicyError("What is kept of personal data (private) has kinds and reversible.")
    kinds = _texts(value.get("kinds", ()), "The kinds of personal data are a list.")
    if unknown := sorted(set(kinds) - _KINDS):
        raise PolicyError(f"There is no kind of personal data named '{unknown[0]}'.")
    if not isinstance(value.get("reversible", False), bool):
        raise PolicyError("reversible is true or false.")
    return Private(frozenset(kinds), value.get("reversible", False))


_READERS: dict[str, Callable[[Any, Known], Any] | None] = {
    "languages": _languages,
    "uncovered": _uncovered,
    "actions": _actions,
    "log_only": _log_only,
    "mode": _mode,
    "refusal": _refusals,
    "whole_answers": _whole_answers,
    "allow": _allow,
    "topics": _topics,
    "judge": _judge,
    "regenerate": _regenerate,
    "private": _private,
    "custom": None,  # read first: the others may name its rules
    "scopes": None,
}
