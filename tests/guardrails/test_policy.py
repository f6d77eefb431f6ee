"""Compiling a guardrail policy."""

from typing import Any

import pytest

from guardrails.policy import DEFAULT_POLICY
from guardrails.reading import PolicyError, compile_policy


def test_the_same_content_gives_the_same_policy() -> None:
    assert compile_policy(DEFAULT_POLICY) is compile_policy(dict(reversed(DEFAULT_POLICY.items())))


def test_different_content_gives_a_different_hash() -> None:
    assert compile_policy({}).hash != compile_policy({"uncovered": "block"}).hash


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"language": ["en"]}, "no setting named 'language'"),
        ({"languages": "en"}, "list of codes"),
        ({"languages": ["xx"]}, "no pack for the language 'xx'"),
        ({"uncovered": "allow"}, "escalated or blocked"),
        ({"actions": {"nonsense": "block"}}, "no guardrail family or rule named 'nonsense'"),
        ({"actions": {"canary": "shout"}}, "one of allow, redact, escalate, block"),
        ({"actions": {"uncovered_language": "allow"}}, "not screened"),
        ({"actions": {"oversize": "allow"}}, "not screened"),
        ({"actions": []}, "an object"),
        ({"log_only": ["nonsense"]}, "no guardrail rule named 'nonsense'"),
        ({"log_only": ["uncovered-language"]}, "cannot only log"),
        ({"refusal": {"en": ""}}, "texts by language"),
        ({"refusal": {"en": {1, 2}}}, "what JSON can hold"),
        ([], "is an object"),
    ],
)
def test_refuses_a_policy_with_a_plain_sentence(content: Any, sentence: str) -> None:
    with pytest.raises(PolicyError, match=sentence) as raised:
        compile_policy(content)
    assert str(raised.value).endswith(".")


def test_an_uncovered_language_can_never_be_allowed() -> None:
    for content in ({}, {"uncovered": "block"}, {"actions": {"uncovered_language": "block"}}):
        assert compile_policy(content).uncovered in ("escalate", "block")
