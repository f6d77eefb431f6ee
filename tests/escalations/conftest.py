"""Escalations and the people who decide them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from escalations import queue
from escalations.models import Decision, Escalation

Put = Callable[..., Escalation]
Settle = Callable[..., Decision]
REFUND = {
    "name": "refund",
    "arguments": {"order": "A-1", "amount": 40},
    "schema": {
        "type": "object",
        "properties": {"order": {"type": "string"}, "amount": {"type": "number", "maximum": 100}},
        "required": ["order", "amount"],
        "additionalProperties": False,
    },
}


@pytest.fixture
def put(db: None) -> Put:
    """Puts a draft before people; `put(draft="")` a case, `put(action=…)` an action."""

    def put(**fields: Any) -> Escalation:
        kind = "action" if fields.get("action") else "draft" if fields.get("draft", "x") else "case"
        given = {
            "kind": kind,
            "agent": "acme",
            "channel": "acme/web",
            "scope": "acme/web",
            "case_id": uuid.uuid4(),
            "ref": "4711",
            "edge": "low_confidence",
            "reason": "The agent is only 41% sure of this draft.",
            "language": "en",
            "customer_line": "Where is my order?",
            "draft": "" if kind == "action" else "It leaves today.",
            "evidence": {"rule": "edge:low_confidence@7"},
        }
        return queue.add(**{**given, **fields})

    return put


@pytest.fixture
def refund(put: Put) -> Escalation:
    return put(action=REFUND)


@pytest.fixture
def anna(db: None) -> User:
    return User.objects.create_user("anna")


@pytest.fixture
def ben(db: None) -> User:
    return User.objects.create_user("ben")


@pytest.fixture
def settle(anna: User) -> Settle:
    """Anna claims and decides: `settle(escalation, "approved")`."""

    def settle(escalation: Escalation, kind: str, **words: Any) -> Decision:
        claim = queue.claim(escalation.pk, words.get("user", anna))
        given = {"user": anna, "token": claim.token, "revision": claim.revision}
        return queue.decide(escalation.pk, kind=kind, **{**given, **words})

    return settle
