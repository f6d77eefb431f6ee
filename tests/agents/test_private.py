"""What is hidden in one text, and what stands for it."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import private
from agents.models import Case, PrivateValue
from agents.private import TOKEN, Hider, hide
from guardrails.policy import Private
from guardrails.screen import Seen
from tests import world

EVERY = frozenset({"email", "phone", "card", "iban", "national-number", "secret"})
VALUES = {
    "email": "anna.kowalska@example.com",
    "phone": "+48 600 123 456",
    "card": "4111 1111 1111 1111",
    "iban": "DE89 3704 0044 0532 0130 00",
    "national-number": "44051401359",
    "secret": "ghp_" + "a1B2" * 9,
}
LABELS, TOKENS = Private(EVERY), Private(EVERY, reversible=True)


@pytest.mark.parametrize("kind", VALUES)
def test_each_kind_has_its_label_where_it_is_named(kind: str) -> None:
    text = f"Mine is {VALUES[kind]}, thank you."
    assert hide(text, Private(frozenset({kind})), None) == f"Mine is [{kind}], thank you."
    assert hide(text, Private(EVERY - {kind}), None) == text


def test_many_in_one_text_are_all_hidden() -> None:
    text = ", and ".join(list(VALUES.values()) * 30)
    hidden = hide(text, LABELS, None)
    assert [value for value in VALUES.values() if value in hidden] == []


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([*VALUES.values(), "Hello", "[email]", "order 12", "\u0645\u0631\u062d\u0628\u0627"]),
        max_size=6,
    )
)
def test_hiding_twice_is_hiding_once(pieces: list[str]) -> None:
    for policy in (LABELS, TOKENS):
        hider = Hider(policy, uuid.UUID(int=7))
        once = hider.hide(" ".join(pieces))
        assert hider.hide(once) == once
        assert Hider(policy, uuid.UUID(int=7)).hide(once) == once


def test_a_value_that_was_recognised_is_known_where_nothing_tells_what_it_is() -> None:
    hider = Hider(LABELS, None)
    assert hider.hide("My phone is 600 123 456.") == "My phone is [phone]."
    assert hider.hide("We try 600 123 456 tomorrow.") == "We try [phone] tomorrow."


@pytest.mark.parametrize(
    ("excerpt", "shown"),
    [
        ("kowalska@example.com, where is it", "[email], where is it"),
        ("I am anna.kowalska@exa", "I am [email]"),
        ("where is it", "where is it"),
    ],
)
def test_a_value_that_an_excerpt_cuts_is_hidden_at_its_edge(excerpt: str, shown: str) -> None:
    hider = Hider(LABELS, None)
    hider.hide(f"I am {VALUES['email']}, where is it")
    assert hider.excerpt(excerpt) == shown


def test_a_finding_keeps_all_but_the_value() -> None:
    seen = Seen("r", "f", "block", "high", "en", "plain", 0, 5, f"for {VALUES['email']} only")
    [hidden] = Hider(LABELS, None).findings([seen])
    assert (hidden.excerpt, hidden.rule, hidden.end) == ("for [email] only", "r", 5)


def test_passages_of_documents_stay_as_they_are() -> None:
    trace = [{"step": "retrieved", "detail": {"sources": [{"text": "a@example.com"}], "error": "for a@example.com"}}]
    [step] = Hider(LABELS, None).within(trace)
    assert step["detail"] == {"sources": [{"text": "a@example.com"}], "error": "for [email]"}


def test_without_a_case_there_are_labels_only() -> None:
    assert hide(VALUES["email"], TOKENS, None) == "[email]"


def test_releases_that_serve_together_hide_together() -> None:
    both = private.together([Private(frozenset({"email"}), reversible=True), Private(frozenset({"card"}))])
    assert both == Private(frozenset({"email", "card"}), reversible=False)
    assert private.together([Private(), Private(frozenset({"email"}), reversible=True)]).reversible
    assert private.together([]) == Private()


def test_a_call_log_entry_that_is_no_json_is_hidden_all_the_same() -> None:
    hider = Hider(LABELS, None)
    cut = '{"messages": [{"content": "I am anna.kowalska@example.com'
    assert "kowalska" not in private._json(hider, cut)
    assert private._json(hider, '{"a": "x\\nb@example.com"}') == '{"a":"x\\n[email]"}'


@pytest.mark.django_db
def test_a_token_stands_for_its_value_in_its_own_case_only() -> None:
    channel = world.make_scope(world.make_agent()).channel
    mine, other = (Case.objects.create(channel=channel, ref=ref) for ref in "ab")
    hidden = hide(f"I am {VALUES['email']}.", TOKENS, mine.pk)
    assert TOKEN.search(hidden)
    assert private.opened(hidden, mine.pk) == f"I am {VALUES['email']}."
    assert private.opened(hidden, other.pk) == hidden
    assert VALUES["email"] not in PrivateValue.objects.get().sealed
    mine.delete()
    assert not PrivateValue.objects.exists()
